//! The words of `allow`, and sets of them.

use crate::telemetry::metrics::words;

words! {
    /// A kind of calls that a caller may be allowed to make. The routes of the proxy say which call is of which kind.
    #[derive(Hash)]
    pub enum Permission {
        SessionRead = "session.read",
        OrderRead = "order.read",
        CustomerRead = "customer.read",
        ReportRead = "report.read",
        Checkout = "checkout",
        Capture = "capture",
        Refund = "refund",
        Release = "release",
        Reauthorize = "reauthorize",
        Upcharge = "upcharge",
        CustomerWrite = "customer.write",
        CustomerOrder = "customer.order",
        Card = "card",
        Webhooks = "webhooks",
        /// Every call without a word of its own, above all calls that the sidecar does not know.
        Other = "other",
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u16);

/// The words that stand for several permissions.
const GROUPS: [(&str, Permissions); 2] = [("read", Permissions::READ), ("all", Permissions::ALL)];

impl Permissions {
    pub const ALL: Self = Self((1 << Permission::ALL.len()) - 1);

    const READ: Self = Self::of(Permission::SessionRead)
        .union(Self::of(Permission::OrderRead))
        .union(Self::of(Permission::CustomerRead))
        .union(Self::of(Permission::ReportRead));

    pub const fn of(permission: Permission) -> Self {
        Self(1 << permission as u16)
    }

    #[must_use]
    pub const fn union(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub const fn has(self, permission: Permission) -> bool {
        self.0 & Self::of(permission).0 != 0
    }

    /// One of the `needed` permissions that this set does not have.
    pub fn lacking(self, needed: Self) -> Option<Permission> {
        let lacking = Self(needed.0 & !self.0);
        if lacking == Self::default() { None } else { Permission::ALL.into_iter().find(|one| lacking.has(*one)) }
    }

    /// The permissions that one word of `allow` gives.
    pub fn from_word(word: &str) -> Option<Self> {
        let single = Permission::ALL.into_iter().find(|permission| permission.as_str() == word).map(Self::of);
        single.or_else(|| GROUPS.iter().find(|(group, _)| *group == word).map(|(_, permissions)| *permissions))
    }

    /// Every word of `allow`.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Permission::WORDS.into_iter().chain(GROUPS.map(|(group, _)| group))
    }

    /// The set in words, as short as groups make it.
    pub fn shown(self) -> String {
        if self == Self::ALL {
            return "all".to_owned();
        }
        let group = ("read", Self::READ);
        let reads = self.0 & Self::READ.0 == Self::READ.0;
        let single = |permission: &Permission| self.has(*permission) && !(reads && group.1.has(*permission));
        let words = Permission::ALL.into_iter().filter(single).map(Permission::as_str);
        reads.then_some(group.0).into_iter().chain(words).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_a_set() {
        for permission in Permission::ALL {
            let set = Permissions::from_word(permission.as_str()).expect("a word");
            assert_eq!(Permission::ALL.into_iter().filter(|other| set.has(*other)).collect::<Vec<_>>(), [permission]);
            assert!(Permissions::ALL.has(permission) && set.shown() == permission.as_str());
        }
        let read = Permissions::from_word("read").expect("a group");
        let reads = Permission::ALL.into_iter().filter(|permission| read.has(*permission));
        assert!(reads.map(Permission::as_str).eq(["session.read", "order.read", "customer.read", "report.read"]));
        assert_eq!(Permissions::from_word("all"), Some(Permissions::ALL));
        for wrong in ["", "write", "session", "Read", "read ", "*"] {
            assert_eq!(Permissions::from_word(wrong), None, "{wrong}");
        }
        assert_eq!(Permissions::words().count(), Permission::ALL.len() + 2);
    }

    #[test]
    fn what_a_set_lacks() {
        let read = Permissions::from_word("read").expect("a group");
        let needed = Permissions::of(Permission::OrderRead).union(Permissions::of(Permission::Capture));
        assert_eq!(read.lacking(needed), Some(Permission::Capture));
        assert_eq!(read.lacking(Permissions::of(Permission::OrderRead)), None);
        assert_eq!(Permissions::ALL.lacking(needed), None);
        assert_eq!(Permissions::default().lacking(needed), Some(Permission::OrderRead));
    }

    #[test]
    fn a_set_is_shown_with_its_groups() {
        let read = Permissions::from_word("read").expect("a group");
        assert_eq!(read.union(Permissions::of(Permission::Refund)).shown(), "read, refund");
        assert_eq!(Permissions::ALL.shown(), "all");
        assert_eq!(Permissions::default().shown(), "");
        let two = Permissions::of(Permission::SessionRead).union(Permissions::of(Permission::Checkout));
        assert_eq!(two.shown(), "session.read, checkout");
    }
}
