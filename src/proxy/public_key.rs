//! Public keys that callers authenticate with: `Authorization: Basic` of a key that begins with `sz_pub_`, with or
//! without a colon behind it. Sezzle's own SDKs for telephones send that.
//!
//! A caller with our public key asks for fewer rights than the merchant's token gives, and gets no more. A caller with
//! another merchant's key expects to act for that merchant, and is refused.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::error::ProxyError;

/// The public key that a caller asks to be sent under.
#[derive(Debug, PartialEq, Eq)]
pub enum NamedKey {
    /// Ours, in the `Authorization` of the caller, which goes on to Sezzle as it is.
    Ours(HeaderValue),
    /// The key that the configuration gave to this caller, and that Sezzle does not know.
    Callers,
}

/// The public key in the `Authorization` of a caller. Another merchant's key is refused. `callers_own` is the public
/// key that the configuration gave to this caller.
pub fn callers_public_key(
    headers: &HeaderMap,
    callers_own: Option<&str>,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Option<NamedKey>, ProxyError> {
    let mut named = None;
    for value in headers.get_all(AUTHORIZATION) {
        let Some((key, is_basic)) = named_key(value.as_bytes(), callers_own) else { continue };
        let is_callers = callers_own == Some(&key);
        if !is_callers && !is_ours(&key) {
            return Err(ProxyError::ForeignKeys);
        }
        if is_basic {
            let mut value = value.clone();
            value.set_sensitive(true);
            named = Some(if is_callers { NamedKey::Callers } else { NamedKey::Ours(value) });
        }
    }
    Ok(named)
}

/// Whether a key that a caller sends looks like a public key of Sezzle's, and not like a placeholder.
pub fn looks_real(key: &str) -> bool {
    key.trim().get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

const PREFIX: &str = "sz_pub_";

/// The public key that an `Authorization` names, and whether it has the form that Sezzle accepts.
fn named_key(authorization: &[u8], callers_own: Option<&str>) -> Option<(String, bool)> {
    let authorization = authorization.trim_ascii();
    let end = authorization.iter().position(u8::is_ascii_whitespace).unwrap_or(authorization.len());
    let (scheme, credentials) = authorization.split_at_checked(end)?;
    let credentials = credentials.trim_ascii();
    let is_basic = scheme.eq_ignore_ascii_case(b"basic");
    let key = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let key = text.split(':').next().unwrap_or_default().trim();
        (looks_real(key) || callers_own == Some(key)).then(|| key.to_owned())
    };
    if is_basic && let Some(key) = decoded(credentials).and_then(|decoded| key(&decoded)) {
        return Some((key, true));
    }
    // Sezzle finds no key in these forms, but they show for which merchant the caller acts.
    key(credentials).or_else(|| key(scheme)).map(|key| (key, false))
}

/// Base64 in either alphabet, padded or not.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let usual = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        _ => *byte,
    };
    let text: Cow<'_, [u8]> = if text.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        text.iter().map(usual).collect()
    } else {
        text.into()
    };
    LENIENT.decode(text).ok()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE};

    use super::*;

    const OURS: &str = "sz_pub_ours";

    fn read(lines: &[&str]) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).expect("valid"));
        }
        match callers_public_key(&headers, Some("callers"), |key| key == OURS).map_err(|error| error.code())? {
            None => Ok(None),
            Some(NamedKey::Callers) => Ok(Some("the caller's".to_owned())),
            Some(NamedKey::Ours(own)) => {
                assert!(own.is_sensitive());
                Ok(Some(own.to_str().expect("text").to_owned()))
            }
        }
    }

    #[test]
    fn the_key_that_the_configuration_gave_to_a_caller_is_known() {
        let basic = |key: &str| format!("Basic {}", BASE64_STANDARD.encode(key));
        for key in ["callers", "callers:", "callers:x"] {
            assert_eq!(read(&[&basic(key)]), Ok(Some("the caller's".to_owned())), "{key}");
        }
        for key in ["caller", "callers2", "CALLERS"] {
            assert_eq!(read(&[&basic(key)]), Ok(None), "{key}");
        }
        assert_eq!(read(&["Bearer callers"]), Ok(None));
    }

    #[test]
    fn our_public_key_goes_on_as_it_is_and_anothers_is_refused() {
        let basic = |scheme: &str, key: &str| format!("{scheme} {}", BASE64_STANDARD.encode(key));
        for ours in [
            basic("Basic", OURS),
            basic("basic", "sz_pub_ours:"),
            basic("BASIC ", "sz_pub_ours:anything"),
            format!("Basic {}", BASE64_STANDARD_NO_PAD.encode(OURS)),
            format!("Basic {}", BASE64_URL_SAFE.encode("sz_pub_ours:\u{ff}\u{fe}?>")),
        ] {
            assert_eq!(read(&[&ours]), Ok(Some(ours.clone())), "{ours}");
            assert_eq!(read(&["Bearer x", &ours]), Ok(Some(ours.clone())), "the one with fewer rights");
        }
        for foreign in [
            basic("Basic", "sz_pub_another"),
            basic("Basic", "sz_pub_another:"),
            basic("basic", "SZ_PUB_OURS"),
            basic("Basic", " sz_pub_another\n"),
            basic(" Basic", "sz_pub_another"),
            basic("\tBasic", "sz_pub_another"),
            format!("Basic {}", BASE64_STANDARD_NO_PAD.encode("sz_pub_another")),
            "Basic sz_pub_another".to_owned(),
            "Bearer sz_pub_another".to_owned(),
            "sz_pub_another".to_owned(),
        ] {
            assert_eq!(read(&[&foreign]), Err("foreign_keys"), "{foreign}");
            assert_eq!(read(&[&basic("Basic", OURS), &foreign]), Err("foreign_keys"), "{foreign}");
        }
    }

    #[test]
    fn what_names_no_public_key_is_dropped_as_ever() {
        for other in [
            "Bearer placeholder-the-sidecar-adds-the-real-token",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Basic eDp5",
            "Basic c3pfcHVi",
            "Bearer sz_pub_ours",
            "Bearer a_b",
            "",
            "Basic \u{e9}",
        ] {
            assert_eq!(read(&[other]), Ok(None), "{other}");
        }
        assert_eq!(read(&[]), Ok(None));
    }
}
