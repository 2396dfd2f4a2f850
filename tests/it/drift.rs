//! Differences between Sezzle's bodies and their documentation are counted: members that are new, that are missing, or
//! that have another form. Each such member is logged once.

use http::Method;
use serde_json::{Value, json};
use sezzle_sidecar::simulator::{Options, Rule};

use crate::support::process::Sidecar;
use crate::support::service::signature;
use crate::support::{Harness, Session, Setup, eventually};

const SESSION: &str = "/v2/session/{session}";

async fn drift(harness: &Harness, route: &str, kind: &str) -> f64 {
    harness.metric(&format!("contract_drift_total{{kind=\"{kind}\",route=\"{route}\"}}")).await
}

#[tokio::test]
async fn documented_bodies_have_neither_gaps_nor_other_forms() {
    let harness = Setup::default().set("WEBHOOKS__LISTEN", "127.0.0.1:0").start().await;
    for session in [Session::order(&harness.gateway), Session::tokenize(&harness.gateway).authorized(&harness.gateway)]
    {
        harness.get(&session.path).await;
        harness.get(&session.order_path).await;
    }
    let body = json!({"uuid": "a", "created_at": "b", "event": "order.captured", "data_type": "order",
        "data": {"uuid": "c", "source": "gateway", "new": 1}})
    .to_string();
    let signed = signature(&Options::default().private_key, &body);
    let headers = [("sezzle-signature", signed.as_str())];
    let sent = harness.client.send(harness.webhooks(), Method::POST, "/webhooks/sezzle", &headers, &body).await;
    assert_eq!(sent.status, 200);
    // The last body was compared, so the others were as well.
    eventually("compared", async || drift(&harness, "webhook", "added").await == 1.0).await;
    for route in [SESSION, "/v2/order/{order}", "webhook"] {
        for kind in ["missing", "type"] {
            assert_eq!(drift(&harness, route, kind).await, 0.0, "{route} {kind}");
        }
    }
    harness.stop().await;
}

/// The body of a session with a change.
async fn changed(harness: &Sidecar, session: &Session, change: impl FnOnce(&mut Value)) -> String {
    let mut body = harness.get(&session.path).await.json();
    change(&mut body);
    body.to_string()
}

#[tokio::test]
async fn each_difference_is_counted_when_it_is_fetched_and_logged_once() {
    let sidecar = Sidecar::start(Options::default(), &[("CACHE__UNTOKENIZED_TTL", "60s")]).await;
    let count = async |kind: &str| {
        sidecar.metric(&format!("contract_drift_total{{kind=\"{kind}\",route=\"{SESSION}\"}}")).await
    };
    let (first, second) = (Session::order(&sidecar.gateway), Session::order(&sidecar.gateway));
    let stored = Session::order(&sidecar.gateway);
    sidecar.get(&stored.path).await;
    let known = count("added").await;
    let mut expected = Vec::new();
    for session in [&first, &second] {
        let body = changed(&sidecar, session, |body| {
            body["installments"] = json!(4);
            body["order"]["checkout_url"] = json!(7);
            body["order"].as_object_mut().expect("an object").remove("uuid");
        })
        .await;
        expected.push(body);
    }
    let of_simulator = async || count("added").await;
    eventually("the first bodies", async || of_simulator().await > known).await;
    let before = of_simulator().await;
    for (session, body) in [&first, &second].into_iter().zip(&expected) {
        sidecar.gateway.script(Rule::on(Method::GET, &session.path).body(body.clone()));
        let fetched =
            sidecar.client.send(sidecar.proxy, Method::GET, &session.path, &[("cache-control", "no-cache")], "");
        assert_eq!(fetched.await.json()["installments"], 4, "passed on as it is");
    }
    eventually("counted", async || count("missing").await == 2.0 && count("type").await == 2.0).await;
    assert!(of_simulator().await > before);
    let counted = [count("added").await, count("missing").await, count("type").await];
    for _ in 0..20 {
        assert!(sidecar.get(&stored.path).await.cache().starts_with("hit"));
    }
    assert_eq!(counted, [count("added").await, count("missing").await, count("type").await], "hits are not compared");
    let status = sidecar.client.get(sidecar.ops, "/status.json").await.json();
    assert_eq!(status["conditions"][0]["condition"], "contract_drift", "{status}");
    let ended = sidecar.stop().await;
    for (member, message) in [
        ("installments", "Sezzle's body has a member that is not documented"),
        ("order.uuid", "Sezzle's body lacks a member that is documented"),
        ("order.checkout_url", "a member of Sezzle's body has another form than documented"),
    ] {
        let lines =
            ended.stdout.lines().filter(|line| line.contains(message) && line.contains(&format!("\"{member}\"")));
        assert_eq!(lines.count(), 1, "{member}: {}", ended.stdout);
    }
}
