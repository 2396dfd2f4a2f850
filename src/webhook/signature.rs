//! Signatures in headers: hexadecimal digits or base64 there, bytes here.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::secret::Secret;

/// Sezzle's signature of a webhook.
pub const SEZZLE: HeaderName = HeaderName::from_static("sezzle-signature");

/// The sidecar's own signature, for the service that gets the webhook.
pub const OWN: HeaderName = HeaderName::from_static("sezzle-sidecar-signature");

/// A header that some code expects the signature in. Sezzle does not send it.
const MISPLACED: HeaderName = HeaderName::from_static("x-sezzle-signature");

/// Bytes of an HMAC-SHA256.
const LENGTH: usize = 32;

/// Reads the single signature of Sezzle's in a request; `None` if there is none, more than one, or an invalid one.
/// Sezzle does not document its encoding, so hexadecimal digits and base64 are both read; only the right bytes pass in
/// either form.
pub fn read(headers: &HeaderMap) -> Option<[u8; LENGTH]> {
    let mut values = headers.get_all(SEZZLE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.as_bytes();
    if text.len() == LENGTH * 2 { from_digits(text) } else { from_base64(text) }
}

/// Advice for the operator on a signature in the wrong header.
pub fn misplaced(headers: &HeaderMap) -> Option<&'static str> {
    let only = headers.contains_key(MISPLACED) && !headers.contains_key(SEZZLE);
    only.then_some("the signature came in X-Sezzle-Signature, which Sezzle does not send; expected Sezzle-Signature")
}

/// Hexadecimal digits of either case.
fn from_digits(text: &[u8]) -> Option<[u8; LENGTH]> {
    let mut tag = [0; LENGTH];
    hex::decode_to_slice(text, &mut tag).ok().map(|()| tag)
}

/// Base64 in either alphabet, padded or not.
fn from_base64(text: &[u8]) -> Option<[u8; LENGTH]> {
    let engines = [BASE64_STANDARD, BASE64_URL_SAFE, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD];
    // Other lengths are not decoded.
    let is_possible = matches!(text.len(), 43 | 44);
    let decoded = engines.iter().filter(|_| is_possible).find_map(|engine| engine.decode(text).ok());
    decoded.and_then(|tag| tag.try_into().ok())
}

/// Signs webhooks with the secret that the service shares.
#[derive(Debug)]
pub struct Signer(hmac::Key);

impl Signer {
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// The HMAC-SHA256 of the body, in lower-case hexadecimal digits.
    pub fn sign(&self, body: &[u8]) -> Option<HeaderValue> {
        let tag = hmac::sign(&self.0, body);
        HeaderValue::try_from(hex::encode(tag)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().filter_map(|value| Some((SEZZLE, HeaderValue::from_bytes(value).ok()?))).collect()
    }

    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    // The same signature in base64.
    const BASE64: &str = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";

    #[test]
    fn exactly_one_signature_of_the_right_length_is_read() {
        let upper = HEX.to_uppercase();
        for wrong in [
            String::new(),
            HEX.chars().skip(1).collect(),
            HEX.chars().skip(2).collect(),
            format!("{HEX}0"),
            format!("sha256={HEX}"),
            HEX.replace('5', "g"),
            HEX.replace("5b", "+b"),
            format!("{HEX},{HEX}"),
            "\u{e9}".repeat(32),
            format!("{BASE64}="),
            BASE64.replace('=', "=="),
            BASE64.replace('Q', " "),
            BASE64.replace("M=", "N="),
            format!("W{BASE64}"),
            BASE64.chars().skip(4).collect(),
            BASE64.replacen("W9", "+_", 1),
        ] {
            assert_eq!(read(&headers(&[wrong.as_bytes()])), None, "{wrong}");
        }
        assert_eq!(read(&headers(&[])), None);
        assert_eq!(read(&headers(&[HEX.as_bytes(), HEX.as_bytes()])), None, "twice");
        let tag = read(&headers(&[HEX.as_bytes()])).expect("a signature");
        assert_eq!((tag[0], tag[31]), (0x5b, 0x43));
        assert_eq!(read(&headers(&[upper.as_bytes()])), Some(tag), "in either case");
        assert_eq!(read(&headers(&[BASE64.as_bytes()])), Some(tag), "in base64");
        assert_eq!(read(&headers(&[HEX.as_bytes(), BASE64.as_bytes()])), None, "in two forms");
    }

    #[test]
    fn a_signature_in_the_wrong_place_is_named() {
        let with = |names: &[&'static str]| {
            let lines = names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static(HEX)));
            misplaced(&lines.collect()).is_some()
        };
        assert!(with(&["x-sezzle-signature"]));
        assert!(!with(&["sezzle-signature", "x-sezzle-signature"]) && !with(&["sezzle-signature"]) && !with(&[]));
    }

    #[test]
    fn the_own_signature_is_that_of_rfc_4231() {
        let signer = Signer::new(&Secret::new("Jefe".to_owned()));
        assert_eq!(signer.sign(b"what do ya want for nothing?").expect("a value"), HEX);
        assert!(!format!("{signer:?}").contains("Jefe"));
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_only_signatures_are_read(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                "[0-9a-fA-F]{60,68}".prop_map(Vec::from),
                "[a-zA-Z0-9+/_-]{41,43}={0,2}".prop_map(Vec::from),
            ],
        ) {
            if let Some(tag) = read(&headers(&[&value])) {
                let again = if value.len() == 64 {
                    tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                } else {
                    BASE64_STANDARD.encode(tag)
                };
                let usual = String::from_utf8_lossy(&value).replace('-', "+").replace('_', "/");
                let usual = if value.len() == 64 { usual.to_lowercase() } else { format!("{:=<44}", usual) };
                prop_assert_eq!(usual, again);
            }
        }

        #[test]
        fn every_signature_is_read_in_every_form(tag in any::<[u8; LENGTH]>()) {
            let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
            let engines = [BASE64_STANDARD, BASE64_URL_SAFE, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD];
            let forms = engines.map(|engine| engine.encode(tag)).into_iter().chain([hex.to_uppercase(), hex]);
            for form in forms {
                prop_assert_eq!(read(&headers(&[form.as_bytes()])), Some(tag), "{}", form);
            }
        }
    }
}
