//! Once the head of a write has been read, its caller gets a status line, whatever happens: client libraries repeat a
//! request by themselves if a connection that was used before ends in silence.

use std::collections::HashSet;
use std::time::Duration;

use http::Method;
use sezzle_sidecar::app::DrainEnd;
use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::time::timeout;

use crate::support::client::Answer;
use crate::support::frame_gateway::FrameGateway;
use crate::support::frames::{END_STREAM, data, head, reset};
use crate::support::scripted::{Script, Scripted};
use crate::support::tls::Authority;
use crate::support::wire::Wire;
use crate::support::{Harness, Setup, arrived, eventually};

const LOOKUP: &str = "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n";
const CAPTURE: &str = "POST /v2/order/o/capture HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
const CHECKOUT: &str = "POST /v2/session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";

/// A connection that has carried a call. Libraries trust such a connection least.
async fn reused(harness: &Harness) -> Wire {
    let mut wire = harness.wire().await;
    wire.send(LOOKUP).await;
    assert_eq!(wire.answer().await.status, 200);
    wire
}

fn is_unknown(answer: &Answer, keyed: bool) {
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!(answer.header("sezzle-request-id").len(), if keyed { 36 } else { 0 });
}

#[tokio::test]
async fn a_write_whose_answer_breaks_off_over_http1_is_answered() {
    let gateway = Scripted::start().await;
    let harness = Setup::default().set("GATEWAY__URL", format!("http://{}", gateway.addr)).start().await;
    for kind in ["text/plain", "application/json", "text/csv"] {
        for (begins, framing) in [
            ("", "content-length: 4000"),
            ("half of it", "content-length: 4000"),
            ("5\r\nhalf", "transfer-encoding: chunked"),
        ] {
            for (write, keyed) in [(CAPTURE, true), (CHECKOUT, false)] {
                gateway.script(Script::Good);
                let mut wire = reused(&harness).await;
                let before = gateway.heads().len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n{begins}");
                gateway.script(Script::Last(head.into_bytes()));
                wire.send(write).await;
                is_unknown(&wire.answer().await, keyed);
                let heads = gateway.heads().split_off(before);
                let keys: HashSet<&str> = heads
                    .iter()
                    .filter_map(|head| head.lines().find(|line| line.starts_with("sezzle-request-id")))
                    .collect();
                // One effect: the write was sent once, or each time under one key.
                assert_eq!((heads.len(), keys.len()), if keyed { (3, 1) } else { (1, 0) }, "{kind} {framing}");
            }
        }
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_write_whose_answer_breaks_off_over_http2_is_answered() {
    let authority = Authority::new();
    let gateway = FrameGateway::start(&authority).await;
    let setup = Setup::default()
        .set("GATEWAY__URL", gateway.url())
        .set("GATEWAY__CA_FILE", authority.file())
        .set("GATEWAY__HTTP2", true);
    let harness = setup.start().await;
    for (code, size) in [(0, 1500), (2, 1500), (8, 0), (2, 0)] {
        for (write, keyed) in [(CAPTURE, true), (CHECKOUT, false)] {
            gateway.script(|call| head(call.stream, END_STREAM, &[(":status", "200")]));
            let mut wire = reused(&harness).await;
            gateway.script(move |call| {
                let stream = call.stream;
                let fields = [(":status", "200"), ("content-type", "text/plain"), ("content-length", "4000")];
                [head(stream, 0, &fields), data(stream, 0, "x".repeat(size)), reset(stream, code)].concat()
            });
            wire.send(write).await;
            is_unknown(&wire.answer().await, keyed);
            assert_eq!(gateway.calls(), if keyed { 3 } else { 1 });
        }
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_long_answer_that_breaks_off_shows_its_head_and_the_key() {
    let gateway = Scripted::start().await;
    let harness = Setup::default().set("GATEWAY__URL", format!("http://{}", gateway.addr)).start().await;
    let mut wire = reused(&harness).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-length: 9000000\r\n\r\na,b\r\n";
    gateway.script(Script::Last(head.as_bytes().to_vec()));
    for write in [CAPTURE, CHECKOUT] {
        wire.send(write).await;
        is_unknown(&wire.answer().await, write == CAPTURE);
    }
    let mut long = head.as_bytes().to_vec();
    long.resize(3_000_000, b'x');
    gateway.script(Script::Last(long));
    wire.send(CAPTURE).await;
    let rest = wire.rest().await;
    let text = String::from_utf8_lossy(&rest);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("sezzle-request-id: "), "{:.300}", text);
    assert!(rest.len() < 9_000_000, "and is cut");
    harness.stop().await;
}

#[tokio::test]
async fn writes_are_answered_at_the_hard_end_whatever_they_wait_for() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::on(Method::POST, "/v2/order/*").gate(&gate));
    let (mut sent, mut half, mut expecting) = (reused(&harness).await, reused(&harness).await, reused(&harness).await);
    sent.send(CAPTURE).await;
    arrived(&gate, 1).await;
    let half_of_it = "POST /v2/order/o/refund HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n";
    half.send(format!("{half_of_it}\r\n{{")).await;
    expecting.send(format!("{half_of_it}expect: 100-continue\r\n\r\n")).await;
    assert_eq!(expecting.answer().await.status, 100);
    let under_way = r#"in_flight_requests{class="money"}"#;
    eventually("all are under way", async || harness.metric(under_way).await == 3.0).await;
    let (app, gateway) = harness.into_parts();
    let ended = tokio::spawn(app.drain_until(async {}));
    is_unknown(&sent.answer().await, true);
    for wire in [&mut half, &mut expecting] {
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.stopping"));
        assert_eq!(answer.header("connection"), "close");
    }
    let end = timeout(Duration::from_secs(10), ended).await.expect("ends").expect("no panic");
    assert_eq!(end, DrainEnd::CutBySignal);
    assert_eq!(gateway.count("POST", "/v2/order/*"), 1, "only what was sent before");
    gate.release();
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_says_that_the_connection_closes() {
    let harness = Setup::default().set("LIMITS__BODY", "1KiB").start().await;
    let cases = [
        ("host: localhost\r\norigin: null", "/v2/session", 403),
        ("host: evil.example", "/v2/session", 421),
        ("host: localhost", "/metrics", 404),
        ("host: localhost", "/v2//session", 400),
        ("host: localhost", "/v2/session", 413),
    ];
    for (headers, path, status) in cases {
        let mut wire = reused(&harness).await;
        wire.send(format!("POST {path} HTTP/1.1\r\n{headers}\r\ncontent-length: 300000\r\n\r\n")).await;
        wire.send(" ".repeat(300_000)).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, "close"), "{headers} {path}");
        assert!(wire.rest().await.is_empty());
    }
    assert!(harness.received().iter().all(|call| call == "GET /v2/customer"));
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_ends_its_half_in_the_middle_of_its_body_is_answered() {
    let harness = Harness::start().await;
    for framing in ["content-length: 99\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n5\r\n{"] {
        let mut wire = reused(&harness).await;
        wire.send(format!("POST /v2/order/o/refund HTTP/1.1\r\nhost: localhost\r\n{framing}")).await;
        wire.finish_sending().await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "sidecar.bad_request"), "{framing}");
    }
    assert_eq!(harness.gateway.count("POST", "/v2/order/*"), 0);
    harness.stop().await;
}

#[tokio::test]
async fn a_pipelined_request_does_not_cost_the_last_request_its_answer() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::on(Method::POST, "/v2/order/*").gate(&gate));
    for version in ["1.0", "1.1"] {
        let mut wire = reused(&harness).await;
        let last = CAPTURE.replace("1.1\r\n", &format!("{version}\r\nconnection: close\r\n"));
        wire.send(&last).await;
        let seen = harness.gateway.count("POST", "/v2/order/*");
        arrived(&gate, seen.max(1)).await;
        // More than the sidecar reads ahead, so that some bytes stay in the socket.
        wire.send(CAPTURE.repeat(4000)).await;
        gate.release();
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("connection").is_empty()), (404, version == "1.0"), "of the gateway");
        assert!(wire.rest().await.is_empty());
    }
    assert_eq!(harness.gateway.count("POST", "/v2/order/*"), 2);
    harness.stop().await;
}
