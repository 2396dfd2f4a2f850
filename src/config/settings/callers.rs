//! The list `[[callers]]`: who may call the proxy listener, and what each of them may do.

use std::collections::HashSet;
use std::path::PathBuf;

use super::ProxySettings;
use crate::address::Address;
use crate::caller::overflow_uid;
use crate::callers::amount::Bounds;
use crate::callers::permission::Permissions;
use crate::config::key::ShownTo;
use crate::config::list_reader::Element;
use crate::config::parse::{self, caller};
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct CallerSettings {
    pub name: String,
    /// The file with the bearer token of the caller.
    pub token_file: Option<PathBuf>,
    pub pair: Option<PairSettings>,
    /// A DNS name in lower case, or a URI, of the caller's certificate.
    pub certificate: Option<String>,
    pub uid: Option<u32>,
    pub allow: Permissions,
    /// `None` for any amount.
    pub max_amount: Option<Bounds>,
}

/// The caller's own keys, which it exchanges for a token here.
#[derive(Clone, Debug)]
pub struct PairSettings {
    pub public_key: String,
    pub private_key_file: PathBuf,
}

/// The largest number of callers. Each caller has series of its own in the metrics, and a row on the status page.
pub const MOST_CALLERS: usize = 100;

/// `proxy` has the settings of the listener that the callers call.
pub(super) fn read(r: &mut Reader<'_>, proxy: Option<&ProxySettings>) -> Option<Vec<CallerSettings>> {
    let elements = r.list_of_tables("callers", &KEYS)?;
    if elements.len() > MOST_CALLERS {
        r.refuse("callers", &format!("expected at most {MOST_CALLERS} callers, found {}", elements.len()));
        return None;
    }
    // The marks are compared even if a caller has other mistakes.
    let (marks, callers): (Vec<Marks>, Vec<_>) = elements.iter().map(|element| read_caller(r, element, proxy)).unzip();
    let mut are_different = true;
    for (index, key) in MARKS.into_iter().enumerate() {
        let mut seen = HashSet::new();
        for (element, marks) in elements.iter().zip(&marks) {
            if let Some(Some(mark)) = marks.get(index)
                && !seen.insert(mark)
            {
                r.refuse_member(element, key, "another caller has the same, so nothing would tell them apart");
                are_different = false;
            }
        }
    }
    let all: Option<Vec<CallerSettings>> = callers.into_iter().collect();
    all.filter(|_| are_different)
}

/// The keys whose values no two callers may share.
const MARKS: [&str; 4] = ["callers.name", "callers.public_key", "callers.certificate", "callers.uid"];

/// The values of [`MARKS`] that one caller has.
type Marks = [Option<String>; MARKS.len()];

const KEYS: [(&str, ShownTo); 8] = [
    ("callers.name", ShownTo::Everybody),
    ("callers.token_file", ShownTo::Operators),
    ("callers.public_key", ShownTo::Everybody),
    ("callers.private_key_file", ShownTo::Operators),
    ("callers.certificate", ShownTo::Operators),
    ("callers.uid", ShownTo::Operators),
    ("callers.allow", ShownTo::Everybody),
    ("callers.max_amount", ShownTo::Operators),
];

/// Reads one caller. Its marks are known even if another key has a mistake.
fn read_caller(
    r: &mut Reader<'_>,
    element: &Element<'_>,
    proxy: Option<&ProxySettings>,
) -> (Marks, Option<CallerSettings>) {
    let keys = Keys::read(r, element);
    keys.check_presence(r, element);
    keys.check_uid(r, element, proxy);
    keys.check_certificate(r, element, proxy);
    (keys.marks(), keys.settings())
}

/// A key as it was read: `None` for a mistake, and `Some(None)` for a key that the table does not have.
type Member<T> = Option<Option<T>>;

/// The keys of one caller.
struct Keys {
    name: Member<String>,
    token_file: Member<PathBuf>,
    public_key: Member<String>,
    private_key_file: Member<PathBuf>,
    certificate: Member<String>,
    uid: Member<u32>,
    allow: Member<Vec<Permissions>>,
    /// The inner `None` stands for an empty list, and for two amounts of one currency.
    max_amount: Member<Option<Bounds>>,
}

impl Keys {
    fn read(r: &mut Reader<'_>, element: &Element<'_>) -> Self {
        let name = r.member(element, "callers.name", caller::caller_name);
        let token_file = r.member(element, "callers.token_file", parse::secret_file);
        let public_key = r.member(element, "callers.public_key", caller::public_key);
        let private_key_file = r.member(element, "callers.private_key_file", parse::secret_file);
        let certificate = r.member(element, "callers.certificate", caller::certificate_name);
        let uid = r.number_member(element, "callers.uid", caller::uid);
        let allow = r.members(element, "callers.allow", caller::permissions);
        let max_amount = r.members(element, "callers.max_amount", caller::amount);
        let max_amount = max_amount.map(|amounts| amounts.map(Bounds::new));
        Self { name, token_file, public_key, private_key_file, certificate, uid, allow, max_amount }
    }

    /// Checks that the keys are there which a caller needs, alone or together.
    fn check_presence(&self, r: &mut Reader<'_>, element: &Element<'_>) {
        if let Some(None) = self.name {
            r.refuse_member(element, "callers.name", "required");
        }
        match &self.allow {
            Some(None) => {
                r.refuse_member(element, "callers.allow", "required, a list such as [\"read\", \"checkout\"]");
            }
            Some(Some(words)) if words.is_empty() => {
                let message = "empty, so the caller could do nothing; expected at least one word";
                r.refuse_member(element, "callers.allow", message);
            }
            Some(Some(_)) | None => {}
        }
        if let Some(Some(None)) = self.max_amount {
            r.refuse_member(element, "callers.max_amount", "expected at least one amount, and one for each currency");
        }
        match (&self.public_key, &self.private_key_file) {
            (Some(Some(_)), Some(None)) => {
                r.refuse_member(element, "callers.private_key_file", "required with public_key");
            }
            (Some(None), Some(Some(_))) => {
                r.refuse_member(element, "callers.public_key", "required with private_key_file");
            }
            (_, _) => {}
        }
        if let (Some(None), Some(None), Some(None), Some(None), Some(None)) =
            (&self.token_file, &self.public_key, &self.private_key_file, &self.certificate, &self.uid)
        {
            let message = "nothing tells this caller from others; set token_file, public_key with private_key_file, \
                           certificate or uid";
            r.refuse_member(element, "callers.name", message);
        }
    }

    /// Checks that a Unix socket can tell the uid, and that the uid is that of one user.
    fn check_uid(&self, r: &mut Reader<'_>, element: &Element<'_>, proxy: Option<&ProxySettings>) {
        let Some(Some(uid)) = self.uid else { return };
        if proxy.is_some_and(|proxy| !proxy.listen.iter().any(|address| matches!(address, Address::Unix(_)))) {
            let message = "proxy.listen has no Unix socket, and nothing else tells the uid of a caller";
            r.refuse_member(element, "callers.uid", message);
        }
        if uid == overflow_uid() {
            let message = format!(
                "{uid} is the number of every user that this user namespace has none for (see \
                 /proc/sys/kernel/overflowuid), so it tells nobody from others"
            );
            r.refuse_member(element, "callers.uid", &message);
        }
    }

    /// Checks that the listener verifies the certificates of callers.
    fn check_certificate(&self, r: &mut Reader<'_>, element: &Element<'_>, proxy: Option<&ProxySettings>) {
        let verifies = |proxy: &ProxySettings| proxy.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        if let (Some(Some(_)), Some(proxy)) = (&self.certificate, proxy)
            && !verifies(proxy)
        {
            let message = "proxy.tls.client_ca_file is not set, so no certificate of a caller is verified";
            r.refuse_member(element, "callers.certificate", message);
        }
    }

    fn marks(&self) -> Marks {
        let mark = |text: &Member<String>| text.clone().flatten();
        let uid = self.uid.flatten().map(|uid| uid.to_string());
        [mark(&self.name), mark(&self.public_key), mark(&self.certificate), uid]
    }

    /// The caller, if no key has a mistake.
    fn settings(self) -> Option<CallerSettings> {
        let pair = match (self.public_key?, self.private_key_file?) {
            (Some(public_key), Some(private_key_file)) => Some(PairSettings { public_key, private_key_file }),
            (None, None) => None,
            (_, _) => return None,
        };
        let max_amount = match self.max_amount? {
            Some(None) => return None,
            bounds => bounds.flatten(),
        };
        Some(CallerSettings {
            name: self.name??,
            token_file: self.token_file?,
            pair,
            certificate: self.certificate?,
            uid: self.uid?,
            allow: self.allow??.into_iter().fold(Permissions::default(), Permissions::union),
            max_amount,
        })
    }
}
