//! Hop-by-hop header fields (RFC 9110, 7.6.1), which a proxy does not forward.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether a header is always hop-by-hop.
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
            | "http2-settings"
    )
}

/// The header names that `Connection` declares to be hop-by-hop.
pub fn connection_named(headers: &HeaderMap) -> Vec<HeaderName> {
    // Compared as bytes, so that a name with invalid characters does not hide the others.
    let lines = headers.get_all(CONNECTION).into_iter().map(HeaderValue::as_bytes);
    let names = lines.flat_map(|line| line.split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// Removes the headers that are always hop-by-hop, that `Connection` names, or that `goes_no_further` selects.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_is_removed_whatever_else_it_says() {
        for line in [&b"x-hop"[..], b"keep-alive, X-Hop", b"x-hop, \xe9", b"\xe9,x-hop", b" ,\"q\",\tx-hop , "] {
            let mut headers = HeaderMap::new();
            headers.append(CONNECTION, HeaderValue::from_bytes(line).expect("a value"));
            headers.append("x-hop", HeaderValue::from_static("1"));
            headers.append("x-stays", HeaderValue::from_static("1"));
            remove_hop_by_hop(&mut headers, |_| false);
            assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-stays"], "{line:?}");
        }
    }
}
