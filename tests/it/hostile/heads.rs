//! Hostile heads: request lines, targets, versions, methods and headers that deceive.

use super::{HIDDEN, Then, get, post, refused, run};

const CUSTOMER: &str = "GET /v2/customer";

#[tokio::test]
async fn a_head_is_read_as_one_thing_or_not_at_all() {
    let mut cases = Vec::new();
    for lines in [
        "x-bad : 1\r\n",
        "x-bad\t: 1\r\n",
        "x bad: 1\r\n",
        ": 1\r\n",
        "x-bad\r\n",
        "x-folded: 1\r\n 2\r\n",
        "x-folded: 1\r\n\t2\r\n",
        "x-nul: a\0b\r\n",
        "x-\0nul: 1\r\n",
        "x-cr: a\rhost: evil.example\r\n",
        "\rhost: evil.example\r\n",
        "x-bell: \u{7}\r\n",
        "x-del: \u{7f}\r\n",
        "x-é: 1\r\n",
        "x[bad]: 1\r\n",
        "\"x-bad\": 1\r\n",
        "x-bad;: 1\r\n",
    ] {
        cases.push(refused(format!("{lines:?}"), format!("{}{HIDDEN}", get("/v2/customer", lines))));
        let length = format!("{lines}content-length: 5\r\n");
        cases.push(refused(format!("POST {lines:?}"), post(&length, &format!("hello{HIDDEN}"))));
    }
    for first in [" x-first: 1\r\n", "\tx-first: 1\r\n", " host: localhost\r\n"] {
        let sent = format!("GET /v2/customer HTTP/1.1\r\n{first}host: localhost\r\n\r\n{HIDDEN}");
        cases.push(refused(format!("first line {first:?}"), sent));
    }
    for line in [
        "GET /v2/customer HTTP/1.1 \r\n",
        "GET /v2/customer  HTTP/1.1\r\n",
        "GET  /v2/customer HTTP/1.1\r\n",
        " GET /v2/customer HTTP/1.1\r\n",
        "GET\t/v2/customer HTTP/1.1\r\n",
        "GET /v2/cus tomer HTTP/1.1\r\n",
        "GET /v2/cus\0tomer HTTP/1.1\r\n",
        "GET /v2/cus\rtomer HTTP/1.1\r\n",
        "GET /v2/customer\r\n",
        "GET HTTP/1.1\r\n",
        "GET /v2/customer HTTP/1.2\r\n",
        "GET /v2/customer HTTP/2.0\r\n",
        "GET /v2/customer HTTP/3.0\r\n",
        "GET /v2/customer HTTP/11\r\n",
        "GET /v2/customer HTTP/1.10\r\n",
        "GET /v2/customer HTTP/-1.1\r\n",
        "GET /v2/customer http/1.1\r\n",
        "GET /v2/customer HTTPS/1.1\r\n",
        "G\0T /v2/customer HTTP/1.1\r\n",
        "GÉT /v2/customer HTTP/1.1\r\n",
        "G(T) /v2/customer HTTP/1.1\r\n",
        "/v2/customer HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n",
    ] {
        cases.push(refused(format!("{line:?}"), format!("{line}host: localhost\r\n\r\n{HIDDEN}")));
    }
    // HTTP/0.9 has no head, and deserves no answer.
    cases.push(refused("HTTP/0.9", "GET /v2/customer\r\n"));
    cases.push(refused("a target that is no UTF-8", b"GET /v2/order/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    let sent = get("/v2/order/\u{e9}", "x-text: \u{e9}\r\n");
    cases.push(refused("UTF-8", sent).sees(&["GET /v2/order/\u{e9}"]).gets(&[404]).then(Then::Kept));
    run(cases).await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let long = |length: usize| "x".repeat(length);
    let mut cases = Vec::new();
    // The sidecar's limit is 16 KiB.
    let lines = format!("x-large: {}\r\n", long(17 * 1024));
    cases.push(refused("a long value", get("/v2/customer", &lines)).gets(&[431]));
    let lines = format!("{}: 1\r\n", long(17 * 1024));
    cases.push(refused("a long name", get("/v2/customer", &lines)).gets(&[431]));
    cases.push(refused("many lines", get("/v2/customer", &"x-many: 1\r\n".repeat(101))).gets(&[431]));
    cases.push(refused("very many lines", get("/v2/customer", &"x: 1\r\n".repeat(1_000_000))).gets(&[431]));
    cases.push(refused("a method without end", long(1 << 20)).gets(&[431]));
    cases.push(refused("a target without end", format!("GET /{}", long(1 << 20))).gets(&[431]));
    cases.push(refused("a value without end", format!("GET / HTTP/1.1\r\nx: {}", long(1 << 20))).gets(&[431]));
    cases
        .push(refused("a long target", get(&format!("/v2/customer?{}", long(4096)), "")).gets(&[414]).then(Then::Kept));
    let lines = "x-many: 1\r\n".repeat(90);
    cases.push(refused("just enough", get("/v2/customer", &lines)).sees(&[CUSTOMER]).gets(&[200]).then(Then::Kept));
    run(cases).await;
}

#[tokio::test]
async fn methods_and_targets_are_what_they_say() {
    let mut cases = Vec::new();
    // An unknown method. Sezzle decides on its effect, and the cache treats it as a write.
    for (method, status) in [("get", 405), ("Get", 405), ("PURGE", 405), ("PROPFIND", 405), ("M-SEARCH", 405)] {
        let sent = format!("{method} /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let seen = format!("{method} /v2/customer");
        cases.push(refused(method, sent).sees(&[&seen]).gets(&[status]).then(Then::Kept));
    }
    let method = "M".repeat(8000);
    let sent = format!("{method} /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let seen = format!("{method} /v2/customer");
    cases.push(refused("a long method", sent).sees(&[&seen]).gets(&[405]).then(Then::Kept));
    for (line, status, then) in [
        ("TRACE /v2/customer HTTP/1.1", 405, Then::Kept),
        ("CONNECT gateway.sezzle.com:443 HTTP/1.1", 405, Then::Kept),
        ("CONNECT /v2/customer HTTP/1.1", 405, Then::Kept),
        ("OPTIONS * HTTP/1.1", 404, Then::Kept),
        ("GET * HTTP/1.1", 404, Then::Kept),
        ("GET http://evil.example/v2/customer HTTP/1.1", 421, Then::Kept),
        ("GET http://localhost@evil.example/v2/customer HTTP/1.1", 421, Then::Kept),
        ("GET https://localhost/v2/customer HTTP/1.1", 421, Then::Kept),
        ("GET ftp://localhost/v2/customer HTTP/1.1", 421, Then::Kept),
        ("GET localhost:8080 HTTP/1.1", 421, Then::Kept),
        ("GET evil.example HTTP/1.1", 421, Then::Kept),
        ("GET http:///v2/customer HTTP/1.1", 400, Then::Closed),
        ("GET v2/customer HTTP/1.1", 400, Then::Closed),
        ("GET //evil.example/v2/customer HTTP/1.1", 400, Then::Closed),
        ("GET /v2/customer#/v2/order HTTP/1.1", 200, Then::Kept),
    ] {
        let case = refused(line, format!("{line}\r\nhost: localhost\r\n\r\n")).gets(&[status]).then(then);
        cases.push(if status == 200 { case.sees(&[CUSTOMER]) } else { case });
    }
    for target in ["http://localhost/v2/customer", "HTTP://127.0.0.1:1/v2/customer", "http://[::1]/v2/customer"] {
        cases.push(refused(target, get(target, "")).sees(&[CUSTOMER]).gets(&[200]).then(Then::Kept));
    }
    run(cases).await;
}

#[tokio::test]
async fn versions_upgrades_and_expectations() {
    let mut cases = Vec::new();
    let old = |lines: &str| format!("GET /v2/customer HTTP/1.0\r\n{lines}\r\n");
    let answered = |name: &str, sent: String| refused(name, sent).sees(&[CUSTOMER]).gets(&[200]);
    cases.push(refused("HTTP/1.0 without Host", old("")));
    cases.push(answered("HTTP/1.0", format!("{}{HIDDEN}", old("host: localhost\r\n"))));
    let keep = "host: localhost\r\nconnection: keep-alive\r\n";
    cases.push(answered("HTTP/1.0 that stays", old(keep)).then(Then::Kept));
    let lines = "host: localhost\r\ntransfer-encoding: chunked\r\n";
    cases.push(refused("HTTP/1.0 with chunks", format!("{}0\r\n\r\n{HIDDEN}", old(lines))));
    cases.push(answered("close", format!("{}{HIDDEN}", get("/v2/customer", "connection: close\r\n"))));
    for lines in [
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
        "connection: transfer-encoding, content-length, host\r\n",
        "connection: \u{e9}\r\n",
    ] {
        cases.push(answered(lines, get("/v2/customer", lines)).then(Then::Kept));
    }
    // Line ends without a carriage return are accepted (RFC 9112, 2.2), and mean the same.
    let bare = "GET /v2/customer HTTP/1.1\nhost: localhost\n\n".to_owned();
    cases.push(answered("bare line feeds", bare).then(Then::Kept));
    cases.push(answered("empty lines first", format!("\r\n\r\n{}", get("/v2/customer", ""))).then(Then::Kept));

    let body = "content-length: 5\r\n";
    let seen = "POST /v2/webhooks/test hello";
    let sent = post(&format!("expect: 100-continue\r\n{body}"), "hello");
    cases.push(refused("an expectation, and no waiting", sent).sees(&[seen]).gets(&[100, 400]).then(Then::Kept));
    let sent = post(&format!("expect: the-unexpected\r\n{body}"), "hello");
    cases.push(refused("an unknown expectation", sent).sees(&[seen]).gets(&[400]).then(Then::Kept));
    let sent = post(&format!("expect: 100-continue\r\nexpect: 100-continue\r\n{body}"), "hello");
    cases.push(refused("two expectations", sent).sees(&[seen]).gets(&[100, 400]).then(Then::Kept));
    let sent = get("/v2/customer", "expect: 100-continue\r\n");
    cases.push(answered("nothing to continue with", sent).then(Then::Kept));
    run(cases).await;
}
