use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::SessionKind;
use crate::simulator::tests::{Caller, start};

#[tokio::test]
async fn a_token_is_used_once_and_in_time() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(simulator.approve_token("unknown"), None);
    let token = simulator.create_session(SessionKind::Tokenize).token.unwrap();
    let path = format!("/v2/token/{token}/session");
    assert!(caller.get(&path).await.json().get("customer").is_none());
    let customer = simulator.approve_token(&token).unwrap();
    assert_eq!(simulator.approve_token(&token), None);
    assert_eq!(caller.get(&path).await.json()["customer"]["uuid"], customer.as_str());
    assert_eq!(caller.get("/v2/token/unknown/session").await.status, 404);
    simulator.configure(|options| options.tokenize_life = Duration::ZERO);
    let token = simulator.create_session(SessionKind::Tokenize).token.unwrap();
    assert_eq!(simulator.approve_token(&token), None);
}

#[tokio::test]
async fn customers_are_listed_read_and_deleted() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let url = json!({"href": "https://shop.example/", "method": "GET"});
    let customer = json!({"tokenize": true, "email": "a@shop.example"});
    let session =
        caller.post("/v2/session", &json!({"cancel_url": url, "complete_url": url, "customer": customer})).await.json();
    assert_eq!(caller.get("/v2/customer").await.json(), json!([]));
    let id = simulator.approve_token(session["tokenize"]["token"].as_str().unwrap()).unwrap();
    let path = format!("/v2/customer/{id}");
    assert_eq!(caller.get("/v2/customer").await.json()[0]["uuid"], id.as_str());
    assert_eq!(caller.get(&path).await.json()["email"], "a@shop.example");
    assert_eq!(caller.send("DELETE", &path, "".into()).await.unwrap().status, 204);
    assert_eq!(caller.get(&path).await.status, 404);
    assert_eq!(caller.get("/v2/customer").await.json(), json!([]));
}

#[tokio::test]
async fn a_customer_can_be_charged_without_a_checkout() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await.with_key("once");
    let id = simulator.approve_token(&simulator.create_session(SessionKind::Tokenize).token.unwrap()).unwrap();
    let path = format!("/v2/customer/{id}/order");
    let price = json!({"amount_in_cents": 900, "currency": "USD"});
    let first = caller.post(&path, &json!({"intent": "AUTH", "order_amount": price})).await;
    let body: Value = first.json();
    assert_eq!((first.status.as_u16(), &body["authorization"]["approved"]), (200, &json!(true)));
    assert_eq!(caller.post(&path, &json!({"intent": "AUTH", "order_amount": price})).await.body, first.body);
    let order = format!("/v2/order/{}", body["uuid"].as_str().unwrap());
    assert_eq!(caller.get(&order).await.json(), body);
    assert_eq!(caller.with_key("other").post(&path, &json!({})).await.locations(), ["order_amount"]);

    let mut caller = Caller::login(&simulator).await;
    let preapprove = format!("/v2/customer/{id}/preapprove");
    assert_eq!(caller.post(&preapprove, &price).await.json()["approved"], true);
    simulator.configure(|options| options.approving = false);
    assert_eq!(caller.post(&preapprove, &price).await.json()["approved"], false);
    let declined = caller.post(&path, &json!({"order_amount": price})).await.json();
    assert_eq!(declined["authorization"]["approved"], false);
    let release = format!("/v2/order/{}/release", declined["uuid"].as_str().unwrap());
    assert_eq!(caller.post(&release, &price).await.status, 422);
    assert_eq!(caller.post("/v2/customer/unknown/order", &json!({"order_amount": price})).await.status, 404);
}

#[tokio::test]
async fn a_denied_token_is_used_up_and_nobody_is_told() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let hook = json!({"url": "https://shop.example/", "events": ["customer.tokenized"]});
    assert_eq!(caller.post("/v2/webhooks", &hook).await.status, 200);
    let token = simulator.create_session(SessionKind::Tokenize).token.unwrap();
    assert!(simulator.deny_token(&token));
    assert!(!simulator.deny_token(&token) && !simulator.deny_token("unknown"));
    assert_eq!(simulator.approve_token(&token), None);
    assert!(caller.get(&format!("/v2/token/{token}/session")).await.json().get("customer").is_none());
    assert_eq!(caller.get(&format!("/v2/token/{token}/customer")).await.status, 404);
    assert_eq!(caller.get("/v2/customer").await.json(), json!([]));
    assert!(simulator.deliveries().is_empty());
}

#[tokio::test]
async fn a_token_names_its_customer() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let token = simulator.create_session(SessionKind::Tokenize).token.unwrap();
    let path = format!("/v2/token/{token}/customer");
    assert_eq!(caller.get(&path).await.status, 404);
    let customer = simulator.approve_token(&token).unwrap();
    let body = caller.get(&path).await.json();
    assert_eq!((&body["customer_uuid"], &body["status"]), (&json!(customer), &json!("Active")));
    assert_eq!(body["links"].as_array().unwrap().len(), 2);
    caller.send("DELETE", &format!("/v2/customer/{customer}"), "".into()).await.unwrap();
    assert_eq!(caller.get(&path).await.status, 404);
}
