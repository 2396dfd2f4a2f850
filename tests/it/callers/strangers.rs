//! Strangers that exchange keys slowly keep no known caller from its calls.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::{OFFICE_PRIVATE, OFFICE_PUBLIC, TILL, setup};
use crate::support::client::Answer;
use crate::support::process::Folder;
use crate::support::{Harness, audit_file, eventually};

const EXCHANGE: &str = "/v2/authentication";
/// `limits.in_flight`.
const PLACES: usize = 4;

async fn start(folder: &Folder) -> Harness {
    setup(folder).set("LIMITS__IN_FLIGHT", PLACES).start().await
}

/// The head of an exchange by a stranger.
fn head(method: &str, length: usize) -> String {
    format!("{method} {EXCHANGE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")
}

async fn capture(harness: &Harness) -> Answer {
    let authorization = format!("Bearer {TILL}");
    harness.send(Method::POST, "/v2/order/o/capture", &[("authorization", &authorization)], audit_file::CAPTURE).await
}

async fn exchange(harness: &Harness, private: &str) -> Answer {
    let keys = serde_json::json!({ "public_key": OFFICE_PUBLIC, "private_key": private });
    harness.send(Method::POST, EXCHANGE, &[], &keys.to_string()).await
}

#[tokio::test]
async fn slow_exchanges_keep_no_caller_from_its_calls() {
    let folder = Folder::new();
    let harness = start(&folder).await;
    let began = Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..2 * PLACES {
        let mut stranger = harness.wire().await;
        stranger.send(head("POST", 1000) + "{").await;
        strangers.push(stranger);
    }
    let shed = r#"shed_total{class="credentials",reason="receiving"}"#;
    eventually("all places are taken", async || harness.metric(shed).await == PLACES as f64).await;
    let captured = capture(&harness).await;
    assert_eq!((captured.status, captured.header("proxy-status")), (404, ""), "Sezzle's own: {}", captured.text());
    // Keys that come with their head need no place.
    assert_eq!(exchange(&harness, OFFICE_PRIVATE).await.status, 201);
    let mut told = Vec::new();
    for mut stranger in strangers {
        let answer = stranger.answer().await;
        told.push((answer.status, answer.error_code()));
    }
    told.sort();
    let expected = |code: u16, word: &str| vec![(code, format!("sidecar.{word}")); PLACES];
    assert_eq!(told, [expected(408, "body_timeout"), expected(503, "overloaded")].concat());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(harness.metric(r#"shed_total{class="money",reason="receiving"}"#).await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn no_body_of_another_method_is_waited_for() {
    let folder = Folder::new();
    let harness = start(&folder).await;
    for method in ["GET", "OPTIONS", "PUT", "DELETE"] {
        let mut strangers = Vec::new();
        for _ in 0..2 * PLACES {
            let mut stranger = harness.wire().await;
            stranger.send(head(method, 1000) + "{").await;
            strangers.push(stranger);
        }
        assert_eq!(capture(&harness).await.status, 404, "{method}");
        let began = Instant::now();
        for mut stranger in strangers {
            assert_eq!(stranger.answer().await.error_code(), "sidecar.method_not_allowed", "{method}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{method}: {:?}", began.elapsed());
    }
    harness.stop().await;
}

#[tokio::test]
async fn an_exchange_is_as_large_as_the_longest_keys_need() {
    let folder = Folder::new();
    let setup = setup(&folder);
    // The longest content of a secret's file, each byte of which JSON escapes.
    let private = "\"".repeat(4096);
    folder.write("office", &private);
    let harness = setup.start().await;
    assert_eq!(exchange(&harness, &private).await.status, 201);
    for head in
        [head("POST", 20_000), head("POST", 20_000).replace("content-length: 20000", "transfer-encoding: chunked")]
    {
        let mut stranger = harness.wire().await;
        stranger.send(head + "4e20\r\n" + &"x".repeat(20_000)).await;
        let answer = stranger.answer().await;
        assert_eq!(answer.error_code(), "sidecar.body_too_large");
        assert!(answer.text().contains("16 KiB"), "{}", answer.text());
    }
    harness.stop().await;
}
