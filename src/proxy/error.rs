//! The errors that the sidecar itself answers with, in the shape of Sezzle's own. Their status is chosen here alone.
//!
//! The text for the caller names no address and holds no secret; the exact failure goes to the log.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use super::error_text::{bounds_message, unknown_message};
use super::route::remedy::Remedy;
use crate::caller::{FROM_BROWSER, Refusal};
use crate::callers::amount::OutOfBounds;
use crate::callers::permission::Permission;
use crate::credentials::NoToken;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};

/// Why a caller gets no answer of Sezzle's.
#[derive(Clone, Debug)]
pub enum ProxyError {
    /// The request is malformed; the text says how. The connection is closed: its framing may not be trusted.
    Malformed(&'static str),
    /// The sidecar does not serve the path; the text says why.
    NotFound(&'static str),
    /// The path does not take this method; the text lists the methods that it takes.
    MethodNotAllowed(&'static str),
    Browser,
    /// The request is not for this sidecar; the text says why.
    Misdirected(Cow<'static, str>),
    /// The request has passed a sidecar before.
    Loop,
    /// The target is longer than [`super::inbound::MAX_TARGET`].
    TargetTooLong,
    /// The body is larger than this limit, given by its name.
    BodyTooLarge(&'static str),
    BodyTimeout,
    BodyBroken,
    /// The caller authenticates with a public key that is not ours.
    ForeignKeys,
    /// The request has no mark of any caller in `[[callers]]`.
    UnknownCaller,
    /// The caller's `allow` lacks this word.
    NotAllowed(Permission),
    /// The call may move more than the caller's `max_amount`.
    AmountOverLimit(OutOfBounds),
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
    /// Callers named more shops than the sidecar asks Sezzle about. The sidecar asks again after this time.
    TooManyShops(Duration),
    /// Calls of this class fail at Sezzle. The next trial is due after this time.
    CircuitOpen(Duration),
    NoToken(NoToken),
    /// The audit requires a line that could not be written.
    AuditUnavailable,
    /// The exchange with Sezzle failed, and repeating it cannot do harm.
    Upstream(UpstreamError),
    /// The call may have had its effect, and its answer did not come.
    OutcomeUnknown {
        /// The caller's next step.
        remedy: Remedy,
        /// Why the answer did not come, as far as is known.
        cause: UpstreamError,
    },
    /// The caller accepts a stored answer only, and none is stored.
    NotStored,
    /// A panic was caught, the task that was to answer ended without an answer, or no random bytes were to be had.
    Internal,
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(how) => Self::Malformed(how),
            Refusal::Misdirected => {
                Self::Misdirected("this sidecar does not answer for this Host (see proxy.hosts)".into())
            }
            Refusal::Scheme(which) => Self::Misdirected(which.into()),
            Refusal::Browser => Self::Browser,
        }
    }
}

/// The header of RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The facts that tell one error from another, in its body, in metrics and in the log.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The `code` of the body, less its prefix `sidecar.`.
    pub word: &'static str,
    /// The status of every error with this code.
    pub status: StatusCode,
    /// See [`ProxyError::is_refusal`].
    pub is_refusal: bool,
}

/// Declares the codes. Each is the name of the function that begins a row of [`ProxyError::facts`].
macro_rules! codes {
    ($($code:ident: $status:ident, is_refusal $is_refusal:literal;)+) => {
        /// Every code.
        pub const CODES: &[Code] = &[$(
            Code { word: stringify!($code), status: StatusCode::$status, is_refusal: $is_refusal },
        )+];

        impl Facts {
            $(fn $code(proxy_status: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
                let code = Code { word: stringify!($code), status: StatusCode::$status, is_refusal: $is_refusal };
                Self { code, proxy_status, message: message.into(), header: None }
            })+
        }
    };
}

codes! {
    bad_request: BAD_REQUEST, is_refusal true;
    conflicting_keys: BAD_REQUEST, is_refusal true;
    foreign_keys: UNAUTHORIZED, is_refusal true;
    unknown_caller: UNAUTHORIZED, is_refusal true;
    not_allowed: FORBIDDEN, is_refusal true;
    amount_over_limit: FORBIDDEN, is_refusal true;
    browser_refused: FORBIDDEN, is_refusal true;
    card_data_refused: FORBIDDEN, is_refusal true;
    not_found: NOT_FOUND, is_refusal true;
    method_not_allowed: METHOD_NOT_ALLOWED, is_refusal true;
    body_timeout: REQUEST_TIMEOUT, is_refusal true;
    body_too_large: PAYLOAD_TOO_LARGE, is_refusal true;
    target_too_long: URI_TOO_LONG, is_refusal true;
    misdirected: MISDIRECTED_REQUEST, is_refusal true;
    rate_limited: TOO_MANY_REQUESTS, is_refusal true;
    circuit_open: SERVICE_UNAVAILABLE, is_refusal true;
    overloaded: SERVICE_UNAVAILABLE, is_refusal true;
    stopping: SERVICE_UNAVAILABLE, is_refusal true;
    loop_detected: LOOP_DETECTED, is_refusal true;
    no_token: SERVICE_UNAVAILABLE, is_refusal true;
    audit_unavailable: SERVICE_UNAVAILABLE, is_refusal true;
    not_stored: GATEWAY_TIMEOUT, is_refusal false;
    internal: INTERNAL_SERVER_ERROR, is_refusal false;
    upstream_unreachable: SERVICE_UNAVAILABLE, is_refusal false;
    upstream_timeout: GATEWAY_TIMEOUT, is_refusal false;
    upstream_failed: BAD_GATEWAY, is_refusal false;
    outcome_unknown: GATEWAY_TIMEOUT, is_refusal false;
}

/// The facts of an error for the caller, the metrics and the log.
struct Facts {
    code: Code,
    proxy_status: &'static str,
    message: Cow<'static, str>,
    /// A header that tells the caller what to do, such as `Retry-After`.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Facts {
    fn with_header(self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }

    fn closing(self) -> Self {
        self.with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    fn retry_after(self, wait: Duration) -> Self {
        // Rounded up, or the caller would come back too early.
        self.with_header(RETRY_AFTER, wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
    }
}

impl ProxyError {
    /// One row for each error.
    fn facts(&self) -> Facts {
        const INVALID: &str = "http_request_error";
        const DENIED: &str = "http_request_denied";
        const UNAVAILABLE: &str = "destination_unavailable";
        const INTERNAL: &str = "proxy_internal_error";
        const SOON: Duration = Duration::from_secs(1);
        match self {
            Self::Malformed(how) => Facts::bad_request(INVALID, *how).closing(),
            Self::BodyBroken => {
                let message = "the request's body broke off, so the sidecar sent nothing to Sezzle";
                Facts::bad_request(INVALID, message).closing()
            }
            Self::ConflictingKeys => {
                let message = "Sezzle-Request-Id, X-Sezzle-Request-Id and Idempotency-Key differ; the sidecar sent \
                               nothing to Sezzle; send one key";
                Facts::conflicting_keys(INVALID, message)
            }
            Self::ForeignKeys => {
                let message = "this public key is not the sidecar's; if it is another merchant's, call the sidecar \
                               of that merchant";
                Facts::foreign_keys(DENIED, message)
            }
            Self::UnknownCaller => {
                let message = "no caller of the sidecar has this request's uid, certificate, token or keys, so the sidecar \
                               sent nothing to Sezzle; send a caller's token, or exchange a caller's keys for one";
                // Some clients fail on a 401 without this header, which RFC 9110, 15.5.2 asks for.
                Facts::unknown_caller(DENIED, message).with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Self::NotAllowed(permission) => {
                let message = format!(
                    "this caller may not do this: callers.allow has no {:?} for it; the sidecar sent nothing to Sezzle",
                    permission.as_str()
                );
                Facts::not_allowed(DENIED, message)
            }
            Self::AmountOverLimit(why) => Facts::amount_over_limit(DENIED, bounds_message(*why)),
            Self::Browser => Facts::browser_refused(DENIED, FROM_BROWSER),
            Self::CardDataRefused => {
                let message = "this call returns card data, and the sidecar passes card data on only with \
                               proxy.card_data = \"forward\"; it sent nothing to Sezzle";
                Facts::card_data_refused(DENIED, message)
            }
            Self::NotFound(why) => Facts::not_found(INVALID, *why),
            Self::MethodNotAllowed(allowed) => {
                let message = format!("this sidecar serves this path for {allowed} only");
                Facts::method_not_allowed(INVALID, message).with_header(ALLOW, HeaderValue::from_static(allowed))
            }
            Self::BodyTimeout => {
                let message = "the request's body did not arrive in time, so the sidecar sent nothing to Sezzle";
                Facts::body_timeout(INVALID, message).closing()
            }
            Self::BodyTooLarge(limit) => {
                let message = format!("the request's body is larger than {limit}; the sidecar sent nothing to Sezzle");
                Facts::body_too_large(INVALID, message).closing()
            }
            Self::TargetTooLong => Facts::target_too_long(INVALID, "the request's path and query are too long"),
            Self::Misdirected(why) => Facts::misdirected(DENIED, why.clone()),
            Self::RateLimited(wait) => {
                let message = "Sezzle asked for fewer calls of this class, so the sidecar did not send this one; \
                               repeat it after Retry-After";
                Facts::rate_limited(DENIED, message).retry_after(*wait)
            }
            Self::TooManyShops(wait) => {
                let message = "callers named more shops than the sidecar asks Sezzle about in a minute, so it did not ask \
                               about this one; repeat the exchange after Retry-After";
                Facts::rate_limited(DENIED, message).retry_after(*wait)
            }
            Self::CircuitOpen(wait) => {
                let message = "calls of this class fail at Sezzle, so the sidecar did not send this one; repeat it \
                               after Retry-After";
                Facts::circuit_open(UNAVAILABLE, message).retry_after(*wait)
            }
            Self::Overloaded => {
                let message = "the sidecar has too many calls under way, so it sent nothing to Sezzle; repeat the \
                               call after Retry-After";
                Facts::overloaded("connection_limit_reached", message).retry_after(SOON)
            }
            Self::Stopping => {
                let message = "the sidecar is stopping, so it sent nothing to Sezzle; repeat the call";
                Facts::stopping(UNAVAILABLE, message).retry_after(SOON)
            }
            Self::Loop => {
                let message = "this request has passed a sidecar before: gateway.url leads back to a sidecar";
                Facts::loop_detected("proxy_loop_detected", message)
            }
            Self::NoToken(_) => {
                let message = "the sidecar has no live token for Sezzle, so it sent nothing; repeat the call after \
                               Retry-After";
                Facts::no_token(INTERNAL, message).retry_after(SOON)
            }
            Self::AuditUnavailable => {
                let message = "the sidecar cannot write its audit file, so it sent nothing to Sezzle; repeat the call \
                               after Retry-After";
                Facts::audit_unavailable(INTERNAL, message).retry_after(SOON)
            }
            Self::NotStored => {
                let message = "the request says only-if-cached, and the session is not in memory";
                Facts::not_stored(INVALID, message)
            }
            Self::Internal => {
                let message = "the sidecar failed while it answered: this is a defect, please report it";
                Facts::internal(INTERNAL, message)
            }
            // A 503 of ours always means that the call was not done.
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
                Facts::upstream_unreachable(proxy_status(error.kind), message)
            }
            Self::Upstream(UpstreamError { kind: kind @ ErrorKind::Timeout, .. }) => {
                let message = "Sezzle did not answer in time";
                Facts::upstream_timeout(proxy_status(*kind), message)
            }
            Self::Upstream(error) => {
                let message = "the exchange with Sezzle failed before the answer had arrived";
                Facts::upstream_failed(proxy_status(error.kind), message)
            }
            Self::OutcomeUnknown { remedy, cause } => {
                let message = unknown_message(remedy, cause.received);
                Facts::outcome_unknown(proxy_status(cause.kind), message)
            }
        }
    }

    pub fn status(&self) -> StatusCode {
        self.facts().code.status
    }

    /// Whether the sidecar refused the request before it sent anything: because of the request itself, of too many
    /// other calls, of a missing token or audit line, or because other calls failed.
    pub fn is_refusal(&self) -> bool {
        self.facts().code.is_refusal
    }

    /// Whether Sezzle caused the error, for this call or for others a moment ago.
    pub fn is_of_sezzle(&self) -> bool {
        matches!(self, Self::Upstream(_) | Self::RateLimited(_) | Self::CircuitOpen(_))
    }

    /// Whether the call was provably not done: nothing of it went to Sezzle, or Sezzle stated that it did nothing.
    pub fn was_not_done(&self) -> bool {
        match self {
            Self::Upstream(error) => error.sent == Sent::No,
            _ => self.is_refusal(),
        }
    }

    /// The `code` of the body, less its prefix `sidecar.`; also the word in metrics and logs.
    pub fn code(&self) -> &'static str {
        self.facts().code.word
    }

    /// The status of Sezzle's answer, if only the status could be read.
    fn received(&self) -> Option<StatusCode> {
        match self {
            Self::Upstream(cause) | Self::OutcomeUnknown { cause, .. } => cause.received,
            _ => None,
        }
    }

    pub fn answer(&self, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        let Facts { code: Code { word, status, .. }, proxy_status, message, header } = self.facts();
        let code = format!("sidecar.{word}");
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

/// One element of Sezzle's error array.
#[derive(Serialize)]
struct Element<'e> {
    code: &'e str,
    location: &'e str,
    message: &'e str,
    debug_uuid: &'e str,
}
