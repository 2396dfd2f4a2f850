//! Reads the subject, the issuer and the validity of a certificate. Pure.
//!
//! The values are for operators to read. Nothing here decides about trust: only rustls does.

use std::iter;

use x509_parser::asn1_rs::{Any, Class, Sequence, Tag};
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{X509Name, X509Version};

use crate::clock::Wall;
use crate::text::printable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name, or else its organisation; empty if it has neither.
    pub subject: String,
    /// The issuer's common name, or else its organisation.
    pub issuer: String,
    pub not_before: Wall,
    pub not_after: Wall,
}

impl Certificate {
    /// Reads a certificate in DER (RFC 5280, 4.1); `None` if the bytes are not one.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let Validity { not_before, not_after } = certificate.validity();
        Some(Self {
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            not_before: moment(*not_before),
            not_after: moment(*not_after),
        })
    }
}

/// Whether a certificate in DER may sign others (RFC 5280, 4.2.1.9). A certificate of version 1 or 2 does not say, and
/// counts as an authority.
pub fn is_authority(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        let constraints = certificate.basic_constraints();
        certificate.version() != X509Version::V3
            || constraints.is_ok_and(|found| found.is_some_and(|extension| extension.value.ca))
    })
}

/// The common name of a distinguished name, or else its organisation.
fn name(name: &X509Name<'_>) -> String {
    let part = name.iter_common_name().next().or_else(|| name.iter_organization().next());
    part.map(|part| printable(&String::from_utf8_lossy(part.as_slice()), LONGEST)).unwrap_or_default()
}

const LONGEST: usize = 100;

fn moment(time: ASN1Time) -> Wall {
    Wall(time.timestamp().saturating_mul(1000))
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

/// Reads the trust settings that follow a certificate (`X509_CERT_AUX`): lists of trusted and of rejected uses.
pub fn trusted(der: &[u8]) -> Trusted {
    let Ok((settings, _)) = Sequence::from_der(der) else { return Trusted::Malformed };
    let certificate = der.len() - settings.len();
    if settings.is_empty() {
        return Trusted::ForServers(certificate);
    }
    let Ok((_, settings)) = Sequence::from_der(settings) else { return Trusted::Malformed };
    for setting in elements(&settings.content) {
        let for_servers = elements(setting.data).any(|object| object.data == SERVER || object.data == ANY_USE);
        match (setting.class(), setting.tag()) {
            (Class::Universal, Tag::Sequence) if !for_servers => return Trusted::ForOthers,
            (Class::ContextSpecific, REJECTED) if for_servers => return Trusted::ForOthers,
            _ => {}
        }
    }
    Trusted::ForServers(certificate)
}

fn elements(mut list: &[u8]) -> impl Iterator<Item = Any<'_>> {
    iter::from_fn(move || {
        let (rest, element) = Any::from_der(list).ok()?;
        list = rest;
        Some(element)
    })
}

const REJECTED: Tag = Tag(0);
const SERVER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const ANY_USE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair, date_time_ymd};

    use super::*;
    use crate::sezzle::time::parse_rfc3339;

    const SEQUENCE: u8 = 0x30;
    const REJECTED: u8 = 0xa0;
    const OBJECT: u8 = 0x06;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;

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
        assert!(issuer.starts_with("a?[2J?bbb") && issuer.chars().count() == 100, "{issuer:?}");
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

    /// The end of a certificate that states it so.
    fn end(tag: u8, text: &str) -> Option<Wall> {
        let mut der = signed(&[(DnType::CommonName, &"x".repeat(200))], &[], 2031);
        let written = b"\x17\x0d310103000000Z";
        let at = der.windows(written.len()).position(|bytes| bytes == written).expect("an end");
        let longer = |length: &mut [u8]| {
            let sum = u16::from_be_bytes([length[0], length[1]]) + text.len() as u16 - 13;
            length.copy_from_slice(&sum.to_be_bytes());
        };
        assert_eq!((der[1], der[5], der[at - 17]), (0x82, 0x82, SEQUENCE), "lengths of two bytes, and the validity");
        longer(&mut der[2..4]);
        longer(&mut der[6..8]);
        der[at - 16] = 17 + text.len() as u8;
        der.splice(at..at + written.len(), [&[tag, text.len() as u8], text.as_bytes()].concat());
        Certificate::read(&der).map(|read| read.not_after)
    }

    #[test]
    fn moments_before_and_after_2050_are_written_differently() {
        for (tag, text, expected) in [
            (UTC_TIME, "991231235959Z", "1999-12-31T23:59:59Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
            // Against RFC 5280, and clear.
            (UTC_TIME, "4912312359Z", "2049-12-31T23:59:00Z"),
        ] {
            assert_eq!(end(tag, text), parse_rfc3339(expected), "{text}");
        }
        for text in ["", "Z", "491231235959", "491331235959Z", "49123123595+Z", "äääääääZ", "4912312359590Z"] {
            assert_eq!(end(UTC_TIME, text), None, "{text}");
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
