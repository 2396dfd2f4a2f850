//! The certificate of a caller: its names, and the time for which the certificate counts.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConnection;
use rustls::pki_types::{CertificateDer, DnsName};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::clock::{Clock, Wall};

/// A certificate that was verified, and whose key the caller has proven to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallerCertificate {
    /// The DNS names, in lower case, and the URIs.
    pub names: Arc<[String]>,
    /// The earliest end of the certificate and of those that the caller sent with it.
    pub end: Wall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller's certificate cannot be read")]
pub(super) struct Malformed;

/// The certificate of a connection's caller; `None` if the caller has shown none.
pub(super) fn of_connection(connection: &ServerConnection, now: Wall) -> Result<Option<CallerCertificate>, Malformed> {
    connection.peer_certificates().filter(|chain| !chain.is_empty()).map(|chain| read(chain, now)).transpose()
}

fn read(chain: &[CertificateDer<'_>], now: Wall) -> Result<CallerCertificate, Malformed> {
    let mut chain = chain.iter().map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate));
    let own = chain.next().and_then(Result::ok).ok_or(Malformed)?;
    // TLS lets a caller send certificates outside the chain. The verification did not use any that had already ended.
    let others = chain.filter_map(Result::ok).map(|certificate| end(&certificate)).filter(|end| *end > now);
    let end = others.fold(end(&own), Wall::min);
    let extension = own.subject_alternative_name().map_err(|_| Malformed)?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    Ok(CallerCertificate { names: names.filter_map(text).collect(), end })
}

/// The first moment after the validity, which includes the whole second of `notAfter` (RFC 5280, 4.1.2.5).
fn end(certificate: &X509Certificate<'_>) -> Wall {
    Wall(certificate.validity().not_after.timestamp().saturating_add(1).saturating_mul(1000))
}

/// The text of a DNS name or a URI. The configuration tells both kinds apart by `://`, so a name that looks like the
/// other kind is left out: an authority may be allowed to sign names of one kind only (RFC 5280, 4.2.1.10).
fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => DnsName::try_from(*name).ok().map(|_| name.to_ascii_lowercase()),
        GeneralName::URI(uri) => uri.contains("://").then(|| (*uri).to_owned()),
        _ => None,
    }
}

/// The time for which a caller's certificate counts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Validity {
    pub end: Wall,
    /// Cancelled when the callers' authorities have changed, so that certificates have to be verified again.
    pub outdated: CancellationToken,
}

impl Validity {
    /// Waits until the certificate no longer counts.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.outdated.cancelled() => {}
            () = self.time_is_over() => {}
        }
    }

    /// Waits for the end by the wall clock, which can be stepped, and which goes on while the machine is suspended.
    async fn time_is_over(&self) {
        loop {
            let left = self.end.since(Clock::system().now().wall);
            if left.is_zero() {
                return;
            }
            sleep(left.min(CLOCK_INTERVAL)).await;
        }
    }
}

// The time between two readings of the wall clock.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;
    use crate::sezzle::time::parse_rfc3339;

    /// A certificate with these names that ends at the end of this day of January 2031.
    fn certificate(names: Vec<SanType>, day: u8) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_after = date_time_ymd(2031, 1, day);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signs").der().clone()
    }

    fn names(names: Vec<SanType>) -> Vec<String> {
        read(&[certificate(names, 3)], Wall(0)).expect("readable").names.to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("ASCII"))
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().expect("ASCII"))
    }

    #[test]
    fn dns_names_and_uris_are_read_and_nothing_else() {
        let all = vec![
            dns("Shop.Internal"),
            uri("spiffe://example/ns/shop/sa/Web"),
            SanType::IpAddress("10.0.0.1".parse().expect("an address")),
            SanType::Rfc822Name("a@example".try_into().expect("an address")),
        ];
        assert_eq!(names(all), ["shop.internal", "spiffe://example/ns/shop/sa/Web"]);
        assert!(names(vec![]).is_empty());
        assert_eq!(read(&[CertificateDer::from(vec![])], Wall(0)), Err(Malformed));
    }

    #[test]
    fn a_name_of_one_kind_is_none_of_the_other() {
        assert!(names(vec![uri("shop.internal"), uri("urn:shop.internal"), dns("spiffe://example/shop")]).is_empty());
    }

    #[test]
    fn the_certificate_of_a_chain_that_ends_first_ends_it() {
        let at = |text| parse_rfc3339(text).expect("a time");
        let end = |days: &[u8], now| {
            let chain: Vec<_> = days.iter().map(|day| certificate(vec![], *day)).collect();
            read(&chain, at(now)).expect("readable").end
        };
        let (second, third) = (at("2031-01-02T00:00:01Z"), at("2031-01-03T00:00:01Z"));
        assert_eq!(end(&[3], "2031-01-01T00:00:00Z"), third);
        assert_eq!(end(&[3, 2], "2031-01-01T00:00:00Z"), second);
        assert_eq!(end(&[2, 3], "2031-01-01T00:00:00Z"), second);
        assert_eq!(end(&[3, 2], "2031-01-02T00:00:01Z"), third, "the other one had ended before");
    }
}
