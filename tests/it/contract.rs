//! Every call of Sezzle's v2 API through the sidecar: the documented status, and Sezzle's own bytes but for links.

use http::Method;
use serde_json::{Value, json};
use sezzle_sidecar::simulator::{Options, SessionKind};

use crate::support::{Harness, eventually};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// What Sezzle itself answers, asked with a token of its own, links as the sidecar would point them.
async fn direct(harness: &Harness, path: &str) -> (u16, String) {
    let keys = Options::default();
    let body = json!({ "public_key": keys.public_key, "private_key": keys.private_key }).to_string();
    let gateway = harness.gateway.addr();
    let granted = harness.client.send(gateway, Method::POST, "/v2/authentication", &JSON, &body).await;
    let bearer = format!("Bearer {}", granted.json()["token"].as_str().expect("a token"));
    let answer = harness.client.send(gateway, Method::GET, path, &[("authorization", &bearer)], "").await;
    let base = format!("\"href\":\"http://{}/", harness.proxy);
    (answer.status, answer.text().replace("\"href\":\"https://gateway.sezzle.com/", &base))
}

async fn write(harness: &Harness, method: Method, path: &str, body: Value, status: u16) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = harness.send(method.clone(), path, &JSON, &body).await;
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

fn price(cents: u64) -> Value {
    json!({ "amount_in_cents": cents, "currency": "USD" })
}

#[tokio::test]
async fn a_checkout_from_beginning_to_end() {
    let harness = Harness::start().await;
    let url = |path: &str| json!({ "href": format!("https://shop.example/{path}"), "method": "GET" });
    let create = json!({
        "cancel_url": url("no"), "complete_url": url("yes"), "customer": { "tokenize": true },
        "order": { "intent": "AUTH", "reference_id": "1", "description": "d", "order_amount": price(10_000) },
    });
    let created = write(&harness, Method::POST, "/v2/session", create, 201).await;
    let order = text(&created, "/order/uuid").to_owned();
    assert!(harness.gateway.complete_checkout(&order));

    // Links are followed as they are, as Sezzle's own plugin does.
    let base = format!("http://{}", harness.proxy);
    let path = |href: &str| href.strip_prefix(&base).unwrap_or_else(|| panic!("{href} leaves the sidecar")).to_owned();
    let session = harness.get(&path(text(&created, "/links/0/href"))).await;
    assert_eq!(text(&session.json(), "/order/uuid"), order);
    let links = session.json()["order"]["links"].as_array().expect("links").clone();
    let of = |rel: &str| {
        let link = links.iter().find(|link| link["rel"] == rel && link["method"] == "POST");
        path(text(link.unwrap_or_else(|| panic!("{rel}")), "/href"))
    };
    let capture = json!({ "capture_amount": price(4_000), "partial_capture": true });
    let captured = write(&harness, Method::POST, &of("capture"), capture, 200).await;
    assert!(!text(&captured, "/uuid").is_empty());
    write(&harness, Method::POST, &of("refund"), price(1_000), 200).await;
    write(&harness, Method::POST, &of("release"), price(2_000), 200).await;
    write(&harness, Method::PATCH, &format!("/v2/order/{order}"), json!({ "reference_id": "2" }), 204).await;
    for call in ["reauthorize", "upcharge"] {
        let body =
            if call == "upcharge" { json!({ "intent": "AUTH", "upcharge_amount": price(100) }) } else { price(100) };
        let answer = harness.send(Method::POST, &format!("/v2/order/{order}/{call}"), &JSON, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{call}: {}", answer.text());
    }
    let open = harness.gateway.create_session(SessionKind::Order).order.expect("an order");
    write(&harness, Method::DELETE, &format!("/v2/order/{open}/checkout"), Value::Null, 204).await;
    harness.stop().await;
}

#[tokio::test]
async fn customers_tokens_and_webhooks() {
    let harness = Harness::start().await;
    let ids = harness.gateway.create_session(SessionKind::Tokenize);
    let customer = harness.gateway.approve_token(&ids.token.expect("a token")).expect("a customer");
    let of = |tail: &str| format!("/v2/customer/{customer}{tail}");
    let approved = write(&harness, Method::POST, &of("/preapprove"), price(100), 200).await;
    assert_eq!(approved["approved"], true);
    let order = json!({ "intent": "AUTH", "reference_id": "1", "order_amount": price(100) });
    write(&harness, Method::POST, &of("/order"), order, 200).await;
    write(&harness, Method::DELETE, &of(""), Value::Null, 204).await;

    let webhook = json!({ "url": "https://shop.example/hook", "events": ["order.captured"] });
    let created = write(&harness, Method::POST, "/v2/webhooks", webhook, 200).await;
    let listed = harness.get("/v2/webhooks").await.json();
    assert_eq!(listed[0]["uuid"], created["uuid"]);
    let test = json!({ "url": "https://shop.example/hook", "event": "order.captured" });
    write(&harness, Method::POST, "/v2/webhooks/test", test, 204).await;
    let path = format!("/v2/webhooks/{}", text(&created, "/uuid"));
    write(&harness, Method::DELETE, &path, Value::Null, 204).await;
    harness.stop().await;
}

#[tokio::test]
async fn every_read_passes_sezzles_bytes() {
    let harness = Harness::start().await;
    let ids = harness.gateway.create_session(SessionKind::OrderAndTokenize);
    let token = ids.token.expect("a token");
    let customer = harness.gateway.approve_token(&token).expect("a customer");
    for path in [
        format!("/v2/session/{}", ids.session),
        format!("/v2/order/{}", ids.order.expect("an order")),
        "/v2/customer".to_owned(),
        format!("/v2/customer/{customer}"),
        format!("/v2/token/{token}/session"),
        "/v2/webhooks".to_owned(),
        "/v2/settlements/details/c1a0b9d2-3d6e-4f0a-9b51-7e2c88d04f13".to_owned(),
        "/v2/orders/report?start-date=2026-01-01".to_owned(),
        "/v2/interest/balance?currency-code=USD".to_owned(),
        "/v2/interest/activity?start-date=2026-01-01".to_owned(),
    ] {
        let (status, body) = direct(&harness, &path).await;
        let answer = harness.get(&path).await;
        assert_eq!((answer.status, answer.text()), (status, body), "{path}");
        assert_eq!(status, 200, "{path}");
    }
    // It states the present moment, so two answers differ.
    let summaries = harness.get("/v2/settlements/summaries?start-date=2026-01-01").await;
    assert!(summaries.status == 200 && summaries.json().is_array());
    harness.stop().await;
}

#[tokio::test]
async fn every_error_passes_as_sezzle_gave_it() {
    let harness = Harness::start().await;
    let absent = "fadbc642-05a4-4e38-9e74-80e325623af9";
    for (method, path, body, status) in [
        (Method::GET, format!("/v2/session/{absent}"), "", 404),
        (Method::GET, "/v2/session/nonsense".to_owned(), "", 400),
        (Method::GET, format!("/v2/order/{absent}"), "", 404),
        (Method::POST, "/v2/session".to_owned(), "{}", 422),
        (Method::POST, "/v2/session".to_owned(), "not json", 400),
        (Method::POST, format!("/v2/order/{absent}/capture"), "{}", 404),
        (Method::DELETE, format!("/v2/customer/{absent}"), "", 404),
        (Method::GET, "/v2/nothing".to_owned(), "", 404),
    ] {
        let answer = harness.send(method.clone(), &path, &JSON, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let error = &answer.json()[0];
        assert!(error["debug_uuid"].is_string() && error["message"].is_string(), "{error}");
        assert!(!error["code"].as_str().expect("a code").starts_with("sidecar."), "{error}");
    }
    eventually("nothing is left under way", async || {
        harness.metric(r#"upstream_connections{state="active"}"#).await == 0.0
    })
    .await;
    harness.stop().await;
}
