//! The result of a webhook: one word for metrics and logs, one status for Sezzle.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::telemetry::metrics::words;

words! {
    /// The result of a webhook. Sezzle accepts only 200, and repeats all others for days.
    pub enum WebhookResult {
        /// The sessions were purged, and the service, if configured, accepted the webhook.
        Accepted = "accepted",
        /// The body is signed but is no JSON. Every session was purged, and the service, if any, accepted the webhook.
        Malformed = "malformed",
        Browser = "browser_refused",
        NotFound = "not_found",
        MethodNotAllowed = "method_not_allowed",
        BadSignature = "bad_signature",
        TooLarge = "too_large",
        BodyBroken = "body_broken",
        BodyTimeout = "body_timeout",
        /// The service's response was not 2xx, or there was none.
        ForwardFailed = "forward_failed",
        ForwardTimeout = "forward_timeout",
        Busy = "busy",
    }
}

impl WebhookResult {
    /// Sezzle signed the webhook, and the service did not accept it.
    pub const NOT_FORWARDED: [Self; 3] = [Self::ForwardFailed, Self::ForwardTimeout, Self::Busy];

    /// Whether metrics count the result by the event: Sezzle signed the webhook, and the event could be read.
    pub fn has_event(self) -> bool {
        matches!(self, Self::Accepted | Self::ForwardFailed | Self::ForwardTimeout | Self::Busy)
    }

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
