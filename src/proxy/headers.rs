//! The headers that are passed on: a caller's to Sezzle, and Sezzle's to the caller.

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::hop_by_hop::remove_hop_by_hop;
use crate::session::freshness::is_json;
use crate::upstream::{OWN_VIA, PRODUCT};

/// The trace of a request (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The id of a request, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The headers of a caller's request that Sezzle gets. `identity` asks for an answer that is not encoded.
pub fn outgoing_headers(mut headers: HeaderMap, identity: bool) -> HeaderMap {
    let user_agent = user_agent(headers.get(USER_AGENT));
    remove_hop_by_hop(&mut headers, is_private);
    headers.reserve(OWN_HEADERS);
    headers.insert(USER_AGENT, user_agent);
    headers.insert(VIA, OWN_VIA);
    if identity {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

// Room for the headers of [`outgoing_headers`], the token, `Host` and an idempotency key.
const OWN_HEADERS: usize = 6;

/// Removes the headers that would make Sezzle answer a session lookup in part or not at all.
pub fn remove_conditions(headers: &mut HeaderMap) {
    for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(name);
    }
}

/// Whether a header of the caller's is not passed on.
fn is_private(name: &HeaderName) -> bool {
    let name = name.as_str();
    let known = matches!(
        name,
        "authorization"
            | "baggage"
            | "content-length"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "method-override"
            | "sec-fetch-mode"
            | "traceparent"
            | "tracestate"
            | "via"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-method"
            | "x-original-url"
            | "x-real-ip"
            | "x-rewrite-url"
    );
    // Some servers read `a_b` as `a-b`, and so would see a removed header. A header that overrides the method or the
    // path is removed too: the sidecar would repeat as safe a request that Sezzle takes for a write, and would let a
    // caller make a call that it may not make.
    known || name.starts_with("x-forwarded-") || name.contains('_')
}

fn user_agent(caller: Option<&HeaderValue>) -> HeaderValue {
    let both = caller.and_then(|caller| caller.to_str().ok()).filter(|caller| caller.len() <= 512);
    both.and_then(|caller| HeaderValue::try_from([caller, " ", PRODUCT].concat()).ok())
        .unwrap_or(HeaderValue::from_static(PRODUCT))
}

/// Removes the headers of Sezzle's answer that are not for the caller.
pub fn clean(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, |name| {
        matches!(
            name.as_str(),
            "set-cookie" | "alt-svc" | "strict-transport-security" | "authorization" | "x-request-id"
        )
    });
}

/// Whether the body under these headers may be read and changed.
pub fn is_readable(headers: &HeaderMap) -> bool {
    let transform = headers.get_all(CACHE_CONTROL).iter().all(|value| {
        value.to_str().is_ok_and(|list| !list.split(',').any(|word| word.trim().eq_ignore_ascii_case("no-transform")))
    });
    transform && is_json(headers) && !headers.contains_key(CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_to_sezzle() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "localhost"),
            ("authorization", "Bearer theirs"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-http-method-override", "POST"),
            ("x-http-method", "POST"),
            ("x-method-override", "POST"),
            ("method-override", "POST"),
            ("x-original-method", "POST"),
            ("x-original-url", "/v2/order/o/refund"),
            ("x-rewrite-url", "/v2/order/o/refund"),
            ("forwarded", "for=1.2.3.4"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("via", "1.0 caller"),
            ("user-agent", "service/1"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("sezzle-request-id", "key"),
            ("x-custom", "1"),
            ("x-custom", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let outgoing = outgoing_headers(headers.clone(), true);
        let mut lines: Vec<String> =
            outgoing.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "accept-encoding: identity",
                "content-type: application/json",
                "sezzle-request-id: key",
                concat!("user-agent: service/1 sezzle-sidecar/", env!("CARGO_PKG_VERSION")),
                "via: 1.1 sezzle-sidecar",
                "x-custom: 1",
                "x-custom: 2",
            ]
        );
        let coding = headers.get(ACCEPT_ENCODING).cloned();
        assert_eq!(outgoing_headers(headers, false).remove(ACCEPT_ENCODING), coding);
    }
}
