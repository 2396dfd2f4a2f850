//! The sidecar repeats a failed call only where that does no harm: keys, marks, and the retry budget.

use std::time::Duration;

use http::{Method, StatusCode};
use sezzle_sidecar::simulator::{Exchange, Fault, Gate, Reset, Rule};
use tokio::time::sleep;

use crate::support::{Harness, Session, Setup, arrived, header};

const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

/// An authorized order, and the path of its captures.
fn authorized(harness: &Harness) -> (String, String) {
    let session = Session::order(&harness.gateway).authorized(&harness.gateway);
    (session.order, format!("{}/capture", session.order_path))
}

/// The keys that the gateway received on a path, attempt by attempt.
fn keys(harness: &Harness, path: &str) -> Vec<String> {
    let calls = harness.gateway.journal().into_iter().filter(|call| call.path == path);
    calls.map(|call: Exchange| header(&call.headers, "sezzle-request-id").to_owned()).collect()
}

#[tokio::test]
async fn a_lookup_survives_a_fault_that_passes() {
    for kind in ["order", "session", "customer"] {
        let harness = Harness::start().await;
        let path = match kind {
            "order" => Session::order(&harness.gateway).authorized(&harness.gateway).order_path,
            "session" => Session::order(&harness.gateway).path,
            _ => "/v2/customer".to_owned(),
        };
        for rule in [
            Rule::path(&path).times(2).reset(Reset::BeforeReading),
            Rule::path(&path).times(2).close(Reset::BeforeEffect),
            Rule::path(&path).times(2).status(StatusCode::BAD_GATEWAY),
            Rule::path(&path).times(2).status(StatusCode::SERVICE_UNAVAILABLE),
            Rule::path(&path).times(2).status(StatusCode::GATEWAY_TIMEOUT),
            Rule::path(&path).times(2).fault(Fault::CutBody(1)),
        ] {
            let shown = format!("{path} {rule:?}");
            harness.gateway.script(rule);
            let before = harness.gateway.count("GET", &path);
            assert_eq!(harness.get_with(&path, &[("cache-control", "no-cache")]).await.status, 200, "{shown}");
            assert_eq!(harness.gateway.count("GET", &path) - before, 3, "{shown}");
        }
        assert_eq!(harness.metric(r#"upstream_retries_total{reason="unavailable",result="success"}"#).await, 1.0);
        assert_eq!(harness.metric(r#"upstream_retries_total{reason="unavailable",result="failure"}"#).await, 1.0);
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_write_without_a_key_is_sent_once() {
    let harness = Harness::start().await;
    let (order, _) = authorized(&harness);
    for (method, path) in [
        (Method::POST, "/v2/session".to_owned()),
        (Method::PATCH, format!("/v2/order/{order}")),
        (Method::DELETE, format!("/v2/order/{order}/checkout")),
        (Method::POST, format!("/v2/order/{order}/new")),
        (Method::POST, "/v2/customer/c/preapprove".to_owned()),
        (Method::POST, "/v2/webhooks".to_owned()),
    ] {
        // A key that Sezzle does not document changes nothing.
        let headers = [JSON, ("sezzle-request-id", "key-1")];
        harness.gateway.script(Rule::path(&path).times(1).reset(Reset::BeforeReading));
        let cut = harness.send(method.clone(), &path, &headers, "{}").await;
        assert_eq!((cut.status, cut.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{method} {path}");
        assert_eq!(cut.header("sezzle-request-id"), "", "{method} {path}: it promises nothing");
        assert!(!cut.text().contains("same"), "{}", cut.text());
        harness.gateway.script(Rule::path(&path).times(1).status(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(harness.send(method.clone(), &path, &headers, "{}").await.status, 503, "{method} {path}");
        assert_eq!(keys(&harness, &path), ["key-1", "key-1"], "{method} {path}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_keyed_write_is_repeated_under_its_one_key() {
    let harness = Harness::start().await;
    for (name, value, expected) in [
        ("sezzle-request-id", "the-callers", Some("the-callers")),
        ("x-sezzle-request-id", "misspelt", Some("misspelt")),
        ("idempotency-key", "\"a-strings\"", Some("a-strings")),
        ("idempotency-key", "a-tokens", Some("a-tokens")),
        ("x-other", "", None),
        ("sezzle-request-id", "", None),
    ] {
        let (order, capture) = authorized(&harness);
        harness.gateway.script(Rule::path(&capture).times(1).reset(Reset::AfterEffect));
        let answer = harness.send(Method::POST, &capture, &[JSON, (name, value)], CAPTURE).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let keys = keys(&harness, &capture);
        assert_eq!((keys.len(), &keys[0]), (2, &keys[1]), "{name}");
        assert_eq!(answer.header("sezzle-request-id"), keys[0], "{name}: the caller can go on with it");
        match expected {
            Some(key) => assert_eq!(keys[0], key),
            None => assert_eq!(keys[0].len(), 36, "minted: {}", keys[0]),
        }
        assert_eq!(harness.gateway.effects(&order).len(), 1, "{name}");
        let is_other = |name: &&str| harness.gateway.journal().iter().any(|call| call.headers.contains_key(*name));
        assert_eq!(["x-sezzle-request-id", "idempotency-key"].iter().find(|name| is_other(name)), None, "{name}");
    }
    for (origin, count) in [("caller", 1.0), ("normalised", 1.0), ("idempotency_key", 2.0), ("minted", 2.0)] {
        assert_eq!(harness.metric(&format!(r#"idempotency_keys_total{{origin="{origin}"}}"#)).await, count, "{origin}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn equal_writes_get_keys_of_their_own() {
    let harness = Harness::start().await;
    let (order, capture) = authorized(&harness);
    let (first, second) = (harness.post(&capture, CAPTURE).await, harness.post(&capture, CAPTURE).await);
    assert_eq!((first.status, second.status), (200, 200));
    assert_ne!(first.header("sezzle-request-id"), second.header("sezzle-request-id"));
    assert_eq!(harness.gateway.effects(&order).len(), 2, "two equal captures may both be meant");
    harness.stop().await;
}

#[tokio::test]
async fn a_misspelt_key_stays_as_it_is_if_that_is_wanted() {
    let harness = Setup::default().set("PROXY__NORMALISE_REQUEST_ID", "false").start().await;
    let (_, capture) = authorized(&harness);
    harness.send(Method::POST, &capture, &[JSON, ("x-sezzle-request-id", "misspelt")], CAPTURE).await;
    assert_eq!(keys(&harness, &capture)[0].len(), 36, "minted");
    let journal = harness.gateway.journal();
    let sent =
        journal.iter().rfind(|call| call.path == capture).map(|call| header(&call.headers, "x-sezzle-request-id"));
    assert_eq!(sent, Some("misspelt"));
    harness.stop().await;
}

#[tokio::test]
async fn two_keys_are_none() {
    let harness = Harness::start().await;
    let (order, capture) = authorized(&harness);
    let headers = [JSON, ("sezzle-request-id", "a"), ("sezzle-request-id", "b")];
    let answer = harness.send(Method::POST, &capture, &headers, CAPTURE).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "sidecar.bad_request"));
    assert!(harness.gateway.effects(&order).is_empty());
    assert_eq!(harness.gateway.count("POST", &capture), 0);
    harness.stop().await;
}

#[tokio::test]
async fn a_failure_after_a_possible_effect_is_marked() {
    let harness = Harness::start().await;
    let (order, capture) = authorized(&harness);
    harness.gateway.script(Rule::path(&capture).status(StatusCode::UNPROCESSABLE_ENTITY));
    let plain = harness.post(&capture, CAPTURE).await;
    assert_eq!((plain.status, plain.header("proxy-status")), (422, ""), "nothing happened before");
    harness.gateway.script(Rule::path(&capture).times(1).reset(Reset::AfterEffect));
    let marked = harness.post(&capture, CAPTURE).await;
    assert_eq!(marked.status, 422);
    let mark = marked.header("proxy-status").to_owned();
    assert!(mark.starts_with("sezzle-sidecar; received-status=422; details=\""), "{mark}");
    assert_eq!(harness.gateway.effects(&order).len(), 1);
    let series = r#"money_refused_in_doubt_total{route="/v2/order/{order}/capture"}"#;
    assert_eq!(harness.metric(series).await, 1.0);
    harness.gateway.clear_rules();
    // A load balancer's 503 says nothing about the first attempt either.
    let (order, capture) = authorized(&harness);
    harness.gateway.script(Rule::path(&capture).times(3).status(StatusCode::SERVICE_UNAVAILABLE));
    harness.gateway.script(Rule::path(&capture).times(1).reset(Reset::AfterEffect));
    let marked = harness.post(&capture, CAPTURE).await;
    assert!(marked.header("proxy-status").starts_with("sezzle-sidecar; received-status=503; "), "{marked:?}");
    assert_eq!((marked.status, harness.gateway.effects(&order).len()), (503, 1));
    // A lookup has no effect that could be in doubt.
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::NOT_FOUND));
    harness.gateway.script(Rule::path("/v2/customer").times(1).reset(Reset::AfterEffect));
    assert_eq!(harness.get("/v2/customer").await.header("proxy-status"), "");
    harness.stop().await;
}

#[tokio::test]
async fn an_outcome_stays_unknown_when_sezzle_is_gone_afterwards() {
    let harness = Harness::start().await;
    let (order, capture) = authorized(&harness);
    harness.gateway.script(Rule::path(&capture).times(1).reset(Reset::AfterEffect));
    // The gateway disappears as soon as the write has taken effect.
    let gateway = harness.gateway.clone();
    let gone = async {
        crate::support::eventually("done", async || gateway.effects(&order).len() == 1).await;
        gateway.clone().stop().await;
    };
    let (answer, ()) = tokio::join!(harness.post(&capture, CAPTURE), gone);
    // The second attempt may have arrived in time, which is equally good.
    if answer.status != 200 {
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
        assert!(!answer.header("sezzle-request-id").is_empty());
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_key_comes_back_with_an_error_that_sent_nothing() {
    let harness = Harness::start().await;
    let (_, capture) = authorized(&harness);
    harness.gateway_goes_away().await;
    let answer = harness.post(&capture, CAPTURE).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    assert_eq!(answer.header("sezzle-request-id").len(), 36);
    let session = harness.post("/v2/session", "{}").await;
    assert_eq!((session.status, session.header("sezzle-request-id")), (503, ""));
    assert_eq!(harness.metric(r#"upstream_retries_total{reason="connection_refused",result="failure"}"#).await, 4.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_gateway_in_trouble_is_not_given_more_of_it() {
    let harness = Harness::start().await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::SERVICE_UNAVAILABLE));
    // So few failures that the breaker of their class stays closed.
    for _ in 0..19 {
        assert_eq!(harness.get("/v2/customer").await.status, 503);
    }
    let sent = harness.gateway.count("GET", "/v2/customer");
    // 30 and a fifth of the requests, if all were made within ten seconds.
    assert!((19 + 30..=19 + 2 * 19).contains(&sent), "{sent}");
    assert!(harness.metric(r#"upstream_retries_total{reason="unavailable",result="no_budget"}"#).await >= 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_long_retry_after_is_for_the_caller() {
    let harness = Harness::start().await;
    let rule = || Rule::path("/v2/customer").times(1).status(StatusCode::SERVICE_UNAVAILABLE);
    let told = |seconds| (http::header::RETRY_AFTER, http::HeaderValue::from_static(seconds));
    let (name, value) = told("60");
    harness.gateway.script(rule().set_header(name, value));
    let answer = harness.get("/v2/customer").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "60"));
    assert_eq!(harness.gateway.count("GET", "/v2/customer"), 1);
    let (name, value) = told("0");
    harness.gateway.script(rule().set_header(name, value));
    assert_eq!(harness.get("/v2/customer").await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn a_key_that_connection_takes_away_is_refused() {
    let harness = Harness::start().await;
    let (order, capture) = authorized(&harness);
    for named in ["Sezzle-Request-Id", "x-sezzle-request-id", "close, sezzle-request-id", "Idempotency-Key"] {
        let mut wire = harness.wire().await;
        let head = format!(
            "POST {capture} HTTP/1.1\r\nhost: localhost\r\nconnection: {named}\r\nsezzle-request-id: key-1\r\n\
             content-length: {}\r\n\r\n{CAPTURE}",
            CAPTURE.len()
        );
        wire.send(head).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "sidecar.bad_request"), "{named}");
    }
    assert!(harness.gateway.effects(&order).is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_again_in_the_last_moments() {
    let harness = Setup::default().set("GATEWAY__WRITE_TIMEOUT", "2s").start().await;
    for (held, status, attempts) in [(1800, 504, 1), (100, 200, 2)] {
        let (order, capture) = authorized(&harness);
        let gate = Gate::new();
        harness.gateway.script(Rule::path(&capture).times(1).gate_after_effect(&gate).reset(Reset::AfterEffect));
        let headers = [JSON, ("sezzle-request-id", "k")];
        let (answer, ()) = tokio::join!(harness.send(Method::POST, &capture, &headers, CAPTURE), async {
            arrived(&gate, 1).await;
            sleep(Duration::from_millis(held)).await;
            gate.release();
        });
        assert_eq!(answer.status, status, "the first attempt failed after {held} ms of 2 s: {}", answer.text());
        assert_eq!(harness.gateway.count("POST", &capture), attempts);
        assert_eq!(harness.gateway.effects(&order).len(), 1);
    }
    harness.stop().await;
}
