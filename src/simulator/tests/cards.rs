use std::time::Duration;

use serde_json::json;

use crate::simulator::Simulator;
use crate::simulator::tests::{Caller, start};

/// A card's token, fresh from the shopper's window.
fn token(simulator: &Simulator) -> String {
    simulator.finish_card(&simulator.create_card()).unwrap()
}

#[tokio::test]
async fn a_virtual_card_is_read_once() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let customer = json!({"first_name": "Ada", "last_name": "Test"});
    let body = json!({"origin": "https://shop.example", "mode": "iframe", "card_response_format": "token", "customer": customer});
    let reply = caller.post("/v2/session/card", &body).await;
    assert_eq!(reply.status, 201);
    let session = reply.json();
    assert_eq!(session.as_object().unwrap().keys().collect::<Vec<_>>(), ["dashboard_url", "uuid"]);
    let id = session["uuid"].as_str().unwrap();
    let token = simulator.finish_card(id).unwrap();
    assert_eq!(simulator.finish_card(id), None, "a shopper finishes once");

    let path = format!("/v2/session/card/token/{token}");
    let card = caller.get(&path).await;
    assert_eq!(card.status, 200);
    let expected = json!({
        "pan": "4111111111111111", "cvv_number": "123", "expiration_date": "1299", "first_name": "Ada", "last_name": "Test",
    });
    assert_eq!(card.json(), expected);
    assert_eq!(caller.get(&path).await.status, 404);
    let effects: Vec<bool> = simulator.journal().iter().skip(2).map(|entry| entry.effect).collect();
    assert_eq!(effects, [true, false], "the first read is an effect");
}

#[tokio::test]
async fn head_reads_a_card_as_well() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let path = format!("/v2/session/card/token/{}", token(&simulator));
    assert_eq!(caller.send("HEAD", &path, "".into()).await.unwrap().status, 200);
    assert_eq!(caller.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_card_is_the_merchants_own_and_waits_for_a_day() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let mine = token(&simulator);
    simulator.configure(|options| options.merchant_uuid = "another".to_owned());
    let theirs = token(&simulator);
    simulator.configure(|options| options.card_token_life = Duration::ZERO);
    simulator.configure(|options| options.merchant_uuid = crate::simulator::Options::default().merchant_uuid);
    let late = token(&simulator);
    for (token, status) in [(theirs, 404), (late, 404), (mine, 200)] {
        assert_eq!(caller.get(&format!("/v2/session/card/token/{token}")).await.status, status);
    }
}

#[tokio::test]
async fn a_card_session_takes_the_merchants_order_id() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let id = simulator.create_card();
    let (session, path) = (format!("/v2/session/{id}"), format!("/v2/session/{id}/card"));
    assert_eq!(caller.get(&session).await.json()["card"], json!({"order_id": null}));
    assert_eq!(caller.send("PATCH", &path, r#"{"order_id":"o-1"}"#.into()).await.unwrap().status, 204);
    assert_eq!(caller.get(&session).await.json()["card"], json!({"order_id": "o-1"}));
    let reply = caller.send("PATCH", &path, "{}".into()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.locations()), (422, vec!["order_id".to_owned()]));
    let ordinary = simulator.create_session(crate::simulator::SessionKind::Order).session;
    let reply = caller.send("PATCH", &format!("/v2/session/{ordinary}/card"), "{}".into()).await.unwrap();
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_card_session_needs_its_window() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(caller.post("/v2/session/card", &json!({})).await.locations(), ["origin", "mode"]);
    let body = json!({"origin": "https://shop.example", "mode": "redirect"});
    assert_eq!(caller.post("/v2/session/card", &body).await.locations(), ["mode"]);
    let body = json!({"origin": "https://shop.example", "mode": "popup"});
    let session = caller.post("/v2/session/card", &body).await.json();
    assert_eq!(simulator.finish_card(session["uuid"].as_str().unwrap()), None, "no token unless it was asked for");
}
