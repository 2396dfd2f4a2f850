//! The read of a card, `GET /v2/session/card/token/{token}`: Sezzle deletes the token with the first read.
//!
//! A second read finds nothing, so the call is treated as a write: it is sent once, it runs to its end, and an unknown
//! outcome is reported. The token in the path and the card in the body are neither stored nor logged nor measured.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method};

use super::error::ProxyError;

/// Whether the call is admitted; `forward` is the setting. Only the documented method is: HEAD may read the card, too.
pub fn check(forward: bool, method: &Method) -> Result<(), ProxyError> {
    match *method {
        _ if !forward => Err(ProxyError::CardDataRefused),
        Method::GET => Ok(()),
        _ => Err(ProxyError::MethodNotAllowed("GET")),
    }
}

/// Forbids recipients to store the answer, whatever Sezzle says.
pub fn forbid_storing(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
