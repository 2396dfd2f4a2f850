//! Clients that check what they read refuse an answer for one wrong member. These are the checks of public clients.

use http::Uri;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::simulator::tests::{Caller, start};

fn is_date(value: &Value) -> bool {
    value.as_str().is_some_and(|date| OffsetDateTime::parse(date, &Rfc3339).is_ok())
}

/// A price has two members and no third: strict readers refuse more.
fn is_price(value: &Value) -> bool {
    let members = value.as_object().map(|price| price.keys().map(String::as_str).collect::<Vec<_>>());
    members.is_some_and(|members| members == ["amount_in_cents", "currency"])
        && value["amount_in_cents"].is_u64()
        && ["USD", "CAD"].iter().any(|currency| value["currency"] == *currency)
}

fn has_links(value: &Value) -> bool {
    let link = |link: &Value| {
        let uri: Option<Uri> = link["href"].as_str().and_then(|href| href.parse().ok());
        let method = ["GET", "POST", "PATCH", "DELETE"].iter().any(|method| link["method"] == *method);
        uri.is_some_and(|uri| uri.scheme_str() == Some("https")) && method && link["rel"].is_string()
    };
    value["links"].as_array().is_some_and(|links| !links.is_empty() && links.iter().all(link))
}

fn is_authorization(value: &Value) -> bool {
    let moved = |name: &str| {
        let event = |event: &Value| event["uuid"].is_string() && is_price(&event["amount"]);
        value[name].as_array().is_some_and(|events| events.iter().all(event))
    };
    is_price(&value["authorization_amount"])
        && value["approved"].is_boolean()
        && is_date(&value["expiration"])
        && ["captures", "refunds", "releases"].into_iter().all(moved)
}

fn is_order(value: &Value) -> bool {
    let intent = ["AUTH", "CAPTURE"].iter().any(|intent| value["intent"] == *intent);
    let status = ["active", "complete", "denied", "deleted"].iter().any(|status| value["checkout_status"] == *status);
    let authorization = &value["authorization"];
    value["uuid"].is_string()
        && intent
        && status
        && has_links(value)
        && is_price(&value["order_amount"])
        && (authorization.is_null() || is_authorization(authorization))
}

#[tokio::test]
async fn strict_readers_accept_sessions_orders_and_customers() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let url = json!({"href": "https://shop.example/", "method": "GET"});
    let price = |cents: u64| json!({"amount_in_cents": cents, "currency": "USD"});
    let customer = json!({"tokenize": true, "first_name": "Ada", "email": "a@shop.example"});
    let order = json!({"intent": "AUTH", "reference_id": "r", "description": "d", "order_amount": price(10_000)});
    let body = json!({"cancel_url": url, "complete_url": url, "customer": customer, "order": order});
    let session = caller.post("/v2/session", &body).await.json();
    assert!(session["uuid"].is_string() && has_links(&session) && has_links(&session["order"]), "{session}");
    let tokenize = &session["tokenize"];
    assert!(is_date(&tokenize["expiration"]) && has_links(tokenize) && tokenize["token"].is_string(), "{tokenize}");

    let path = format!("/v2/order/{}", session["order"]["uuid"].as_str().unwrap());
    let open = caller.get(&path).await.json();
    assert!(is_order(&open) && open.get("authorization").is_none(), "{open}");
    assert!(simulator.complete_checkout(session["order"]["uuid"].as_str().unwrap()));
    for (call, body) in [
        ("capture", json!({"capture_amount": price(4000)})),
        ("refund", price(1000)),
        ("release", price(500)),
        ("reauthorize", price(200)),
        ("upcharge", json!({"intent": "AUTH", "upcharge_amount": price(100)})),
    ] {
        let answer = caller.post(&format!("{path}/{call}"), &body).await.json();
        assert!(answer["uuid"].is_string(), "{call}: {answer}");
        let is_new_order = ["reauthorize", "upcharge"].contains(&call);
        assert_eq!(is_order(&answer), is_new_order, "{call}: {answer}");
        assert!(!is_new_order || answer["intent"] == "AUTH", "{call}: {answer}");
    }
    let order = caller.get(&path).await.json();
    assert!(is_order(&order) && is_authorization(&order["authorization"]), "{order}");
    assert_eq!((&order["reference_id"], &order["description"]), (&json!("r"), &json!("d")));

    // An answer without a first name makes a shop forget its customer.
    let customer = simulator.approve_token(tokenize["token"].as_str().unwrap()).unwrap();
    let customer = caller.get(&format!("/v2/customer/{customer}")).await.json();
    assert!(customer["first_name"] == "Ada" && is_date(&customer["expiration"]) && has_links(&customer), "{customer}");
}

#[tokio::test]
async fn strict_readers_accept_tokens_and_refusals() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    let token = caller.authenticate().await.json();
    assert!(is_date(&token["expiration_date"]), "{token}");
    assert!(["token", "merchant_uuid"].iter().all(|name| token[*name].as_str().is_some_and(|text| !text.is_empty())));
    // The code is read from the first problem, and its texts are all texts.
    let refused = caller.get("/v2/customer").await.json();
    assert!(
        ["code", "location", "message", "debug_uuid"].iter().all(|name| refused[0][*name].is_string()),
        "{refused}"
    );
}
