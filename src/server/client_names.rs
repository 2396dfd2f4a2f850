//! The names in a caller's certificate.

use std::sync::Arc;

use rustls::{HandshakeKind, ServerConnection};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::clock::Wall;

/// Why a certificate that was verified cannot be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("the caller's certificate cannot be read")]
    Malformed,
    /// The session was resumed, and its certificate has ended meanwhile.
    #[error("the caller's certificate has expired since its session began")]
    Expired,
}

/// The DNS names, in lower case, and the URIs of the certificate that a caller has proven to own; `None` without a
/// certificate.
pub(super) fn of(connection: &ServerConnection, now: Wall) -> Result<Option<Arc<[String]>>, Unusable> {
    let Some(certificate) = connection.peer_certificates().and_then(|chain| chain.first()) else { return Ok(None) };
    // rustls checks no dates when a session is resumed.
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    names(certificate, resumed.then_some(now)).map(Some)
}

fn names(der: &[u8], valid_at: Option<Wall>) -> Result<Arc<[String]>, Unusable> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Unusable::Malformed)?;
    let ends = Wall(certificate.validity().not_after.timestamp().saturating_mul(1000));
    if valid_at.is_some_and(|now| ends < now) {
        return Err(Unusable::Expired);
    }
    let extension = certificate.subject_alternative_name().map_err(|_| Unusable::Malformed)?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Ok(names.filter_map(text).collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;
    use crate::sezzle::time::parse_rfc3339;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_after = date_time_ymd(2031, 1, 3);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signs").der().to_vec()
    }

    #[test]
    fn dns_names_and_uris_are_read_and_nothing_else() {
        let der = certificate(vec![
            SanType::DnsName("Shop.Internal".try_into().expect("a name")),
            SanType::URI("spiffe://example/ns/shop/sa/Web".try_into().expect("a URI")),
            SanType::IpAddress("10.0.0.1".parse().expect("an address")),
            SanType::Rfc822Name("a@example".try_into().expect("an address")),
        ]);
        let read = names(&der, None).expect("readable");
        assert_eq!(&*read, ["shop.internal", "spiffe://example/ns/shop/sa/Web"]);
        assert!(names(&certificate(vec![]), None).expect("readable").is_empty());
        assert_eq!(names(b"", None), Err(Unusable::Malformed));
    }

    #[test]
    fn a_resumed_session_ends_with_its_certificate() {
        let der = certificate(vec![]);
        let at = |text| Some(parse_rfc3339(text).expect("a time"));
        assert!(names(&der, at("2031-01-03T00:00:00Z")).is_ok());
        assert_eq!(names(&der, at("2031-01-03T00:00:01Z")), Err(Unusable::Expired));
    }
}
