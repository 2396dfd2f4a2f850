//! Header fields between two neighbours only (RFC 9110, 7.6.1), which nobody passes on.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

/// Whether a header is between two neighbours only.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authentication-info"
    )
}

/// The header names that `Connection` declares to be hop-by-hop.
pub fn connection_named(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Removes the headers that are hop-by-hop, whoever says so, and those that go no further for another reason.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, goes_no_further: impl Fn(&HeaderName) -> bool) {
    let mut removed: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name) || goes_no_further(name)).cloned().collect();
    if removed.contains(&CONNECTION) {
        removed.extend(connection_named(headers));
    }
    for name in removed {
        headers.remove(name);
    }
}
