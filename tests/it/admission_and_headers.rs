//! Only plain requests that are meant for the sidecar pass. Sezzle sees the listed headers of a caller, and a caller
//! those of Sezzle.

use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, PROXY_AUTHENTICATE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sezzle_sidecar::simulator::{Exchange, Rule};

use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup};

/// A request that the sidecar always answers, without Sezzle.
const NEXT: &str = "POST /v2/authentication HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";

/// Sends a request that is refused, with another right behind it, and checks the refusal.
async fn refused(harness: &Harness, request: impl AsRef<[u8]>, status: u16, code: &str, closes: bool) {
    let mut bytes = request.as_ref().to_vec();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let to_head = bytes.starts_with(b"HEAD ");
    bytes.extend(NEXT.as_bytes());
    let series = format!("requests_refused_total{{reason=\"{code}\"}}");
    let before = harness.metric(&series).await;

    let mut wire = harness.wire().await;
    wire.send(&bytes).await;
    let answer = if to_head { wire.answer_to_head().await } else { wire.answer().await };
    assert_eq!(answer.status, status, "{shown}");
    if !to_head {
        assert_eq!(answer.error_code(), format!("sidecar.{code}"), "{shown}");
    }
    assert_eq!(answer.header("content-type"), "application/json", "{shown}");
    assert!(answer.header("proxy-status").starts_with("sezzle-sidecar; error="), "{shown}");
    assert_eq!(answer.header("cache-control"), "no-store", "{shown}");
    if closes {
        assert_eq!(answer.header("connection"), "close", "{shown}");
        let rest = wire.rest().await;
        assert!(rest.is_empty(), "read on after {shown}: {}", String::from_utf8_lossy(&rest));
    } else {
        assert_eq!(answer.header("connection"), "", "{shown}");
        assert_eq!(wire.answer().await.status, 201, "the next request after {shown}");
    }
    assert_eq!(harness.received(), [""; 0], "{shown}");
    assert_eq!(harness.metric(&series).await - before, 1.0, "{shown}");
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}

#[tokio::test]
async fn hosts_that_are_not_plainly_ours_are_refused() {
    let harness = Harness::start().await;
    for lines in ["", "host: localhost\r\nhost: localhost\r\n", "host: a b\r\n", "host:\r\n", "host: localhost:x\r\n"] {
        let request = format!("GET /v2/customer HTTP/1.1\r\n{lines}\r\n");
        refused(&harness, request, 400, "bad_request", true).await;
    }
    let first_foreign = "host: evil.example\r\nhost: localhost\r\n";
    let request = format!("POST /v2/session HTTP/1.1\r\n{first_foreign}content-length: 0\r\n\r\n");
    refused(&harness, request, 400, "bad_request", true).await;
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "gateway.sezzle.com", "u@localhost"] {
        let request = format!("GET /v2/customer HTTP/1.1\r\nhost: {host}\r\n\r\n");
        refused(&harness, request, 421, "misdirected", false).await;
    }
    harness.stop().await;
}

#[tokio::test]
async fn absolute_targets_go_to_the_gateway_or_nowhere() {
    let harness = Harness::start().await;
    let proxy = harness.proxy;
    for (target, host) in [
        ("http://gateway.sezzle.com/v2/customer".to_owned(), "localhost".to_owned()),
        ("http://evil.example/v2/customer".to_owned(), "localhost".to_owned()),
        (format!("https://{proxy}/v2/customer"), "localhost".to_owned()),
        (format!("http://{proxy}@evil.example/v2/customer"), proxy.to_string()),
        (format!("http://{proxy}/v2/customer"), "evil.example".to_owned()),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        refused(&harness, request, 421, "misdirected", false).await;
    }
    let mut wire = harness.wire().await;
    wire.send(format!("GET http://{proxy}/v2/customer?a=b HTTP/1.1\r\nhost: {proxy}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(harness.received(), ["GET /v2/customer?a=b"]);
    harness.stop().await;
}

#[tokio::test]
async fn configured_hosts_are_ours() {
    let harness = Setup::default().set("PROXY__HOSTS", "payments.internal,other.internal:81").start().await;
    let mut wire = harness.wire().await;
    for (host, status) in [
        ("payments.internal", 200),
        ("Payments.Internal:9", 200),
        ("other.internal:81", 200),
        ("other.internal:82", 421),
        ("payments.internal.", 200),
        ("payments.internal.:9", 200),
        ("other.internal.:81", 200),
        ("payments.internal..", 421),
    ] {
        wire.send(format!("GET /v2/customer HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status, status, "{host}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn tunnels_browsers_loops_and_foreign_paths_are_refused() {
    let harness = Harness::start().await;
    for request in [
        "CONNECT gateway.sezzle.com:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "TRACE /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /v2/authentication HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        refused(&harness, request, 405, "method_not_allowed", false).await;
    }
    for lines in [
        "origin: null\r\n",
        "origin: http://localhost\r\n",
        "sec-fetch-site: none\r\n",
        "Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
        "sec-fetch-user: ?1\r\n",
    ] {
        refused(&harness, get("/v2/customer", lines), 403, "browser_refused", false).await;
        let request = format!("POST /v2/session HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: 2\r\n\r\n{{}}");
        refused(&harness, request, 403, "browser_refused", false).await;
    }
    for lines in ["via: 1.1 sezzle-sidecar\r\n", "via: 1.0 a\r\nvia: 1.1 b, 1.1 sezzle-sidecar (v)\r\n"] {
        refused(&harness, get("/v2/customer", lines), 508, "loop_detected", false).await;
    }
    for target in ["/", "/v2", "/v1/session", "/V2/customer", "/metrics", "/v22/customer", "/v2%2fcustomer/.."] {
        let (status, code) = if target.contains('%') { (400, "bad_request") } else { (404, "not_found") };
        refused(&harness, get(target, ""), status, code, status == 400).await;
    }
    refused(&harness, "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, "not_found", false).await;
    harness.stop().await;
}

#[tokio::test]
async fn paths_that_two_could_read_differently_are_refused() {
    let harness = Harness::start().await;
    for target in [
        "/v2//customer",
        "//v2/customer",
        "/v2/./customer",
        "/v2/order/../customer",
        "/v2/order/o/..",
        "/v2/order/%2e%2E/capture",
        "/v2/order/%2E/capture",
        "/v2/order/a%2Fcapture",
        "/v2/order/a%5ccapture",
        "/v2/order/a\\capture",
        "/v2/order/a%00",
        "/v2/order/a%0d%0ax",
        "/v2/order/a%252f",
        "/v2/order/a%zz",
        "/v2/order/a%4",
    ] {
        refused(&harness, get(target, ""), 400, "bad_request", true).await;
    }
    let longest = format!("/v2/customer?{}", "q".repeat(4096 - "/v2/customer?".len()));
    refused(&harness, get(&format!("{longest}q"), ""), 414, "target_too_long", false).await;
    assert_eq!(harness.get(&longest).await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn a_body_where_none_belongs_is_dropped_and_never_read_as_a_request() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    harness.get(&session).await;
    let smuggled = "DELETE /v2/customer/c HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let chunked = |body: &str| format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let framed = |body: &str| format!("content-length: {}\r\n\r\n{body}", body.len());
    let mut dropped = 0.0;
    for (method, path) in
        [("GET", "/v2/customer"), ("HEAD", "/v2/customer"), ("GET", session.as_str()), ("HEAD", session.as_str())]
    {
        for (body, counts) in [
            (framed(smuggled), 1.0),
            (chunked(smuggled), 1.0),
            (framed("{}"), 1.0),
            (format!("content-length: 3\r\n{}", chunked(smuggled)), 1.0),
            ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 0.0),
            ("transfer-encoding: chunked\r\n\r\n0\r\nx-trailer: 1\r\n\r\n".to_owned(), 0.0),
            ("content-length: 0\r\n\r\n".to_owned(), 0.0),
        ] {
            harness.gateway.clear_journal();
            let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{body}");
            let mut wire = harness.wire().await;
            wire.send(format!("{request}{}", get("/v2/webhooks", ""))).await;
            let answer = if method == "HEAD" { wire.answer_to_head().await } else { wire.answer().await };
            assert_eq!(answer.status, 200, "{request}");
            assert_eq!(answer.cache().starts_with("hit"), path == session, "{request}: {}", answer.cache());
            // The next bytes are the next request, whether or not a length stands beside the chunks.
            if !body.starts_with("content-length: 3") {
                assert_eq!(wire.answer().await.status, 200, "{request}");
            }
            let calls = harness.gateway.journal();
            let asked: Vec<String> = calls.iter().map(|call| format!("{} {}", call.method, call.path)).collect();
            assert!(
                asked.iter().all(|call| *call == format!("{method} {path}") || *call == "GET /v2/webhooks"),
                "{asked:?}"
            );
            for call in &calls {
                assert!(call.body.is_empty(), "{request}");
                assert!(!call.headers.contains_key("content-length"), "{request}: {:?}", call.headers);
                assert!(!call.headers.contains_key("transfer-encoding"), "{request}: {:?}", call.headers);
            }
            dropped += counts;
        }
    }
    assert_eq!(harness.metric("request_bodies_dropped_total").await, dropped);
    harness.gateway.clear_journal();
    // The first request is refused for another reason before its body is read. The others use a method whose body may
    // have a meaning.
    let request = format!(
        "POST /v2/session HTTP/1.1\r\nhost: evil.example\r\ncontent-length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    refused(&harness, request, 421, "misdirected", false).await;
    let request = format!("OPTIONS /v2/customer HTTP/1.1\r\nhost: localhost\r\n{}", framed(smuggled));
    refused(&harness, request, 400, "bad_request", true).await;
    let empty = "OPTIONS /v2/customer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut wire = harness.wire().await;
    wire.send(empty).await;
    assert_eq!(wire.answer().await.status, 405, "Sezzle's own answer");
    harness.stop().await;
}

#[tokio::test]
async fn a_body_where_none_belongs_keeps_to_the_limits() {
    let harness = Setup::default().set("LIMITS__BODY", "1KiB").start().await;
    let session = Session::order(&harness.gateway).path;
    for path in ["/v2/customer", session.as_str()] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
        let chunks = |length: usize| format!("{:x}\r\n{}\r\n0\r\n\r\n", length, "x".repeat(length));
        for request in [
            format!("{head}content-length: 1025\r\n\r\n{}", "x".repeat(1025)),
            format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunks(1025)),
            format!("{head}expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n"),
        ] {
            refused(&harness, request, 413, "body_too_large", true).await;
        }
        let mut wire = harness.wire().await;
        wire.send(format!("{head}content-length: 5\r\n\r\nhal")).await;
        wire.finish_sending().await;
        assert_eq!(wire.answer().await.error_code(), "sidecar.bad_request", "half a body is none");
        assert_eq!(harness.received(), [""; 0]);
    }
    let mut wire = harness.wire().await;
    wire.send(format!(
        "GET {session} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1024\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer_to_head().await.status, 100);
    wire.send("x".repeat(1024)).await;
    assert_eq!(wire.answer().await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn bodies_are_bounded_and_received_whole_before_anything_is_sent() {
    let harness = Setup::default().set("LIMITS__BODY", "1KiB").start().await;
    let head = "POST /v2/webhooks/test HTTP/1.1\r\nhost: localhost\r\n";
    let chunks = |length: usize| format!("{:x}\r\n{}\r\n0\r\n\r\n", length, "x".repeat(length));
    let too_long = format!("{head}content-length: 1025\r\n\r\n{}", "x".repeat(1025));
    refused(&harness, too_long, 413, "body_too_large", true).await;
    let too_long = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunks(1025));
    refused(&harness, too_long, 413, "body_too_large", true).await;
    // The stated length alone causes the refusal: the sidecar neither waits for the body nor asks for it.
    let announced = format!("{head}expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n");
    refused(&harness, announced, 413, "body_too_large", true).await;

    let mut wire = harness.wire().await;
    wire.send(format!("{head}content-length: 5\r\n\r\nhal")).await;
    wire.finish_sending().await;
    assert_eq!(wire.answer().await.error_code(), "sidecar.bad_request");
    let mut wire = harness.wire().await;
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhalxx\r\nzz\r\n")).await;
    assert_eq!(wire.answer().await.error_code(), "sidecar.bad_request");
    assert_eq!(harness.received(), [""; 0], "half a body is none");
    assert_eq!(harness.metric(r#"requests_refused_total{reason="bad_request"}"#).await, 2.0);

    let mut wire = harness.wire().await;
    for request in [
        format!("{head}content-length: 1024\r\n\r\n{}", "x".repeat(1024)),
        format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunks(1024)),
    ] {
        wire.send(request).await;
        assert_eq!(wire.answer().await.status, 400, "Sezzle does not like it");
    }
    let bodies: Vec<usize> = harness.gateway.journal().iter().map(|call| call.body.len()).collect();
    assert_eq!(bodies[1..], [1024, 1024]);
    wire.send(format!("{head}expect: 100-continue\r\ncontent-length: 2\r\n\r\n")).await;
    assert_eq!(wire.answer_to_head().await.status, 100);
    wire.send("{}").await;
    assert_eq!(wire.answer().await.status, 400);
    harness.stop().await;
}

#[tokio::test]
async fn callers_of_http_1_0_are_answered_and_let_go() {
    let harness = Harness::start().await;
    for target in ["/v2/customer", "/v2/orders/report?start-date=2026-01-01"] {
        let expected = harness.get(target).await;
        let mut wire = harness.wire().await;
        wire.send(format!("GET {target} HTTP/1.0\r\nhost: localhost\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("transfer-encoding")), (200, ""));
        assert!(answer.body == expected.body, "{target}");
        assert!(wire.rest().await.is_empty());
    }
    let before = harness.received();
    let mut wire = harness.wire().await;
    wire.send("GET /v2/customer HTTP/1.0\r\n\r\n").await;
    assert_eq!(wire.answer().await.error_code(), "sidecar.bad_request", "no Host");
    assert_eq!(harness.received(), before);
    harness.stop().await;
}

#[tokio::test]
async fn queries_pass_byte_for_byte() {
    let harness = Harness::start().await;
    let mut wire = harness.wire().await;
    for query in ["?a=%2F&b=+&c=é-encoded&&=", "?", "?%c3%A9=%zz&x=/../?/", "?a={b:[1]}|^`\\'~!$*;,()"] {
        wire.send(get(&format!("/v2/customer{query}"), "")).await;
        assert_eq!(wire.answer().await.status, 200, "{query}");
        assert_eq!(harness.received().last(), Some(&format!("GET /v2/customer{query}")));
    }
    harness.stop().await;
}

/// Headers as sorted lines.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("text").replace(env!("CARGO_PKG_VERSION"), "VERSION"))
    };
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn sezzle_sees_the_listed_headers_of_a_caller_and_no_other() {
    const SENT: &str = "Authorization: Bearer theirs\r\nProxy-Authorization: Basic eDp5\r\nCookie: a=b\r\n\
        Connection: keep-alive, X-Hop,x-other\r\nX-Hop: 1\r\nX-Other: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x-end\r\nUpgrade: h2c\r\n\
        Forwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: evil.example\r\n\
        X-Forwarded-Proto: https\r\nX_Forwarded_For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nAuthori_zation: Bearer x\r\n\
        Via: 1.0 caller\r\nSec-Fetch-Mode: cors\r\nUser-Agent: service/1\r\nAccept-Encoding: gzip\r\nAccept: application/json\r\n\
        X-HTTP-Method: POST\r\nX-HTTP-Method-Override: POST\r\nX-Method-Override: POST\r\nMethod-Override: POST\r\n\
        X-Original-Method: POST\r\nX-Original-URL: /v2/order/o/refund\r\nX-Rewrite-URL: /v2/order/o/refund\r\n\
        X-Request-Id: mine\r\nSezzle-Request-Id: key\r\nX-Custom: 1\r\nX-Custom: 2\r\nIf-None-Match: \"e\"\r\n";
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    let mut wire = harness.wire().await;
    let mut status = async |request: String| {
        wire.send(request).await;
        wire.answer().await.status
    };
    assert_eq!(status(get("/v2/customer", SENT)).await, 200);
    let post = "POST /v2/webhooks/test HTTP/1.1\r\nhost: localhost\r\nContent-Type: application/json\r\n";
    let body = "{\"url\":\"https://a.example\"}";
    assert_eq!(status(format!("{post}{SENT}Content-Length: {}\r\n\r\n{body}", body.len())).await, 201);
    assert_eq!(status(get("/v2/orders/report?start-date=2026-01-01", SENT)).await, 200);
    assert_eq!(status(get(&session, SENT)).await, 200);
    assert_eq!(status("DELETE /v2/webhooks/w HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()).await, 400);

    let calls = harness.gateway.journal().split_off(1);
    let bearer = |call: &Exchange| {
        let all: Vec<&HeaderValue> = call.headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(all.len(), 1, "one token: {:?}", call.headers);
        all[0].clone()
    };
    let bearers: Vec<HeaderValue> = calls.iter().map(bearer).collect();
    assert!(bearers[0].to_str().is_ok_and(|bearer| bearer.starts_with("Bearer ") && bearer != "Bearer theirs"));
    assert!(bearers.iter().all(|bearer| *bearer == bearers[0]));

    let gateway = harness.gateway.addr();
    let common = |more: &[&str]| {
        let mut expected: Vec<String> = [
            "accept: application/json",
            "sezzle-request-id: key",
            "user-agent: service/1 sezzle-sidecar/VERSION",
            "via: 1.1 sezzle-sidecar",
            "x-custom: 1",
            "x-custom: 2",
            "x-request-id: mine",
        ]
        .iter()
        .chain(more)
        .map(|line| (*line).to_owned())
        .collect();
        expected.push(format!("authorization: {}", bearers[0].to_str().expect("text")));
        expected.push(format!("host: {gateway}"));
        expected.sort();
        expected
    };
    let seen: Vec<Vec<String>> = calls.iter().map(|call| lines(&call.headers)).collect();
    assert_eq!(seen[0], common(&["accept-encoding: identity", "if-none-match: \"e\""]));
    let with_body =
        ["accept-encoding: identity", "if-none-match: \"e\"", "content-length: 27", "content-type: application/json"];
    assert_eq!(seen[1], common(&with_body));
    assert_eq!(seen[2], common(&["accept-encoding: gzip", "if-none-match: \"e\""]), "a report is streamed as it is");
    assert_eq!(seen[3], common(&["accept-encoding: identity"]), "a fill is not conditional");
    let names: Vec<&str> = seen[4].iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names.join(" "), "accept-encoding authorization host user-agent via", "nothing of its own is made up");
    assert_eq!(harness.metric("upstream_connections_opened_total").await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_sees_the_listed_headers_of_sezzle_and_no_other() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    let text = HeaderValue::from_static;
    let named = HeaderName::from_static;
    let rule = Rule::path("/v2/*")
        .add_header(SET_COOKIE, text("a=b"))
        .add_header(SET_COOKIE, text("c=d"))
        .add_header(ALT_SVC, text("h3=\":443\""))
        .add_header(STRICT_TRANSPORT_SECURITY, text("max-age=1"))
        .add_header(CONNECTION, text("X-Hop, keep-alive"))
        .add_header(named("x-hop"), text("1"))
        .add_header(named("keep-alive"), text("timeout=5"))
        .add_header(named("proxy-connection"), text("keep-alive"))
        .add_header(PROXY_AUTHENTICATE, text("Basic"))
        .add_header(UPGRADE, text("h2c"))
        .add_header(AUTHORIZATION, text("Bearer echoed"))
        .add_header(named("x-request-id"), text("theirs"))
        .add_header(named("x-gateway"), text("1"))
        .add_header(named("x-gateway"), text("2"));
    harness.gateway.script(rule);
    let own = "cache-control cache-status content-length content-type date via x-gateway x-gateway x-request-id";
    let mut wire = harness.wire().await;
    for (target, expected) in [
        ("/v2/customer", own.to_owned()),
        ("/v2/interest/activity?start-date=2026-01-01", own.to_owned()),
        (
            "/v2/orders/report?start-date=2026-01-01",
            own.replace("content-length", "").replace(" via", " transfer-encoding via"),
        ),
        (session.as_str(), own.replace("date", "date etag")),
        (session.as_str(), format!("age {}", own.replace("date", "date etag"))),
        ("/v2/order/unknown", own.to_owned()),
    ] {
        // `Wire` fails on a header that is not on its list.
        wire.send(get(target, "")).await;
        let answer = wire.answer().await;
        let mut names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>(), "{target}");
        assert_ne!(answer.header("x-request-id"), "theirs");
    }
    assert_eq!(harness.gateway.count("GET", &session), 1);
    harness.stop().await;
}

#[tokio::test]
async fn a_connection_survives_what_belongs_to_one_request() {
    let harness = Harness::start().await;
    let mut wire: Wire = harness.wire().await;
    wire.send("HEAD /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let head = wire.answer_to_head().await;
    assert_eq!((head.status, head.header("connection")), (200, ""));
    // The sidecar makes no upgrade, so the call gets an ordinary answer.
    wire.send(get("/v2/customer", "connection: upgrade\r\nupgrade: websocket\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
    wire.send(get("/v2/customer", "connection: close\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
    assert!(wire.rest().await.is_empty());
    assert_eq!(harness.gateway.count(Method::GET.as_str(), "/v2/customer"), 2);
    harness.stop().await;
}
