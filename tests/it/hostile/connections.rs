//! Misuse of a connection: many requests at once, bytes one by one, bodies that nobody wants.

use std::time::Duration;

use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{HIDDEN, NEXT, SEEN, Then, get, post, refused, run};
use crate::support::{Harness, Session, Setup, arrived, eventually};

#[tokio::test]
async fn a_good_request_before_a_bad_one_is_answered() {
    let customer = || get("/v2/customer", "");
    let seen = "GET /v2/customer";
    let bad = format!("GET /v2/customer HTTP/1.1\r\nhost : localhost\r\n\r\n{HIDDEN}");
    run(vec![
        refused("two", [customer(), customer()].concat()).sees(&[seen; 2]).gets(&[200; 2]).then(Then::Kept),
        refused("good and bad", [customer(), bad.clone()].concat()).sees(&[seen]).gets(&[200, 400]),
        refused("bad and good", [bad, customer()].concat()),
        refused("good and half", format!("{}GET /v2", customer()))
            .sees(&[seen])
            .gets(&[200])
            .then(Then::ClosedAtTheEnd),
        refused("nothing", "").gets(&[]).then(Then::ClosedAtTheEnd),
        refused("empty lines", "\r\n\r\n").gets(&[]).then(Then::ClosedAtTheEnd),
        // The bytes of a dropped or refused body are never read as a request.
        refused(
            "GET with a body",
            [get("/v2/customer", &format!("content-length: {}\r\n", HIDDEN.len())), HIDDEN.to_owned()].concat(),
        )
        .sees(&[seen])
        .gets(&[200])
        .then(Then::Kept),
        refused("GET with a long body", [get("/v2/customer", "content-length: 5000\r\n"), HIDDEN.repeat(100)].concat())
            .gets(&[413]),
        refused("a long body", post("content-length: 5000\r\n", &HIDDEN.repeat(100))).gets(&[413]),
        refused("a whole body, then good", format!("{}{}", post("content-length: 5\r\n", "hello"), customer()))
            .sees(&[SEEN, seen])
            .gets(&[400, 200])
            .then(Then::Kept),
        // The caller hangs up before the promised length: nothing was sent to Sezzle.
        refused("half a body", post("content-length: 500\r\n", HIDDEN)).then(Then::ClosedAtTheEnd),
    ])
    .await;
}

#[tokio::test]
async fn a_hundred_requests_in_one_segment_are_answered_in_their_order() {
    let harness = Harness::start().await;
    let sessions: Vec<Session> = (0..100).map(|_| Session::order(&harness.gateway)).collect();
    let mut wire = harness.wire().await;
    wire.send(sessions.iter().map(|session| get(&session.path, "")).collect::<String>()).await;
    for session in &sessions {
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.json()["uuid"].as_str()), (200, Some(session.uuid.as_str())));
    }
    assert_eq!(harness.received().len(), 100);
    harness.stop().await;
}

#[tokio::test]
async fn requests_that_come_byte_by_byte_are_requests() {
    let harness = Harness::start().await;
    let mut wire = harness.wire().await;
    let chunked = post("transfer-encoding: chunked\r\n", "2;x\r\nhe\r\n3\r\nllo\r\n0\r\nx-end: 1\r\n\r\n");
    for (request, status) in
        [(get("/v2/customer", "x-a: b\r\n"), 200), (post("content-length: 5\r\n", "hello"), 400), (chunked, 400)]
    {
        for byte in request.as_bytes() {
            wire.send([*byte]).await;
        }
        assert_eq!(wire.answer().await.status, status);
    }
    assert_eq!(harness.gateway.journal().iter().filter(|call| call.body == "hello").count(), 2);
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_in_its_body_has_sent_nothing() {
    let harness = Harness::start().await;
    let broken = r#"requests_refused_total{reason="bad_request"}"#;
    for (request, count) in
        [(post("content-length: 500\r\n", HIDDEN), 1.0), (post("transfer-encoding: chunked\r\n", "5\r\nhel"), 2.0)]
    {
        let mut wire = harness.wire().await;
        wire.send(request).await;
        wire.reset();
        eventually("counted", async || harness.metric(broken).await == count).await;
    }
    assert_eq!(harness.received(), [""; 0]);
    harness.stop().await;
}

#[tokio::test]
async fn an_early_answer_can_be_read_while_the_body_is_still_sent() {
    let harness = Setup::default().set("LIMITS__BODY", "1KiB").start().await;
    for (name, head, status) in [
        ("413", "POST /v2/session HTTP/1.1\r\nhost: localhost\r\n", 413),
        ("421", "POST /v2/session HTTP/1.1\r\nhost: evil.example\r\n", 421),
        ("403", "POST /v2/session HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\n", 403),
        ("404", "POST /nowhere HTTP/1.1\r\nhost: localhost\r\n", 404),
        ("a GET's", "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n", 413),
    ] {
        let large = 8 << 20;
        let body = vec![b'x'; large];
        let chunk = [format!("{large:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        for (framing, body) in
            [(format!("content-length: {large}\r\n"), &body), ("transfer-encoding: chunked\r\n".to_owned(), &chunk)]
        {
            let stream = TcpStream::connect(harness.proxy).await.expect("connects");
            let (mut reader, mut writer) = stream.into_split();
            // The sidecar need not read everything; then the write fails.
            let send = async {
                let _ = writer.write_all(format!("{head}{framing}\r\n").as_bytes()).await;
                let _ = writer.write_all(body).await;
                let _ = writer.write_all(NEXT.as_bytes()).await;
            };
            let mut answer = Vec::new();
            let receive = async { while let Ok(1..) = reader.read_buf(&mut answer).await {} };
            let both = async { tokio::join!(send, receive) };
            timeout(Duration::from_secs(10), both).await.expect("ends in time");
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}, {framing}: {answer}");
            assert!(answer.ends_with("}]"), "whole: {name}, {framing}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}, {framing}: {answer}");
        }
    }
    assert_eq!(harness.received(), [""; 0]);
    harness.stop().await;
}

#[tokio::test]
async fn an_answer_that_an_earlier_caller_left_reaches_no_other() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/customer").times(1).gate(&gate));
    let mut gone = harness.wire().await;
    gone.send(get("/v2/customer", "")).await;
    arrived(&gate, 1).await;
    gone.reset();
    gate.release();
    for _ in 0..5 {
        let session = Session::order(&harness.gateway);
        let answer = harness.get(&session.path).await;
        assert_eq!((answer.status, answer.json()["uuid"].as_str()), (200, Some(session.uuid.as_str())));
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_preface_of_http_2_is_no_request() {
    let harness = Harness::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for after in [&b""[..], HIDDEN.as_bytes(), &[0xff; 64]] {
        let mut wire = harness.wire().await;
        wire.send([preface, after].concat()).await;
        wire.finish_sending().await;
        // Either the request is refused, or frames come back: the bytes that follow never get an answer.
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(harness.received(), [""; 0]);
    harness.stop().await;
}
