//! Which methods are safe (RFC 9110, 9.2.1).

use http::Method;

/// Whether a request with this method asks for something and changes nothing. Only methods of RFC 9110 count: `http` takes
/// QUERY for one, too, which nobody at Sezzle documents and whose body is part of the question. TRACE is served nowhere.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}
