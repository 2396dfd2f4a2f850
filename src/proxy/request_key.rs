//! The idempotency key of a write: `Sezzle-Request-Id`.
//!
//! Under one key a write has one effect, however often it is sent, on the calls that document it. A key stands for the
//! caller's intent: it is never derived from the body, since two equal refunds may both be meant.

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ProxyError;
use crate::hop_by_hop::connection_named;

/// Header of the idempotency key.
pub const REQUEST_KEY: HeaderName = HeaderName::from_static("sezzle-request-id");
/// What many clients send in its place; Sezzle does not know it.
const MISSPELT: HeaderName = HeaderName::from_static("x-sezzle-request-id");

/// Where a key came from: a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller sent it.
    Caller,
    /// The caller sent it under the misspelt name.
    Normalised,
    /// The caller sent none.
    Minted,
}

impl Origin {
    /// Every label, for metrics that start at 0.
    pub const ALL: [Self; 3] = [Self::Caller, Self::Normalised, Self::Minted];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Normalised => "normalised",
            Self::Minted => "minted",
        }
    }
}

/// Sees to it that a write carries a key: the caller's, or a new one.
///
/// # Errors
/// When it is not clear which key is meant.
pub fn ensure(headers: &mut HeaderMap, normalise: bool) -> Result<(HeaderValue, Origin), ProxyError> {
    let mut found = only(headers, &REQUEST_KEY)?.map(|key| (key, Origin::Caller));
    if found.is_none() && normalise {
        found = only(headers, &MISSPELT)?.map(|key| (key, Origin::Normalised));
        headers.remove(MISSPELT);
    }
    let (key, origin) = match found {
        Some(found) => found,
        None => (mint().ok_or(ProxyError::Internal)?, Origin::Minted),
    };
    headers.insert(REQUEST_KEY, key.clone());
    Ok((key, origin))
}

/// A key that nobody has: two writes under one key would be one.
fn mint() -> Option<HeaderValue> {
    let mut random = [0; 16];
    rand::fill(&mut random).ok()?;
    HeaderValue::try_from(uuid::Builder::from_random_bytes(random).into_uuid().to_string()).ok()
}

/// Whether the caller's `Connection` takes its own key away: with a new one in its place a repetition would be another
/// write.
///
/// # Errors
/// When it does.
pub fn check_connection(headers: &HeaderMap) -> Result<(), ProxyError> {
    let named = connection_named(headers);
    if named.contains(&REQUEST_KEY) || named.contains(&MISSPELT) {
        return Err(ProxyError::Malformed("Connection names the idempotency key, which has to reach Sezzle"));
    }
    Ok(())
}

/// The one key under this name. An empty one is none: Sezzle could not tell two writes apart by it.
fn only(headers: &HeaderMap, name: &HeaderName) -> Result<Option<HeaderValue>, ProxyError> {
    let mut keys = headers.get_all(name).iter();
    let key = keys.next().filter(|key| !key.as_bytes().trim_ascii().is_empty());
    if keys.next().is_some() {
        return Err(ProxyError::Malformed("the idempotency key stands there more than once"));
    }
    // It goes to logs, where an operator must find it as the caller wrote it.
    if key.is_some_and(|key| key.len() > MAX_KEY || key.to_str().is_err()) {
        return Err(ProxyError::Malformed("the idempotency key is not printable ASCII of 255 characters at most"));
    }
    Ok(key.cloned())
}

const MAX_KEY: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that go on to Sezzle, and where they came from.
    fn ensured(lines: &[(&'static str, &'static str)], normalise: bool) -> Result<(Vec<String>, Origin), &'static str> {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        let (key, origin) = ensure(&mut headers, normalise).map_err(|error| error.code())?;
        let sent = headers.get_all(REQUEST_KEY).iter().chain(headers.get_all(MISSPELT));
        let sent: Vec<String> = sent.map(|key| key.to_str().expect("text").to_owned()).collect();
        assert!(sent.contains(&key.to_str().expect("text").to_owned()));
        Ok((sent, origin))
    }

    #[test]
    fn the_callers_key_is_kept_and_a_misspelt_one_is_put_right() {
        let (right, wrong) = (("sezzle-request-id", "a"), ("x-sezzle-request-id", "b"));
        let keys = |keys: &[&str], origin| Ok((keys.iter().map(|key| (*key).to_owned()).collect(), origin));
        assert_eq!(ensured(&[right], true), keys(&["a"], Origin::Caller));
        assert_eq!(ensured(&[wrong], true), keys(&["b"], Origin::Normalised));
        assert_eq!(ensured(&[right, wrong], true), keys(&["a", "b"], Origin::Caller), "the right name is right");
        assert_eq!(ensured(&[right, wrong], false), keys(&["a", "b"], Origin::Caller));
        assert_eq!(ensured(&[("sezzle-request-id", " "), wrong], true), keys(&["b"], Origin::Normalised));
    }

    #[test]
    fn a_key_is_minted_where_there_is_none() {
        for (lines, normalise) in [
            (vec![], true),
            (vec![("sezzle-request-id", "")], true),
            (vec![("x-sezzle-request-id", "")], true),
            (vec![("x-sezzle-request-id", "b")], false),
        ] {
            let (sent, origin) = ensured(&lines, normalise).expect("clear");
            assert_eq!(origin, Origin::Minted, "{lines:?}");
            assert_eq!(sent.first().map(String::len), Some(36), "{lines:?}: {sent:?}");
        }
        assert_ne!(ensured(&[], true), ensured(&[], true));
    }

    #[test]
    fn what_cannot_be_logged_is_refused() {
        for (key, taken) in [("k".repeat(255), true), ("k".repeat(256), false), ("ä".to_owned(), false)] {
            let value = HeaderValue::from_bytes(key.as_bytes()).expect("a value");
            let mut headers = HeaderMap::from_iter([(REQUEST_KEY, value)]);
            assert_eq!(ensure(&mut headers, true).is_ok(), taken, "{key}");
        }
    }

    #[test]
    fn two_keys_are_refused() {
        for name in ["sezzle-request-id", "x-sezzle-request-id"] {
            assert_eq!(ensured(&[(name, "a"), (name, "a")], true), Err("bad_request"), "{name}");
        }
    }
}
