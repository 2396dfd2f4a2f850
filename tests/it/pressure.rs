//! When more comes than Sezzle takes, or Sezzle is not well: one kind of call does not suffer for another, and callers
//! are told at once.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use sezzle_sidecar::simulator::{Gate, Rule, SessionKind};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::support::client::{Answer, Client};
use crate::support::{Harness, Setup, arrived, eventually};

const REPORT: &str = "/v2/orders/report?start-date=2026-01-01";
const READ: &str = "/v2/customer";

/// A sidecar with so many places for each of the larger classes.
async fn start(in_flight: usize) -> Arc<Harness> {
    Arc::new(Setup::default().set("LIMITS__IN_FLIGHT", in_flight).start().await)
}

async fn stop(harness: Arc<Harness>) {
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

/// Callers of their own for these paths.
fn callers<'p>(harness: &Arc<Harness>, paths: impl IntoIterator<Item = &'p str>) -> JoinSet<Answer> {
    let mut callers = JoinSet::new();
    for path in paths {
        let (harness, path) = (Arc::clone(harness), path.to_owned());
        callers.spawn(async move { harness.get(&path).await });
    }
    callers
}

/// A caller that may hang up. Over HTTP/2 that is noticed at once, over HTTP/1.1 it may only have closed its sending side.
fn hanging(harness: &Harness, method: Method, path: &'static str) -> AbortHandle {
    let proxy = harness.proxy;
    tokio::spawn(async move { Client::http2().send(proxy, method, path, &[], "").await }).abort_handle()
}

async fn shed(harness: &Harness, class: &str, reason: &str) -> f64 {
    harness.metric(&format!("shed_total{{class=\"{class}\",reason=\"{reason}\"}}")).await
}

/// Waits until so many requests of a class are being served, those in the queue included.
async fn serving(harness: &Harness, class: &str, requests: f64) {
    let series = format!("in_flight_requests{{class=\"{class}\"}}");
    eventually(&series, async || harness.metric(&series).await == requests).await;
}

fn is_overloaded(answer: &Answer) {
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.overloaded"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=connection_limit_reached");
}

#[tokio::test]
async fn reports_crowd_out_nobody() {
    // Two places and a queue of one for reports.
    let harness = start(16).await;
    let ids = harness.gateway.create_session(SessionKind::OrderAndTokenize);
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/orders/report").gate(&gate));
    let served = callers(&harness, [REPORT; 2]);
    arrived(&gate, 2).await;
    let mut others = callers(&harness, [REPORT; 5]);
    for _ in 0..4 {
        is_overloaded(&others.join_next().await.expect("one").expect("an answer"));
    }
    assert_eq!(shed(&harness, "report", "queue_full").await, 4.0);
    // While they hold all they may, everything else passes.
    let posted = harness.post(&format!("/v2/order/{}/release", ids.order.expect("an order")), "{}").await;
    let lookup = harness.get(&format!("/v2/session/{}", ids.session)).await;
    let (read, webhooks) = (harness.get(READ).await, harness.get("/v2/webhooks").await);
    assert_eq!([posted.status, lookup.status, read.status, webhooks.status], [422, 200, 200, 200]);

    gate.release();
    assert!(served.join_all().await.iter().all(|answer| answer.status == 200));
    others.join_all().await;
    assert_eq!(harness.get(REPORT).await.status, 200, "the places are free again");
    assert_eq!(harness.metric(r#"requests_refused_total{reason="overloaded"}"#).await, {
        shed(&harness, "report", "queue_full").await + shed(&harness, "report", "queue_timeout").await
    });
    stop(harness).await;
}

#[tokio::test]
async fn each_class_is_bounded_and_a_write_that_is_shed_is_not_sent() {
    let harness = start(1).await;
    for (class, method, path) in [
        ("session", Method::GET, "/v2/session/fadbc642-05a4-4e38-9e74-80e325623af9"),
        ("session", Method::HEAD, "/v2/session/fadbc642-05a4-4e38-9e74-80e325623af9"),
        ("session", Method::GET, "/v2/session/no-uuid"),
        ("read", Method::GET, READ),
        ("report", Method::GET, "/v2/orders/report"),
        ("money", Method::POST, "/v2/order/o/capture"),
        ("webhooks", Method::GET, "/v2/webhooks"),
        ("webhooks", Method::DELETE, "/v2/webhooks/w"),
    ] {
        let gate = Gate::new();
        harness.gateway.script(Rule::on(method.clone(), path).gate(&gate));
        // No flight is shared, so that each takes a place.
        let lines = [("cache-control", "no-store")];
        let call = || harness.send(method.clone(), path, &lines, "");
        let before = shed(&harness, class, "queue_full").await;
        let crowd = async {
            arrived(&gate, 1).await;
            let (one, other) = tokio::join!(call(), call());
            for answer in [one, other] {
                assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{method} {path}");
            }
            gate.release();
        };
        tokio::join!(call(), crowd);
        assert_eq!(shed(&harness, class, "queue_full").await, before + 1.0, "{method} {path}");
        assert_eq!(harness.gateway.count(method.as_str(), path), 1);
    }
    assert_eq!(shed(&harness, "money", "queue_timeout").await, 1.0);
    stop(harness).await;
}

#[tokio::test]
async fn a_place_that_becomes_free_goes_to_who_waits_longest() {
    // Eight places and a queue of two for lookups.
    let harness = start(8).await;
    let (short, long, next) = (Gate::new(), Gate::new(), Gate::new());
    harness.gateway.script(Rule::path(READ).gate(&long));
    harness.gateway.script(Rule::path("/v2/customer/short").gate(&short));
    harness.gateway.script(Rule::path("/v2/order/*").gate(&next));
    let mut all = callers(&harness, [READ; 7]);
    let early = callers(&harness, ["/v2/customer/short"]);
    arrived(&long, 7).await;
    arrived(&short, 1).await;
    for (waiting, path) in [(9.0, "/v2/order/first"), (10.0, "/v2/order/second")] {
        let harness_of_caller = Arc::clone(&harness);
        all.spawn(async move { harness_of_caller.get(path).await });
        serving(&harness, "read", waiting).await;
    }
    short.release();
    early.join_all().await;
    arrived(&next, 1).await;
    let orders: Vec<String> = harness.received().into_iter().filter(|call| call.contains("order")).collect();
    assert_eq!(orders, ["GET /v2/order/first"]);
    long.release();
    next.release();
    let statuses = all.join_all().await.into_iter().map(|answer| answer.status);
    assert_eq!(statuses.filter(|status| *status == 200).count(), 7);
    assert_eq!(harness.gateway.count("GET", "/v2/order/second"), 1);
    assert_eq!(shed(&harness, "read", "queue_full").await + shed(&harness, "read", "queue_timeout").await, 0.0);
    stop(harness).await;
}

#[tokio::test]
async fn nobody_waits_for_more_than_a_second() {
    let harness = start(1).await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path(READ).gate(&gate));
    let served = callers(&harness, [READ]);
    arrived(&gate, 1).await;
    let began = Instant::now();
    is_overloaded(&harness.get(READ).await);
    let waited = began.elapsed();
    assert!((Duration::from_millis(990)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    assert_eq!(shed(&harness, "read", "queue_timeout").await, 1.0);
    gate.release();
    served.join_all().await;
    stop(harness).await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_queue_and_nothing_is_sent() {
    let harness = start(1).await;
    for (class, method, path, other) in
        [("read", "GET", READ, "/v2/order/o"), ("money", "POST", "/v2/customer/c/order", "/v2/order/o/capture")]
    {
        let gate = Gate::new();
        let held = Method::from_bytes(method.as_bytes()).expect("a method");
        harness.gateway.script(Rule::on(held.clone(), path).gate(&gate).times(1));
        let crowd = async {
            arrived(&gate, 1).await;
            let gone = hanging(&harness, held.clone(), other);
            serving(&harness, class, 2.0).await;
            gone.abort();
            serving(&harness, class, 1.0).await;
            let next = async {
                serving(&harness, class, 2.0).await;
                gate.release();
            };
            tokio::join!(harness.send(held.clone(), path, &[], ""), next).0
        };
        let (first, second) = tokio::join!(harness.send(held.clone(), path, &[], ""), crowd);
        assert_eq!(first.status, second.status, "{class}");
        assert_ne!(first.status, 503, "{class}");
        assert_eq!(harness.gateway.count(method, other), 0, "{class}");
        for reason in ["queue_full", "queue_timeout"] {
            assert_eq!(shed(&harness, class, reason).await, 0.0, "its place in the queue was free");
        }
    }
    stop(harness).await;
}

#[tokio::test]
async fn bodies_being_received_have_places_of_their_own() {
    let harness = start(1).await;
    let mut slow = harness.wire().await;
    slow.send("POST /v2/order/o/capture HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{").await;
    serving(&harness, "money", 1.0).await;
    eventually("refused", async || harness.post("/v2/order/o/refund", "{}").await.status == 503).await;
    assert!(shed(&harness, "money", "receiving").await >= 1.0);
    assert_eq!(harness.get(READ).await.status, 200);
    slow.send("}").await;
    assert_eq!(slow.answer().await.status, 404);
    assert_eq!(harness.post("/v2/order/o/refund", "{}").await.status, 404);
    stop(harness).await;
}
