//! The problems that end the online check, with advice.

use http::StatusCode;

use crate::clock::Wall;
use crate::credentials::exchange::ExchangeError;
use crate::fleet::failure::Failure;
use crate::sezzle::time::format_rfc3339;
use crate::upstream::error::{ErrorKind, UpstreamError};

/// A problem in words for an operator: a description, and advice below it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct CheckFailure {
    /// Whether Sezzle does not accept the keys.
    pub is_of_keys: bool,
    text: String,
}

/// The facts on which the advice depends.
pub(super) struct Hints<'c> {
    pub(super) gateway: String,
    pub(super) environment: &'static str,
    pub(super) key_names: &'c str,
    pub(super) through_proxy: bool,
    pub(super) ignored_proxy: Option<&'static str>,
    pub(super) ignored_trust: Option<&'static str>,
    /// The names of the issuers in `gateway.ca_file`.
    pub(super) issuers: &'c [String],
    /// The certificate that the gateway showed, in words.
    pub(super) certificate: Option<String>,
    pub(super) now: Wall,
}

impl CheckFailure {
    fn new(problem: impl Into<String>, hints: &[String]) -> Self {
        let mut text = problem.into();
        for hint in hints {
            text.push_str("\n  ");
            text.push_str(hint);
        }
        Self { is_of_keys: false, text }
    }

    /// There is no connection, or no response over it.
    pub(super) fn unreachable(error: &UpstreamError, hints: &Hints<'_>) -> Self {
        let Hints { gateway, .. } = hints;
        let detail = &error.detail;
        match error.kind {
            ErrorKind::Dns => Self::new(
                format!("the sidecar cannot reach {gateway}: {detail}"),
                &[
                    "Check the network and its DNS: `getent hosts` with that name must print an address.".to_owned(),
                    hints.proxy(),
                ],
            ),
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionFailed | ErrorKind::ConnectTimeout => Self::new(
                format!("the sidecar cannot connect to {gateway}: {detail}"),
                &[
                    "Check whether a firewall or a network policy lets this machine out to that address.".to_owned(),
                    hints.proxy(),
                ],
            ),
            ErrorKind::EgressProxy => Self::new(
                format!("the sidecar cannot reach Sezzle through gateway.egress_proxy: {detail}"),
                &["Read the proxy's log. The sidecar asks the proxy to CONNECT to the gateway's name and port."
                    .to_owned()],
            ),
            ErrorKind::TlsCertificate => Self::untrusted(detail, hints),
            ErrorKind::Tls => Self::new(
                format!("the sidecar cannot speak TLS with {gateway}: {detail}"),
                &["Another server than Sezzle's gateway seems to answer.".to_owned(), hints.proxy()],
            ),
            ErrorKind::StreamLimit
            | ErrorKind::Timeout
            | ErrorKind::Reset
            | ErrorKind::HeadTooLarge
            | ErrorKind::Protocol
            | ErrorKind::Body => Self::new(format!("{gateway} gave no answer: {detail}"), &[]),
        }
    }

    /// The gateway's certificate is not trusted.
    fn untrusted(detail: &str, hints: &Hints<'_>) -> Self {
        let Hints { gateway, .. } = hints;
        let now = Wall(hints.now.0.div_euclid(1000).saturating_mul(1000));
        let now = format_rfc3339(now).unwrap_or_default();
        let shown = hints.certificate.as_ref().map(|shown| format!("The certificate is {shown}."));
        let what_to_do = [
            "If the issuer is your company, which opens TLS on the way out: put the issuer's certificate \
             into gateway.ca_file."
                .to_owned(),
            format!("If the certificate is expired or not valid yet: check this machine's clock, which says {now}."),
            "The verification cannot be turned off. The sidecar sent neither a key nor a token.".to_owned(),
        ];
        let trusted = (!hints.issuers.is_empty())
            .then(|| format!("Besides the bundled roots, the sidecar trusts {}.", in_ca_file(hints.issuers)));
        let ignored = hints
            .ignored_trust
            .map(|variable| format!("The sidecar ignores {variable}, which is set: name its file in gateway.ca_file."));
        let hints: Vec<String> = shown.into_iter().chain(trusted).chain(ignored).chain(what_to_do).collect();
        Self::new(format!("the sidecar does not trust the certificate of {gateway}: {detail}"), &hints)
    }

    /// The exchange of the keys brought no token.
    pub(super) fn of_keys(error: ExchangeError, hints: &Hints<'_>) -> Self {
        let Hints { environment, key_names, .. } = hints;
        match error {
            ExchangeError::Rejected(status) => Self {
                is_of_keys: true,
                ..Self::new(
                    format!("Sezzle rejected the key pair ({})", status.as_u16()),
                    &[
                        format!(
                            "The sidecar offered the keys to {environment}, where Sezzle rejects keys of other \
                             environments."
                        ),
                        format!("The keys come from {key_names}, and the environment from gateway.environment."),
                        "Compare both with the merchant dashboard. A key that was replaced there is no longer valid."
                            .to_owned(),
                    ],
                )
            },
            ExchangeError::WrongMerchant { .. } => Self {
                is_of_keys: true,
                ..Self::new(
                    error.to_string(),
                    &[format!(
                        "Either credentials.merchant_uuid is wrong, or the keys in {key_names} belong to another \
                         merchant."
                    )],
                )
            },
            ExchangeError::Loop => Self::new(
                error.to_string(),
                &[
                    format!("Check where the name of {} leads from here; the hosts file counts too.", hints.gateway),
                    "Where services reach this sidecar by the gateway's name, set gateway.resolver = \"dns\", and \
                     gateway.nameservers to a server that leads the name to Sezzle."
                        .to_owned(),
                ],
            ),
            ExchangeError::Failed { why, .. } => Self::new(
                format!("the sidecar could not exchange the keys for a token: {why}"),
                &["Another server answers in Sezzle's place, or Sezzle fails.".to_owned()],
            ),
        }
    }

    /// Sezzle refuses the new token.
    pub(super) fn refused(status: StatusCode) -> Self {
        Self::new(
            format!("Sezzle refuses the token that it has just granted ({})", status.as_u16()),
            &["Ask Sezzle whether this merchant may use the API.".to_owned()],
        )
    }

    /// Another server than Sezzle answered the lookup.
    pub(super) fn foreign(why: &str) -> Self {
        Self::new(
            format!("Sezzle accepted the keys, but the lookup failed: {why}"),
            &["A firewall or a proxy on the way to Sezzle may block the lookup.".to_owned()],
        )
    }

    /// The answer to the lookup is not whole.
    pub(super) fn broken(why: &str) -> Self {
        Self::new(format!("Sezzle accepted the keys, but its answer to the lookup is not whole: {why}"), &[])
    }

    /// The fleet's server cannot be used. The sidecar serves without it.
    pub(super) fn of_fleet(failure: &Failure) -> Self {
        let alone = "The sidecar starts all the same, and serves as if there were no fleet.";
        let advice = failure.advice().map(|advice| format!("What to do: {advice}."));
        let hints: Vec<String> = advice.into_iter().chain([alone.to_owned()]).collect();
        Self::new(format!("the fleet has no server: {failure}"), &hints)
    }

    /// Sezzle answered the lookup with a 5xx status.
    pub(super) fn failed(status: StatusCode) -> Self {
        Self::new(format!("Sezzle fails ({}): the keys are right, try again later", status.as_u16()), &[])
    }
}

impl Hints<'_> {
    fn proxy(&self) -> String {
        match (self.through_proxy, self.ignored_proxy) {
            (true, _) => "The connection goes through gateway.egress_proxy.".to_owned(),
            (false, Some(variable)) => format!(
                "The sidecar ignores {variable}, which is set: if only that proxy may reach the internet, set \
                 gateway.egress_proxy to its address."
            ),
            (false, None) => {
                "If only a proxy may reach the internet, set gateway.egress_proxy to its address.".to_owned()
            }
        }
    }
}

/// The number of certificates in `gateway.ca_file`, and their issuers, in words.
pub(super) fn in_ca_file(issuers: &[String]) -> String {
    let certificates = if issuers.len() == 1 { "certificate" } else { "certificates" };
    let shown = issuers.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = issuers.len().saturating_sub(MOST_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {certificates} of gateway.ca_file: {shown}{more}", issuers.len())
}

const MOST_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_stands_first_and_what_to_do_below() {
        let issuers = ["Corp CA".to_owned(), "Other CA".to_owned()];
        let mut hints = Hints {
            gateway: "https://gateway.example".to_owned(),
            environment: "sandbox",
            key_names: "/run/public, /run/private",
            through_proxy: false,
            ignored_proxy: Some("HTTPS_PROXY"),
            ignored_trust: Some("SSL_CERT_FILE"),
            issuers: &issuers,
            certificate: Some("for gateway.example, by Middle Box CA, until then".to_owned()),
            now: Wall(0),
        };
        let failed = |kind| UpstreamError::unsent(kind, "the reason");
        for (kind, first, advice) in [
            (
                ErrorKind::Dns,
                "the sidecar cannot reach https://gateway.example: the reason\n",
                "ignores HTTPS_PROXY, which is set",
            ),
            (
                ErrorKind::ConnectTimeout,
                "the sidecar cannot connect to https://gateway.example: the reason\n",
                "ignores HTTPS_PROXY, which is set",
            ),
            (
                ErrorKind::EgressProxy,
                "the sidecar cannot reach Sezzle through gateway.egress_proxy: the reason\n",
                "proxy's log",
            ),
            (
                ErrorKind::TlsCertificate,
                "the sidecar does not trust the certificate of https://gateway.example: the reason\n",
                "by Middle Box CA",
            ),
            (
                ErrorKind::TlsCertificate,
                "the sidecar does not trust the certificate of",
                "clock, which says 1970-01-01T00:00:00Z",
            ),
            (
                ErrorKind::TlsCertificate,
                "the sidecar does not trust the certificate of",
                "2 certificates of gateway.ca_file: Corp CA, Other CA.",
            ),
            (
                ErrorKind::TlsCertificate,
                "the sidecar does not trust the certificate of",
                "ignores SSL_CERT_FILE, which is set: name its file in gateway.ca_file",
            ),
            (
                ErrorKind::Tls,
                "the sidecar cannot speak TLS with https://gateway.example: the reason\n",
                "Another server",
            ),
            (ErrorKind::Timeout, "https://gateway.example gave no answer: the reason", ""),
        ] {
            let failure = CheckFailure::unreachable(&failed(kind), &hints);
            let text = failure.to_string();
            assert!(text.starts_with(first) && text.contains(advice) && !failure.is_of_keys, "{kind:?}: {text}");
        }
        hints.ignored_proxy = None;
        let text = CheckFailure::unreachable(&failed(ErrorKind::Dns), &hints).to_string();
        assert!(text.contains("If only a proxy may reach the internet") && !text.contains("HTTPS_PROXY"), "{text}");
        hints.through_proxy = true;
        assert!(
            CheckFailure::unreachable(&failed(ErrorKind::Tls), &hints)
                .to_string()
                .ends_with("through gateway.egress_proxy.")
        );

        for (error, is_of_keys, words) in [
            (ExchangeError::Rejected(StatusCode::UNAUTHORIZED), true, "offered the keys to sandbox"),
            (
                ExchangeError::WrongMerchant { expected: "a".into(), found: "b".into() },
                true,
                "credentials.merchant_uuid",
            ),
            (ExchangeError::failed("status 500"), false, "status 500"),
            (ExchangeError::Loop, false, "gateway.resolver = \"dns\""),
        ] {
            let failure = CheckFailure::of_keys(error, &hints);
            assert!(failure.is_of_keys == is_of_keys && failure.to_string().contains(words), "{failure}");
        }
    }
}
