use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::simulator::Effect;
use crate::simulator::EffectKind;
use crate::simulator::SessionKind;
use crate::simulator::Simulator;
use crate::simulator::tests::Caller;
use crate::simulator::tests::start;

fn price(cents: i64) -> Value {
    json!({"amount_in_cents": cents, "currency": "USD"})
}

fn capture(cents: i64) -> Value {
    json!({"capture_amount": price(cents), "partial_capture": true})
}

/// A path to an authorized order over 100.00 USD, and its id.
fn authorized(simulator: &Simulator) -> (String, String) {
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    assert!(simulator.complete_checkout(&order));
    (format!("/v2/order/{order}"), order)
}

#[tokio::test]
async fn money_moves_only_after_the_checkout() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    let path = format!("/v2/order/{order}");
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(1)).await.status, 422);
    assert!(caller.get(&path).await.json().get("authorization").is_none());
    assert!(simulator.complete_checkout(&order));
    assert!(!simulator.complete_checkout(&order));
    assert!(!simulator.complete_checkout("unknown"));
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(1)).await.status, 200);
    assert_eq!(caller.post("/v2/order/unknown/capture", &capture(1)).await.status, 404);
}

#[tokio::test]
async fn sums_are_kept_and_nothing_exceeds_them() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = authorized(&simulator);
    let [captures, refunds, releases] = ["capture", "refund", "release"].map(|call| format!("{path}/{call}"));

    assert_eq!(caller.post(&captures, &capture(10_001)).await.locations(), ["capture_amount.amount_in_cents"]);
    assert_eq!(caller.post(&captures, &price(1)).await.locations(), ["capture_amount.amount_in_cents"]);
    assert_eq!(caller.post(&captures, &capture(0)).await.status, 422);
    let euros = json!({"capture_amount": {"amount_in_cents": 1, "currency": "EUR"}});
    assert_eq!(caller.post(&captures, &euros).await.locations(), ["capture_amount.currency"]);
    assert_eq!(caller.post(&refunds, &price(1)).await.locations(), ["amount_in_cents"]);

    assert_eq!(caller.post(&captures, &capture(4000)).await.status, 200);
    assert_eq!(caller.post(&releases, &price(1000)).await.status, 200);
    assert_eq!(caller.post(&captures, &capture(5001)).await.status, 422);
    assert_eq!(caller.post(&captures, &capture(1000)).await.status, 200);
    assert_eq!(caller.post(&refunds, &price(5001)).await.status, 422);
    assert_eq!(caller.post(&refunds, &price(5000)).await.status, 200);
    // The last capture lets go of what is left.
    assert_eq!(caller.post(&captures, &json!({"capture_amount": price(500)})).await.status, 200);
    assert_eq!(caller.post(&releases, &price(1)).await.status, 422);

    let body = caller.get(&path).await.json();
    let sum = |name: &str| -> i64 {
        let entries = body["authorization"][name].as_array().unwrap();
        entries.iter().map(|entry| entry["amount"]["amount_in_cents"].as_i64().unwrap()).sum()
    };
    assert_eq!((sum("captures"), sum("refunds"), sum("releases")), (5500, 5000, 4500));
    assert_eq!(body["authorization"]["authorization_amount"], price(10_000));
    assert_eq!(body["authorization"]["approved"], true);
    let kinds: Vec<EffectKind> = simulator.effects(&order).iter().map(|effect| effect.kind).collect();
    use EffectKind::{Capture, Refund, Release};
    assert_eq!(kinds, [Capture, Release, Capture, Refund, Capture]);
}

#[tokio::test]
async fn a_key_has_one_effect_on_one_path() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await.with_key("once");
    let (path, order) = authorized(&simulator);
    let first = caller.post(&format!("{path}/capture"), &capture(100)).await;
    let second = caller.post(&format!("{path}/capture"), &capture(100)).await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    let effect = Effect { kind: EffectKind::Capture, cents: 100, key: Some("once".to_owned()) };
    assert_eq!(simulator.effects(&order), [effect]);
    assert_eq!(caller.post(&format!("{path}/refund"), &price(100)).await.status, 200);
    let mut caller = caller.with_key("twice");
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(100)).await.status, 200);
    assert_eq!(simulator.effects(&order).len(), 3);
    let effects: Vec<bool> = simulator.journal().iter().map(|entry| entry.effect).collect();
    assert_eq!(effects, [true, true, false, true, true]);
}

#[tokio::test]
async fn without_a_key_every_call_counts() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = authorized(&simulator);
    for _ in 0..2 {
        assert_eq!(caller.post(&format!("{path}/capture"), &capture(100)).await.status, 200);
    }
    assert_eq!(simulator.effects(&order).len(), 2);
}

#[tokio::test]
async fn every_write_shows_in_the_session() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let ids = simulator.create_session(SessionKind::Order);
    let (session, order) = (format!("/v2/session/{}", ids.session), ids.order.unwrap());
    let path = format!("/v2/order/{order}");
    let mut seen = vec![caller.get(&session).await.body];
    let reply = caller.send("PATCH", &path, r#"{"reference_id": "r-2"}"#.into()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    seen.push(caller.get(&session).await.body);
    simulator.complete_checkout(&order);
    seen.push(caller.get(&session).await.body);
    for (call, body) in [("capture", capture(200)), ("refund", price(100)), ("release", price(100))] {
        assert_eq!(caller.post(&format!("{path}/{call}"), &body).await.status, 200);
        seen.push(caller.get(&session).await.body);
    }
    let count = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), count);
    assert_eq!(caller.get(&path).await.json()["reference_id"], "r-2");
    assert_eq!(caller.send("PATCH", &path, "{}".into()).await.unwrap().status, 422);
}

#[tokio::test]
async fn a_checkout_is_deleted_once_and_before_it_is_complete() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    let path = format!("/v2/order/{order}/checkout");
    assert_eq!(caller.send("DELETE", &path, "".into()).await.unwrap().status, 204);
    assert_eq!(caller.send("DELETE", &path, "".into()).await.unwrap().status, 422);
    assert!(!simulator.complete_checkout(&order));
    assert_eq!(simulator.effects(&order).len(), 1);
}

#[tokio::test]
async fn an_express_checkout_is_changed_while_it_is_open() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let ids = simulator.create_session(SessionKind::Order);
    let (session, order) = (format!("/v2/session/{}", ids.session), ids.order.unwrap());
    let path = format!("/v2/order/{order}/checkout");
    let before = caller.get(&session).await.body;
    let body = r#"{"currency_code":"USD","address_uuid":"a","shipping_options":[]}"#;
    let reply = caller.send("PATCH", &path, body.into()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    assert_ne!(caller.get(&session).await.body, before, "the session shows it");
    let bare = json!({"code": "bad_request", "message": "bad request"});
    for body in ["", "[]", "{}", r#"{"currency_code":"USD"}"#] {
        let reply = caller.send("PATCH", &path, body.into()).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.json()), (400, bare.clone()), "{body}");
    }
    simulator.configure(|options| options.checkout_update_status = 200);
    assert_eq!(caller.send("PATCH", &path, body.into()).await.unwrap().status, 200);
    assert!(simulator.complete_checkout(&order));
    assert_eq!(caller.send("PATCH", &path, body.into()).await.unwrap().status, 422);
    let kinds: Vec<EffectKind> = simulator.effects(&order).iter().map(|effect| effect.kind).collect();
    assert_eq!(kinds, [EffectKind::UpdateCheckout; 2]);
}

#[tokio::test]
async fn a_renewal_is_a_new_order_if_it_is_approved() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = authorized(&simulator);
    let upcharge = json!({"intent": "CAPTURE", "upcharge_amount": price(300)});
    assert_eq!(caller.post(&format!("{path}/reauthorize"), &price(10_001)).await.locations(), ["amount_in_cents"]);
    for (call, body, captures) in [("reauthorize", price(200), 0), ("upcharge", upcharge, 1)] {
        let path = format!("{path}/{call}");
        let renewed = caller.post(&path, &body).await.json();
        assert_ne!(renewed["uuid"], order.as_str());
        assert_eq!(renewed["authorization"]["captures"].as_array().unwrap().len(), captures);
        let own = format!("/v2/order/{}", renewed["uuid"].as_str().unwrap());
        assert_eq!(caller.get(&own).await.json(), renewed);
        simulator.set_approving(false);
        let reply = caller.post(&path, &body).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["authorization"]["approved"]), (200, &json!(false)));
        simulator.set_approving(true);
    }
    let effects: Vec<(EffectKind, u64)> =
        simulator.effects(&order).iter().map(|effect| (effect.kind, effect.cents)).collect();
    assert_eq!(effects, [(EffectKind::Reauthorize, 200), (EffectKind::Upcharge, 300)]);
}

#[tokio::test]
async fn intent_capture_captures_with_the_checkout() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let url = json!({"href": "https://shop.example/", "method": "GET"});
    let body = json!({"cancel_url": url, "complete_url": url, "order": {"order_amount": price(700)}});
    let session = caller.post("/v2/session", &body).await.json();
    let order = session["order"]["uuid"].as_str().unwrap();
    assert_eq!(session["order"]["intent"], "CAPTURE");
    assert!(simulator.complete_checkout(order));
    let body = caller.get(&format!("/v2/order/{order}")).await.json();
    assert_eq!(body["authorization"]["captures"][0]["amount"], price(700));
    assert!(simulator.effects(order).is_empty());
}

#[tokio::test]
async fn an_authorization_runs_out_and_is_renewed() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (captured, _) = authorized(&simulator);
    assert_eq!(caller.post(&format!("{captured}/capture"), &capture(100)).await.status, 200);
    simulator.set_authorization_life(Duration::ZERO);
    assert_eq!(caller.post(&format!("{captured}/capture"), &capture(100)).await.status, 200, "given before");
    let (path, _) = authorized(&simulator);
    for (call, body) in [("capture", capture(1)), ("release", price(1))] {
        assert_eq!(caller.post(&format!("{path}/{call}"), &body).await.locations(), ["order_uuid"]);
    }
    simulator.set_authorization_life(Duration::MAX);
    let renewed = caller.post(&format!("{path}/reauthorize"), &price(10_000)).await.json();
    assert_eq!(renewed["authorization"]["approved"], true);
    let renewed = format!("/v2/order/{}", renewed["uuid"].as_str().unwrap());
    assert_eq!(caller.post(&format!("{renewed}/capture"), &capture(10_000)).await.status, 200);
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(1)).await.status, 422, "the first stays as it was");
}
