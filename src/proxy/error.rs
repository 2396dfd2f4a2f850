//! What the sidecar itself answers, in the shape of Sezzle's own errors. The status is chosen here and nowhere else.
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
use crate::upstream::retry::Call;

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
    /// Calls of this class fail at Sezzle. It is tried again in so long.
    CircuitOpen(Duration),
    /// There is no live token.
    NoToken(NoToken),
    /// The exchange with Sezzle failed, and repeating it cannot do harm.
    Upstream(UpstreamError),
    /// The call may have had its effect, and its answer did not come.
    OutcomeUnknown {
        /// What sending it again would do.
        call: Call,
        /// What is known of why.
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

impl ProxyError {
    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::BodyBroken | Self::ConflictingKeys => StatusCode::BAD_REQUEST,
            Self::ForeignKeys => StatusCode::UNAUTHORIZED,
            Self::Browser | Self::CardDataRefused => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::Stopping | Self::CircuitOpen(_) | Self::NoToken(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::OutcomeUnknown { .. } | Self::NotStored => StatusCode::GATEWAY_TIMEOUT,
            // A 503 of ours always means that nothing was sent.
            Self::Upstream(error) => match (error.sent, error.kind) {
                (Sent::No, _) => StatusCode::SERVICE_UNAVAILABLE,
                (Sent::Maybe, ErrorKind::Timeout) => StatusCode::GATEWAY_TIMEOUT,
                (Sent::Maybe, _) => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// Whether the request was refused for what it is, how many there are or how others fared, before anything of it was
    /// tried.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::NotFound
            | Self::MethodNotAllowed(_)
            | Self::Browser
            | Self::Misdirected(_)
            | Self::Loop
            | Self::TargetTooLong
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::ForeignKeys
            | Self::ConflictingKeys
            | Self::CardDataRefused
            | Self::Overloaded
            | Self::Stopping
            | Self::RateLimited(_)
            | Self::CircuitOpen(_) => true,
            Self::NoToken(_) | Self::Upstream(_) | Self::OutcomeUnknown { .. } | Self::NotStored | Self::Internal => {
                false
            }
        }
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
        match self {
            Self::Malformed(_) | Self::BodyBroken => "bad_request",
            Self::ForeignKeys => "foreign_keys",
            Self::ConflictingKeys => "conflicting_keys",
            Self::Browser => "browser_refused",
            Self::CardDataRefused => "card_data_refused",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::Misdirected(_) => "misdirected",
            Self::Loop => "loop_detected",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::Stopping => "stopping",
            Self::RateLimited(_) => "rate_limited",
            Self::CircuitOpen(_) => "circuit_open",
            Self::NoToken(_) => "no_token",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::NotStored => "not_stored",
            Self::Upstream(error) => match (error.sent, error.kind) {
                (Sent::No, _) => "upstream_unreachable",
                (Sent::Maybe, ErrorKind::Timeout) => "upstream_timeout",
                (Sent::Maybe, _) => "upstream_failed",
            },
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed(how) => Cow::Borrowed(how),
            Self::BodyBroken => "the request's body broke off; nothing was sent to Sezzle".into(),
            Self::ForeignKeys => {
                "the public key is not this sidecar's; calls made here would act for another merchant".into()
            }
            Self::ConflictingKeys => {
                "Sezzle-Request-Id, X-Sezzle-Request-Id and Idempotency-Key differ, so it is not clear which key is \
                 meant; nothing was sent to Sezzle"
                    .into()
            }
            Self::Browser => FROM_BROWSER.into(),
            Self::CardDataRefused => {
                "card data passes this sidecar only with proxy.card_data = \"forward\"; nothing was sent to Sezzle".into()
            }
            Self::NotFound => "only paths under /v2/ are served here".into(),
            Self::MethodNotAllowed(allowed) => format!("this is served here for {allowed} only").into(),
            Self::BodyTimeout => "the request's body did not arrive in time; nothing was sent to Sezzle".into(),
            Self::BodyTooLarge => "the request's body is larger than limits.body; nothing was sent to Sezzle".into(),
            Self::TargetTooLong => "the request's path and query are too long".into(),
            Self::Misdirected(why) => Cow::Borrowed(why),
            Self::Loop => "the request has passed this sidecar before".into(),
            Self::Internal => "the sidecar failed to answer".into(),
            Self::Overloaded => "too many requests are being served; nothing was sent to Sezzle".into(),
            Self::Stopping => "the sidecar is stopping; nothing was sent to Sezzle".into(),
            Self::RateLimited(_) => {
                "Sezzle asked for fewer calls of this kind; nothing was sent, so repeat it after Retry-After".into()
            }
            Self::CircuitOpen(_) => {
                "calls of this kind fail at Sezzle; nothing was sent, so repeat it after Retry-After".into()
            }
            Self::NoToken(_) => "there is no live token for Sezzle; nothing was sent".into(),
            Self::OutcomeUnknown {
                call: Call::Keyed | Call::Unkeyed,
                cause: UpstreamError { received: Some(status), .. },
            } => format!(
                "the write was sent and Sezzle answered {}, but nothing beyond that could be read of the answer: read \
                 the order before doing anything else",
                status.as_u16()
            )
            .into(),
            Self::OutcomeUnknown { call: Call::Keyed, .. } => {
                "the write was sent and its answer did not arrive, so it may have been done: repeat it with the same \
                 Sezzle-Request-Id, or read the order before doing anything else"
                    .into()
            }
            Self::OutcomeUnknown { call: Call::Once, .. } => {
                "the call was sent and its answer did not arrive whole: the card may have been read, and then its token \
                 is gone. The call was not repeated, since a second read finds nothing"
                    .into()
            }
            Self::OutcomeUnknown { call: Call::Safe | Call::Unkeyed, .. } => {
                "the write was sent and its answer did not arrive, so it may have been done: find out \
                 whether it was before repeating it"
                    .into()
            }
            Self::NotStored => "only-if-cached was asked for, and nothing is stored".into(),
            Self::Upstream(error) => match (error.sent, error.kind) {
                (Sent::No, ErrorKind::Reset) => "Sezzle did not take the request; nothing of it was done".into(),
                (Sent::No, ErrorKind::StreamLimit) => {
                    "Sezzle takes no more calls at once over HTTP/2; nothing was sent".into()
                }
                (Sent::No, ErrorKind::Timeout) => "there was no time left to send the call; nothing was sent".into(),
                (Sent::No, _) => "Sezzle could not be reached; nothing was sent".into(),
                (Sent::Maybe, ErrorKind::Timeout) => "Sezzle did not answer in time".into(),
                (Sent::Maybe, _) => "the exchange with Sezzle failed".into(),
            },
        }
    }

    /// The status of Sezzle's answer, where no more than that could be read of it.
    fn received(&self) -> Option<StatusCode> {
        match self {
            Self::Upstream(cause) | Self::OutcomeUnknown { cause, .. } => cause.received,
            _ => None,
        }
    }

    /// The error type of RFC 9209, 2.3.
    fn proxy_status(&self) -> &'static str {
        match self {
            Self::Malformed(_)
            | Self::BodyBroken
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::TargetTooLong
            | Self::NotFound
            | Self::MethodNotAllowed(_)
            | Self::ConflictingKeys
            | Self::NotStored => "http_request_error",
            Self::Browser | Self::Misdirected(_) | Self::ForeignKeys | Self::CardDataRefused | Self::RateLimited(_) => {
                "http_request_denied"
            }
            Self::CircuitOpen(_) => "destination_unavailable",
            Self::Loop => "proxy_loop_detected",
            Self::Internal | Self::NoToken(_) => "proxy_internal_error",
            Self::Overloaded => "connection_limit_reached",
            Self::Stopping => "destination_unavailable",
            Self::Upstream(error) | Self::OutcomeUnknown { cause: error, .. } => match error.kind {
                ErrorKind::Dns => "dns_error",
                ErrorKind::ConnectionRefused => "connection_refused",
                ErrorKind::ConnectionFailed => "destination_unavailable",
                ErrorKind::ConnectTimeout => "connection_timeout",
                ErrorKind::EgressProxy => "destination_unavailable",
                ErrorKind::TlsCertificate => "tls_certificate_error",
                ErrorKind::Tls => "tls_protocol_error",
                ErrorKind::StreamLimit => "connection_limit_reached",
                ErrorKind::Timeout => "http_response_timeout",
                ErrorKind::Reset => "connection_terminated",
                ErrorKind::HeadTooLarge => "http_response_header_section_size",
                ErrorKind::Protocol => "http_protocol_error",
                ErrorKind::Body => "http_response_incomplete",
            },
        }
    }

    /// Status, headers and body of the answer.
    pub fn answer(&self, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        let code = format!("sidecar.{}", self.code());
        let message = self.message();
        let element = Element { code: &code, location: "", message: &message, debug_uuid: request_id };
        let body = serde_json::to_vec(&[element]).unwrap_or_default();

        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let received = self.received().map_or(String::new(), |code| format!("; received-status={}", code.as_u16()));
        if let Ok(value) = HeaderValue::try_from(format!("sezzle-sidecar; error={}{received}", self.proxy_status())) {
            headers.insert(PROXY_STATUS, value);
        }
        match self {
            Self::Malformed(_) | Self::BodyBroken | Self::BodyTimeout | Self::BodyTooLarge => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::MethodNotAllowed(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Overloaded | Self::Stopping | Self::NoToken(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::RateLimited(wait) | Self::CircuitOpen(wait) => {
                // Rounded up, or the caller would come back too early.
                let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
                headers.insert(RETRY_AFTER, seconds.into());
            }
            Self::NotFound
            | Self::Browser
            | Self::Misdirected(_)
            | Self::Loop
            | Self::TargetTooLong
            | Self::ForeignKeys
            | Self::ConflictingKeys
            | Self::CardDataRefused
            | Self::Upstream(_)
            | Self::OutcomeUnknown { .. }
            | Self::NotStored
            | Self::Internal => {}
        }
        (self.status(), headers, body.into())
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
