//! The result of a webhook: one word for metrics and logs, one status for Sezzle.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// The result of a webhook. Sezzle accepts only 200, and repeats all others for days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sessions were purged, and the service, if configured, accepted the webhook.
    Accepted,
    /// The body is signed but is no JSON. Every session was purged, and the service, if configured, accepted the
    /// webhook.
    Malformed,
    /// A browser sent the request.
    Browser,
    /// The request had another path.
    NotFound,
    /// The request was not a POST.
    MethodNotAllowed,
    /// Sezzle's signature is missing or wrong.
    BadSignature,
    /// The body is larger than any webhook.
    TooLarge,
    /// The body broke off.
    BodyBroken,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The service's response was not 2xx, or there was none.
    ForwardFailed,
    /// The service did not respond in time.
    ForwardTimeout,
    /// Too many webhooks are being forwarded.
    Busy,
}

impl Outcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Malformed => "malformed",
            Self::Browser => "browser_refused",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BadSignature => "bad_signature",
            Self::TooLarge => "too_large",
            Self::BodyBroken => "body_broken",
            Self::BodyTimeout => "body_timeout",
            Self::ForwardFailed => "forward_failed",
            Self::ForwardTimeout => "forward_timeout",
            Self::Busy => "busy",
        }
    }

    /// The status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Accepted | Self::Malformed => StatusCode::OK,
            Self::Browser => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadSignature => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ForwardFailed => StatusCode::BAD_GATEWAY,
            Self::ForwardTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The response to Sezzle: the status and, unless that is 200, the word.
    pub fn answer(self) -> Response<Full<Bytes>> {
        let status = self.status();
        let body = match status {
            StatusCode::OK => String::new(),
            _ => format!("{{\"error\":\"{}\"}}\n", self.as_str()),
        };
        let mut answer = Response::new(Full::new(body.into()));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status != StatusCode::OK {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self == Self::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        answer
    }
}
