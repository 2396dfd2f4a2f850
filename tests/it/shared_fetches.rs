//! However many callers ask for a session at once, the sidecar asks Sezzle once, and no caller can spoil the answer for
//! others.

use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, StatusCode};
use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::client::Answer;
use crate::support::{Harness, Session, Setup, arrived, eventually};

fn session(harness: &Harness) -> String {
    Session::tokenize(&harness.gateway).path
}

fn callers(harness: &Arc<Harness>, path: &str, count: usize) -> JoinSet<Answer> {
    let mut callers = JoinSet::new();
    for _ in 0..count {
        let (harness, path) = (Arc::clone(harness), path.to_owned());
        callers.spawn(async move { harness.get(&path).await });
    }
    callers
}

async fn stop(harness: Arc<Harness>) {
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn a_hundred_callers_make_one_request() {
    let harness = Arc::new(Harness::start().await);
    let path = session(&harness);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate(&gate));
    let mut waiting = callers(&harness, &path, 100);
    arrived(&gate, 1).await;
    eventually("all are waiting", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 100.0)
        .await;
    gate.release();
    let mut collapsed = 0;
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.expect("no panic");
        assert_eq!(answer.status, 200);
        collapsed += usize::from(answer.cache().ends_with("collapsed"));
    }
    assert_eq!(collapsed, 99);
    assert_eq!(harness.gateway.count("GET", &path), 1);
    assert_eq!(harness.metric(r#"cache_requests_total{result="collapsed"}"#).await, 99.0);
    stop(harness).await;
}

#[tokio::test]
async fn a_hundred_callers_without_any_order_make_one_request() {
    // There is no gate: some callers join the fetch, others find the session just stored.
    let harness = Arc::new(Harness::start().await);
    for _ in 0..20 {
        let path = session(&harness);
        let answers = callers(&harness, &path, 100).join_all().await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(harness.gateway.count("GET", &path), 1);
    }
    stop(harness).await;
}

#[tokio::test]
async fn the_first_caller_may_hang_up() {
    let harness = Arc::new(Harness::start().await);
    let path = session(&harness);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate(&gate));
    let mut first = TcpStream::connect(harness.proxy).await.expect("connects");
    first.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.expect("writes");
    arrived(&gate, 1).await;
    let waiting = callers(&harness, &path, 50);
    eventually("all are waiting", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 51.0)
        .await;
    drop(first);
    gate.release();
    assert!(waiting.join_all().await.iter().all(|answer| answer.status == 200));
    assert!(harness.get(&path).await.cache().starts_with("hit"));
    assert_eq!(harness.gateway.count("GET", &path), 1);
    stop(harness).await;
}

#[tokio::test]
async fn a_flight_whose_callers_have_all_gone_is_stored() {
    let harness = Harness::start().await;
    let path = session(&harness);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate(&gate));
    let mut only = TcpStream::connect(harness.proxy).await.expect("connects");
    only.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.expect("writes");
    arrived(&gate, 1).await;
    drop(only);
    gate.release();
    eventually("stored", async || harness.metric("cache_entries").await == 1.0).await;
    assert!(harness.get(&path).await.cache().starts_with("hit"));
    harness.stop().await;
}

#[tokio::test]
async fn an_answer_for_one_caller_only_releases_the_others_in_parallel() {
    let harness = Arc::new(Harness::start().await);
    let path = session(&harness);
    let gate = Gate::new();
    let no_store = || Rule::path(&path).set_header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The first request waits at the gate, the others a fixed time each.
    harness.gateway.script(no_store().delay(Duration::from_millis(300)));
    harness.gateway.script(no_store().gate(&gate).times(1));
    let waiting = callers(&harness, &path, 20);
    arrived(&gate, 1).await;
    eventually("all are waiting", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 20.0)
        .await;
    let began = Instant::now();
    gate.release();
    let answers = waiting.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.cache().ends_with("detail=no-store")));
    // One after the other the fetches would take 19 × 300 ms.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(harness.gateway.count("GET", &path), 20, "each got an answer of its own");

    // For a few seconds no caller waits for another's fetch of this session.
    let gate = Gate::new();
    harness.gateway.script(no_store().gate(&gate));
    let waiting = callers(&harness, &path, 5);
    timeout(Duration::from_secs(5), gate.arrived(5)).await.expect("all five are sent at once");
    gate.release();
    waiting.join_all().await;
    stop(harness).await;
}

#[tokio::test]
async fn failures_are_shared_and_not_kept() {
    for (rule, status) in
        [(Rule::any().status(StatusCode::NOT_FOUND), 404), (Rule::any().status(StatusCode::INTERNAL_SERVER_ERROR), 500)]
    {
        let harness = Arc::new(Harness::start().await);
        let path = session(&harness);
        let gate = Gate::new();
        harness.gateway.script(rule.gate(&gate));
        let waiting = callers(&harness, &path, 10);
        arrived(&gate, 1).await;
        eventually("all wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 10.0).await;
        gate.release();
        assert!(waiting.join_all().await.iter().all(|answer| answer.status == status));
        assert_eq!(harness.gateway.count("GET", &path), 1);
        harness.gateway.clear_rules();
        assert_eq!(harness.get(&path).await.status, 200);
        stop(harness).await;
    }
}

#[tokio::test]
async fn a_callers_own_no_store_shares_no_flight() {
    let harness = Arc::new(Harness::start().await);
    let path = session(&harness);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate(&gate));
    let waiting = callers(&harness, &path, 1);
    arrived(&gate, 1).await;
    let (caller, own) = (Arc::clone(&harness), path.clone());
    let alone = tokio::spawn(async move { caller.get_with(&own, &[("cache-control", "no-store")]).await });
    arrived(&gate, 2).await;
    gate.release();
    assert_eq!(alone.await.expect("no panic").status, 200);
    waiting.join_all().await;
    stop(harness).await;
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_given_up_in_time() {
    let harness = Arc::new(Setup::default().set("GATEWAY__READ_TIMEOUT", "300ms").start().await);
    let path = session(&harness);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate(&gate));
    let began = Instant::now();
    for answer in callers(&harness, &path, 10).join_all().await {
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.upstream_timeout"));
        assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=http_response_timeout");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(harness.gateway.count("GET", &path), 1);
    assert_eq!(harness.metric(r#"cache_requests_total{result="error"}"#).await, 10.0);
    gate.release();
    stop(harness).await;
}

#[tokio::test]
async fn a_lookup_after_a_write_does_not_join_a_fetch_from_before_it() {
    let harness = Arc::new(Harness::start().await);
    let Session { path, order_path, .. } = Session::tokenize(&harness.gateway);
    let gate = Gate::new();
    // This fetch holds the body from before the write.
    harness.gateway.script(Rule::on(Method::GET, &path).gate_after_effect(&gate).times(1));
    let early = callers(&harness, &path, 3);
    arrived(&gate, 1).await;
    eventually("all wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 3.0).await;

    let json = [("content-type", "application/json")];
    let patch = harness.send(Method::PATCH, &order_path, &json, r#"{"reference_id":"new"}"#).await;
    assert_eq!(patch.status, 204, "{}", patch.text());
    let late = callers(&harness, &path, 10);
    eventually("all wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 13.0).await;
    gate.release();
    let old = early.join_all().await[0].json()["order"]["revision"].as_i64().expect("a revision");
    for answer in late.join_all().await {
        assert!(answer.json()["order"]["revision"].as_i64().expect("a revision") > old, "{}", answer.cache());
    }
    assert_eq!(harness.gateway.count("GET", &path), 2, "those who looked again shared one fetch too");
    assert_eq!(harness.metric(r#"cache_store_skipped_total{reason="purged"}"#).await, 1.0);
    let stored = harness.get(&path).await;
    assert!(stored.json()["order"]["revision"].as_i64().expect("a revision") > old);
    stop(harness).await;
}

#[tokio::test]
async fn an_older_fetch_does_not_overwrite_a_newer_one() {
    let harness = Arc::new(Harness::start().await);
    let Session { path, order, .. } = Session::tokenize(&harness.gateway);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate_after_effect(&gate).times(1));
    let slow = callers(&harness, &path, 1);
    arrived(&gate, 1).await;
    // The change does not come through the sidecar; a caller who insists on a fresh answer sees it.
    assert!(harness.gateway.complete_checkout(&order));
    let newer = harness.get_with(&path, &[("cache-control", "no-cache")]).await;
    assert!(newer.cache().contains("stored"), "{}", newer.cache());
    gate.release();
    let older = slow.join_all().await.remove(0);
    assert_ne!(older.body, newer.body);
    assert!(older.cache().ends_with("detail=superseded"), "{}", older.cache());
    let hit = harness.get(&path).await;
    assert!(hit.cache().starts_with("hit") && hit.body == newer.body);
    stop(harness).await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_kept_from_callers_after_any_write() {
    let harness = Arc::new(Harness::start().await);
    let Session { uuid, path, order_path, .. } = Session::tokenize(&harness.gateway);
    let gate = Gate::new();
    let twice = r#"{"order":{"uuid":"a","uuid":"b"}}"#;
    harness.gateway.script(Rule::path(&path).body(twice).gate(&gate).times(1));
    let early = callers(&harness, &path, 1);
    arrived(&gate, 1).await;
    let json = [("content-type", "application/json")];
    harness.send(Method::PATCH, &order_path, &json, r#"{"reference_id":"new"}"#).await;
    let late = callers(&harness, &path, 1);
    eventually("both wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 2.0).await;
    gate.release();
    assert_eq!(early.join_all().await[0].text(), twice);
    assert_eq!(late.join_all().await[0].json()["uuid"], uuid.as_str());
    stop(harness).await;
}

#[tokio::test]
async fn waiting_callers_take_one_place_and_hits_take_none() {
    let harness = Arc::new(Setup::default().set("LIMITS__IN_FLIGHT", "1").start().await);
    let (path, other, third) = (session(&harness), session(&harness), session(&harness));
    harness.get(&other).await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate(&gate));
    let waiting = callers(&harness, &path, 600);
    arrived(&gate, 1).await;
    eventually("all wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 600.0).await;
    assert_eq!(harness.get(&third).await.error_code(), "sidecar.overloaded");
    assert!(harness.get(&other).await.cache().starts_with("hit"));
    gate.release();
    assert!(waiting.join_all().await.iter().all(|answer| answer.status == 200));
    assert_eq!(harness.gateway.count("GET", &path), 1);
    stop(harness).await;
}
