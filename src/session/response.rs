//! An answer of Sezzle that may be stored.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

/// A complete response, with the headers for the caller.
#[derive(Clone, Debug)]
pub struct SessionResponse {
    pub status: StatusCode,
    /// Sezzle's own status: 304 if Sezzle confirmed a stored response.
    pub fwd_status: StatusCode,
    /// The headers that the caller may get.
    pub headers: HeaderMap,
    /// Sezzle's own `ETag`. The one in the headers may be the sidecar's instead.
    pub etag: Option<HeaderValue>,
    /// The content, with links rewritten.
    pub body: Bytes,
}
