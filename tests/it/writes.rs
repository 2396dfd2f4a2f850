//! A write is sent whole or not at all, runs to its end, and is seen by every lookup after its answer.

use std::time::Duration;

use http::{Method, StatusCode};
use sezzle_sidecar::simulator::{EffectKind, Gate, Reset, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Harness, Session, Setup, eventually};

const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;

fn authorized(harness: &Harness) -> Session {
    Session::tokenize(&harness.gateway).authorized(&harness.gateway)
}

#[tokio::test]
async fn every_write_to_an_order_is_seen_by_the_next_lookup() {
    let harness = Harness::start().await;
    for (method, tail, body) in [
        (Method::POST, "/capture", CAPTURE),
        (Method::POST, "/release", r#"{"amount_in_cents":100,"currency":"USD"}"#),
        (Method::PATCH, "", r#"{"reference_id":"new"}"#),
        (Method::DELETE, "/checkout", ""),
        (Method::POST, "/not-known-yet", "{}"),
        (Method::PUT, "", "{}"),
    ] {
        let Session { path, order_path, .. } = authorized(&harness);
        harness.get(&path).await;
        assert!(harness.get(&path).await.cache().starts_with("hit"));
        let json = [("content-type", "application/json")];
        let answer = harness.send(method.clone(), &format!("{order_path}{tail}"), &json, body).await;
        let after = harness.get(&path).await;
        assert!(after.cache().starts_with("fwd=uri-miss"), "{method} {tail} ({}): {}", answer.status, after.cache());
    }
    assert_eq!(harness.metric(r#"cache_invalidations_total{source="write"}"#).await, 12.0, "before and after each");
    harness.stop().await;
}

#[tokio::test]
async fn a_read_of_the_order_and_a_write_to_another_purge_nothing() {
    let harness = Harness::start().await;
    let Session { path, order_path, .. } = authorized(&harness);
    let other = authorized(&harness).order_path;
    harness.get(&path).await;
    assert_eq!(harness.get(&order_path).await.status, 200);
    assert_eq!(harness.post(&format!("{other}/capture"), CAPTURE).await.status, 200);
    assert!(harness.get(&path).await.cache().starts_with("hit"));
    harness.stop().await;
}

#[tokio::test]
async fn a_write_whose_caller_hangs_up_runs_to_its_end() {
    let harness = Harness::start().await;
    let Session { path, order, order_path, .. } = authorized(&harness);
    harness.get(&path).await;
    let gate = Gate::new();
    harness.gateway.script(Rule::on(Method::POST, &format!("{order_path}/capture")).gate(&gate));
    let mut caller = TcpStream::connect(harness.proxy).await.expect("connects");
    let request = format!(
        "POST {order_path}/capture HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{CAPTURE}",
        CAPTURE.len()
    );
    caller.write_all(request.as_bytes()).await.expect("writes");
    gate.arrived(1).await;
    // The write purged the session before it was sent. This lookup stores the state that the write is about to change.
    assert!(harness.get(&path).await.cache().contains("stored"));
    drop(caller);
    gate.release();
    eventually("captured", async || harness.gateway.effects(&order).len() == 1).await;
    eventually("purged again", async || !harness.get(&path).await.cache().starts_with("hit")).await;
    let lookup = harness.get(&path).await;
    assert_eq!(lookup.json()["order"]["captured_amount_in_cents"], 2500);
    harness.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_before_the_body_is_whole() {
    let harness = Harness::start().await;
    let Session { order, order_path, .. } = authorized(&harness);
    let head =
        format!("POST {order_path}/capture HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", CAPTURE.len());
    let mut caller = TcpStream::connect(harness.proxy).await.expect("connects");
    caller.write_all(head.as_bytes()).await.expect("writes");
    caller.write_all(&CAPTURE.as_bytes()[..20]).await.expect("writes");
    eventually("being served", async || harness.metric(r#"in_flight_requests{class="money"}"#).await == 1.0).await;
    drop(caller);
    eventually("given up", async || harness.metric(r#"in_flight_requests{class="money"}"#).await == 0.0).await;
    assert_eq!(harness.gateway.count("POST", "/v2/order/*"), 0);
    assert!(harness.gateway.effects(&order).is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn a_write_that_may_have_been_done_is_said_to_be_unknown() {
    for (reset, effects) in [(Reset::BeforeEffect, 0), (Reset::AfterEffect, 1)] {
        let harness = Harness::start().await;
        let Session { path, order, order_path, .. } = authorized(&harness);
        harness.get(&path).await;
        let capture = format!("{order_path}/capture");
        harness.gateway.script(Rule::on(Method::POST, &capture).reset(reset));
        let headers = [("content-type", "application/json"), ("sezzle-request-id", "key-1")];
        let answer = harness.send(Method::POST, &capture, &headers, CAPTURE).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
        assert_eq!(answer.header("sezzle-request-id"), "key-1");
        assert_eq!(harness.gateway.effects(&order).len(), effects);
        let series = r#"money_outcome_unknown_total{route="/v2/order/{order}/capture"}"#;
        assert_eq!(harness.metric(series).await, 1.0);
        assert!(harness.get(&path).await.cache().starts_with("fwd="), "purged whatever the outcome");
        harness.stop().await;
    }
}

/// The advice in the message of an unknown outcome, by call.
#[tokio::test]
async fn an_unknown_outcome_says_what_its_caller_does() {
    let harness = Harness::start().await;
    let Session { uuid, order_path, .. } = authorized(&harness);
    harness.gateway.script(Rule::path("/v2/*").reset(Reset::AfterEffect));
    for (method, path, advice) in [
        (Method::POST, "/v2/session".to_owned(), "create another session and send no shopper to the first"),
        (Method::POST, "/v2/session/card".to_owned(), "create another session"),
        (Method::PATCH, format!("/v2/session/{uuid}/card"), "repeat it, because a second time does no harm"),
        (Method::PATCH, order_path.clone(), "read the order"),
        (Method::DELETE, format!("{order_path}/checkout"), "read the order"),
        (Method::POST, format!("{order_path}/capture/"), "read the order"),
        (Method::POST, "/v2/customer/c/preapprove".to_owned(), "read the customer"),
        (Method::DELETE, "/v2/customer/c".to_owned(), "read the customer"),
        (Method::POST, "/v2/webhooks".to_owned(), "list the webhooks"),
        (Method::POST, "/v2/new/thing".to_owned(), "look into Sezzle's dashboard"),
    ] {
        let answer = harness.send(method.clone(), &path, &[("content-type", "application/json")], "{}").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{method} {path}");
        let message = answer.json()[0]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains("may have been done") && message.contains(advice), "{method} {path}: {message}");
    }
    harness.stop().await;
}

/// A caller without a key of its own gets out of the doubt by the one in the message.
#[tokio::test]
async fn a_call_repeated_with_the_key_of_the_message_has_one_effect() {
    let harness = Harness::start().await;
    let Session { order, order_path, .. } = authorized(&harness);
    let capture = format!("{order_path}/capture");
    harness.gateway.script(Rule::on(Method::POST, &capture).times(3).reset(Reset::AfterEffect));
    let unknown = harness.post(&capture, CAPTURE).await;
    let message = unknown.json()[0]["message"].as_str().expect("a message").to_owned();
    let key = unknown.header("sezzle-request-id").to_owned();
    assert_eq!((unknown.status, key.len()), (504, 36), "{message}");
    assert!(
        message.contains(&format!("repeat it with the Sezzle-Request-Id {key}, which the sidecar made")),
        "{message}"
    );

    let headers = [("content-type", "application/json"), ("sezzle-request-id", key.as_str())];
    harness.gateway.script(Rule::on(Method::POST, &capture).times(3).reset(Reset::AfterEffect));
    let again = harness.send(Method::POST, &capture, &headers, CAPTURE).await;
    let message = again.json()[0]["message"].as_str().expect("a message").to_owned();
    assert!(again.status == 504 && message.contains("with the same Sezzle-Request-Id"), "{message}");
    assert!(!message.contains(&key), "the caller's own key is not in the message: {message}");
    assert_eq!(harness.send(Method::POST, &capture, &headers, CAPTURE).await.status, 200);
    assert_eq!(harness.gateway.effects(&order).len(), 1);
    harness.stop().await;
}

#[tokio::test]
async fn a_write_without_an_answer_in_time_is_unknown_too() {
    let harness = Setup::default().set("GATEWAY__WRITE_TIMEOUT", "300ms").start().await;
    let Session { order, order_path, .. } = authorized(&harness);
    let gate = Gate::new();
    harness.gateway.script(Rule::on(Method::POST, "/v2/order/*").gate_after_effect(&gate));
    let answer = harness.post(&format!("{order_path}/capture"), CAPTURE).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!(harness.gateway.effects(&order).len(), 1);
    gate.release();
    harness.stop().await;
}

#[tokio::test]
async fn a_503_of_ours_means_that_nothing_was_sent() {
    let harness = Harness::start().await;
    let Session { order_path, .. } = authorized(&harness);
    // A port that nothing listens on: the gateway has gone.
    harness.gateway_goes_away().await;
    let answer = harness.post(&format!("{order_path}/capture"), CAPTURE).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    assert!(!answer.text().contains("127.0.0.1"), "no address: {}", answer.text());
    assert_eq!(harness.metric(r#"upstream_errors_total{kind="connection_refused"}"#).await, 3.0, "tried three times");
    harness.stop().await;
}

#[tokio::test]
async fn the_callers_key_goes_through_and_makes_a_repetition_harmless() {
    let harness = Harness::start().await;
    let Session { order, order_path, .. } = authorized(&harness);
    let capture = format!("{order_path}/capture");
    let headers = [("content-type", "application/json"), ("sezzle-request-id", "key-1")];
    let first = harness.send(Method::POST, &capture, &headers, CAPTURE).await;
    let second = harness.send(Method::POST, &capture, &headers, CAPTURE).await;
    assert_eq!((first.status, &first.body), (200, &second.body));
    let effects = harness.gateway.effects(&order);
    assert_eq!((effects.len(), effects[0].kind, effects[0].cents), (1, EffectKind::Capture, 2500));
    assert_eq!(effects[0].key.as_deref(), Some("key-1"));
    harness.stop().await;
}

#[tokio::test]
async fn sezzles_refusals_pass_as_they_are() {
    let harness = Harness::start().await;
    let Session { order_path, .. } = authorized(&harness);
    let too_much = CAPTURE.replace("2500", "999999");
    let answer = harness.post(&format!("{order_path}/capture"), &too_much).await;
    assert_eq!(answer.status, 422);
    assert!(answer.json()[0]["location"].as_str().is_some_and(|location| location.contains("amount")));
    assert!(!answer.text().contains("sidecar."));
    harness.gateway.script(Rule::on(Method::POST, "/v2/session").status(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(harness.post("/v2/session", "{}").await.status, 429);
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_expects_100_continue_is_told_to_go_on() {
    let harness = Harness::start().await;
    let Session { order_path, .. } = authorized(&harness);
    let mut caller = TcpStream::connect(harness.proxy).await.expect("connects");
    let head = format!(
        "POST {order_path}/capture HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        CAPTURE.len()
    );
    caller.write_all(head.as_bytes()).await.expect("writes");
    let mut interim = [0; 25];
    timeout(Duration::from_secs(5), caller.read_exact(&mut interim)).await.expect("in time").expect("reads");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    caller.write_all(CAPTURE.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    timeout(Duration::from_secs(5), caller.read_to_string(&mut answer)).await.expect("in time").expect("reads");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let journal = harness.gateway.journal();
    assert!(journal.iter().all(|exchange| !exchange.headers.contains_key("expect")), "answered here");
    harness.stop().await;
}
