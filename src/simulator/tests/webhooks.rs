use serde_json::json;

use crate::simulator::tests::{Caller, start};

#[tokio::test]
async fn subscriptions_are_made_listed_and_deleted() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let body = json!({"url": "https://shop.example/hook", "events": ["order.captured"]});
    assert_eq!(caller.post("/v2/webhooks", &json!({"events": []})).await.locations(), ["url"]);
    assert_eq!(caller.post("/v2/webhooks", &json!({"url": "https://shop.example/"})).await.locations(), ["events"]);
    assert_eq!(caller.get("/v2/webhooks").await.json(), json!([]));
    let reply = caller.post("/v2/webhooks", &body).await;
    assert_eq!(reply.status, 200);
    let path = format!("/v2/webhooks/{}", reply.json()["uuid"].as_str().unwrap());
    let webhook = caller.get(&path).await.json();
    assert_eq!((&webhook["url"], &webhook["events"]), (&body["url"], &body["events"]));
    assert_eq!(caller.get("/v2/webhooks").await.json(), json!([webhook]));
    assert_eq!(caller.send("DELETE", &path, "".into()).await.unwrap().status, 204);
    assert_eq!(caller.get(&path).await.status, 404);
    assert_eq!(caller.send("DELETE", &path, "".into()).await.unwrap().status, 400);
}

#[tokio::test]
async fn a_subscription_is_changed_as_a_whole_and_no_url_has_two() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let hook = |url: &str| json!({"url": format!("https://shop.example/{url}"), "events": ["order.captured"]});
    let first = caller.post("/v2/webhooks", &hook("first")).await.json();
    assert_eq!(caller.post("/v2/webhooks", &hook("second")).await.status, 200);
    let again = caller.post("/v2/webhooks", &hook("first")).await;
    assert_eq!((again.status.as_u16(), again.locations()), (409, vec!["url".to_owned()]));

    let path = format!("/v2/webhooks/{}", first["uuid"].as_str().unwrap());
    for (body, status) in [
        (json!({"url": "https://shop.example/third"}), 422),
        (json!({"events": ["order.refunded"]}), 422),
        (hook("second"), 409),
        (hook("first"), 200),
        (json!({"url": "https://shop.example/third", "events": ["order.refunded"]}), 200),
    ] {
        let reply = caller.send("PATCH", &path, body.to_string().into()).await.unwrap();
        assert_eq!(reply.status, status, "{body}");
        if status == 200 {
            assert_eq!(reply.json(), first, "the answer is that of the creation");
        }
    }
    let changed = caller.get(&path).await.json();
    assert_eq!(
        (&changed["url"], &changed["events"]),
        (&json!("https://shop.example/third"), &json!(["order.refunded"]))
    );
    let links: Vec<String> = changed["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| format!("{} {}", link["method"].as_str().unwrap(), link["rel"].as_str().unwrap()))
        .collect();
    assert_eq!(links, ["POST create", "GET list", "GET self", "PATCH self", "DELETE self"]);
    let nothing = caller.send("PATCH", "/v2/webhooks/none", hook("x").to_string().into()).await.unwrap();
    assert_eq!(nothing.status, 404);
}

#[tokio::test]
async fn a_test_event_is_answered_201_without_a_body() {
    let simulator = start().await;
    let reply = Caller::login(&simulator).await.post("/v2/webhooks/test", &json!({"event": "order.captured"})).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (201, 0));
}

#[tokio::test]
async fn the_older_ways_of_webhooks_can_be_asked_for() {
    let simulator = start().await;
    simulator.configure(|options| (options.webhook_test_status, options.webhook_conflict) = (204, false));
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(caller.post("/v2/webhooks/test", &json!({"event": "order.captured"})).await.status, 204);
    for _ in 0..2 {
        let body = json!({"url": "https://shop.example/", "events": ["order.captured"]});
        assert_eq!(caller.post("/v2/webhooks", &body).await.status, 200);
    }
}
