//! `webhooks.subscription`: the sidecar sees whether Sezzle has our subscription, and registers it if that is wanted, once
//! for each time that it is gone.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sezzle_sidecar::simulator::{Reset, Rule};
use sezzle_sidecar::telemetry::metrics::WEBHOOK_EVENTS;

use crate::support::process::check;
use crate::support::{Harness, Setup, eventually};

const URL: &str = "https://hooks.shop.example/webhooks/sezzle";

fn with(subscription: &str) -> Setup {
    Setup::default()
        .set("WEBHOOKS__LISTEN", "127.0.0.1:0")
        .set("WEBHOOKS__PUBLIC_URL", URL)
        .set("WEBHOOKS__SUBSCRIPTION", subscription)
}

async fn present(harness: &Harness, expected: f64) {
    eventually("the gauge", async || harness.metric("webhook_subscription_present").await == expected).await;
}

async fn looks(harness: &Harness, result: &str) -> f64 {
    harness.metric(&format!("webhook_subscription_checks_total{{result=\"{result}\"}}")).await
}

/// Sezzle's list, as a service sees it.
async fn list(harness: &Harness) -> Vec<Value> {
    harness.get("/v2/webhooks").await.json().as_array().expect("a list").clone()
}

/// The calls that changed the list.
fn changes(harness: &Harness) -> Vec<String> {
    harness.received().into_iter().filter(|call| !call.starts_with("GET")).collect()
}

async fn register(harness: &Harness, url: &str, events: &[&str]) -> String {
    let answer = harness.post("/v2/webhooks", &json!({"url": url, "events": events}).to_string()).await;
    assert_eq!(answer.status, 200);
    answer.json()["uuid"].as_str().expect("an id").to_owned()
}

/// Ten minutes pass, and the sidecar looks again.
async fn ten_minutes_later(harness: &Harness) {
    let all = async || {
        let mut sum = 0.0;
        for result in ["present", "incomplete", "absent", "failed"] {
            sum += looks(harness, result).await;
        }
        sum
    };
    let before = all().await;
    harness.clock.advance(Duration::from_secs(601));
    eventually("a look", async || all().await > before).await;
}

#[tokio::test]
async fn a_watched_subscription_is_seen_and_never_touched() {
    let harness = with("watch").start().await;
    present(&harness, 0.0).await;
    register(&harness, "https://other.example/webhooks", &WEBHOOK_EVENTS).await;
    let id = register(&harness, URL, &["order.captured"]).await;
    ten_minutes_later(&harness).await;
    assert_eq!((looks(&harness, "absent").await, looks(&harness, "incomplete").await), (1.0, 1.0));
    let status = harness.client.get(harness.ops, "/status.json").await.json();
    assert_eq!(status["conditions"][0]["condition"], "webhook_unsubscribed", "{status}");

    let body = json!({"url": URL, "events": WEBHOOK_EVENTS}).to_string();
    let json = [("content-type", "application/json")];
    assert_eq!(harness.send(Method::PATCH, &format!("/v2/webhooks/{id}"), &json, &body).await.status, 200);
    ten_minutes_later(&harness).await;
    present(&harness, 1.0).await;
    assert_eq!(changes(&harness).len(), 3, "the test's own");
    harness.stop().await;
}

#[tokio::test]
async fn a_kept_subscription_is_registered_and_again_after_sezzle_has_deleted_it() {
    let harness = with("keep").start().await;
    present(&harness, 1.0).await;
    let [subscription] = list(&harness).await.try_into().expect("one");
    assert_eq!((&subscription["url"], &subscription["events"]), (&json!(URL), &json!(WEBHOOK_EVENTS)));
    ten_minutes_later(&harness).await;
    assert_eq!(changes(&harness), ["POST /v2/webhooks"], "once");

    let delete = async || {
        let id = list(&harness).await[0]["uuid"].as_str().expect("an id").to_owned();
        assert_eq!(harness.send(Method::DELETE, &format!("/v2/webhooks/{id}"), &[], "").await.status, 204);
    };
    delete().await;
    ten_minutes_later(&harness).await;
    eventually("registered again", async || list(&harness).await.len() == 1).await;
    present(&harness, 1.0).await;

    // Somebody deletes it time and again: the sidecar waits longer.
    delete().await;
    ten_minutes_later(&harness).await;
    present(&harness, 0.0).await;
    assert_eq!(list(&harness).await.len(), 0);
    ten_minutes_later(&harness).await;
    eventually("registered for the third time", async || list(&harness).await.len() == 1).await;
    present(&harness, 1.0).await;
    assert_eq!(harness.metric(r#"webhook_subscription_changes_total{result="success"}"#).await, 3.0);
    harness.stop().await;
}

#[tokio::test]
async fn missing_events_are_added_to_the_subscription_and_none_is_taken_away() {
    let harness = with("watch").start().await;
    register(&harness, URL, &["order.captured", "order.released"]).await;
    let gateway = harness.gateway.clone();
    harness.stop_alone().await;
    let harness = with("keep").before(&gateway).start().await;
    present(&harness, 1.0).await;
    let [subscription] = list(&harness).await.try_into().expect("one");
    let events = subscription["events"].as_array().expect("a list");
    assert_eq!(events.len(), WEBHOOK_EVENTS.len() + 1);
    assert!(events.contains(&json!("order.released")), "{events:?}");
    harness.stop().await;
}

#[tokio::test]
async fn a_registration_that_fails_is_repeated_later_and_brings_no_second_subscription() {
    let harness = with("keep")
        .start_with(|gateway| {
            gateway.script(Rule::on(Method::POST, "/v2/webhooks").times(1).reset(Reset::AfterEffect));
        })
        .await;
    // The registration was done, and its answer was lost.
    present(&harness, 1.0).await;
    assert_eq!(harness.metric(r#"webhook_subscription_changes_total{result="failed"}"#).await, 1.0);
    ten_minutes_later(&harness).await;
    assert_eq!((list(&harness).await.len(), changes(&harness).len()), (1, 1));

    harness.gateway.script(Rule::on(Method::GET, "/v2/webhooks").times(1).status(StatusCode::FORBIDDEN));
    ten_minutes_later(&harness).await;
    assert_eq!(looks(&harness, "failed").await, 1.0);
    present(&harness, 1.0).await;
    assert_eq!(changes(&harness).len(), 1, "nothing is registered blindly");
    harness.stop().await;
}

#[tokio::test]
async fn without_the_key_nobody_looks_and_without_a_url_it_is_a_mistake() {
    let harness = Setup::default().set("WEBHOOKS__LISTEN", "127.0.0.1:0").start().await;
    harness.clock.advance(Duration::from_secs(3600));
    assert_eq!(harness.received(), [""; 0]);
    harness.stop().await;
    let ended = check(&[("WEBHOOKS__SUBSCRIPTION", "keep")]).await;
    assert_eq!(ended.code, Some(78));
    for key in ["webhooks.public_url is not set", "webhooks.listen is not set"] {
        assert!(ended.stderr.contains(key), "{}", ended.stderr);
    }
}
