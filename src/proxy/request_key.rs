//! The idempotency key of a write: `Sezzle-Request-Id`.
//!
//! Under one key a write has one effect, however often it is sent, on the calls that document it. A key stands for the
//! caller's intent: it is never derived from the body, since two equal refunds may both be meant.

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ProxyError;
use crate::hop_by_hop::connection_named;
use crate::telemetry::metrics::words;

pub const REQUEST_KEY: HeaderName = HeaderName::from_static("sezzle-request-id");
/// The header that many clients send in its place. Sezzle does not know it.
const MISSPELT: HeaderName = HeaderName::from_static("x-sezzle-request-id");
/// The header that libraries for many gateways send. Sezzle does not know it either.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

words! {
    /// Where a key came from: a metric label.
    pub enum KeySource {
        Caller = "caller",
        /// The caller sent it under the misspelt name.
        Normalised = "normalised",
        /// The caller sent it as `Idempotency-Key`.
        IdempotencyKey = "idempotency_key",
        Minted = "minted",
    }
}

/// Makes sure that a write carries a key: the caller's, or a new one. With `normalise` a key under another name counts
/// too, and all keys must be equal.
pub fn ensure(headers: &mut HeaderMap, normalise: bool) -> Result<(HeaderValue, KeySource), ProxyError> {
    let mut found = only(headers, &REQUEST_KEY)?.map(|key| (key, KeySource::Caller));
    if normalise {
        let others = [(MISSPELT, KeySource::Normalised), (IDEMPOTENCY_KEY, KeySource::IdempotencyKey)];
        for (name, source) in others {
            if !headers.contains_key(&name) {
                continue;
            }
            let key = only(headers, &name)?;
            headers.remove(name);
            match (&found, key) {
                (Some((first, _)), Some(key)) if *first != key => return Err(ProxyError::ConflictingKeys),
                (None, Some(key)) => found = Some((key, source)),
                (Some(_), Some(_)) | (_, None) => {}
            }
        }
    }
    let (key, source) = match found {
        Some(found) => found,
        None => (mint().ok_or(ProxyError::Internal)?, KeySource::Minted),
    };
    headers.insert(REQUEST_KEY, key.clone());
    Ok((key, source))
}

/// A new key. Two writes under one key would have one effect.
fn mint() -> Option<HeaderValue> {
    let mut random = [0; 16];
    rand::fill(&mut random).ok()?;
    HeaderValue::try_from(uuid::Builder::from_random_bytes(random).into_uuid().to_string()).ok()
}

/// Refuses a `Connection` that removes the caller's own key: with a new key, a retry would be another write.
pub fn check_connection(headers: &HeaderMap) -> Result<(), ProxyError> {
    let named = connection_named(headers);
    if [REQUEST_KEY, MISSPELT, IDEMPOTENCY_KEY].iter().any(|name| named.contains(name)) {
        return Err(ProxyError::Malformed("Connection names the idempotency key, so the key would not reach Sezzle"));
    }
    Ok(())
}

/// The only key under this name. An empty key does not count, because Sezzle could not tell two writes apart by it.
fn only(headers: &HeaderMap, name: &HeaderName) -> Result<Option<HeaderValue>, ProxyError> {
    let mut keys = headers.get_all(name).iter();
    let first = keys.next();
    if keys.next().is_some() {
        return Err(ProxyError::Malformed("the request has the idempotency key more than once"));
    }
    let unquoted = first.filter(|_| *name == IDEMPOTENCY_KEY).and_then(unquoted);
    let key = unquoted.as_ref().or(first).filter(|key| !key.as_bytes().trim_ascii().is_empty());
    // The key goes to logs, where an operator must find it as the caller wrote it.
    if key.is_some_and(|key| key.len() > MAX_KEY || !key.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'))) {
        return Err(ProxyError::Malformed("the idempotency key is not printable ASCII of 255 characters at most"));
    }
    Ok(key.cloned())
}

const MAX_KEY: usize = 255;

/// The text of a string as RFC 8941, 3.3.3 writes one. `None` if the value is no such string.
fn unquoted(value: &HeaderValue) -> Option<HeaderValue> {
    let quoted = value.as_bytes().trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let (mut text, mut bytes) = (Vec::with_capacity(quoted.len()), quoted.iter());
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'"' => return None,
            b'\\' => *bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?,
            byte => *byte,
        });
    }
    HeaderValue::from_bytes(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that go on to Sezzle, and where they came from.
    fn ensured(
        lines: &[(&'static str, &'static str)],
        normalise: bool,
    ) -> Result<(Vec<String>, KeySource), &'static str> {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        let (key, source) = ensure(&mut headers, normalise).map_err(|error| error.code())?;
        let names = [REQUEST_KEY, MISSPELT, IDEMPOTENCY_KEY];
        let sent = names.iter().flat_map(|name| headers.get_all(name));
        let sent: Vec<String> = sent.map(|key| key.to_str().expect("text").to_owned()).collect();
        assert!(sent.contains(&key.to_str().expect("text").to_owned()));
        Ok((sent, source))
    }

    const RIGHT: &str = "sezzle-request-id";
    const WRONG: &str = "x-sezzle-request-id";
    const COMMON: &str = "idempotency-key";

    fn sent(keys: &[&str], source: KeySource) -> Result<(Vec<String>, KeySource), &'static str> {
        Ok((keys.iter().map(|key| (*key).to_owned()).collect(), source))
    }

    #[test]
    fn the_callers_key_is_kept_and_one_under_another_name_is_put_right() {
        assert_eq!(ensured(&[(RIGHT, "a")], true), sent(&["a"], KeySource::Caller));
        assert_eq!(ensured(&[(WRONG, "b")], true), sent(&["b"], KeySource::Normalised));
        assert_eq!(ensured(&[(COMMON, "c")], true), sent(&["c"], KeySource::IdempotencyKey));
        assert_eq!(ensured(&[(RIGHT, " "), (WRONG, "b")], true), sent(&["b"], KeySource::Normalised));
        assert_eq!(ensured(&[(RIGHT, ""), (WRONG, ""), (COMMON, "c")], true), sent(&["c"], KeySource::IdempotencyKey));
    }

    #[test]
    fn equal_keys_are_one_and_others_are_refused() {
        for (names, source) in [
            (&[RIGHT, WRONG, COMMON][..], KeySource::Caller),
            (&[RIGHT, WRONG], KeySource::Caller),
            (&[RIGHT, COMMON], KeySource::Caller),
            (&[WRONG, COMMON], KeySource::Normalised),
        ] {
            let equal: Vec<_> = names.iter().map(|name| (*name, "k")).collect();
            assert_eq!(ensured(&equal, true), sent(&["k"], source), "{names:?}");
            for differs in 0..names.len() {
                let mut lines = equal.clone();
                lines[differs].1 = "K";
                assert_eq!(ensured(&lines, true), Err("conflicting_keys"), "{lines:?}");
            }
        }
        assert_eq!(ensured(&[(RIGHT, "k"), (COMMON, "\"k\"")], true), sent(&["k"], KeySource::Caller));
        let all = [(RIGHT, "a"), (WRONG, "b"), (COMMON, "c")];
        assert_eq!(ensured(&all, false), sent(&["a", "b", "c"], KeySource::Caller), "as they are");
    }

    #[test]
    fn a_structured_string_is_unquoted() {
        for (value, expected) in [
            ("\"abc\"", "abc"),
            (" \"a b\" ", "a b"),
            ("\"a\\\"b\\\\c\"", "a\"b\\c"),
            ("abc", "abc"),
            ("\"", "\""),
            ("\"a\"b\"", "\"a\"b\""),
            ("\"a\\b\"", "\"a\\b\""),
            ("\"a\\\"", "\"a\\\""),
            ("\"a\";p=1", "\"a\";p=1"),
        ] {
            assert_eq!(ensured(&[(COMMON, value)], true), sent(&[expected], KeySource::IdempotencyKey), "{value}");
            assert_eq!(
                ensured(&[(RIGHT, value)], true),
                sent(&[value], KeySource::Caller),
                "Sezzle's own is left alone"
            );
        }
        assert_eq!(ensured(&[(COMMON, "\"\"")], true).map(|(_, source)| source), Ok(KeySource::Minted));
    }

    #[test]
    fn a_key_is_minted_where_there_is_none() {
        for (lines, normalise, keys) in [
            (vec![], true, 1),
            (vec![(RIGHT, "")], true, 1),
            (vec![(WRONG, ""), (COMMON, " ")], true, 1),
            (vec![(WRONG, "b")], false, 2),
            (vec![(COMMON, "c")], false, 2),
        ] {
            let (sent, source) = ensured(&lines, normalise).expect("clear");
            assert_eq!(source, KeySource::Minted, "{lines:?}");
            assert_eq!((sent.len(), sent.first().map(String::len)), (keys, Some(36)), "{lines:?}: {sent:?}");
        }
        assert_ne!(ensured(&[], true), ensured(&[], true));
    }

    #[test]
    fn what_cannot_be_logged_is_refused() {
        for (key, taken) in
            [("k".repeat(255), true), ("k".repeat(256), false), ("ä".to_owned(), false), ("a\tb".to_owned(), false)]
        {
            let value = HeaderValue::from_bytes(key.as_bytes()).expect("a value");
            let mut headers = HeaderMap::from_iter([(REQUEST_KEY, value)]);
            assert_eq!(ensure(&mut headers, true).is_ok(), taken, "{key}");
        }
    }

    #[test]
    fn two_keys_are_refused() {
        for name in [RIGHT, WRONG, COMMON] {
            assert_eq!(ensured(&[(name, "a"), (name, "a")], true), Err("bad_request"), "{name}");
        }
    }
}
