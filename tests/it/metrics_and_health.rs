//! Metrics and health: every metric exists before it is needed, its series stay bounded whatever callers and the
//! gateway do, and the health endpoints answer exactly what they should.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use sezzle_sidecar::proxy::cache_status::Source;
use sezzle_sidecar::proxy::route::{Class, Route};
use sezzle_sidecar::server::cut::Cut;
use sezzle_sidecar::session::CacheResult;
use sezzle_sidecar::session::freshness::NotStored;
use sezzle_sidecar::simulator::{Gate, Options, Reset, Rule, Simulator};
use sezzle_sidecar::telemetry::metrics::{METHODS, code_label};
use sezzle_sidecar::upstream::error::ErrorKind;
use sezzle_sidecar::webhook::WebhookResult;

use crate::support::client::raw;
use crate::support::{Harness, Session, Setup, eventually};

/// One sample of the text exposition format: name, labels as written, value.
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

/// Parses an exposition and checks its format: every sample follows a type and a help text.
fn parse(text: &str) -> Vec<Sample> {
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    let mut samples = Vec::new();
    assert!(text.ends_with('\n'), "the last line is whole");
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("#"), Some("HELP")) => {
                let name = words.next().expect("a name");
                assert!(words.next().is_some_and(|word| !word.is_empty()), "{line}: helps nobody");
                assert!(helped.insert(name.to_owned()), "{name} stands there twice");
            }
            (Some("#"), Some("TYPE")) => {
                let (name, kind) = (words.next().expect("a name"), words.next().expect("a type"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name) && typed.insert(name.to_owned()), "{line}");
            }
            _ => {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                let (name, labels) = match series.split_once('{') {
                    Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed")),
                    None => (series, ""),
                };
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                assert!(typed.contains(name) || base.is_some_and(|base| typed.contains(base)), "no type: {line}");
                let plain = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(name.chars().all(plain), "{line}");
                for label in labels.split("\",").filter(|label| !label.is_empty()) {
                    assert!(label.split_once("=\"").is_some_and(|(label, _)| label.chars().all(plain)), "{line}");
                }
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                samples.push(Sample { name: name.to_owned(), labels: labels.to_owned(), value });
            }
        }
    }
    let series: BTreeSet<_> = samples.iter().map(|sample| (&sample.name, &sample.labels)).collect();
    assert_eq!(series.len(), samples.len(), "a series stands there twice");
    samples
}

async fn scrape(harness: &Harness) -> Vec<Sample> {
    let answer = harness.client.get(harness.ops, "/metrics").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    parse(&answer.text())
}

#[tokio::test]
async fn every_metric_is_there_from_the_start() {
    let harness = Harness::start().await;
    let names = |samples: &[Sample]| -> BTreeSet<String> {
        let base = |name: &str| name.strip_suffix("_count").unwrap_or(name).to_owned();
        samples.iter().map(|sample| base(&sample.name)).collect()
    };
    let at_start = names(&scrape(&harness).await);
    for name in [
        "in_flight_requests",
        "shed_total",
        "places_taken",
        "places_limit",
        "queue_length",
        "queue_limit",
        "breaker_state",
        "rate_limited_until_timestamp_seconds",
        "connections",
        "connections_limit",
        "connections_refused_total",
        // Series of the token exchange.
        "upstream_requests_total",
        "upstream_request_duration_seconds",
        "upstream_errors_total",
        "upstream_connections",
        "upstream_waiting",
        "upstream_connections_opened_total",
        "upstream_unauthorized_total",
        "unauthorized_passed_on_total",
        "cache_requests_total",
        "cache_entries",
        "cache_bytes",
        "cache_limit_bytes",
        "cache_evictions_total",
        "cache_store_skipped_total",
        "cache_invalidations_total",
        "cache_ttl_seconds",
        "token_expiry_timestamp_seconds",
        "token_refreshes_total",
        "token_refresh_duration_seconds",
        "secret_reloads_total",
        "clock_skew_seconds",
        "webhooks_total",
        "webhook_forward_duration_seconds",
        "draining",
        "build_info",
    ] {
        assert!(at_start.contains(&format!("sezzle_sidecar_{name}")), "{name} in {at_start:?}");
    }
    for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
        assert!(at_start.contains(name), "{name} in {at_start:?}");
    }

    harness.get("/v2/customer").await;
    let after = names(&scrape(&harness).await);
    let added: Vec<&str> = after.difference(&at_start).map(String::as_str).collect();
    assert_eq!(
        added,
        [
            "sezzle_sidecar_request_duration_seconds",
            "sezzle_sidecar_request_duration_seconds_bucket",
            "sezzle_sidecar_request_duration_seconds_sum",
            "sezzle_sidecar_requests_total"
        ]
    );
    harness.stop().await;
}

#[tokio::test]
async fn requests_are_counted_in_their_series() {
    let harness = Harness::start().await;
    let Session { path: lookup, order_path, .. } = Session::tokenize(&harness.gateway);
    harness.get(&lookup).await;
    harness.get(&lookup).await;
    harness.post(&format!("{order_path}/release"), "{}").await;
    harness.gateway.script(Rule::path("/v2/customer").reset(Reset::BeforeEffect));
    assert_eq!(harness.get("/v2/customer").await.status, 502);
    for (series, value) in [
        (r#"requests_total{code="200",method="GET",route="/v2/session/{session}",source="cache"}"#, 1.0),
        (r#"requests_total{code="200",method="GET",route="/v2/session/{session}",source="upstream"}"#, 1.0),
        (r#"requests_total{code="422",method="POST",route="/v2/order/{order}/release",source="upstream"}"#, 1.0),
        (r#"requests_total{code="502",method="GET",route="/v2/customer",source="sidecar"}"#, 1.0),
        (r#"request_duration_seconds_count{cache="hit",class="session"}"#, 1.0),
        (r#"request_duration_seconds_count{cache="bypass",class="money"}"#, 1.0),
        (r#"upstream_requests_total{code="201",method="POST",route="/v2/authentication"}"#, 1.0),
        (r#"upstream_requests_total{code="200",method="GET",route="/v2/session/{session}"}"#, 1.0),
        (r#"upstream_request_duration_seconds_count{class="credentials"}"#, 1.0),
        (r#"upstream_errors_total{kind="reset"}"#, 3.0),
        (r#"upstream_retries_total{reason="reset",result="failure"}"#, 2.0),
        (r#"upstream_retries_total{reason="reset",result="success"}"#, 0.0),
        (r#"token_refreshes_total{result="success",trigger="start"}"#, 1.0),
        (r#"cache_invalidations_total{source="write"}"#, 2.0),
        (r#"cache_evictions_total{cause="explicit"}"#, 1.0),
        ("cache_ttl_seconds_count", 1.0),
        ("cache_entries", 0.0),
        (r#"in_flight_requests{class="session"}"#, 0.0),
        (r#"upstream_connections{state="active"}"#, 0.0),
        (r#"connections{listener="proxy"}"#, 1.0),
        ("draining", 0.0),
    ] {
        assert_eq!(harness.metric(series).await, value, "{series}");
    }
    // Two hours from now, plus or minus the duration of this test.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let life = harness.metric("token_expiry_timestamp_seconds").await - now;
    assert!((6500.0..=7200.0).contains(&life), "{life}");
    harness.stop().await;
}

#[tokio::test]
async fn neither_callers_nor_the_gateway_can_create_series() {
    let harness = Harness::start().await;
    let lookup = Session::tokenize(&harness.gateway).path;
    let odd = async |n: u32| {
        let method = Method::from_bytes(format!("ODD{n}").as_bytes()).expect("a method");
        let odd_status = StatusCode::from_u16(u16::try_from(600 + n).expect("small")).expect("a status");
        harness.gateway.clear_rules();
        harness.gateway.script(Rule::path("/v2/odd/*").status(odd_status));
        harness.send(method.clone(), &format!("/v2/odd/{n}"), &[], "").await;
        harness.send(method, &format!("/elsewhere/{n}"), &[], "").await;
        harness.get(&format!("/v2/odd/{n}?query={n}")).await;
        harness.get(&format!("/v2/order/{n}")).await;
        harness.get(&format!("/v2/session/{n}")).await;
        harness.get(&format!("{lookup}{n}")).await;
        harness.get(&format!("/v2/new/call/{n}")).await;
        harness.get_with("/v2/customer", &[("host", &format!("{n}.example"))]).await;
        harness
            .get_with("/v2/customer", &[("user-agent", &format!("agent/{n}")), ("x-request-id", &n.to_string())])
            .await;
        raw(harness.proxy, format!("GET /v2/{n} HTTP/1.1\r\nhost: localhost\r\nhost: {n}\r\n\r\n")).await;
        raw(harness.proxy, format!("GARBAGE {n}\r\n\r\n")).await;
    };
    odd(0).await;
    let before = scrape(&harness).await.len();
    for n in 1..=200 {
        odd(n).await;
    }
    let samples = scrape(&harness).await;
    assert_eq!(samples.len(), before, "new series");
    let requests = samples.iter().filter(|sample| sample.name == "sezzle_sidecar_requests_total");
    assert!(requests.map(|sample| sample.value).sum::<f64>() >= 1800.0, "they were counted all the same");
    let all = |word: &str| samples.iter().any(|sample| sample.labels.contains(word));
    assert!(all("method=\"_OTHER\"") && all("code=\"other\"") && all("route=\"other\""));
    harness.stop().await;
}

#[tokio::test]
async fn all_calls_with_all_outcomes_stay_below_two_thousand_series() {
    let harness = Harness::start().await;
    let paths = [
        "authentication",
        "session",
        "session/fadbc642-05a4-4e38-9e74-80e325623af9",
        "order/o",
        "order/o/checkout",
        "order/o/capture",
        "order/o/refund",
        "order/o/release",
        "order/o/reauthorize",
        "order/o/upcharge",
        "customer",
        "customer/c",
        "customer/c/preapprove",
        "customer/c/order",
        "token/t/session",
        "token/t/customer",
        "webhooks",
        "webhooks/test",
        "webhooks/w",
        "settlements/summaries",
        "settlements/details/p",
        "orders/report",
        "interest/balance",
        "interest/activity",
        "new",
    ];
    // Each call with GET and POST, the most methods that a call is documented with, and Sezzle's answers in a bad week.
    for status in [200, 404, 422, 500, 503] {
        harness.gateway.clear_rules();
        let status = StatusCode::from_u16(status).expect("a status");
        for path in paths {
            harness.gateway.script(Rule::path(&format!("/v2/{path}")).status(status));
            for method in [Method::GET, Method::POST] {
                harness.send(method, &format!("/v2/{path}"), &[], "").await;
            }
        }
    }
    let samples = scrape(&harness).await;
    assert!(samples.len() < 2000, "{}", samples.len());
    harness.stop().await;
}

/// More than any caller and gateway can cause: every label with every word, together.
#[tokio::test]
async fn not_even_all_words_together_make_two_thousand_series() {
    let setup = Setup::default().set("WEBHOOKS__LISTEN", "127.0.0.1:0").set("CONTROL__LISTEN", "127.0.0.1:0");
    let (app, gateway) = setup.start().await.into_parts();
    let metrics = &app.metrics;
    let codes = (100..1000).map(|code| code_label(StatusCode::from_u16(code).expect("a status")));
    let codes: BTreeSet<_> = codes.collect();
    for route in Route::ALL.iter().map(|route| route.template()) {
        for (method, code) in METHODS.iter().flat_map(|method| codes.iter().map(move |code| (*method, *code))) {
            metrics.upstream_requests.with_label_values(&[route, method, code]).inc();
            for source in Source::WORDS {
                metrics.requests.with_label_values(&[route, method, code, source]).inc();
            }
        }
    }
    for class in Class::WORDS {
        metrics.upstream_duration.with_label_values(&[class]).observe(1.0);
        for result in CacheResult::WORDS.iter().filter(|result| class == "session" || **result == "bypass") {
            metrics.request_duration.with_label_values(&[class, result]).observe(1.0);
        }
    }
    let samples = parse(&metrics.render().expect("metrics"));
    assert!((1700..2000).contains(&samples.len()), "{}", samples.len());
    let sum = |name: &str| samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum::<f64>();
    let all = Route::ALL.len() as f64 * 8.0 * codes.len() as f64;
    assert!(sum("sezzle_sidecar_requests_total") >= 3.0 * all, "all are counted");
    assert!(sum("sezzle_sidecar_upstream_requests_total") >= all, "all are counted");
    app.drain().await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_metrics_show_how_full_the_sidecar_is() {
    let harness = Setup::default()
        .set("LIMITS__IN_FLIGHT", 8)
        .set("LIMITS__CONNECTIONS", 100)
        .set("CACHE__MAX_BYTES", "2MiB")
        .start()
        .await;
    let (gate, lookup) = (Gate::new(), Session::order(&harness.gateway).path);
    harness.gateway.script(Rule::path("/v2/orders/report").gate(&gate).status(StatusCode::OK));
    let report = async || harness.get("/v2/orders/report").await.status;
    let (first, second, ()) = tokio::join!(report(), report(), async {
        let waiting = async || harness.metric(r#"queue_length{class="report"}"#).await == 1.0;
        gate.arrived(1).await;
        eventually("one waits", waiting).await;
        // One answer for all series: the second report waits for no more than a second.
        let shown = harness.client.get(harness.ops, "/metrics").await;
        assert_eq!(harness.get(&lookup).await.status, 200, "reports do not delay a lookup");
        for (series, value) in [
            (r#"places_taken{class="report"}"#, 1.0),
            (r#"places_limit{class="report"}"#, 1.0),
            (r#"queue_limit{class="report"}"#, 1.0),
            (r#"places_taken{class="money"}"#, 0.0),
            (r#"places_limit{class="money"}"#, 8.0),
            (r#"queue_length{class="money"}"#, 0.0),
            (r#"queue_limit{class="money"}"#, 2.0),
            (r#"connections_limit{listener="proxy"}"#, 100.0),
            (r#"connections_limit{listener="ops"}"#, 64.0),
            (r#"connections_limit{listener="webhooks"}"#, 0.0),
            ("cache_limit_bytes", 2_097_152.0),
            ("cache_bytes", 0.0),
        ] {
            assert_eq!(shown.metric(series), value, "{series}");
        }
        gate.release();
    });
    assert!((500.0..10_000.0).contains(&harness.metric("cache_bytes").await));
    assert_eq!((first, second), (200, 200));
    let free = async || harness.metric(r#"places_taken{class="report"}"#).await == 0.0;
    eventually("all places are free", free).await;
    assert_eq!(harness.metric(r#"queue_length{class="report"}"#).await, 0.0);
    harness.stop().await;
}

#[test]
fn no_two_variants_share_a_word() {
    for words in [
        &CacheResult::WORDS[..],
        &Class::WORDS,
        &Cut::WORDS,
        &ErrorKind::WORDS,
        &NotStored::WORDS,
        &Source::WORDS,
        &WebhookResult::WORDS,
    ] {
        let distinct: BTreeSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), words.len(), "{words:?}");
    }
}

#[tokio::test]
async fn not_ready_before_the_first_token() {
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let gate = Gate::new();
    gateway.script(Rule::path("/v2/authentication").gate(&gate));
    let harness = Setup::default().set("GATEWAY__URL", gateway.url()).start_unready().await;
    gate.arrived(1).await;
    let get = async |path| harness.client.get(harness.ops, path).await;
    let early = get("/readyz").await;
    assert_eq!((early.status, early.text().as_str()), (503, "not ready: the first token is being obtained\n"));
    assert_eq!(get("/livez").await.status, 200);
    assert_eq!(get("/metrics").await.status, 200);
    assert_eq!(harness.metric("token_expiry_timestamp_seconds").await, 0.0);

    gate.release();
    eventually("ready", async || get("/readyz").await.status == 200).await;
    assert_eq!(get("/readyz").await.text(), "ready\n");
    harness.stop().await;
    gateway.stop().await;
}

const UNREACHABLE: &str = "not ready: the token exchange failed and is tried again: connection_refused: ";
const UNNAMED: &str =
    "not ready: the token exchange failed and is tried again: dns: the name nowhere.invalid was not resolved: ";

#[tokio::test]
async fn not_ready_without_a_token_and_the_reason_is_said() {
    let other = "11111111-2222-3333-4444-555555555555";
    let rejected = Setup::default().set("CREDENTIALS__PRIVATE_KEY", "sz_pr_wrong");
    let foreign = Setup::default().set("CREDENTIALS__MERCHANT_UUID", other);
    let unreachable = Setup::default().set("GATEWAY__URL", "http://127.0.0.1:1");
    let unnamed = Setup::default().set("GATEWAY__URL", "https://nowhere.invalid");
    for (setup, reason, result) in [
        (rejected, "not ready: Sezzle rejected the key pair\n", "rejected"),
        (foreign, "not ready: the keys authenticate as another merchant\n", "wrong_merchant"),
        (unreachable, UNREACHABLE, "failed"),
        (unnamed, UNNAMED, "failed"),
    ] {
        let harness = setup.start_unready().await;
        let get = async |path| harness.client.get(harness.ops, path).await;
        // The system words the end of some reasons.
        eventually(reason, async || get("/readyz").await.text().starts_with(reason)).await;
        let said = get("/readyz").await.text();
        assert_eq!((said.matches("dns").count(), said.lines().count()), (usize::from(reason == UNNAMED), 1), "{said}");
        assert_eq!(get("/readyz").await.status, 503);
        assert_eq!(get("/livez").await.status, 200);
        assert!(
            harness.metric(&format!("token_refreshes_total{{result=\"{result}\",trigger=\"start\"}}")).await >= 1.0
        );
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_ready_sidecar_stays_ready_without_sezzle() {
    let harness = Harness::start().await;
    harness.gateway_goes_away().await;
    let answer = harness.get("/v2/customer").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    let ready = harness.client.get(harness.ops, "/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    assert!(harness.metric(r#"upstream_errors_total{kind="connection_refused"}"#).await >= 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_draining_sidecar_is_alive_and_not_ready() {
    let setup = Setup::default().set("DRAIN__GRACE", "10m").set("DRAIN__TIMEOUT", "20m");
    let harness = setup.start().await;
    let (client, ops) = (crate::support::client::Client::new(), harness.ops);
    let (app, gateway) = harness.into_parts();
    let drain = tokio::spawn(app.drain());
    let ready = async || client.get(ops, "/readyz").await;
    eventually("not ready", async || ready().await.status == 503).await;
    assert_eq!(ready().await.text(), "not ready: draining\n");
    assert_eq!(client.get(ops, "/livez").await.status, 200);
    assert!(client.get(ops, "/metrics").await.text().contains("\nsezzle_sidecar_draining 1\n"));
    drain.abort();
    gateway.stop().await;
}

#[tokio::test]
async fn the_operators_listener_only_answers_questions() {
    let harness = Harness::start().await;
    for path in ["/metrics", "/livez", "/readyz"] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            let answer = harness.client.send(harness.ops, method.clone(), path, &[], "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
        let head = harness.client.send(harness.ops, Method::HEAD, path, &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(harness.client.get(harness.ops, path).await.header("cache-control"), "no-store");
    }
    for path in ["/status", "/metrics/", "/v2/customer", "/debug/pprof", "/env.json", "/quitquitquit"] {
        assert_eq!(harness.client.get(harness.ops, path).await.status, 404, "{path}");
    }
    // None of these requests reached Sezzle, and the proxy serves none of these paths.
    assert_eq!(harness.gateway.journal().len(), 1);
    assert_eq!(harness.get("/metrics").await.status, 404);
    harness.stop().await;
}

#[tokio::test]
async fn a_scrape_does_not_wait_for_requests_under_way() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let (under_way, ()) = tokio::join!(harness.get("/v2/customer"), async {
        gate.arrived(1).await;
        let read = r#"in_flight_requests{class="read"}"#;
        assert_eq!(harness.metric(read).await, 1.0);
        assert_eq!(harness.metric(r#"upstream_connections{state="active"}"#).await, 1.0);
        gate.release();
    });
    assert_eq!(under_way.status, 200);
    eventually("none in flight", async || harness.metric(r#"in_flight_requests{class="read"}"#).await == 0.0).await;
    harness.stop().await;
}
