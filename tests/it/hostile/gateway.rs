//! A hostile or broken gateway. Its answer is passed on whole, or the caller gets a clear error. Nothing of the answer
//! is stored or left for the next caller, and a doubtful connection carries no other request.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use sezzle_sidecar::simulator::Rule;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::scripted::{Script, Scripted, answer};
use crate::support::tls::{Authority, offering};
use crate::support::{Harness, Setup, eventually, header};

/// The caller's answer to a hostile response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    /// 502 to a lookup. A write gets 504, since it may have been done.
    Failed,
    /// 504 to both, after `gateway.read_timeout` or `gateway.write_timeout`.
    TimedOut,
    /// This status, and this body.
    Passed(u16, &'static str),
    /// 304, unchanged. A lookup is repeated once and then gets 502, since the sidecar had sent no condition.
    Stray,
}

struct Case {
    name: &'static str,
    script: Script,
    gets: Gets,
    /// Whether the connection may carry another request.
    reused: bool,
}

fn bytes(name: &'static str, bytes: impl AsRef<[u8]>, gets: Gets) -> Case {
    Case { name, script: Script::Bytes(bytes.as_ref().to_vec()), gets, reused: false }
}

impl Case {
    fn reused(mut self) -> Self {
        self.reused = true;
        self
    }

    /// Returns all that went wrong.
    async fn run(&self, harness: &Harness, gateway: &Scripted) -> Vec<String> {
        let session = format!("/v2/session/{}", Uuid::from_u128(fastrand::u128(..)));
        let mut wrong = Vec::new();
        for (method, path) in
            [(Method::GET, session.as_str()), (Method::GET, "/v2/customer"), (Method::POST, "/v2/order/o/capture")]
        {
            gateway.script(self.script.clone());
            let began = gateway.calls().len();
            let got = harness.send(method.clone(), path, &[], "").await;
            gateway.script(Script::Good);
            let is_write = method == Method::POST;
            let right = match (self.gets, is_write) {
                (Gets::Failed, false) => got.status == 502 && got.error_code() == "sidecar.upstream_failed",
                (Gets::TimedOut, false) => got.status == 504 && got.error_code() == "sidecar.upstream_timeout",
                (Gets::Failed | Gets::TimedOut, true) => {
                    got.status == 504 && got.error_code() == "sidecar.outcome_unknown"
                }
                (Gets::Stray, _) if path == session => {
                    got.status == 502 && got.error_code() == "sidecar.upstream_failed"
                }
                (Gets::Stray, _) => got.status == 304 && got.body.is_empty(),
                (Gets::Passed(status, body), _) => got.status == status && got.body == body,
            };
            // Another caller asks again at once: the gateway answers well, and only the gateway answers.
            let next = harness.get(&session).await;
            let calls = gateway.calls().split_off(began);
            let good = next.status == 200 && next.json()["good"] == true && next.json()["uuid"] == session[12..];
            let fetches = if self.gets == Gets::Stray { 3 } else { 2 };
            let fetched = path != session || (calls.len() == fetches && next.cache().starts_with("fwd="));
            let reused = path == session && calls.last().map(|call| call.0) == calls.first().map(|call| call.0);
            if !right || !good || !fetched || (path == session && reused != self.reused) {
                wrong.push(format!(
                    "{}: {method} {path} got {} {:?} {:?}, then {} {:?}, {calls:?}",
                    self.name,
                    got.status,
                    got.headers.get("cache-status"),
                    got.text().chars().take(100).collect::<String>(),
                    next.status,
                    next.cache(),
                ));
            }
        }
        wrong
    }
}

async fn start() -> (Harness, Scripted) {
    let gateway = Scripted::start().await;
    let setup = Setup::default()
        .set("GATEWAY__URL", format!("http://{}", gateway.addr))
        .set("GATEWAY__READ_TIMEOUT", "300ms")
        .set("GATEWAY__WRITE_TIMEOUT", "300ms");
    (setup.start().await, gateway)
}

async fn run(cases: Vec<Case>) {
    let (harness, gateway) = start().await;
    let mut wrong = Vec::new();
    for case in &cases {
        // By then the sidecar has forgotten the failures of the previous case.
        harness.clock.advance(Duration::from_secs(10));
        let ran = timeout(Duration::from_secs(60), case.run(&harness, &gateway)).await;
        wrong.extend(ran.unwrap_or_else(|_| vec![format!("{}: hangs", case.name)]));
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", cases.len(), wrong.join("\n"));
    let active = r#"upstream_connections{state="active"}"#;
    eventually("nothing is left", async || harness.metric(active).await == 0.0).await;
    harness.stop().await;
}

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

fn json(lines: &str, body: &str) -> String {
    format!("{JSON}{lines}\r\n{body}")
}

#[tokio::test]
async fn answers_with_two_framings_or_none_that_can_be_read() {
    use Gets::{Failed, Passed, TimedOut};
    let chunked = "transfer-encoding: chunked\r\n";
    let good = "2\r\n{}\r\n0\r\n\r\n";
    run(vec![
        bytes("two lengths", json("content-length: 2\r\ncontent-length: 3\r\n", "{}x"), Failed),
        bytes("two lengths in a line", json("content-length: 2, 3\r\n", "{}x"), Failed),
        bytes("negative", json("content-length: -2\r\n", "{}"), Failed),
        bytes("plus", json("content-length: +2\r\n", "{}"), Failed),
        bytes("hexadecimal", json("content-length: 0x2\r\n", "{}"), Failed),
        bytes("overflow", json("content-length: 18446744073709551618\r\n", "{}"), Failed),
        bytes("largest", json("content-length: 18446744073709551615\r\n", "{}"), Failed),
        bytes("equal lengths", json("content-length: 2\r\ncontent-length: 2\r\n", "{}"), Passed(200, "{}")).reused(),
        bytes("length and chunks", json(&format!("content-length: 4\r\n{chunked}"), good), Passed(200, "{}")),
        bytes("chunks and length", json(&format!("{chunked}content-length: 4\r\n"), good), Passed(200, "{}")),
        bytes("chunk size", json(chunked, "x\r\n{}\r\n0\r\n\r\n"), Failed),
        bytes("chunk size below 0", json(chunked, "-2\r\n{}\r\n0\r\n\r\n"), Failed),
        bytes("chunk size overflow", json(chunked, "10000000000000002\r\n{}\r\n0\r\n\r\n"), Failed),
        bytes("chunk end", json(chunked, "2\r\n{}xx0\r\n\r\n"), Failed),
        bytes("chunk extension", json(chunked, &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(1 << 16))), Failed),
        bytes("trailers", json(chunked, &format!("2\r\n{{}}\r\n0\r\n{}\r\n", "x-gateway: 1\r\n".repeat(999))), Failed),
        bytes("HTTP/1.0 with chunks", json(chunked, good).replace("HTTP/1.1", "HTTP/1.0"), Failed),
        bytes("a few trailers", json(chunked, "2\r\n{}\r\n0\r\nset-cookie: a=b\r\n\r\n"), Passed(200, "{}")).reused(),
        bytes("no length", "HTTP/1.1 200 OK\r\ncontent-le", TimedOut),
    ])
    .await;
}

#[tokio::test]
async fn answers_that_are_none() {
    use Gets::{Failed, Passed, TimedOut};
    let large = format!("{JSON}x-gateway: {}\r\ncontent-length: 2\r\n\r\n{{}}", "x".repeat(128 * 1024));
    let ok = answer("200 OK", "{}");
    let early = [&b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"[..], &ok].concat();
    let endless = |first: &str, rest: &str| Script::Endless(first.into(), rest.repeat(100).into());
    run(vec![
        bytes("no HTTP", "\u{16}\u{3}\u{1} hello\r\n\r\n", Failed),
        bytes("HTTP/0.9", "<html>hello</html>\r\n", Failed),
        bytes("HTTP/2", b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\0\0\0\0\0", Failed),
        bytes("version", "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n", Failed),
        bytes("status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", Failed),
        bytes("status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", Failed),
        bytes("status 000", "HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n", Failed),
        bytes("a value with NUL", json("x-gateway: a\0b\r\ncontent-length: 2\r\n", "{}"), Failed),
        bytes("large head", large, Failed),
        bytes("101", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", Failed),
        bytes("nothing", "", TimedOut),
        bytes("half a head", JSON, TimedOut),
        bytes("only 100", "HTTP/1.1 100 Continue\r\n\r\n", TimedOut),
        bytes("hints first", early, Passed(200, "{}")).reused(),
        Case { name: "endless 1xx", script: endless("", "HTTP/1.1 100 \r\n\r\n"), gets: TimedOut, reused: false },
        Case { name: "endless head", script: endless(JSON, "x-gateway: 1\r\n"), gets: Failed, reused: false },
        Case { name: "endless line", script: endless("HTTP/1.1 200 ", "x"), gets: Failed, reused: false },
        Case { name: "endless value", script: endless("HTTP/1.1 200 OK\r\nx: ", "x"), gets: Failed, reused: false },
    ])
    .await;
}

#[tokio::test]
async fn bytes_behind_an_answer_reach_nobody() {
    use Gets::Passed;
    let poison = answer("200 OK", r#"{"poison":true}"#);
    let after = |first: &[u8]| [first, &poison[..]].concat();
    run(vec![
        bytes("an answer more", after(&answer("200 OK", "{}")), Passed(200, "{}")),
        bytes(
            "an answer more after chunks",
            after(json("transfer-encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n").as_bytes()),
            Passed(200, "{}"),
        ),
        bytes("bytes more", [answer("200 OK", "{}"), b"\r\n\r\n".to_vec()].concat(), Passed(200, "{}")),
        bytes("a body after 204", after(b"HTTP/1.1 204 No Content\r\n\r\n"), Passed(204, "")),
        bytes(
            "a body that 204 states",
            after(b"HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\n"),
            Passed(204, ""),
        ),
        bytes("a body after 304", after(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"), Gets::Stray),
        bytes("close", after(json("connection: close\r\ncontent-length: 2\r\n", "{}").as_bytes()), Passed(200, "{}")),
        bytes("an empty one", answer("200 OK", ""), Passed(200, "")).reused(),
    ])
    .await;
}

#[tokio::test]
async fn a_streamed_answer_has_the_length_that_it_states() {
    let (harness, gateway) = start().await;
    let csv = |lines: &str, body: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\n{lines}\r\n{body}");
    let chunked = "transfer-encoding: chunked\r\n";
    for lines in [format!("content-length: 4\r\n{chunked}"), format!("{chunked}content-length: 4\r\n")] {
        gateway.script(Script::Bytes(csv(&lines, "b\r\nsome,values\r\n0\r\n\r\n").into()));
        let answer = harness.get("/v2/orders/report").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "some,values"));
    }
    // Nobody asked for these codings, and passing the body on without them would change it.
    for lines in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
    ] {
        gateway.script(Script::Bytes(csv(lines, "b\r\nsome,values\r\n0\r\n\r\n").into()));
        let answer = harness.get("/v2/orders/report").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "sidecar.upstream_failed"), "{lines}");
    }
    gateway.script(Script::Bytes(csv("content-length: 11\r\n", "some,values").into()));
    let head = harness.send(Method::HEAD, "/v2/orders/report", &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, "11"));
    let next = harness.get("/v2/orders/report").await;
    assert_eq!(next.text(), "some,values", "a body after HEAD is for nobody");
    harness.stop().await;
}

/// A head of about so many bytes in lines of this one.
fn lines(line: &str, bytes: usize) -> String {
    json(&format!("{}content-length: 2\r\n", line.repeat(bytes / line.len())), "{}")
}

/// A head of exactly so many bytes, in long lines.
fn head_of(bytes: usize) -> String {
    let filled = |length: usize| json(&format!("x-gateway: {}\r\n", "x".repeat(1000)).repeat(length / 1013), "");
    let head = filled(bytes - 2000);
    let rest = bytes - head.len() - "x-gateway: \r\ncontent-length: 2\r\n".len();
    let head = head.strip_suffix("\r\n").expect("an end");
    let head = format!("{head}x-gateway: {}\r\ncontent-length: 2\r\n\r\n", "y".repeat(rest));
    assert_eq!(head.len(), bytes);
    format!("{head}{{}}")
}

#[tokio::test]
async fn the_form_of_a_head_does_not_hide_what_was_done() {
    use Gets::{Failed, Passed};
    let passed = |name, head: String| bytes(name, head, Passed(200, "{}"));
    let odd = |line: &str| json(&format!("{line}content-length: 2\r\n"), "{}");
    let hints = format!("HTTP/1.1 103 Early Hints\r\nx-gateway : 1\r\n\r\n{}", odd("x-gateway : 1\r\n"));
    run(vec![
        passed("100 lines", json(&format!("{}content-length: 2\r\n", "x-gateway: 1\r\n".repeat(98)), "{}")).reused(),
        passed("101 lines", json(&format!("{}content-length: 2\r\n", "x-gateway: 1\r\n".repeat(99)), "{}")),
        passed("8 000 lines", lines("age:1\r\n", 60_000)),
        passed("a space before the colon", odd("x-gateway : 1\r\n")),
        passed("the same in what frames the answer", json("content-length : 2\r\n", "{}")),
        passed("the same with chunks", json("transfer-encoding : chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        passed("a folded line", odd("x-gateway: a\r\n  b\r\n")),
        passed("a folded length", json("content-length:\r\n 2\r\n", "{}")),
        passed("a line without a colon", odd("Nonsense\r\n")),
        passed("nothing before the colon", odd(": x\r\n")),
        passed("a name with a space", odd("x bad: 1\r\n")),
        passed("a warning before the first line", odd("PHP Warning: undefined <b>x</b> in /a.php\r\n<br />\r\n")),
        passed("odd hints first", hints),
        passed("64 KiB", head_of(64 * 1024)).reused(),
        bytes("a byte more", head_of(64 * 1024 + 1), Failed),
        bytes("over 64 KiB", lines("x-gateway: 0123456789abcdef\r\n", 66_500), Failed),
        bytes("over 64 KiB in short lines", lines("age:1\r\n", 66_500), Failed),
    ])
    .await;
}

#[tokio::test]
async fn a_caller_is_told_the_status_of_an_answer_whose_head_cannot_be_read() {
    let (harness, gateway) = start().await;
    gateway.script(Script::Bytes(lines("x-gateway: 0123456789abcdef\r\n", 66_500).into()));
    let large = "sezzle-sidecar; error=http_response_header_section_size; received-status=200";
    let write = harness.post("/v2/order/o/capture", "{}").await;
    assert_eq!((write.status, write.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!(header(&write.headers, "proxy-status"), large);
    assert!(write.text().contains("Sezzle answered 200"), "{}", write.text());
    let read = harness.get("/v2/customer").await;
    assert_eq!((read.status, header(&read.headers, "proxy-status")), (502, large));
    assert_eq!(harness.metric(r#"upstream_errors_total{kind="head_too_large"}"#).await, 2.0);
    assert_eq!(gateway.calls().len(), 2, "neither is sent again");
    gateway.script(Script::Bytes("HTTP/1.1 409 Conflict\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n".into()));
    let write = harness.post("/v2/order/o/capture", "{}").await;
    let malformed = "sezzle-sidecar; error=http_protocol_error; received-status=409";
    assert_eq!((write.status, header(&write.headers, "proxy-status")), (504, malformed));
    harness.stop().await;
}

#[tokio::test]
async fn a_head_over_http2_is_held_to_the_same_size() {
    let ca = Authority::new();
    let server = offering(ca.server(&["localhost"]), &[b"h2"]);
    let setup = Setup::default()
        .gateway(|gateway| (gateway.tls, gateway.http2) = (Some(server), true))
        .gateway_host("localhost")
        .set("GATEWAY__CA_FILE", ca.file())
        .set("GATEWAY__HTTP2", true);
    let harness = setup.start().await;
    for (size, status) in [(65_000, 200), (66_000, 502), (80_000, 502), (200_000, 502)] {
        let name = HeaderName::from_static("x-gateway");
        let value = HeaderValue::try_from("x".repeat(size)).expect("a value");
        harness.gateway.script(Rule::path("/v2/customer").times(1).set_header(name, value));
        let answer = harness.get("/v2/customer").await;
        assert_eq!(answer.status, status, "{size}: {}", answer.text());
        if (66_000..100_000).contains(&size) {
            let large = "sezzle-sidecar; error=http_response_header_section_size; received-status=200";
            assert_eq!(header(&answer.headers, "proxy-status"), large);
        }
        assert_eq!(harness.get("/v2/customer").await.status, 200);
    }
    harness.stop().await;
}
