//! Reads the subject, the issuer and the validity of a certificate. Pure.
//!
//! The values are for operators to read. Nothing here decides about trust: only rustls does.

use crate::clock::Wall;
use crate::sezzle::time::parse_rfc3339;

/// The fields of a certificate that operators read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name, or else its organisation; empty if it has neither.
    pub subject: String,
    /// The issuer's common name, or else its organisation.
    pub issuer: String,
    /// The beginning of the validity.
    pub not_before: Wall,
    /// The end of the validity.
    pub not_after: Wall,
}

impl Certificate {
    /// Reads a certificate in DER (RFC 5280, 4.1); `None` if the bytes are not one.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (certificate, _) = Element::read(der)?.of(SEQUENCE)?;
        let (mut fields, _) = Element::read(certificate)?.of(SEQUENCE)?;
        // The version is optional.
        if let Some(version) = Element::read(fields).filter(|element| element.tag == VERSION) {
            fields = version.rest;
        }
        let (_serial, fields) = Element::read(fields)?.of(INTEGER)?;
        let (_algorithm, fields) = Element::read(fields)?.of(SEQUENCE)?;
        let (issuer, fields) = Element::read(fields)?.of(SEQUENCE)?;
        let (validity, fields) = Element::read(fields)?.of(SEQUENCE)?;
        let (subject, _) = Element::read(fields)?.of(SEQUENCE)?;
        let not_before = Element::read(validity)?;
        let not_after = Element::read(not_before.rest)?;
        Some(Self {
            subject: name(subject),
            issuer: name(issuer),
            not_before: moment(&not_before)?,
            not_after: moment(&not_after)?,
        })
    }
}

/// The content of OpenSSL's `TRUSTED CERTIFICATE`: a certificate, and the uses it is trusted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// The certificate has this length in bytes and is trusted for TLS servers.
    ForServers(usize),
    /// The file excludes TLS servers.
    ForOthers,
    /// The bytes have another form.
    Malformed,
}

/// Reads the trust settings that follow a certificate (`X509_CERT_AUX`): a list of trusted uses and a list of rejected
/// uses.
pub fn trusted(der: &[u8]) -> Trusted {
    let Some(certificate) = Element::read(der).filter(|element| element.tag == SEQUENCE) else {
        return Trusted::Malformed;
    };
    let length = der.len() - certificate.rest.len();
    if certificate.rest.is_empty() {
        return Trusted::ForServers(length);
    }
    let Some((mut settings, _)) = Element::read(certificate.rest).and_then(|settings| settings.of(SEQUENCE)) else {
        return Trusted::Malformed;
    };
    while let Some(setting) = Element::read(settings) {
        settings = setting.rest;
        let for_servers = objects(setting.content).any(|object| object == SERVER || object == ANY_USE);
        match setting.tag {
            SEQUENCE if !for_servers => return Trusted::ForOthers,
            REJECTED if for_servers => return Trusted::ForOthers,
            _ => {}
        }
    }
    Trusted::ForServers(length)
}

fn objects(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let element = Element::read(list)?;
        list = element.rest;
        Some(element.content)
    })
}

/// One element of DER, and the bytes behind it.
struct Element<'d> {
    tag: u8,
    content: &'d [u8],
    rest: &'d [u8],
}

impl<'d> Element<'d> {
    fn read(der: &'d [u8]) -> Option<Self> {
        let (tag, der) = der.split_first()?;
        let (first, der) = der.split_first()?;
        let (length, der) = match usize::from(*first) {
            short @ 0..=0x7f => (short, der),
            // No certificate has a length of more than three bytes.
            long @ 0x81..=0x83 => {
                let (bytes, der) = der.split_at_checked(long - 0x80)?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), der)
            }
            _ => return None,
        };
        let (content, rest) = der.split_at_checked(length)?;
        Some(Self { tag: *tag, content, rest })
    }

    /// The content and the rest, if the element has this tag.
    fn of(self, tag: u8) -> Option<(&'d [u8], &'d [u8])> {
        (self.tag == tag).then_some((self.content, self.rest))
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const REJECTED: u8 = 0xa0;
const SERVER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const ANY_USE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// The common name of a distinguished name, or else its organisation.
fn name(parts: &[u8]) -> String {
    part(parts, COMMON_NAME).or_else(|| part(parts, ORGANISATION)).unwrap_or_default()
}

fn part(mut parts: &[u8], kind: &[u8]) -> Option<String> {
    while let Some(set) = Element::read(parts) {
        parts = set.rest;
        let mut attributes = set.of(SET)?.0;
        while let Some(attribute) = Element::read(attributes) {
            attributes = attribute.rest;
            let (attribute, _) = attribute.of(SEQUENCE)?;
            let (object, value) = Element::read(attribute)?.of(OBJECT)?;
            if object == kind {
                return Some(shown(Element::read(value)?.content));
            }
        }
    }
    None
}

/// Makes text safe for a terminal: no control characters, and a limited length.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(LONGEST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

const LONGEST: usize = 100;

/// Reads a time, which RFC 5280 (4.1.2.5) gives in UTC.
fn moment(element: &Element<'_>) -> Option<Wall> {
    let digits = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    let (century, digits) = match element.tag {
        UTC_TIME if digits.get(..2)? >= "50" => ("19", digits),
        UTC_TIME => ("20", digits),
        GENERALIZED_TIME => digits.split_at_checked(2)?,
        _ => return None,
    };
    let pair = |at: usize| digits.get(at..at.saturating_add(2)).filter(|pair| pair.bytes().all(|b| b.is_ascii_digit()));
    let (year, month, day) = (pair(0)?, pair(2)?, pair(4)?);
    let (hour, minute, second) = (pair(6)?, pair(8)?, pair(10)?);
    if digits.len() != 12 {
        return None;
    }
    parse_rfc3339(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn signed(issuer: &[(DnType, &str)], subject: &[(DnType, &str)], until: i32) -> Vec<u8> {
        let params = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::new(vec!["gateway.example".to_owned()]).expect("valid");
            params.distinguished_name = rcgen::DistinguishedName::new();
            names.iter().for_each(|(kind, name)| params.distinguished_name.push(kind.clone(), *name));
            params.not_before = date_time_ymd(2020, 2, 29);
            params.not_after = date_time_ymd(until, 1, 3);
            params
        };
        let key = || KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params(issuer), key()).expect("signs");
        params(subject).signed_by(&key(), &issuer).expect("signs").der().to_vec()
    }

    #[test]
    fn it_says_for_whom_by_whom_and_how_long() {
        let (common, organisation) = (DnType::CommonName, DnType::OrganizationName);
        let der = signed(
            &[(organisation.clone(), "Example Trust"), (common.clone(), "Example CA 1")],
            &[(common.clone(), "gateway.example")],
            2031,
        );
        let read = Certificate::read(&der).expect("a certificate");
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("gateway.example", "Example CA 1"));
        assert_eq!(Some(read.not_before), parse_rfc3339("2020-02-29T00:00:00Z"));
        assert_eq!(Some(read.not_after), parse_rfc3339("2031-01-03T00:00:00Z"));
        // Certificates without a common name, without any name, far in the future, and with characters that do not
        // belong on a terminal.
        let der = signed(&[(organisation, "Example Trust")], &[], 2100);
        let read = Certificate::read(&der).expect("a certificate");
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("", "Example Trust"));
        assert_eq!(Some(read.not_after), parse_rfc3339("2100-01-03T00:00:00Z"));
        let der = signed(&[(common, &format!("a\u{1b}[2J\n{}", "b".repeat(500)))], &[], 2031);
        let issuer = Certificate::read(&der).expect("a certificate").issuer;
        assert!(issuer.starts_with("a\u{fffd}[2J\u{fffd}bbb") && issuer.chars().count() == 100, "{issuer:?}");
    }

    #[test]
    fn what_openssl_adds_to_a_certificate_says_whom_it_is_trusted_for() {
        let element = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let uses = |tag, objects: &[&[u8]]| {
            element(tag, &objects.iter().flat_map(|object| element(OBJECT, object)).collect::<Vec<_>>())
        };
        let client: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
        let certificate = element(SEQUENCE, b"certificate");
        let with = |settings: &[u8]| trusted(&[certificate.clone(), element(SEQUENCE, settings)].concat());
        let whole = Trusted::ForServers(certificate.len());
        assert_eq!(trusted(&certificate), whole);
        for (settings, expected) in [
            (vec![], whole),
            (element(0x0c, b"Corp"), whole),
            (uses(SEQUENCE, &[SERVER]), whole),
            (uses(SEQUENCE, &[client, ANY_USE]), whole),
            (uses(SEQUENCE, &[client]), Trusted::ForOthers),
            (uses(REJECTED, &[client]), whole),
            (uses(REJECTED, &[SERVER]), Trusted::ForOthers),
        ] {
            assert_eq!(with(&settings), expected, "{settings:?}");
        }
        for broken in [&[][..], b"x", &[SEQUENCE, 9, 1]] {
            assert_eq!(trusted(broken), Trusted::Malformed);
        }
    }

    #[test]
    fn moments_before_and_after_2050_are_written_differently() {
        let read = |tag, text: &str| moment(&Element { tag, content: text.as_bytes(), rest: &[] });
        for (tag, text, expected) in [
            (UTC_TIME, "991231235959Z", "1999-12-31T23:59:59Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(tag, text), parse_rfc3339(expected), "{text}");
        }
        for text in
            ["", "Z", "4912312359Z", "491231235959", "491331235959Z", "49123123595+Z", "äääääääZ", "4912312359590Z"]
        {
            assert_eq!(read(UTC_TIME, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&bytes);
        }

        #[test]
        fn a_broken_certificate_is_survived(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut der = signed(&[(DnType::CommonName, "CA")], &[(DnType::CommonName, "x")], 2031);
            let at = at.index(der.len());
            der[at] = byte;
            let _ = Certificate::read(&der);
            let _ = Certificate::read(&der[..cut.index(der.len())]);
        }
    }
}
