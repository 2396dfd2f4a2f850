//! Every call but a session lookup passes through: every byte, as fast as the caller reads, in constant memory.

use std::io::ErrorKind;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use sezzle_sidecar::simulator::{Fault, Options, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::raw;
use crate::support::process::Sidecar;
use crate::support::scripted::{Script, Scripted};
use crate::support::tls::{Authority, offering};
use crate::support::{Harness, Session, Setup, eventually};

#[tokio::test]
async fn a_report_of_100_mb_passes_in_constant_memory() {
    let size: u64 = 100 * 1024 * 1024;
    let sidecar = Sidecar::start(Options { report_bytes: size, ..Options::default() }, &[]).await;
    let stream = TcpStream::connect(sidecar.proxy).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("starts");
    let connection = tokio::spawn(connection);
    let request = Request::get("/v2/orders/report?start-date=2026-01-01").header("host", "localhost");
    let request = request.body(Empty::<bytes::Bytes>::new()).expect("valid");
    let before = sidecar.resident().await;
    let mut peak = before;
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let (mut received, mut frames) = (0, 0_u64);
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        received += frame.expect("no error").data_ref().map_or(0, bytes::Bytes::len) as u64;
        frames += 1;
        if frames % 512 == 0 {
            peak = peak.max(sidecar.resident().await);
        }
    }
    assert!(received >= size, "{received}");
    let growth = (peak - before) / f64::from(1 << 20);
    assert!(growth < 10.0, "{growth} MiB");
    drop(sender);
    connection.await.expect("no panic").expect("clean end");
    sidecar.stop().await;
}

#[tokio::test]
async fn unknown_calls_are_forwarded() {
    let harness = Harness::start().await;
    for (method, path) in [(Method::GET, "/v2/new"), (Method::POST, "/v2/new/thing"), (Method::OPTIONS, "/v2/session")]
    {
        let answer = harness.send(method.clone(), path, &[], "").await;
        assert!(!answer.text().contains("sidecar."), "{method} {path}: {}", answer.text());
        assert_eq!(harness.gateway.count(method.as_str(), path), 1);
    }
    assert_eq!(
        harness.metric(r#"requests_total{code="404",method="POST",route="other",source="upstream"}"#).await,
        1.0
    );
    harness.stop().await;
}

#[tokio::test]
async fn bodies_and_queries_pass_byte_for_byte() {
    let harness = Harness::start().await;
    let body = "{ \"a\" :\u{e9}1.0,\r\n\"b\":\"\\u0000\" ";
    harness.post("/v2/new?a=%2F&b=+&c=%zz&&=;", body).await;
    let journal = harness.gateway.journal();
    let seen = journal.last().expect("an exchange");
    assert_eq!(seen.query.as_deref(), Some("a=%2F&b=+&c=%zz&&=;"));
    assert_eq!(seen.body, body);
    assert_eq!(seen.headers["content-length"], body.len().to_string());
    harness.stop().await;
}

#[tokio::test]
async fn encoded_answers_pass_as_they_are() {
    let harness = Harness::start().await;
    let gzip: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let path = Session::order(&harness.gateway).order_path;
    let rule = Rule::path(&path).set_header(CONTENT_ENCODING, HeaderValue::from_static("gzip")).body(gzip);
    harness.gateway.script(rule);
    let answer = harness.get_with(&path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(answer.body, gzip);
    assert_eq!(answer.header("content-encoding"), "gzip");
    let journal = harness.gateway.journal();
    assert_eq!(
        journal.last().expect("an exchange").headers["accept-encoding"],
        "identity",
        "asked for what can be read"
    );
    harness.get_with("/v2/orders/report?start-date=2026-01-01", &[("accept-encoding", "gzip")]).await;
    let journal = harness.gateway.journal();
    assert_eq!(journal.last().expect("an exchange").headers["accept-encoding"], "gzip", "nothing to be read there");
    harness.stop().await;
}

#[tokio::test]
async fn headers_that_are_not_for_the_caller_are_removed() {
    let harness = Harness::start().await;
    let mut rule = Rule::path("/v2/customer");
    for (name, value) in [
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("connection", "x-hop"),
        ("x-request-id", "theirs"),
        ("authorization", "Bearer echoed"),
        ("x-gateway", "kept"),
    ] {
        rule = rule.add_header(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for cookie in ["a=b", "c=d"] {
        rule = rule.add_header(SET_COOKIE, HeaderValue::from_static(cookie));
    }
    harness.gateway.script(rule);
    // The client of the harness fails on any header that is not on its list.
    let answer = harness.get("/v2/customer").await;
    assert_eq!(answer.header("x-gateway"), "kept");
    assert_ne!(answer.header("x-request-id"), "theirs");
    assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
    let own = harness.get_with("/v2/customer", &[("x-request-id", "caller-1")]).await;
    assert_eq!(own.header("x-request-id"), "caller-1", "a plain id of the caller's is used");
    harness.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_made_to_look_whole() {
    let harness = Setup::default().gateway(|gateway| gateway.report_bytes = 10 * 1024 * 1024).start().await;
    harness.gateway.script(Rule::path("/v2/orders/report").fault(Fault::CutBody(100_000)));
    let answer = raw(
        harness.proxy,
        "GET /v2/orders/report?start-date=2026-01-01 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
    assert!(!answer.ends_with("0\r\n\r\n"), "the last chunk says that it is whole");
    eventually("counted", async || harness.metric(r#"upstream_errors_total{kind="body"}"#).await == 1.0).await;

    // A lookup needs the whole body first, so a clear error is still possible.
    let path = Session::order(&harness.gateway).path;
    harness.gateway.script(Rule::path(&path).fault(Fault::CutBody(10)));
    let answer = harness.get(&path).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "sidecar.upstream_failed"));
    harness.stop().await;
}

#[tokio::test]
async fn garbage_is_a_clear_error() {
    let harness = Harness::start().await;
    harness.gateway.script(Rule::path("/v2/customer").fault(Fault::Garbage("\u{16}\u{3}\u{1} no http\r\n\r\n".into())));
    let answer = harness.get("/v2/customer").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "sidecar.upstream_failed"));
    assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=http_protocol_error");
    harness.stop().await;
}

#[tokio::test]
async fn connections_to_sezzle_are_reused() {
    let harness = Harness::start().await;
    for _ in 0..50 {
        harness.get("/v2/customer").await;
    }
    assert_eq!(harness.gateway.connections(), 1);
    assert_eq!(harness.metric("upstream_connections_opened_total").await, 1.0);
    assert_eq!(harness.metric(r#"upstream_connections{state="open"}"#).await, 1.0);
    assert_eq!(harness.metric(r#"upstream_connections{state="active"}"#).await, 0.0);

    // A connection is retired after about five minutes, so that the sidecar follows a change of the gateway's address.
    harness.clock.advance(std::time::Duration::from_secs(7 * 60));
    for _ in 0..3 {
        harness.get("/v2/customer").await;
    }
    assert_eq!(harness.gateway.connections(), 2);
    harness.stop().await;
}

#[tokio::test]
async fn a_101_nobody_asked_for_is_no_answer() {
    let harness = Harness::start().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    harness.gateway.script(Rule::path("/v2/*").fault(Fault::Garbage(switch.into())));
    let read = harness.get("/v2/customer").await;
    assert_eq!((read.status, read.error_code().as_str()), (502, "sidecar.upstream_failed"));
    let write = harness.post("/v2/order/o/capture", "{}").await;
    assert_eq!((write.status, write.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    harness.stop().await;
}

#[tokio::test]
async fn a_method_that_takes_content_states_its_length_even_without_any() {
    let ca = Authority::new();
    let server = offering(ca.server(&["localhost"]), &[b"h2", b"http/1.1"]);
    for http2 in [false, true] {
        let server = server.clone();
        let setup = Setup::default()
            .gateway(|gateway| (gateway.tls, gateway.http2) = (Some(server), http2))
            .gateway_host("localhost")
            .set("GATEWAY__CA_FILE", ca.file())
            .set("GATEWAY__HTTP2", http2);
        let harness = setup.start().await;
        for (method, body, length) in [
            (Method::POST, "", Some("0")),
            (Method::PUT, "", Some("0")),
            (Method::PATCH, "", Some("0")),
            (Method::POST, "{}", Some("2")),
            (Method::DELETE, "{}", Some("2")),
            (Method::DELETE, "", None),
            (Method::GET, "", None),
            (Method::OPTIONS, "", None),
        ] {
            harness.send(method.clone(), "/v2/new", &[], body).await;
            let seen = harness.gateway.journal().pop().expect("a call");
            assert_eq!((seen.path.as_str(), seen.body.len()), ("/v2/new", body.len()));
            let found: Vec<_> = seen.headers.get_all("content-length").iter().collect();
            assert_eq!(found, Vec::from_iter(length), "{method} {body:?}, HTTP/2: {http2}");
        }
        let exchange = harness.gateway.journal().into_iter().find(|call| call.path == "/v2/authentication");
        let exchange = exchange.expect("an exchange");
        assert_eq!(exchange.headers["content-length"], exchange.body.len().to_string());
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_report_that_breaks_off_ends_in_a_reset_where_closing_would_end_it() {
    let gateway = Scripted::start().await;
    let harness = Setup::default().set("GATEWAY__URL", format!("http://{}", gateway.addr)).start().await;
    let half = "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n8\r\na,b\n1,2\n\r\n";
    for (version, whole, reset) in [("1.0", false, true), ("1.0", true, false), ("1.1", false, false)] {
        let end = if whole { "0\r\n\r\n" } else { "" };
        gateway.script(Script::Last(format!("{half}{end}").into_bytes()));
        let mut caller = TcpStream::connect(harness.proxy).await.expect("connects");
        let request = format!("GET /v2/settlements/summaries HTTP/{version}\r\nhost: localhost\r\n\r\n");
        caller.write_all(request.as_bytes()).await.expect("sends");
        let mut read = Vec::new();
        let ended = timeout(Duration::from_secs(10), caller.read_to_end(&mut read)).await.expect("an end");
        let read = String::from_utf8(read).expect("text");
        assert!(read.contains("a,b\n1,2\n") && !read.contains("0\r\n\r\n"), "{version} {whole}: {read}");
        let was_reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert_eq!(was_reset, reset, "{version} {whole}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn every_status_line_has_a_reason_phrase() {
    let gateway = Scripted::start().await;
    let harness = Setup::default().set("GATEWAY__URL", format!("http://{}", gateway.addr)).start().await;
    for (theirs, ours) in
        [("200", "200 OK"), ("299 Odd", "299 Unknown"), ("499", "499 Unknown"), ("599", "599 Unknown")]
    {
        gateway.script(Script::Bytes(format!("HTTP/1.1 {theirs}\r\ncontent-length: 0\r\n\r\n").into_bytes()));
        let request = "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer = raw(harness.proxy, request).await;
        assert_eq!(answer.lines().next(), Some(format!("HTTP/1.1 {ours}").as_str()), "{theirs}");
    }
    harness.stop().await;
}
