use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::simulator::tests::{Caller, Reply, soon, start};
use crate::simulator::{Options, Simulator};

/// A control call that succeeds.
async fn control(caller: &mut Caller, method: &str, path: &str, body: &Value) -> Value {
    let reply = attempt(caller, method, path, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{method} {path}: {reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json");
    reply.json()
}

async fn attempt(caller: &mut Caller, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    soon(caller.send(method, &format!("/_simulator/{path}"), body)).await.unwrap()
}

async fn script(caller: &mut Caller, rule: Value) {
    control(caller, "POST", "rules", &rule).await;
}

/// An order that can be captured from, and the path that does so.
async fn authorized(caller: &mut Caller) -> (String, String) {
    let ids = control(caller, "POST", "sessions", &json!({"kind": "order"})).await;
    assert_eq!(ids["token"], Value::Null);
    let order = ids["order"].as_str().unwrap().to_owned();
    assert_eq!(control(caller, "POST", &format!("orders/{order}/complete"), &Value::Null).await, json!({}));
    let path = format!("/v2/order/{order}/capture");
    (order, path)
}

fn capture() -> Value {
    json!({"capture_amount": {"amount_in_cents": 5, "currency": "USD"}, "partial_capture": true})
}

async fn effects(caller: &mut Caller, order: &str) -> Value {
    control(caller, "GET", &format!("orders/{order}/effects"), &Value::Null).await["effects"].clone()
}

#[tokio::test]
async fn a_shopper_finishes_a_checkout_and_what_follows_can_be_seen() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await.with_key("one");
    let (order, path) = authorized(&mut caller).await;
    let again = attempt(&mut caller, "POST", &format!("orders/{order}/complete"), &Value::Null).await;
    assert_eq!((again.status.as_u16(), again.json()["error"].is_string()), (404, true));
    assert_eq!(caller.post(&path, &capture()).await.status, 200);
    assert_eq!(effects(&mut caller, &order).await, json!([{"kind": "capture", "cents": 5, "key": "one"}]));
    assert_eq!(attempt(&mut caller, "GET", "orders/unknown/effects", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_shopper_approves_a_token_once() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let ids = control(&mut caller, "POST", "sessions", &json!({"kind": "order_and_tokenize"})).await;
    assert!(ids["order"].is_string(), "{ids}");
    let path = format!("tokens/{}/approve", ids["token"].as_str().unwrap());
    let customer = control(&mut caller, "POST", &path, &Value::Null).await["customer"].clone();
    let found = caller.get(&format!("/v2/customer/{}", customer.as_str().unwrap())).await;
    assert_eq!((found.status.as_u16(), &found.json()["uuid"]), (200, &customer));
    assert_eq!(attempt(&mut caller, "POST", &path, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn settings_are_changed_together_or_not_at_all() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let before = control(&mut caller, "GET", "settings", &Value::Null).await;
    assert_eq!((&before["token_life"], &before["approving"]), (&json!("2h"), &json!(true)));
    let wrong = json!({"approving": false, "token_life": "1m", "tokenize_life": "soon"});
    let reply = attempt(&mut caller, "PATCH", "settings", &wrong).await;
    assert_eq!(reply.status, 422);
    assert!(reply.json()["error"].as_str().unwrap().starts_with("tokenize_life: expected a duration"), "{reply:?}");
    assert_eq!(control(&mut caller, "GET", "settings", &Value::Null).await, before);

    let wanted = json!({
        "merchant_uuid": "merchant", "approving": false, "tokenize_expiration": {"offset": -330},
        "authorization_life": "1d", "card_token_life": "1h", "feature_flags": false, "session_slash": false,
        "public_key_calls": false, "checkout_update_status": 200, "webhook_test_status": 204, "webhook_conflict": false,
        "links": "empty_object", "approval_url": false, "capture_keeps_rest": false, "upcharge": "replaces",
        "checkout_status": "completed", "order_report": "csv", "settlement_columns": "older", "plain_404": false,
        "errors": "bare", "unauthed_checkout_url": "https://checkout.example/", "tokenized_data_type": "customer",
        "signature_encoding": "base64", "idle_timeout": "20s",
        "token_life": "90s", "tokenize_life": "5m", "tokenize_place": "both", "expiration_digits": 0,
        "clock_skew": -60, "link_base": "https://elsewhere", "report_bytes": 10, "report_length": true, "webhook_retries": ["1s", "2m"], "webhook_timeout": "3s",
    });
    for (name, value) in before.as_object().unwrap() {
        assert_ne!(&wanted[name], value, "{name} is to be changed");
    }
    assert_eq!(control(&mut caller, "PATCH", "settings", &wanted).await, wanted);
    assert_eq!(control(&mut caller, "GET", "settings", &Value::Null).await, wanted);
    assert_eq!(caller.authenticate().await.json()["merchant_uuid"], "merchant");
    control(&mut caller, "POST", "revoke-tokens", &Value::Null).await;
    assert_eq!(caller.get("/v2/customer").await.status, 401);
}

#[tokio::test]
async fn a_click_a_denial_and_a_dispute_are_asked_for() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (order, _) = authorized(&mut caller).await;
    let click = |kind: &str, cents: u64| json!({"kind": kind, "cents": cents});
    let dashboard = format!("orders/{order}/dashboard");
    assert_eq!(control(&mut caller, "POST", &dashboard, &click("capture", 700)).await, json!({}));
    assert_eq!(control(&mut caller, "POST", &dashboard, &click("refund", 200)).await, json!({}));
    assert_eq!(
        effects(&mut caller, &order).await,
        json!([{"kind": "capture", "cents": 700, "key": null}, {"kind": "refund", "cents": 200, "key": null}])
    );
    let open = control(&mut caller, "POST", "sessions", &json!({"kind": "order"})).await["order"].clone();
    let deny = format!("orders/{}/deny", open.as_str().unwrap());
    for (path, body, status) in [
        (dashboard.clone(), click("refund", 501), 422),
        (dashboard.clone(), click("capture", u64::MAX), 422),
        (dashboard, click("upcharge", 1), 422),
        ("orders/none/dashboard".to_owned(), click("refund", 1), 404),
        (format!("orders/{}/dashboard", open.as_str().unwrap()), click("capture", 1), 422),
        (deny.clone(), Value::Null, 200),
        (deny, Value::Null, 404),
        (format!("orders/{order}/dispute"), json!({"event": "dispute.closed.neutral"}), 200),
        (format!("orders/{order}/dispute"), json!({"event": "order.captured"}), 422),
        ("orders/none/dispute".to_owned(), json!({"event": "dispute.closed.neutral"}), 404),
    ] {
        assert_eq!(attempt(&mut caller, "POST", &path, &body).await.status, status, "{path} {body}");
    }
    let denied = caller.get(&format!("/v2/order/{}", open.as_str().unwrap())).await.json();
    assert_eq!(denied["checkout_status"], "denied");
}

#[tokio::test]
async fn a_shopper_finishes_a_card_once() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let session = control(&mut caller, "POST", "cards", &Value::Null).await["session"].clone();
    let finish = format!("cards/{}/finish", session.as_str().unwrap());
    let token = control(&mut caller, "POST", &finish, &Value::Null).await["token"].clone();
    let path = format!("/v2/session/card/token/{}", token.as_str().unwrap());
    assert_eq!(caller.get(&path).await.status, 200);
    assert_eq!(attempt(&mut caller, "POST", &finish, &Value::Null).await.status, 404);
    let body = json!({"origin": "https://shop.example", "mode": "popup"});
    let session = caller.post("/v2/session/card", &body).await.json()["uuid"].clone();
    let finish = format!("cards/{}/finish", session.as_str().unwrap());
    assert_eq!(control(&mut caller, "POST", &finish, &Value::Null).await, json!({"token": null}));
}

#[tokio::test]
async fn keys_rotate_with_an_overlap_or_at_once() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for (overlap, old) in [("1h", 201), ("0s", 401)] {
        let keys = json!({"public_key": "sz_pub_new", "private_key": "sz_pr_new"});
        let mut rotation = keys.clone();
        rotation["overlap"] = json!(overlap);
        assert_eq!(control(&mut caller, "PUT", "keys", &rotation).await, json!({}));
        assert_eq!(caller.post("/v2/authentication", &keys).await.status, 201, "{overlap}");
        assert_eq!(caller.authenticate().await.status, old, "{overlap}");
        control(&mut caller, "POST", "reset", &Value::Null).await;
    }
}

#[tokio::test]
async fn a_shopper_denies_a_token_once() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    let ids = control(&mut caller, "POST", "sessions", &json!({"kind": "tokenize"})).await;
    let token = ids["token"].as_str().unwrap();
    assert_eq!(control(&mut caller, "POST", &format!("tokens/{token}/deny"), &Value::Null).await, json!({}));
    for verdict in ["deny", "approve"] {
        let again = attempt(&mut caller, "POST", &format!("tokens/{token}/{verdict}"), &Value::Null).await;
        assert_eq!(again.status, 404, "{verdict}");
    }
}

#[tokio::test]
async fn a_rule_bends_the_gateway_and_never_the_control() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (order, path) = authorized(&mut caller).await;
    script(&mut caller, json!({"status": 503, "times": 2, "set_headers": {"Retry-After": "7"}, "body": {"odd": 1}}))
        .await;
    for _ in 0..2 {
        let reply = caller.post(&path, &capture()).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (503, json!({"odd": 1})));
        assert_eq!(reply.headers["retry-after"], "7");
    }
    assert_eq!(effects(&mut caller, &order).await, json!([]));
    script(&mut caller, json!({"method": "POST", "reset": "after_effect"})).await;
    for (method, path) in [("POST", "reset"), ("GET", "journal")] {
        assert_eq!(attempt(&mut caller, method, path, &Value::Null).await.status, 200);
        script(&mut caller, json!({"reset": "before_reading"})).await;
    }
}

#[tokio::test]
async fn every_way_to_spoil_an_answer_can_be_asked_for() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for (fault, whole) in [
        (json!({"garbage": "SSH-2.0-simulated\r\n"}), false),
        (json!({"slow_head": "1ms"}), true),
        (json!({"late_body": "1ms"}), true),
        (json!({"slow_body": "1ms"}), true),
        (json!({"cut_body": 1}), false),
        (json!({"dripping_body": {"bytes": 1, "wait": "1ms"}}), true),
        (json!({"stated_length": 100_000}), false),
    ] {
        script(&mut caller, json!({"path": "/v2/interest/balance", "times": 1, "fault": fault})).await;
        let mut other = Caller::login(&simulator).await;
        let answered = soon(other.send("GET", "/v2/interest/balance", Bytes::new())).await;
        assert_eq!(answered.is_ok_and(|reply| reply.status == 200), whole, "{fault}");
        assert_eq!(simulator.core.rules().in_force(), 0, "{fault}");
    }
    script(&mut caller, json!({"fault": "endless_body"})).await;
    assert_eq!(attempt(&mut caller, "POST", "rules", &json!({"fault": "endless"})).await.status, 422);
}

#[tokio::test]
async fn a_gate_holds_requests_until_it_is_released() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (order, path) = authorized(&mut caller).await;
    assert_eq!(attempt(&mut caller, "GET", "gates/a", &Value::Null).await.status, 404);
    for (field, held) in [("gate", 0), ("gate_after_effect", 1)] {
        script(&mut caller, json!({"path": path, field: "a"})).await;
        assert_eq!(control(&mut caller, "GET", "gates/a", &Value::Null).await, json!({"arrived": 0, "open": false}));
        let before = effects(&mut caller, &order).await.as_array().unwrap().len();
        let mut parked = Caller::login(&simulator).await;
        let target = path.clone();
        let call = tokio::spawn(async move { parked.post(&target, &capture()).await.status });
        soon(async {
            while control(&mut caller, "GET", "gates/a", &Value::Null).await["arrived"] != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let during = effects(&mut caller, &order).await.as_array().unwrap().len();
        assert_eq!(during - before, held, "{field}");
        let released = control(&mut caller, "POST", "gates/a/release", &Value::Null).await;
        assert_eq!(released, json!({"arrived": 1, "open": true}));
        assert_eq!(soon(call).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn the_journal_is_read_page_by_page_and_does_not_know_the_control() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    control(&mut caller, "DELETE", "journal", &Value::Null).await;
    for number in 0..150 {
        caller.get(&format!("/v2/nothing/{number}?a=b")).await;
    }
    caller.send("POST", "/v2/binary", Bytes::from_static(b"\xff\x00")).await.unwrap();
    let first = control(&mut caller, "GET", "journal", &Value::Null).await;
    // The login had number 0.
    assert_eq!((first["exchanges"].as_array().unwrap().len(), &first["next"]), (100, &json!(101)));
    let exchange = &first["exchanges"][0];
    assert!(exchange["headers"]["authorization"][0].as_str().unwrap().starts_with("Bearer "), "{exchange}");
    let mut exchange = exchange.clone();
    exchange.as_object_mut().unwrap().remove("headers");
    let expected = json!({"number": 1, "connection": 1, "version": "HTTP/1.1", "method": "GET", "path": "/v2/nothing/0", "query": "a=b",
        "body": "", "status": 404, "effect": false});
    assert_eq!(exchange, expected);
    let second = control(&mut caller, "GET", "journal?since=101", &Value::Null).await;
    assert_eq!((second["exchanges"].as_array().unwrap().len(), &second["next"]), (51, &json!(152)));
    assert_eq!(second["exchanges"][50]["body_base64"], "/wA=");
    let none = control(&mut caller, "GET", &format!("journal?since={}", usize::MAX), &Value::Null).await;
    assert_eq!(none, json!({"exchanges": [], "next": 152}));
    for (filter, count) in [("method=POST", 1), ("path=/v2/nothing/14*", 11), ("method=GET&path=%2Fv2%2Fbinary", 0)] {
        let page = control(&mut caller, "GET", &format!("journal?{filter}"), &Value::Null).await;
        assert_eq!(page["exchanges"].as_array().unwrap().len(), count, "{filter}");
        assert_eq!(page["next"], 152, "{filter}");
    }
}

#[tokio::test]
async fn a_page_of_large_bodies_is_short() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    for _ in 0..3 {
        caller.send("POST", "/v2/nothing", Bytes::from(vec![b' '; 700_000])).await.unwrap();
    }
    let page = control(&mut caller, "GET", "journal", &Value::Null).await;
    assert_eq!((page["exchanges"].as_array().unwrap().len(), &page["next"]), (2, &json!(2)));
    let page = control(&mut caller, "GET", "journal?since=2", &Value::Null).await;
    assert_eq!((page["exchanges"].as_array().unwrap().len(), &page["next"]), (1, &json!(3)));
}

#[tokio::test]
async fn a_reset_makes_everything_new_but_the_tokens() {
    let simulator = Simulator::start(Options { report_bytes: 7, ..Options::default() }).await.unwrap();
    let mut caller = Caller::login(&simulator).await;
    let before = control(&mut caller, "GET", "settings", &Value::Null).await;
    let (order, path) = authorized(&mut caller).await;
    control(&mut caller, "PATCH", "settings", &json!({"approving": false, "report_bytes": 9})).await;
    script(&mut caller, json!({"path": path, "gate": "a"})).await;
    script(&mut caller, json!({"path": "/v2/customer", "status": 500})).await;
    let mut parked = Caller::login(&simulator).await;
    let call = tokio::spawn(async move { parked.post(&path, &capture()).await.status });
    let gate = simulator.core.gates().closed("a".to_owned()).unwrap();
    soon(gate.arrived(1)).await;

    control(&mut caller, "POST", "reset", &Value::Null).await;
    assert_eq!(soon(call).await.unwrap(), 404, "its order is gone");
    assert_eq!(control(&mut caller, "GET", "settings", &Value::Null).await, before);
    assert_eq!(attempt(&mut caller, "GET", &format!("orders/{order}/effects"), &Value::Null).await.status, 404);
    assert_eq!(attempt(&mut caller, "GET", "gates/a", &Value::Null).await.status, 404);
    assert_eq!(control(&mut caller, "GET", "journal", &Value::Null).await["exchanges"], json!([]));
    assert_eq!(caller.get("/v2/customer").await.status, 200, "no rule, and a token that is live");
}

#[tokio::test]
async fn an_event_is_raised_seen_and_sent_again() {
    let simulator = start().await;
    let receiver = start().await;
    let mut caller = Caller::login(&simulator).await;
    let disputes = json!({"url": format!("{}/hook", receiver.url()), "events": ["dispute.closed.neutral"]});
    assert_eq!(caller.post("/v2/webhooks", &disputes).await.status, 200);
    // The receiver knows no such path: the one attempt fails, and the subscription is gone.
    control(&mut caller, "PATCH", "settings", &json!({"webhook_retries": []})).await;
    let event = json!({"event": "dispute.closed.neutral", "data": {"order": "abc"}});
    assert_eq!(control(&mut caller, "POST", "events", &event).await, json!({"subscriptions": 1}));
    soon(simulator.deliveries_settled(1)).await;
    script(&mut Caller::connect(&receiver).await, json!({"path": "/hook", "status": 200})).await;
    assert_eq!(control(&mut caller, "POST", "deliveries/0/redeliver", &Value::Null).await, json!({}));
    soon(simulator.deliveries_settled(2)).await;
    assert_eq!(attempt(&mut caller, "POST", "deliveries/2/redeliver", &Value::Null).await.status, 404);
    assert_eq!(attempt(&mut caller, "POST", "deliveries/x/redeliver", &Value::Null).await.status, 404);

    let seen = control(&mut caller, "GET", "deliveries", &Value::Null).await;
    let [first, second] = [&seen["deliveries"][0], &seen["deliveries"][1]];
    assert_eq!((&first["state"], &first["attempts"][0]["status"]), (&json!("given_up"), &json!(404)));
    assert_eq!((&second["state"], &second["attempts"][0]["status"]), (&json!("accepted"), &json!(200)));
    assert_eq!((&first["body"], &second["subscription"]), (&second["body"], &Value::Null));
    let body: Value = serde_json::from_str(first["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["event"], &body["data"]), (&event["event"], &event["data"]));
    assert_eq!((&seen["next"], &seen["dropped"]), (&json!(2), &json!(0)));
    let rest = control(&mut caller, "GET", "deliveries?since=1", &Value::Null).await;
    assert_eq!(rest["deliveries"].as_array().unwrap().len(), 1);

    assert_eq!(control(&mut caller, "POST", "events", &event).await, json!({"subscriptions": 0}));
    control(&mut caller, "POST", "reset", &Value::Null).await;
    assert_eq!(control(&mut caller, "GET", "deliveries", &Value::Null).await["deliveries"], json!([]));
}

#[tokio::test]
async fn what_comes_from_a_browser_or_is_too_large_is_refused() {
    let simulator = start().await;
    for (host, status) in [("evil.example", 421), ("localhost:8081", 200), ("[::1]:8081", 200), ("10.0.0.1", 200)] {
        let mut caller = Caller::connect(&simulator).await;
        caller.headers.insert("host", host.parse().unwrap());
        assert_eq!(attempt(&mut caller, "GET", "settings", &Value::Null).await.status, status, "{host}");
    }
    for (name, value) in [
        ("origin", "http://127.0.0.1"),
        ("sec-fetch-site", "none"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-user", "?1"),
    ] {
        let mut caller = Caller::connect(&simulator).await;
        caller.headers.insert(name, value.parse().unwrap());
        let reply = attempt(&mut caller, "POST", "rules", &json!({"status": 500})).await;
        assert_eq!((reply.status.as_u16(), reply.json()["error"].is_string()), (403, true), "{name}");
        let reply = soon(caller.send("POST", "/v2/authentication", Bytes::from_static(b"{}"))).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.json()[0]["code"] == "browser_refused"), (403, true), "{name}");
    }
    let mut caller = Caller::connect(&simulator).await;
    caller.headers.insert("sec-fetch-mode", "cors".parse().unwrap());
    assert_eq!(attempt(&mut caller, "GET", "settings", &Value::Null).await.status, 200, "Node's fetch is no browser");
    assert_eq!(simulator.journal().len(), 0, "nothing of it was done");
    let mut caller = Caller::connect(&simulator).await;
    let body = Bytes::from(vec![b' '; 1024 * 1024 + 1]);
    // The rest of the body may meet a closed connection before the answer is read.
    if let Ok(reply) = soon(caller.send("POST", "/_simulator/rules", body)).await {
        assert_eq!(reply.status, 413);
    }
    let mut caller = Caller::connect(&simulator).await;
    let reply = attempt(&mut caller, "PUT", "settings", &Value::Null).await;
    assert_eq!((reply.status.as_u16(), reply.headers["allow"].to_str().unwrap()), (405, "GET, PATCH"));
    assert_eq!(simulator.core.rules().in_force(), 0);
}

#[tokio::test]
async fn rules_and_gates_cannot_fill_the_memory() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    for number in 0..100 {
        let rule =
            json!({"path": "/none", "gate": format!("{number}"), "gate_after_effect": format!("after-{number}")});
        script(&mut caller, rule).await;
    }
    assert_eq!(attempt(&mut caller, "POST", "rules", &json!({"status": 500})).await.status, 422);
    control(&mut caller, "DELETE", "rules", &Value::Null).await;
    assert_eq!(attempt(&mut caller, "POST", "rules", &json!({"gate": "more"})).await.status, 422);
    control(&mut caller, "POST", "gates/7/release", &Value::Null).await;
    script(&mut caller, json!({"gate": "more"})).await;
    assert_eq!(attempt(&mut caller, "GET", "gates/7", &Value::Null).await.status, 404);
}
