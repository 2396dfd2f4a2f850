//! Requests from browsers, which the simulator refuses.

use http::HeaderMap;

/// Whether a browser sent a request: a web page that a developer looks at must not control the simulator.
/// `Sec-Fetch-Mode` alone is no sign of a browser, because Node's `fetch` sends that header.
pub(super) fn is_of_browser(headers: &HeaderMap) -> bool {
    let is_mark = |name: &str| name == "origin" || (name.starts_with("sec-fetch-") && name != "sec-fetch-mode");
    headers.keys().any(|name| is_mark(name.as_str()))
}
