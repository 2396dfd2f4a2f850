//! `GET /v2/session/card/token/{token}` destroys the card data that it returns. The sidecar refuses the call unless it
//! is allowed by configuration. An allowed call is sent once, and only its caller gets the answer.

use std::time::Duration;

use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderValue, Method, StatusCode};
use sezzle_sidecar::simulator::{Fault, Gate, Reset, Rule};

use crate::support::client::{Answer, Client};
use crate::support::process::Sidecar;
use crate::support::{Harness, Setup, arrived, eventually};

const PATH: &str = "/v2/session/card/token/T0k3n-0f-a-card";
const CARD: &str = r#"{"pan":"4111111111111111","cvv_number":"987","expiration_date":"1230","first_name":"Zelda","last_name":"Quux","links":[{"href":"https://gateway.sezzle.com/v2/order/o"}]}"#;
const TEMPLATE: &str = "/v2/session/card/token/{token}";

/// All the same to a gateway that does not mind the case of a path, or a slash at its end.
const SPELLINGS: [&str; 6] = [
    PATH,
    "/v2/session/card/token/T0k3n-0f-a-card/",
    "/v2/SESSION/CARD/TOKEN/T0k3n-0f-a-card",
    "/v2/Session/card/Token/T0k3n-0f-a-card/x",
    "/v2/%C5%BFession/card/to%E2%84%AAen/T0k3n-0f-a-card",
    "/v2/session/card/token/T0k3n-0f-a-card?x=1",
];

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fn setup() -> Setup {
    Setup::default().set("PROXY__CARD_DATA", "forward")
}

fn card() -> Rule {
    Rule::path(PATH).status(StatusCode::OK).body(CARD)
}

fn sent(harness: &Harness) -> usize {
    harness.received().len()
}

fn is_unknown(answer: &Answer) {
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{}", answer.text());
    assert!(answer.text().contains("the card may have been read"), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn without_the_setting_no_read_of_card_data_is_sent() {
    let harness = Harness::start().await;
    for path in SPELLINGS {
        for method in METHODS {
            let answer = harness.send(method.clone(), path, &[], "").await;
            assert_eq!(answer.status, 403, "{method} {path}");
            if method != Method::HEAD {
                assert_eq!(answer.error_code(), "sidecar.card_data_refused", "{method} {path}");
                assert!(!answer.text().contains("T0k3n"), "{}", answer.text());
            }
        }
    }
    assert_eq!(sent(&harness), 0);
    let refused = (SPELLINGS.len() * METHODS.len()) as f64;
    assert_eq!(harness.metric(r#"requests_refused_total{reason="card_data_refused"}"#).await, refused);
    let series = format!(r#"requests_total{{code="403",method="GET",route="{TEMPLATE}",source="sidecar"}}"#);
    assert_eq!(harness.metric(&series).await, SPELLINGS.len() as f64);
    harness.stop().await;
}

#[tokio::test]
async fn a_card_comes_as_sezzle_sent_it_and_is_stored_by_nobody() {
    let harness = setup().start().await;
    let stored = HeaderValue::from_static("max-age=3600");
    harness
        .gateway
        .script(card().set_header(CACHE_CONTROL, stored).set_header(ETAG, HeaderValue::from_static("\"e\"")));
    // Sezzle deletes the card with this answer, so a part of the card or a 304 would be lost data.
    let conditions = [("range", "bytes=0-3"), ("if-none-match", "\"e\""), ("if-match", "\"f\"")];
    let answer = harness.get_with(PATH, &conditions).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, CARD));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.cache(), "fwd=bypass; fwd-status=200");
    assert_eq!(harness.received(), [format!("GET {PATH}")]);
    let last = harness.gateway.journal().pop().expect("the read");
    for (name, _) in conditions {
        assert!(!last.headers.contains_key(name), "{name} was sent");
    }
    harness.gateway.script(Rule::path(PATH).status(StatusCode::NOT_FOUND).body("[]"));
    assert_eq!(harness.get(PATH).await.status, 404, "the second read finds nothing, here and at Sezzle");
    assert_eq!(sent(&harness), 2);
    assert_eq!(harness.metric("cache_entries").await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn at_a_gateway_that_deletes_what_it_gives_one_read_finds_the_card() {
    let harness = setup().start().await;
    let token = || harness.gateway.finish_card(&harness.gateway.create_card()).expect("a token");
    let path = format!("/v2/session/card/token/{}", token());
    let answer = harness.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["pan"].is_string() && answer.json()["cvv_number"].is_string(), "{}", answer.text());
    assert_eq!(harness.get(&path).await.status, 404);
    let path = format!("/v2/session/card/token/{}", token());
    assert_eq!(harness.send(Method::HEAD, &path, &[], "").await.status, 405);
    harness.gateway.script(Rule::path(&path).times(1).reset(Reset::AfterEffect));
    is_unknown(&harness.get(&path).await);
    assert_eq!(harness.get(&path).await.status, 404, "it was read, and its answer was lost");
    harness.stop().await;
}

#[tokio::test]
async fn no_other_method_reads_a_card() {
    let harness = setup().start().await;
    harness.gateway.script(card());
    for path in SPELLINGS {
        for method in METHODS.into_iter().filter(|method| *method != Method::GET) {
            let answer = harness.send(method.clone(), path, &[], "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, "GET"), "{method} {path}");
        }
    }
    assert_eq!(sent(&harness), 0);
    harness.stop().await;
}

#[tokio::test]
async fn a_card_is_asked_for_once_whatever_becomes_of_the_answer() {
    let harness = setup().set("GATEWAY__WRITE_TIMEOUT", "500ms").start().await;
    let series = format!(r#"money_outcome_unknown_total{{route="{TEMPLATE}"}}"#);
    assert_eq!(harness.metric(&series).await, 0.0);
    let gate = Gate::new();
    let mut reads = 0;
    for rule in [
        card().reset(Reset::BeforeEffect),
        card().reset(Reset::AfterEffect),
        card().fault(Fault::Garbage("".into())),
        card().fault(Fault::CutBody(0)),
        card().fault(Fault::CutBody(20)),
        // Complete by its framing, and yet without the card.
        Rule::path(PATH).status(StatusCode::OK).body(""),
        card().gate(&gate),
    ] {
        let shown = format!("{rule:?}");
        harness.gateway.clear_rules();
        harness.gateway.script(rule);
        is_unknown(&harness.get(PATH).await);
        reads += 1;
        assert_eq!(sent(&harness), reads, "{shown}");
        assert_eq!(harness.metric(&series).await, reads as f64, "{shown}");
    }
    gate.release();
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT] {
        harness.gateway.clear_rules();
        harness.gateway.script(Rule::path(PATH).status(status).body("[]"));
        let answer = harness.get(PATH).await;
        assert_eq!((answer.status, answer.text().as_str()), (status.as_u16(), "[]"), "Sezzle's own");
        assert_eq!(answer.header("cache-control"), "no-store");
        reads += 1;
        assert_eq!(sent(&harness), reads, "{status}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_read_of_which_nothing_was_done_is_sent_again() {
    let harness = setup().start().await;
    harness.gateway.script(card());
    harness.gateway.script(Rule::path(PATH).times(1).status(StatusCode::UNAUTHORIZED).body("[]"));
    assert_eq!(harness.get(PATH).await.text(), CARD, "a 401 was not processed");
    assert_eq!(sent(&harness), 2);
    harness.gateway_goes_away().await;
    let answer = harness.get(PATH).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    assert_eq!(harness.metric(r#"upstream_errors_total{kind="connection_refused"}"#).await, 3.0, "tried three times");
    harness.stop().await;
}

#[tokio::test]
async fn a_slow_answer_is_streamed() {
    let harness = setup().start().await;
    harness.gateway.script(card().fault(Fault::SlowBody(Duration::from_secs(3600))));
    let mut wire = harness.wire().await;
    wire.send(format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    let read = wire.read_until("\"pan\":\"4111").await;
    assert!(read.contains("cache-control: no-store\r\n"), "{read}");
    drop(wire);
    let (app, gateway) = harness.into_parts();
    gateway.stop().await;
    app.drain().await;
}

#[tokio::test]
async fn neither_a_hold_nor_a_breaker_keeps_a_card_back_and_it_opens_none() {
    let harness = setup().start().await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::INTERNAL_SERVER_ERROR).body("[]"));
    let open = async || harness.metric(r#"breaker_state{class="read"}"#).await == 1.0;
    for _ in 0..40 {
        harness.get("/v2/customer").await;
    }
    assert!(open().await, "lookups fail");
    harness.gateway.script(card());
    harness.gateway.script(Rule::path(PATH).times(1).status(StatusCode::TOO_MANY_REQUESTS).body("[]"));
    assert_eq!(harness.get(PATH).await.status, 429);
    assert_eq!(harness.get(PATH).await.text(), CARD, "sent while lookups are held back and after a 429 of its own");
    harness.stop().await;

    let harness = setup().start().await;
    harness.gateway.script(Rule::path(PATH).status(StatusCode::INTERNAL_SERVER_ERROR).body("[]"));
    for _ in 0..40 {
        assert_eq!(harness.get(PATH).await.status, 500);
    }
    assert_eq!(harness.get("/v2/customer").await.status, 200);
    for class in ["session", "read", "report", "webhooks"] {
        assert_eq!(harness.metric(&format!(r#"breaker_state{{class="{class}"}}"#)).await, 0.0, "{class}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_read_whose_caller_hangs_up_runs_to_its_end_and_is_told_of() {
    let variables = [("PROXY__CARD_DATA", "forward"), ("LOG__LEVEL", "info")];
    let sidecar = Sidecar::start(Default::default(), &variables).await;
    let gate = Gate::new();
    sidecar.gateway.script(card().gate(&gate));
    // Over HTTP/1.1 a caller that has gone looks like one that waits.
    let proxy = sidecar.proxy;
    let caller = tokio::spawn(async move { Client::http2().get(proxy, PATH).await });
    arrived(&gate, 1).await;
    caller.abort();
    eventually("noticed", async || sidecar.metric(r#"in_flight_requests{class="money"}"#).await == 0.0).await;
    gate.release();
    // An answered call appears in the log, too, without a size.
    sidecar.gateway.clear_rules();
    sidecar.gateway.script(card());
    assert_eq!(sidecar.get(PATH).await.text(), CARD);
    let ended = sidecar.stop().await;
    let lines: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let about = |message: &str| {
        let all = lines.iter().filter(|line| line["message"] == message && line["route"] == TEMPLATE);
        all.cloned().collect::<Vec<_>>()
    };
    let gone = about("a card was read after its caller had gone");
    assert_eq!((gone.len(), &gone[0]["code"]), (1, &serde_json::json!(200)), "{}", ended.stdout);
    let requests = about("request");
    assert_eq!(requests.len(), 2, "{}", ended.stdout);
    let served = requests.iter().find(|line| line["code"] == 200).expect("the second read");
    assert!(served.get("bytes_out").is_none(), "the size of a card: {served}");
    assert!(!ended.stdout.contains("T0k3n") && !ended.stdout.contains("4111"), "{}", ended.stdout);
}
