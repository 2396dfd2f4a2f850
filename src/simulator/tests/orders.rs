use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::tests::{Caller, start};
use crate::simulator::{CheckoutStatus, Effect, EffectKind, SessionKind, Simulator, Upcharge};

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
    let last = json!({"capture_amount": price(500), "partial_capture": false});
    assert_eq!(caller.post(&captures, &last).await.status, 200);
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
async fn a_capture_leaves_the_rest_unless_it_says_that_it_is_the_last() {
    for (keeps_rest, partial, left) in [
        (true, None, 6000),
        (true, Some(true), 6000),
        (true, Some(false), 0),
        (false, None, 0),
        (false, Some(true), 6000),
        (false, Some(false), 0),
    ] {
        let simulator = start().await;
        simulator.configure(|options| options.capture_keeps_rest = keeps_rest);
        let mut caller = Caller::login(&simulator).await;
        let (path, _) = authorized(&simulator);
        let mut body = json!({"capture_amount": price(4000)});
        if let Some(partial) = partial {
            body["partial_capture"] = json!(partial);
        }
        assert_eq!(caller.post(&format!("{path}/capture"), &body).await.status, 200);
        let release =
            async |caller: &mut Caller, cents| caller.post(&format!("{path}/release"), &price(cents)).await.status;
        assert_eq!(release(&mut caller, left + 1).await, 422, "{keeps_rest} {partial:?}");
        if left > 0 {
            assert_eq!(release(&mut caller, left).await, 200, "{keeps_rest} {partial:?}");
        }
    }
}

#[tokio::test]
async fn a_reauthorization_is_a_new_order_with_the_same_reference() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = authorized(&simulator);
    assert_eq!(caller.send("PATCH", &path, r#"{"reference_id": "r-7"}"#.into()).await.unwrap().status, 204);
    let reauthorize = format!("{path}/reauthorize");
    assert_eq!(caller.post(&reauthorize, &price(10_001)).await.locations(), ["amount_in_cents"]);
    let renewed = caller.post(&reauthorize, &price(200)).await.json();
    assert_ne!(renewed["uuid"], order.as_str());
    assert_eq!((&renewed["reference_id"], &renewed["intent"]), (&json!("r-7"), &json!("AUTH")));
    let own = format!("/v2/order/{}", renewed["uuid"].as_str().unwrap());
    assert_eq!(caller.get(&own).await.json(), renewed);
    simulator.configure(|options| options.approving = false);
    let reply = caller.post(&reauthorize, &price(200)).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["authorization"]["approved"]), (200, &json!(false)));
    let effects: Vec<(EffectKind, u64)> =
        simulator.effects(&order).iter().map(|effect| (effect.kind, effect.cents)).collect();
    assert_eq!(effects, [(EffectKind::Update, 0), (EffectKind::Reauthorize, 200)]);
}

fn upcharge(cents: i64) -> Value {
    json!({"intent": "CAPTURE", "upcharge_amount": price(cents)})
}

#[tokio::test]
async fn an_upcharge_is_an_order_of_its_own_within_15_percent() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = authorized(&simulator);
    let upcharges = format!("{path}/upcharge");
    simulator.configure(|options| options.approving = false);
    assert_eq!(caller.post(&upcharges, &upcharge(1500)).await.json()["authorization"]["approved"], false);
    simulator.configure(|options| options.approving = true);
    let new = caller.post(&upcharges, &upcharge(1000)).await.json();
    assert_ne!(new["uuid"], order.as_str());
    assert_eq!((&new["order_amount"], &new["is_upcharge"]), (&price(1000), &json!(true)));
    assert_eq!(new["parent_order_uuid"], order.as_str());
    assert_eq!(new["authorization"]["captures"][0]["amount"], price(1000));
    let own = format!("/v2/order/{}", new["uuid"].as_str().unwrap());
    assert_eq!(caller.get(&own).await.json(), new);
    assert_eq!(caller.post(&upcharges, &upcharge(501)).await.locations(), ["upcharge_amount.amount_in_cents"]);
    assert_eq!(caller.post(&upcharges, &upcharge(500)).await.status, 200);

    let first = caller.get(&path).await.json();
    let listed = first["upcharges"].as_array().unwrap();
    assert_eq!(listed[0], json!({"uuid": new["uuid"], "amount": price(1000)}));
    assert_eq!((listed.len(), &listed[1]["amount"]), (2, &price(500)));
    assert_eq!(first["authorization"]["releases"], json!([]));
    assert!(first.get("is_upcharge").is_none());
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(10_000)).await.status, 200, "it is still in force");
}

#[tokio::test]
async fn an_upcharge_of_2021_takes_the_place_of_the_order() {
    let simulator = start().await;
    simulator.configure(|options| options.upcharge = Upcharge::Replaces);
    let mut caller = Caller::login(&simulator).await;
    let (path, _) = authorized(&simulator);
    let new = caller.post(&format!("{path}/upcharge"), &upcharge(1000)).await.json();
    assert_eq!((&new["order_amount"], new.get("parent_order_uuid")), (&price(11_000), None));
    let first = caller.get(&path).await.json();
    assert_eq!(first["authorization"]["releases"][0]["amount"], price(10_000));
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(1)).await.status, 422);
}

#[tokio::test]
async fn the_checkout_says_how_far_it_is() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let mut orders = Vec::new();
    for _ in 0..4 {
        let order = simulator.create_session(SessionKind::Order).order.unwrap();
        orders.push(format!("/v2/order/{order}"));
    }
    let id = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
    assert!(simulator.complete_checkout(&id(&orders[1])));
    assert!(simulator.deny_checkout(&id(&orders[2])));
    assert!(!simulator.deny_checkout(&id(&orders[2])) && !simulator.deny_checkout(&id(&orders[1])));
    assert_eq!(caller.send("DELETE", &format!("{}/checkout", orders[3]), "".into()).await.unwrap().status, 204);
    for (order, status) in orders.iter().zip(["active", "complete", "denied", "deleted"]) {
        assert_eq!(caller.get(order).await.json()["checkout_status"], status);
    }
    simulator.configure(|options| options.checkout_status = CheckoutStatus::Completed);
    assert_eq!(caller.get(&orders[1]).await.json()["checkout_status"], "completed");
    simulator.configure(|options| options.checkout_status = CheckoutStatus::Absent);
    assert!(caller.get(&orders[1]).await.json().get("checkout_status").is_none());
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
    simulator.configure(|options| options.authorization_life = Duration::ZERO);
    assert_eq!(caller.post(&format!("{captured}/capture"), &capture(100)).await.status, 200, "given before");
    let (path, _) = authorized(&simulator);
    for (call, body) in [("capture", capture(1)), ("release", price(1))] {
        assert_eq!(caller.post(&format!("{path}/{call}"), &body).await.locations(), ["order_uuid"]);
    }
    simulator.configure(|options| options.authorization_life = Duration::MAX);
    let renewed = caller.post(&format!("{path}/reauthorize"), &price(10_000)).await.json();
    assert_eq!(renewed["authorization"]["approved"], true);
    let renewed = format!("/v2/order/{}", renewed["uuid"].as_str().unwrap());
    assert_eq!(caller.post(&format!("{renewed}/capture"), &capture(10_000)).await.status, 200);
    assert_eq!(caller.post(&format!("{path}/capture"), &capture(1)).await.status, 422, "the first stays as it was");
}
