//! Whatever comes in, each request that is let through is one call under `/v2/`, also for a server that decodes its path
//! first. With `proxy.v1 = "forward"` the call may lie under `/v1/`, and then exchanges no keys.
//!
//! Input: a line with method and target, then lines of headers. A `+` behind the method is ignored.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, ORIGIN, TRANSFER_ENCODING, USER_AGENT, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use percent_encoding::percent_decode_str;
use sezzle_sidecar::caller::{Caller, Hosts, SEC_FETCH_MODE};
use sezzle_sidecar::hop_by_hop::is_hop_by_hop;
use sezzle_sidecar::method::is_safe;
use sezzle_sidecar::proxy::headers::outgoing_headers;
use sezzle_sidecar::proxy::inbound::{MAX_TARGET, match_request};
use sezzle_sidecar::proxy::presence::HeaderPresence;
use sezzle_sidecar::proxy::route::{Class, Matched, Route};
use sezzle_sidecar::session::invalidation::Tag;
use sezzle_sidecar::upstream::retry::RetrySafety;

pub fn holds(data: &[u8]) {
    let Some((method, uri, headers)) = read(data) else { return };
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    let (head, ()) = request.into_parts();

    forwarded(&headers);
    let hosts = Hosts::new(&["sidecar.internal".to_owned(), "named:8080".to_owned()]);
    let caller = Caller { local: Some(([10, 1, 2, 3], 8080).into()), ..Caller::default() };
    let admitted = |forward_v1| match_request(&hosts, forward_v1, &head, HeaderPresence::scan(&head.headers), &caller);
    let Ok(matched) = admitted(false) else {
        if let Ok(matched) = admitted(true) {
            version_1(uri.path(), &method, &matched);
        }
        return;
    };

    assert!(!matches!(method, Method::CONNECT | Method::TRACE));
    assert_eq!(headers.get_all(HOST).iter().count(), 1);
    assert!(!headers.contains_key(ORIGIN));
    assert!(headers.keys().all(|name| !name.as_str().starts_with("sec-fetch-") || *name == SEC_FETCH_MODE));
    assert!(uri.scheme_str().is_none_or(|scheme| scheme == "http"));
    assert!(uri.path_and_query().is_some_and(|target| target.as_str().len() <= MAX_TARGET));
    path(uri.path(), &method, &matched);
}

fn version_1(path: &str, method: &Method, matched: &Matched) {
    assert!(path.starts_with("/v1/"));
    plain_segments(path);
    assert!(!path.to_ascii_lowercase().starts_with("/v1/authentication/"));
    assert!(matches!(matched.route, Route::Version1 | Route::CardToken));
    assert_eq!((matched.session(), matched.order()), (None, None));
    assert!(is_safe(method) || matched.route.class(method) == Class::Money);
}

/// Fails if a server could read the segments of a path in another way.
fn plain_segments(path: &str) -> Vec<Vec<u8>> {
    let decoded: Vec<Vec<u8>> = path.split('/').map(|segment| percent_decode_str(segment).collect()).collect();
    for segment in &decoded {
        assert!(segment != b"." && segment != b"..");
        assert!(!segment.iter().any(|byte| matches!(byte, b'/' | b'\\' | b'%' | b';' | 0..=0x1f | 0x7f)));
    }
    decoded
}

fn path(path: &str, method: &Method, matched: &Matched) {
    assert!(path.starts_with("/v2/"));
    let decoded = plain_segments(path);
    // A server that decodes the path before it looks for segments comes to the same call.
    if let Ok(decoded) = String::from_utf8(decoded.join(&b'/')) {
        let again = Matched::path(&decoded).expect("a path stays one");
        assert_eq!((again.route, again.session(), again.order()), (matched.route, matched.session(), matched.order()));
        assert_eq!(again.purges(), matched.purges());
    }
    if let Some(session) = matched.session() {
        assert!(matches!(matched.route, Route::Session | Route::SessionCard));
        let rest = path.to_ascii_lowercase().replacen("/v2/session/", "", 1);
        assert_eq!(rest.trim_end_matches("/card"), session.hyphenated().to_string());
        assert_eq!(matched.purges(), Some(Tag::Session(session)));
    }
    assert!(matched.order().is_none_or(|order| path.starts_with(&format!("/v2/order/{order}"))));
    // A read of card data is known as one in every spelling that a gateway may accept.
    let lower = path.to_ascii_lowercase();
    if lower.strip_prefix("/v2/session/card/token/").is_some_and(|token| !token.is_empty()) {
        assert_eq!(
            (matched.route, class_and_call(matched, method)),
            (Route::CardToken, (Class::Money, RetrySafety::DestructiveRead))
        );
    }
    // An unknown write is a write too, and below an order or a token it names the sessions to purge.
    let class = matched.route.class(method);
    if !is_safe(method) {
        assert!(!matches!(class, Class::Session | Class::Read | Class::Report));
    }
    if path.starts_with("/v2/order/") || path.starts_with("/v2/token/") {
        assert_eq!(matched.purges().is_some(), path.len() > 10 && !path[10..].starts_with('/'));
    }
    if path.get(4..18).is_some_and(|first| first.eq_ignore_ascii_case("authentication")) {
        assert_eq!(class == Class::Credentials, matches!(path.as_bytes().get(18), None | Some(b'/')));
    }
}

fn class_and_call(matched: &Matched, method: &Method) -> (Class, RetrySafety) {
    (matched.route.class(method), matched.retry_safety(method))
}

/// The headers that go on to Sezzle.
fn forwarded(headers: &HeaderMap) {
    let outgoing = outgoing_headers(headers.clone(), true);
    for name in outgoing.keys() {
        assert!(!is_hop_by_hop(name), "{name}");
        assert!(![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, AUTHORIZATION, COOKIE].contains(name), "{name}");
        assert!(
            *name != SEC_FETCH_MODE && !name.as_str().contains('_') && !name.as_str().starts_with("x-forwarded-"),
            "{name}"
        );
    }
    for name in [VIA, USER_AGENT] {
        assert_eq!(outgoing.get_all(name).iter().count(), 1);
    }
}

fn read(data: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, target) = (&first[..space], &first[space + 1..]);
    let method = Method::from_bytes(method.strip_suffix(b"+").unwrap_or(method)).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(20) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    Some((method, Uri::try_from(target).ok()?, headers))
}
