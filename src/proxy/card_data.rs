//! The read of a card, `GET /v2/session/card/token/{token}`: Sezzle deletes the token with the first read.
//!
//! Sent again it finds nothing, so it goes the way of a write: sent once, run to its end, told apart when its outcome is
//! unknown. The token stays in the path and the card in the body: neither is kept, logged, counted or measured.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method};

use super::error::ProxyError;

/// Whether the call is let through. `forward` is the setting.
///
/// # Errors
/// When card data is refused, or the method is not the one that Sezzle documents: a HEAD may read the card, too.
pub fn check(forward: bool, method: &Method) -> Result<(), ProxyError> {
    match *method {
        _ if !forward => Err(ProxyError::CardDataRefused),
        Method::GET => Ok(()),
        _ => Err(ProxyError::MethodNotAllowed("GET")),
    }
}

/// Forbids whoever gets the answer to store it, whatever Sezzle says.
pub fn forbid_storing(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
