//! The errors that the sidecar itself answers with, in the shape of Sezzle's own. Their status is chosen here alone.
//!
//! The text a caller gets names no address and holds no secret; what exactly failed goes to the log.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::caller::{FROM_BROWSER, Refusal};
use crate::credentials::NoToken;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::RetrySafety;

/// Why a caller gets no answer of Sezzle's.
#[derive(Clone, Debug)]
pub enum ProxyError {
    /// The request is malformed; the text says how. The connection is closed: its framing may not be trusted.
    Malformed(&'static str),
    /// The path lies outside `/v2/`.
    NotFound,
    /// The method is not served here; these are.
    MethodNotAllowed(&'static str),
    /// The request comes from a browser.
    Browser,
    /// The request is for somebody else; the text says why.
    Misdirected(&'static str),
    /// The request has been here before.
    Loop,
    /// The target is longer than [`super::inbound::MAX_TARGET`].
    TargetTooLong,
    /// The body is larger than `limits.body`.
    BodyTooLarge,
    /// The body did not come in time.
    BodyTimeout,
    /// The body broke off.
    BodyBroken,
    /// The caller authenticates with a public key that is not ours.
    ForeignKeys,
    /// The request has several idempotency keys that differ.
    ConflictingKeys,
    /// The call would return card data, and `proxy.card_data` does not allow that.
    CardDataRefused,
    /// `limits.in_flight` is reached.
    Overloaded,
    /// The process ends, and the request has come too late or too slowly.
    Stopping,
    /// Sezzle asked for fewer calls of this class, for so long from now.
    RateLimited(Duration),
    /// Calls of this class fail at Sezzle. The next trial is due in so long.
    CircuitOpen(Duration),
    /// There is no live token.
    NoToken(NoToken),
    /// The exchange with Sezzle failed, and repeating it cannot do harm.
    Upstream(UpstreamError),
    /// The call may have had its effect, and its answer did not come.
    OutcomeUnknown {
        /// Whether sending the call again is harmless.
        call: RetrySafety,
        /// Why the answer did not come, as far as is known.
        cause: UpstreamError,
    },
    /// The caller wants what is stored, and nothing is.
    NotStored,
    /// The task that was to answer ended without doing so.
    Internal,
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(how) => Self::Malformed(how),
            Refusal::Misdirected => Self::Misdirected("the Host is not one this sidecar answers for (see proxy.hosts)"),
            Refusal::Scheme(which) => Self::Misdirected(which),
            Refusal::Browser => Self::Browser,
        }
    }
}

/// Every [`ProxyError::code`] of a refusal, for metrics that start at 0.
pub const REFUSALS: [&str; 16] = [
    "bad_request",
    "body_timeout",
    "body_too_large",
    "browser_refused",
    "card_data_refused",
    "circuit_open",
    "conflicting_keys",
    "foreign_keys",
    "loop_detected",
    "method_not_allowed",
    "misdirected",
    "not_found",
    "overloaded",
    "rate_limited",
    "stopping",
    "target_too_long",
];

/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// All that is told of an error: to the caller, in metrics and in the log.
struct Facts {
    status: StatusCode,
    /// The `code` of the body, less its prefix `sidecar.`.
    code: &'static str,
    /// The error type of RFC 9209, 2.3.
    proxy_status: &'static str,
    message: Cow<'static, str>,
    /// See [`ProxyError::is_refusal`].
    is_refusal: bool,
    /// A header that tells the caller what to do, such as `Retry-After`.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Facts {
    /// A refusal, unless [`Facts::no_refusal`] says otherwise.
    fn of(
        status: StatusCode,
        code: &'static str,
        proxy_status: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, proxy_status, message: message.into(), is_refusal: true, header: None }
    }

    fn no_refusal(self) -> Self {
        Self { is_refusal: false, ..self }
    }

    fn with(self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }

    fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    fn retry_after(self, wait: Duration) -> Self {
        // Rounded up, or the caller would come back too early.
        self.with(RETRY_AFTER, wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
    }
}

impl ProxyError {
    /// One row for each error.
    fn facts(&self) -> Facts {
        use StatusCode as Status;
        const INVALID: &str = "http_request_error";
        const DENIED: &str = "http_request_denied";
        const UNAVAILABLE: &str = "destination_unavailable";
        const INTERNAL: &str = "proxy_internal_error";
        const SOON: Duration = Duration::from_secs(1);
        match self {
            Self::Malformed(how) => Facts::of(Status::BAD_REQUEST, "bad_request", INVALID, *how).closing(),
            Self::BodyBroken => {
                let message = "the request's body broke off; nothing was sent to Sezzle";
                Facts::of(Status::BAD_REQUEST, "bad_request", INVALID, message).closing()
            }
            Self::ConflictingKeys => {
                let message = "Sezzle-Request-Id, X-Sezzle-Request-Id and Idempotency-Key differ, so it is not clear \
                               which key is meant; nothing was sent to Sezzle";
                Facts::of(Status::BAD_REQUEST, "conflicting_keys", INVALID, message)
            }
            Self::ForeignKeys => {
                let message = "the public key is not this sidecar's; calls made here would act for another merchant";
                Facts::of(Status::UNAUTHORIZED, "foreign_keys", DENIED, message)
            }
            Self::Browser => Facts::of(Status::FORBIDDEN, "browser_refused", DENIED, FROM_BROWSER),
            Self::CardDataRefused => {
                let message = "card data passes this sidecar only with proxy.card_data = \"forward\"; nothing was sent \
                               to Sezzle";
                Facts::of(Status::FORBIDDEN, "card_data_refused", DENIED, message)
            }
            Self::NotFound => {
                Facts::of(Status::NOT_FOUND, "not_found", INVALID, "only paths under /v2/ are served here")
            }
            Self::MethodNotAllowed(allowed) => {
                let message = format!("this is served here for {allowed} only");
                Facts::of(Status::METHOD_NOT_ALLOWED, "method_not_allowed", INVALID, message)
                    .with(ALLOW, HeaderValue::from_static(allowed))
            }
            Self::BodyTimeout => {
                let message = "the request's body did not arrive in time; nothing was sent to Sezzle";
                Facts::of(Status::REQUEST_TIMEOUT, "body_timeout", INVALID, message).closing()
            }
            Self::BodyTooLarge => {
                let message = "the request's body is larger than limits.body; nothing was sent to Sezzle";
                Facts::of(Status::PAYLOAD_TOO_LARGE, "body_too_large", INVALID, message).closing()
            }
            Self::TargetTooLong => {
                let message = "the request's path and query are too long";
                Facts::of(Status::URI_TOO_LONG, "target_too_long", INVALID, message)
            }
            Self::Misdirected(why) => Facts::of(Status::MISDIRECTED_REQUEST, "misdirected", DENIED, *why),
            Self::RateLimited(wait) => {
                let message =
                    "Sezzle asked for fewer calls of this kind; nothing was sent, so repeat it after Retry-After";
                Facts::of(Status::TOO_MANY_REQUESTS, "rate_limited", DENIED, message).retry_after(*wait)
            }
            Self::CircuitOpen(wait) => {
                let message = "calls of this kind fail at Sezzle; nothing was sent, so repeat it after Retry-After";
                Facts::of(Status::SERVICE_UNAVAILABLE, "circuit_open", UNAVAILABLE, message).retry_after(*wait)
            }
            Self::Overloaded => {
                let message = "too many requests are being served; nothing was sent to Sezzle";
                Facts::of(Status::SERVICE_UNAVAILABLE, "overloaded", "connection_limit_reached", message)
                    .retry_after(SOON)
            }
            Self::Stopping => {
                let message = "the sidecar is stopping; nothing was sent to Sezzle";
                Facts::of(Status::SERVICE_UNAVAILABLE, "stopping", UNAVAILABLE, message).retry_after(SOON)
            }
            Self::Loop => {
                let message = "the request has passed this sidecar before";
                Facts::of(Status::LOOP_DETECTED, "loop_detected", "proxy_loop_detected", message)
            }
            Self::NoToken(_) => {
                let message = "there is no live token for Sezzle; nothing was sent";
                Facts::of(Status::SERVICE_UNAVAILABLE, "no_token", INTERNAL, message).no_refusal().retry_after(SOON)
            }
            Self::NotStored => {
                let message = "only-if-cached was asked for, and nothing is stored";
                Facts::of(Status::GATEWAY_TIMEOUT, "not_stored", INVALID, message).no_refusal()
            }
            Self::Internal => {
                let message = "the sidecar failed to answer";
                Facts::of(Status::INTERNAL_SERVER_ERROR, "internal", INTERNAL, message).no_refusal()
            }
            // A 503 of ours always means that nothing was sent.
            Self::Upstream(error) if error.sent == Sent::No => {
                let message = match error.kind {
                    ErrorKind::Reset => "Sezzle did not take the request; nothing of it was done",
                    ErrorKind::StreamLimit => "Sezzle takes no more calls at once over HTTP/2; nothing was sent",
                    ErrorKind::Timeout => "there was no time left to send the call; nothing was sent",
                    _ => "Sezzle could not be reached; nothing was sent",
                };
                Facts::of(Status::SERVICE_UNAVAILABLE, "upstream_unreachable", proxy_status(error.kind), message)
                    .no_refusal()
            }
            Self::Upstream(UpstreamError { kind: kind @ ErrorKind::Timeout, .. }) => {
                let message = "Sezzle did not answer in time";
                Facts::of(Status::GATEWAY_TIMEOUT, "upstream_timeout", proxy_status(*kind), message).no_refusal()
            }
            Self::Upstream(error) => {
                let message = "the exchange with Sezzle failed";
                Facts::of(Status::BAD_GATEWAY, "upstream_failed", proxy_status(error.kind), message).no_refusal()
            }
            Self::OutcomeUnknown { call, cause } => {
                let message = in_doubt(*call, cause.received);
                Facts::of(Status::GATEWAY_TIMEOUT, "outcome_unknown", proxy_status(cause.kind), message).no_refusal()
            }
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.facts().status
    }

    /// Whether the request was refused for what it is, how many there are or how others fared, before anything of it was
    /// tried.
    pub fn is_refusal(&self) -> bool {
        self.facts().is_refusal
    }

    /// Whether it is Sezzle that failed, or failed others a moment ago.
    pub fn is_of_sezzle(&self) -> bool {
        matches!(self, Self::Upstream(_) | Self::RateLimited(_) | Self::CircuitOpen(_))
    }

    /// Whether provably nothing of the request went to Sezzle, so that it cannot have had an effect.
    pub fn nothing_was_sent(&self) -> bool {
        match self {
            Self::Upstream(error) => error.sent == Sent::No,
            Self::NoToken(_) => true,
            _ => self.is_refusal(),
        }
    }

    /// The `code` of the body, less its prefix `sidecar.`; also the word in metrics and logs.
    pub fn code(&self) -> &'static str {
        self.facts().code
    }

    /// The status of Sezzle's answer, where no more than that could be read of it.
    fn received(&self) -> Option<StatusCode> {
        match self {
            Self::Upstream(cause) | Self::OutcomeUnknown { cause, .. } => cause.received,
            _ => None,
        }
    }

    /// Status, headers and body of the answer.
    pub fn answer(&self, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        let Facts { status, code, proxy_status, message, header, .. } = self.facts();
        let code = format!("sidecar.{code}");
        let element = Element { code: &code, location: "", message: &message, debug_uuid: request_id };
        let body = serde_json::to_vec(&[element]).unwrap_or_default();

        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let received = self.received().map_or(String::new(), |code| format!("; received-status={}", code.as_u16()));
        if let Ok(value) = HeaderValue::try_from(format!("sezzle-sidecar; error={proxy_status}{received}")) {
            headers.insert(PROXY_STATUS, value);
        }
        headers.extend(header);
        (status, headers, body.into())
    }
}

/// The error type of RFC 9209, 2.3, for a failed exchange.
fn proxy_status(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Dns => "dns_error",
        ErrorKind::ConnectionRefused => "connection_refused",
        ErrorKind::ConnectionFailed | ErrorKind::EgressProxy => "destination_unavailable",
        ErrorKind::ConnectTimeout => "connection_timeout",
        ErrorKind::TlsCertificate => "tls_certificate_error",
        ErrorKind::Tls => "tls_protocol_error",
        ErrorKind::StreamLimit => "connection_limit_reached",
        ErrorKind::Timeout => "http_response_timeout",
        ErrorKind::Reset => "connection_terminated",
        ErrorKind::HeadTooLarge => "http_response_header_section_size",
        ErrorKind::Protocol => "http_protocol_error",
        ErrorKind::Body => "http_response_incomplete",
    }
}

/// The message for a call that may have had its effect.
fn in_doubt(call: RetrySafety, received: Option<StatusCode>) -> Cow<'static, str> {
    match (call, received) {
        (RetrySafety::Keyed | RetrySafety::Unkeyed, Some(status)) => format!(
            "the write was sent and Sezzle answered {}, but nothing beyond that could be read of the answer: read \
             the order before doing anything else",
            status.as_u16()
        )
        .into(),
        (RetrySafety::Keyed, None) => {
            "the write was sent and its answer did not arrive, so it may have been done: repeat it \
                                with the same Sezzle-Request-Id, or read the order before doing anything else"
                .into()
        }
        (RetrySafety::Once, _) => {
            "the call was sent and its answer did not arrive whole: the card may have been read, and \
                            then its token is gone. The call was not repeated, since a second read finds nothing"
                .into()
        }
        (RetrySafety::Safe, _) | (RetrySafety::Unkeyed, None) => {
            "the write was sent and its answer did not arrive, so it may have \
                                                    been done: find out whether it was before repeating it"
                .into()
        }
    }
}

/// One element of Sezzle's error array.
#[derive(Serialize)]
struct Element<'e> {
    code: &'e str,
    location: &'e str,
    message: &'e str,
    debug_uuid: &'e str,
}
