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
    /// The path does not take this method; the text lists the methods that it takes.
    MethodNotAllowed(&'static str),
    Browser,
    /// The request is for somebody else; the text says why.
    Misdirected(&'static str),
    /// The request has passed a sidecar before.
    Loop,
    /// The target is longer than [`super::inbound::MAX_TARGET`].
    TargetTooLong,
    /// The body is larger than `limits.body`.
    BodyTooLarge,
    BodyTimeout,
    BodyBroken,
    /// The caller authenticates with a public key that is not ours.
    ForeignKeys,
    /// The request has several idempotency keys that differ.
    ConflictingKeys,
    /// The call would return card data, and `proxy.card_data` does not allow that.
    CardDataRefused,
    /// `limits.in_flight` is reached.
    Overloaded,
    /// The sidecar is stopping, and the request came too late or too slowly.
    Stopping,
    /// Sezzle asked for fewer calls of this class, for this time from now.
    RateLimited(Duration),
    /// Calls of this class fail at Sezzle. The next trial is due after this time.
    CircuitOpen(Duration),
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
    /// The caller accepts a stored answer only, and none is stored.
    NotStored,
    /// The task that was to answer ended without doing so.
    Internal,
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(how) => Self::Malformed(how),
            Refusal::Misdirected => Self::Misdirected("this sidecar does not answer for this Host (see proxy.hosts)"),
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

/// The header of RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The facts of an error for the caller, the metrics and the log.
struct Facts {
    status: StatusCode,
    code: &'static str,
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
                let message = "the request's body broke off, so the sidecar sent nothing to Sezzle";
                Facts::of(Status::BAD_REQUEST, "bad_request", INVALID, message).closing()
            }
            Self::ConflictingKeys => {
                let message = "Sezzle-Request-Id, X-Sezzle-Request-Id and Idempotency-Key differ; the sidecar sent \
                               nothing to Sezzle; send one key";
                Facts::of(Status::BAD_REQUEST, "conflicting_keys", INVALID, message)
            }
            Self::ForeignKeys => {
                let message = "this public key belongs to another merchant than the sidecar's keys; call the \
                               sidecar of that merchant";
                Facts::of(Status::UNAUTHORIZED, "foreign_keys", DENIED, message)
            }
            Self::Browser => Facts::of(Status::FORBIDDEN, "browser_refused", DENIED, FROM_BROWSER),
            Self::CardDataRefused => {
                let message = "this call returns card data, and the sidecar passes card data on only with \
                               proxy.card_data = \"forward\"; it sent nothing to Sezzle";
                Facts::of(Status::FORBIDDEN, "card_data_refused", DENIED, message)
            }
            Self::NotFound => {
                Facts::of(Status::NOT_FOUND, "not_found", INVALID, "this sidecar serves only paths under /v2/")
            }
            Self::MethodNotAllowed(allowed) => {
                let message = format!("this sidecar serves this path for {allowed} only");
                Facts::of(Status::METHOD_NOT_ALLOWED, "method_not_allowed", INVALID, message)
                    .with(ALLOW, HeaderValue::from_static(allowed))
            }
            Self::BodyTimeout => {
                let message = "the request's body did not arrive in time, so the sidecar sent nothing to Sezzle";
                Facts::of(Status::REQUEST_TIMEOUT, "body_timeout", INVALID, message).closing()
            }
            Self::BodyTooLarge => {
                let message = "the request's body is larger than limits.body, so the sidecar sent nothing to Sezzle";
                Facts::of(Status::PAYLOAD_TOO_LARGE, "body_too_large", INVALID, message).closing()
            }
            Self::TargetTooLong => {
                let message = "the request's path and query are too long";
                Facts::of(Status::URI_TOO_LONG, "target_too_long", INVALID, message)
            }
            Self::Misdirected(why) => Facts::of(Status::MISDIRECTED_REQUEST, "misdirected", DENIED, *why),
            Self::RateLimited(wait) => {
                let message = "Sezzle asked for fewer calls of this class, so the sidecar did not send this one; \
                               repeat it after Retry-After";
                Facts::of(Status::TOO_MANY_REQUESTS, "rate_limited", DENIED, message).retry_after(*wait)
            }
            Self::CircuitOpen(wait) => {
                let message = "calls of this class fail at Sezzle, so the sidecar did not send this one; repeat it \
                               after Retry-After";
                Facts::of(Status::SERVICE_UNAVAILABLE, "circuit_open", UNAVAILABLE, message).retry_after(*wait)
            }
            Self::Overloaded => {
                let message = "the sidecar has too many calls under way, so it sent nothing to Sezzle; repeat the \
                               call after Retry-After";
                Facts::of(Status::SERVICE_UNAVAILABLE, "overloaded", "connection_limit_reached", message)
                    .retry_after(SOON)
            }
            Self::Stopping => {
                let message = "the sidecar is stopping, so it sent nothing to Sezzle; repeat the call";
                Facts::of(Status::SERVICE_UNAVAILABLE, "stopping", UNAVAILABLE, message).retry_after(SOON)
            }
            Self::Loop => {
                let message = "this request has passed a sidecar before: gateway.url leads back to a sidecar";
                Facts::of(Status::LOOP_DETECTED, "loop_detected", "proxy_loop_detected", message)
            }
            Self::NoToken(_) => {
                let message = "the sidecar has no live token for Sezzle, so it sent nothing; repeat the call after \
                               Retry-After";
                Facts::of(Status::SERVICE_UNAVAILABLE, "no_token", INTERNAL, message).no_refusal().retry_after(SOON)
            }
            Self::NotStored => {
                let message = "the request says only-if-cached, and the session is not in memory";
                Facts::of(Status::GATEWAY_TIMEOUT, "not_stored", INVALID, message).no_refusal()
            }
            Self::Internal => {
                let message = "the sidecar failed while it answered: this is a defect, please report it";
                Facts::of(Status::INTERNAL_SERVER_ERROR, "internal", INTERNAL, message).no_refusal()
            }
            // A 503 of ours always means that nothing was sent.
            Self::Upstream(error) if error.sent == Sent::No => {
                let message = match error.kind {
                    ErrorKind::Reset => "Sezzle stated that it did not process the call; you may repeat it",
                    ErrorKind::StreamLimit => {
                        "Sezzle takes no more calls at once over HTTP/2, so the sidecar sent nothing; you may repeat \
                         the call"
                    }
                    ErrorKind::Timeout => {
                        "no time was left to send the call, so the sidecar sent nothing; you may repeat the call"
                    }
                    _ => "the sidecar could not reach Sezzle, so it sent nothing; you may repeat the call",
                };
                Facts::of(Status::SERVICE_UNAVAILABLE, "upstream_unreachable", proxy_status(error.kind), message)
                    .no_refusal()
            }
            Self::Upstream(UpstreamError { kind: kind @ ErrorKind::Timeout, .. }) => {
                let message = "Sezzle did not answer in time";
                Facts::of(Status::GATEWAY_TIMEOUT, "upstream_timeout", proxy_status(*kind), message).no_refusal()
            }
            Self::Upstream(error) => {
                let message = "the exchange with Sezzle failed before the answer had arrived before the answer had \
                               arrived";
                Facts::of(Status::BAD_GATEWAY, "upstream_failed", proxy_status(error.kind), message).no_refusal()
            }
            Self::OutcomeUnknown { call, cause } => {
                let message = in_doubt(*call, cause.received);
                Facts::of(Status::GATEWAY_TIMEOUT, "outcome_unknown", proxy_status(cause.kind), message).no_refusal()
            }
        }
    }

    pub fn status(&self) -> StatusCode {
        self.facts().status
    }

    /// Whether the sidecar refused the request before it tried anything: for the request itself, for too many others,
    /// or because others failed.
    pub fn is_refusal(&self) -> bool {
        self.facts().is_refusal
    }

    /// Whether Sezzle caused the error, for this call or for others a moment ago.
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

    /// The status of Sezzle's answer, if only the status could be read.
    fn received(&self) -> Option<StatusCode> {
        match self {
            Self::Upstream(cause) | Self::OutcomeUnknown { cause, .. } => cause.received,
            _ => None,
        }
    }

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
            "the sidecar sent the write and Sezzle answered {}, but the rest of the answer could not be read: read \
             the order before you do anything else",
            status.as_u16()
        )
        .into(),
        (RetrySafety::Keyed, None) => {
            "the sidecar sent the write and got no answer, so the write may have been done: repeat it with the same \
             Sezzle-Request-Id, or read the order before you do anything else"
                .into()
        }
        (RetrySafety::Once, _) => {
            "the sidecar sent the call and did not get the whole answer: the card may have been read, and then its \
             token is used up. The sidecar did not repeat the call, because a second read finds nothing: make a new \
             card"
                .into()
        }
        (RetrySafety::Safe, _) | (RetrySafety::Unkeyed, None) => {
            "the sidecar sent the write and got no answer, so the write may have been done: find out what became of \
             it before you repeat it"
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
