//! Signatures in headers: hexadecimal digits there, bytes here.

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::secret::Secret;

/// Sezzle's signature of a webhook.
pub const SEZZLE: HeaderName = HeaderName::from_static("sezzle-signature");

/// The sidecar's own, for the service that a webhook is handed on to.
pub const OWN: HeaderName = HeaderName::from_static("sezzle-sidecar-signature");

/// Bytes of an HMAC-SHA256.
const LENGTH: usize = 32;

/// The one signature of Sezzle's that a request carries; `None` when it carries none, several, or one that is no
/// signature.
pub fn read(headers: &HeaderMap) -> Option<[u8; LENGTH]> {
    let mut values = headers.get_all(SEZZLE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let mut digits = value.as_bytes().iter().map(|byte| char::from(*byte).to_digit(16));
    let mut tag = [0; LENGTH];
    for byte in &mut tag {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?;
    }
    digits.next().is_none().then_some(tag)
}

/// What the service shares with the sidecar.
#[derive(Debug)]
pub struct Signer(hmac::Key);

impl Signer {
    /// Signs with this secret.
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// HMAC-SHA256 of the body, in lower-case digits.
    pub fn sign(&self, body: &[u8]) -> Option<HeaderValue> {
        let tag = hmac::sign(&self.0, body);
        let digits = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let hex: String = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect();
        HeaderValue::try_from(hex).ok()
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
        ] {
            assert_eq!(read(&headers(&[wrong.as_bytes()])), None, "{wrong}");
        }
        assert_eq!(read(&headers(&[])), None);
        assert_eq!(read(&headers(&[HEX.as_bytes(), HEX.as_bytes()])), None, "twice");
        let tag = read(&headers(&[HEX.as_bytes()])).expect("a signature");
        assert_eq!((tag[0], tag[31]), (0x5b, 0x43));
        assert_eq!(read(&headers(&[upper.as_bytes()])), Some(tag), "in either case");
    }

    #[test]
    fn the_own_signature_is_that_of_rfc_4231() {
        let signer = Signer::new(&Secret::new("Jefe".to_owned()));
        assert_eq!(signer.sign(b"what do ya want for nothing?").expect("a value"), HEX);
        assert!(!format!("{signer:?}").contains("Jefe"));
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_only_digits_are_read(
            value in prop_oneof![prop::collection::vec(any::<u8>(), 0..80), "[0-9a-fA-F]{60,68}".prop_map(Vec::from)],
        ) {
            let is_tag = value.len() == 64 && value.iter().all(u8::is_ascii_hexdigit);
            prop_assert_eq!(read(&headers(&[&value])).is_some(), is_tag);
        }
    }
}
