//! The id of a tag that several processes compute alike. Pure.

use std::sync::Arc;

use aws_lc_rs::digest;
use twox_hash::XxHash3_128;

use super::tag::Tag;

/// A tag, as the first 16 bytes of a hash that all pods of a fleet compute alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub [u8; 16]);

/// The first half of a tag's id, by which the index and the stored sessions know the tag. If two tags ever share it, a
/// purge of one removes the sessions of both, which costs fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagPrefix(pub [u8; 8]);

impl TagId {
    pub fn prefix(self) -> TagPrefix {
        let Self([a, b, c, d, e, f, g, h, ..]) = self;
        TagPrefix([a, b, c, d, e, f, g, h])
    }
}

/// Computes the ids of tags.
#[derive(Clone, Debug)]
pub struct TagIds {
    /// `None` for a sidecar by itself.
    space: Option<Arc<str>>,
}

impl TagIds {
    /// The ids of a fleet with this `space`: those of two fleets have nothing in common.
    pub fn new(space: &str) -> Self {
        Self { space: Some(space.into()) }
    }

    /// The ids of a sidecar by itself, which take a twentieth of the time. If two tags ever have one id, both are
    /// purged together, which costs a fetch.
    pub fn alone() -> Self {
        Self { space: None }
    }

    /// In a fleet, SHA-256 of the space, a byte for the kind, and the identifier: a session's in 16 bytes, any other as
    /// text in lower case.
    pub fn id(&self, tag: &Tag) -> TagId {
        let (kind, identifier) = match tag {
            Tag::Session(uuid) => (1, &uuid.as_bytes()[..]),
            Tag::Order(text) => (2, text.as_bytes()),
            Tag::Token(text) => (3, text.as_bytes()),
        };
        let Some(space) = &self.space else {
            return TagId(XxHash3_128::oneshot_with_seed(kind.into(), identifier).to_le_bytes());
        };
        let text = [space.as_bytes(), &[kind], identifier].concat();
        // A digest of this kind has 32 bytes.
        TagId(digest::digest(&digest::SHA256, &text).as_ref().first_chunk().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn all_pods_compute_the_same_id() {
        let ids = TagIds::new("szs1:{0123456789abcdef0123}");
        let hex = |tag: Tag| ids.id(&tag).0.map(|byte| format!("{byte:02x}")).concat();
        // The ids are a contract between versions: `printf 'szs1:{0123456789abcdef0123}\2a-1' | sha256sum`.
        assert_eq!(hex(Tag::order("A-1")), "6c631d301366dc7594a3783f28766593");
        assert_eq!(hex(Tag::token("A-1")), "3b0334d26b569ee9eedaf17ab1a1275e");
        assert_eq!(hex(Tag::Session(Uuid::from_u128(7))), "928c6c35f927364ce80ea564d6ee9eb4");
    }

    #[test]
    fn no_two_tags_share_an_id() {
        let uuid = Uuid::from_u128(7);
        let text = uuid.to_string();
        let tags = [Tag::Session(uuid), Tag::order(&text), Tag::token(&text), Tag::order("")];
        let ids = [TagIds::alone(), TagIds::new(""), TagIds::new("a")];
        let all: std::collections::HashSet<_> = ids.iter().flat_map(|ids| tags.iter().map(|tag| ids.id(tag))).collect();
        assert_eq!(all.len(), 12);
        let prefixes: std::collections::HashSet<_> = all.iter().map(|id| id.prefix()).collect();
        assert_eq!(prefixes.len(), 12);
    }
}
