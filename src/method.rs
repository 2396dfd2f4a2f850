//! Safe methods (RFC 9110, 9.2.1).

use http::Method;

/// Whether a method only reads. Only methods of RFC 9110 count: the `http` crate counts QUERY as safe too, but Sezzle
/// does not document it, and its body is part of the question. TRACE is never served.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}
