//! Too many calls, or trouble at Sezzle: one class of call does not suffer for another, and callers get their answer at
//! once.

use std::sync::Arc;
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use sezzle_sidecar::simulator::{Fault, Gate, Options, Rule, Simulator};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::support::client::{Answer, Client};
use crate::support::{Harness, Session, Setup, arrived, eventually};

const REPORT: &str = "/v2/orders/report?start-date=2026-01-01";
const READ: &str = "/v2/customer";
const LONG: Duration = Duration::from_secs(8);

/// A sidecar with this concurrency limit for each of the larger classes.
async fn start(in_flight: usize) -> Arc<Harness> {
    Arc::new(Setup::default().set("LIMITS__IN_FLIGHT", in_flight).start().await)
}

async fn stop(harness: Arc<Harness>) {
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

/// One caller for each of these paths.
fn callers<'p>(harness: &Arc<Harness>, paths: impl IntoIterator<Item = &'p str>) -> JoinSet<Answer> {
    let mut callers = JoinSet::new();
    for path in paths {
        let (harness, path) = (Arc::clone(harness), path.to_owned());
        callers.spawn(async move { harness.get(&path).await });
    }
    callers
}

/// A caller that may hang up. Over HTTP/2 the sidecar notices at once; over HTTP/1.1 the caller may only have closed
/// its sending side.
fn hanging(harness: &Harness, method: Method, path: &'static str) -> AbortHandle {
    let proxy = harness.proxy;
    tokio::spawn(async move { Client::http2().send(proxy, method, path, &[], "").await }).abort_handle()
}

async fn shed(harness: &Harness, class: &str, reason: &str) -> f64 {
    harness.metric(&format!("shed_total{{class=\"{class}\",reason=\"{reason}\"}}")).await
}

/// Waits until so many requests of a class are in progress, including queued ones.
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
    // Two permits for reports, and a queue of one.
    let harness = start(16).await;
    let session = Session::tokenize(&harness.gateway);
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/orders/report").gate(&gate));
    let served = callers(&harness, [REPORT; 2]);
    arrived(&gate, 2).await;
    let mut others = callers(&harness, [REPORT; 5]);
    for _ in 0..4 {
        is_overloaded(&others.join_next().await.expect("one").expect("an answer"));
    }
    assert_eq!(shed(&harness, "report", "queue_full").await, 4.0);
    // While reports hold all their permits, every other class passes.
    let posted = harness.post(&format!("{}/release", session.order_path), "{}").await;
    let lookup = harness.get(&session.path).await;
    let (read, webhooks) = (harness.get(READ).await, harness.get("/v2/webhooks").await);
    assert_eq!([posted.status, lookup.status, read.status, webhooks.status], [422, 200, 200, 200]);

    gate.release();
    assert!(served.join_all().await.iter().all(|answer| answer.status == 200));
    others.join_all().await;
    assert_eq!(harness.get(REPORT).await.status, 200, "the permits are free again");
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
        // No two callers share a fetch, so that each takes a permit.
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
async fn a_free_place_goes_to_the_call_that_waits_longest() {
    // Eight permits for lookups, and a queue of two.
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

/// Makes one call that Sezzle answers 429, with this `Retry-After` if there is one.
async fn limited(harness: &Harness, method: Method, path: &str, retry_after: Option<&'static str>) {
    let mut rule = Rule::on(method.clone(), path).times(1).status(StatusCode::TOO_MANY_REQUESTS);
    // Sezzle's clock is years behind; only the seconds after its own date count.
    rule = rule.set_header(DATE, HeaderValue::from_static("Mon, 27 Apr 2020 14:46:59 GMT"));
    rule = rule.body(r#"[{"code":"too_many_requests"}]"#);
    if let Some(value) = retry_after {
        rule = rule.set_header(RETRY_AFTER, HeaderValue::from_static(value));
    }
    harness.gateway.script(rule);
    let answer = harness.send(method, path, &[], "").await;
    let code = answer.json()[0]["code"].clone();
    assert_eq!((answer.status, code.as_str()), (429, Some("too_many_requests")), "Sezzle's own");
    assert_eq!(answer.header("retry-after"), retry_after.unwrap_or(""));
}

fn is_limited(answer: &Answer, seconds: u64) {
    assert_eq!((answer.status, answer.error_code().as_str()), (429, "sidecar.rate_limited"));
    assert_eq!(answer.header("retry-after"), seconds.to_string());
    assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=http_request_denied");
}

#[tokio::test]
async fn a_429_holds_its_class_back_for_as_long_as_it_says() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    let mut refused = 0.0;
    for (retry_after, seconds) in [
        (Some("0"), 0),
        (Some("7"), 7),
        (Some("Mon, 27 Apr 2020 14:47:19 GMT"), 20),
        (Some("Mon, 27 Apr 2020 14:46:00 GMT"), 0),
        (Some("86400"), 60),
        (Some("99999999999999999999999"), 60),
        (Some("a while"), 1),
        (None, 1),
    ] {
        limited(&harness, Method::GET, READ, retry_after).await;
        let sent = harness.received().len();
        if seconds > 0 {
            is_limited(&harness.get("/v2/order/o").await, seconds);
            harness.clock.advance(Duration::from_secs(seconds - 1));
            is_limited(&harness.send(Method::OPTIONS, READ, &[], "").await, 1);
            refused += 2.0;
            assert_eq!(harness.received().len(), sent, "{retry_after:?}");
            let until = harness.metric(r#"rate_limited_until_timestamp_seconds{class="read"}"#).await;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            assert!(until > now.as_secs_f64(), "{until}");
            // Other classes do not suffer for it.
            for path in [session.as_str(), "/v2/session/x", REPORT, "/v2/webhooks"] {
                assert_ne!(harness.get(path).await.status, 429, "{path}");
            }
            assert_eq!(harness.post("/v2/order/o/capture", "{}").await.status, 404);
            harness.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(harness.get(READ).await.status, 200, "{retry_after:?}");
    }
    assert_eq!(shed(&harness, "read", "rate_limited").await, refused);
    assert_eq!(harness.metric(r#"requests_refused_total{reason="rate_limited"}"#).await, refused);
    assert_eq!(harness.metric(r#"rate_limited_until_timestamp_seconds{class="report"}"#).await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn money_is_never_kept_from_sezzle_and_calls_about_webhooks_are() {
    let harness = Harness::start().await;
    for sent in 1..=3 {
        limited(&harness, Method::POST, "/v2/order/o/capture", Some("30")).await;
        assert_eq!(harness.gateway.count("POST", "/v2/order/o/capture"), sent);
    }
    assert_eq!(harness.post("/v2/order/o/capture", "{}").await.status, 404);
    assert_eq!(harness.get(READ).await.status, 200);
    limited(&harness, Method::DELETE, "/v2/webhooks/w", Some("30")).await;
    is_limited(&harness.send(Method::DELETE, "/v2/webhooks/w", &[], "").await, 30);
    is_limited(&harness.get("/v2/webhooks").await, 30);
    assert_eq!(harness.gateway.count("DELETE", "/v2/webhooks/w"), 1);
    harness.stop().await;
}

#[tokio::test]
async fn a_refusal_comes_before_the_queue() {
    let harness = start(1).await;
    // The slow call holds the only permit until its body has come.
    let limit = Rule::path(READ).status(StatusCode::TOO_MANY_REQUESTS).body("[]").fault(Fault::LateBody(LONG));
    harness.gateway.script(limit.set_header(RETRY_AFTER, HeaderValue::from_static("9")));
    let slow = hanging(&harness, Method::GET, READ);
    let until = r#"rate_limited_until_timestamp_seconds{class="read"}"#;
    eventually("429", async || harness.metric(until).await > 0.0).await;
    let began = Instant::now();
    for _ in 0..3 {
        is_limited(&harness.get(READ).await, 9);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "each would wait 1 s in the queue: {:?}", began.elapsed());
    serving(&harness, "read", 1.0).await;
    slow.abort();
    stop(harness).await;
}

/// A sidecar that serves stale sessions, and the paths of three lookups: an expired session, a fresh one, and an
/// unknown one.
async fn with_sessions() -> (Harness, [String; 3]) {
    let harness = Setup::default().set("CACHE__STALE_IF_ERROR", "10m").start().await;
    let sessions = [(); 3].map(|()| Session::order(&harness.gateway).path);
    harness.get(&sessions[0]).await;
    harness.clock.advance(Duration::from_secs(40));
    harness.get(&sessions[1]).await;
    (harness, sessions)
}

fn is_stale(answer: &Answer) {
    assert!(answer.status == 200 && answer.cache().ends_with("; detail=stale-if-error"), "{}", answer.cache());
}

#[tokio::test]
async fn sessions_in_memory_are_served_while_sezzle_wants_no_calls() {
    let (harness, [stale, fresh, absent]) = with_sessions().await;
    limited(&harness, Method::GET, &absent, Some("25")).await;
    let sent = harness.received().len();
    assert!(harness.get(&fresh).await.cache().starts_with("hit; ttl="));
    is_stale(&harness.get(&stale).await);
    assert_eq!(harness.metric(r#"requests_refused_total{reason="rate_limited"}"#).await, 0.0, "it was served");
    is_limited(&harness.get(&absent).await, 25);
    is_limited(&harness.get_with(&stale, &[("cache-control", "no-cache")]).await, 25);
    assert_eq!(harness.received().len(), sent);
    harness.stop().await;
}

fn is_open(answer: &Answer, wait: std::ops::RangeInclusive<u64>) {
    assert_eq!((answer.status, answer.header("proxy-status")), (503, "sezzle-sidecar; error=destination_unavailable"));
    if !answer.body.is_empty() {
        assert_eq!(answer.error_code(), "sidecar.circuit_open");
    }
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(wait.contains(&seconds), "{seconds}");
}

async fn breaker(harness: &Harness, class: &str) -> f64 {
    harness.metric(&format!("breaker_state{{class=\"{class}\"}}")).await
}

/// Makes so many calls fail that the breaker of their class opens.
async fn fail(harness: &Harness, path: &str) {
    let plain = path.split('?').next().expect("a path");
    harness.gateway.script(Rule::on(Method::GET, plain).status(StatusCode::INTERNAL_SERVER_ERROR).times(20));
    for _ in 0..20 {
        let answer = harness.get(path).await;
        assert_eq!((answer.status, answer.header("proxy-status")), (500, ""), "Sezzle's own");
    }
}

#[tokio::test]
async fn a_class_that_fails_is_refused_until_one_call_has_tried() {
    let harness = Arc::new(Harness::start().await);
    fail(&harness, READ).await;
    assert_eq!(breaker(&harness, "read").await, 1.0);
    // Nothing reaches the gateway, and these refusals do not count as failures.
    for _ in 0..50 {
        is_open(&harness.get(READ).await, 4..=6);
    }
    is_open(&harness.send(Method::HEAD, "/v2/order/o", &[], "").await, 4..=6);
    assert_eq!(harness.gateway.count("GET", READ), 20);
    assert_eq!((shed(&harness, "read", "circuit_open").await, harness.gateway.count("HEAD", "/v2/order/o")), (51.0, 0));
    assert_eq!(harness.metric(r#"requests_refused_total{reason="circuit_open"}"#).await, 51.0);

    // The probe fails, and the breaker stays open for longer.
    harness.clock.advance(Duration::from_millis(5600));
    harness.gateway.script(Rule::path(READ).status(StatusCode::SERVICE_UNAVAILABLE).times(1));
    assert_eq!(harness.get(READ).await.header("proxy-status"), "", "Sezzle's own");
    is_open(&harness.get(READ).await, 9..=11);

    // The next probe is in progress, and all other calls are refused.
    harness.clock.advance(Duration::from_millis(11_100));
    let gate = Gate::new();
    harness.gateway.script(Rule::path(READ).gate(&gate));
    let probe = callers(&harness, [READ]);
    arrived(&gate, 1).await;
    assert_eq!(breaker(&harness, "read").await, 2.0);
    for _ in 0..5 {
        is_open(&harness.get(READ).await, 1..=1);
    }
    assert_eq!(harness.gateway.count("GET", READ), 22);
    gate.release();
    assert_eq!(probe.join_all().await[0].status, 200);
    assert_eq!(breaker(&harness, "read").await, 0.0);
    assert!(callers(&harness, [READ; 5]).join_all().await.iter().all(|answer| answer.status == 200));
    stop(harness).await;
}

#[tokio::test]
async fn a_probe_whose_caller_hangs_up_leaves_its_turn_to_another() {
    let harness = Harness::start().await;
    fail(&harness, READ).await;
    harness.clock.advance(Duration::from_millis(5600));
    let gate = Gate::new();
    harness.gateway.script(Rule::path(READ).gate(&gate).times(1));
    let gone = hanging(&harness, Method::GET, READ);
    arrived(&gate, 1).await;
    is_open(&harness.get(READ).await, 1..=1);
    gone.abort();
    serving(&harness, "read", 0.0).await;
    assert_eq!(breaker(&harness, "read").await, 2.0);
    assert_eq!(harness.get(READ).await.status, 200);
    assert_eq!(breaker(&harness, "read").await, 0.0);
    gate.release();
    harness.stop().await;
}

#[tokio::test]
async fn five_calls_without_a_connection_are_enough() {
    let harness = Harness::start().await;
    let addr = harness.gateway.addr();
    harness.gateway_goes_away().await;
    let refused = async || harness.metric(r#"upstream_errors_total{kind="connection_refused"}"#).await;
    for _ in 0..5 {
        assert_eq!(breaker(&harness, "read").await, 0.0);
        assert_eq!(harness.get(READ).await.error_code(), "sidecar.upstream_unreachable");
    }
    is_open(&harness.get(READ).await, 4..=6);
    assert_eq!((refused().await, breaker(&harness, "read").await), (15.0, 1.0), "three attempts of each call");
    // The breaker does not hold back writes, nor other classes until their own calls fail.
    assert_eq!(harness.post("/v2/order/o/capture", "{}").await.error_code(), "sidecar.upstream_unreachable");
    assert_eq!(harness.get(REPORT).await.error_code(), "sidecar.upstream_unreachable");
    assert_eq!(refused().await, 21.0);

    harness.clock.advance(Duration::from_millis(5600));
    let back = Simulator::start(Options { listen: addr, ..Options::default() }).await.expect("the address is free");
    assert_eq!(harness.get(READ).await.status, 200, "it has a new token by then");
    assert_eq!(breaker(&harness, "read").await, 0.0);
    harness.stop().await;
    back.stop().await;
}

#[tokio::test]
async fn memory_and_writes_are_served_while_every_breaker_is_open() {
    let (harness, [stale, fresh, absent]) = with_sessions().await;
    harness.clock.advance(Duration::from_secs(11));
    for (class, path) in [("read", READ), ("report", REPORT), ("webhooks", "/v2/webhooks"), ("session", &absent)] {
        fail(&harness, path).await;
        assert_eq!(breaker(&harness, class).await, 1.0, "{class}");
        is_open(&harness.get(path).await, 3..=6);
    }
    let sent = harness.received().len();
    assert!(harness.get(&fresh).await.cache().starts_with("hit; ttl="));
    is_stale(&harness.get(&stale).await);
    is_stale(&harness.send(Method::HEAD, &stale, &[], "").await);
    assert_eq!(harness.received().len(), sent, "nothing was sent for these");

    assert_eq!(harness.post("/v2/order/o/capture", "{}").await.status, 404, "Sezzle's own");
    assert_eq!(harness.send(Method::DELETE, "/v2/webhooks/w", &[], "").await.status, 400, "Sezzle's own");
    harness.send(Method::OPTIONS, READ, &[], "").await;
    assert_eq!(harness.received().len(), sent + 3);
    harness.stop().await;
}

#[tokio::test]
async fn calls_that_do_not_fail_open_no_breaker() {
    let harness = start(1).await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/order/held").gate(&gate));
    let held = callers(&harness, ["/v2/order/held"]);
    arrived(&gate, 1).await;
    let mut crowd = callers(&harness, [READ; 30]);
    while let Some(answer) = crowd.join_next().await {
        is_overloaded(&answer.expect("an answer"));
    }
    gate.release();
    held.join_all().await;
    for _ in 0..30 {
        limited(&harness, Method::GET, READ, Some("0")).await;
    }
    for _ in 0..60 {
        assert_eq!(harness.get("/v2/order/none").await.status, 404);
    }
    harness.clock.advance(Duration::from_secs(10));
    for _ in 0..25 {
        // Every second attempt fails, and no call does.
        harness.gateway.script(Rule::path(READ).status(StatusCode::BAD_GATEWAY).times(1));
        assert_eq!(harness.get(READ).await.status, 200);
    }
    assert_eq!(breaker(&harness, "read").await, 0.0);
    stop(harness).await;
}
