use serde_json::json;

use crate::simulator::tests::Caller;
use crate::simulator::tests::start;

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
