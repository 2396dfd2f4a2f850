use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::json;

use crate::simulator::tests::{Caller, start};
use crate::simulator::{Options, SessionKind, Simulator};

#[tokio::test]
async fn wrong_keys_and_malformed_bodies_are_refused() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    let path = "/v2/authentication";
    let reply = caller.post(path, &json!({"public_key": "sz_pub_simulated", "private_key": "no"})).await;
    assert_eq!(reply.status, 401);
    let problem = &reply.json()[0];
    assert!(["code", "location", "message", "debug_uuid"].iter().all(|name| problem[name].is_string()));
    assert_eq!(caller.post(path, &json!({"public_key": "sz_pub_simulated"})).await.status, 400);
    assert_eq!(caller.post(path, &json!({"public_key": 1, "private_key": 2})).await.status, 400);
    assert_eq!(caller.send("POST", path, Bytes::from("{")).await.unwrap().status, 400);
    assert_eq!(caller.send("GET", path, Bytes::new()).await.unwrap().status, 405);
}

#[tokio::test]
async fn several_tokens_live_at_once_until_they_are_revoked() {
    let simulator = start().await;
    let path = format!("/v2/session/{}", simulator.create_session(SessionKind::Order).session);
    assert_eq!(Caller::connect(&simulator).await.get(&path).await.status, 401);
    let mut first = Caller::login(&simulator).await;
    let mut second = Caller::login(&simulator).await;
    assert_ne!(first.headers, second.headers);
    assert_eq!(first.get(&path).await.status, 200);
    assert_eq!(second.get(&path).await.status, 200);
    simulator.revoke_tokens();
    assert_eq!(first.get(&path).await.status, 401);
    assert_eq!(second.get(&path).await.status, 401);
    assert_eq!(Caller::login(&simulator).await.get(&path).await.status, 200);
    assert_eq!(simulator.count("POST", "/v2/authentication"), 3);
    assert_eq!(simulator.count("GET", "/v2/session/*"), 6);
    assert_eq!(simulator.connections(), 4);
}

#[tokio::test]
async fn a_token_ends_with_its_life_and_not_with_the_stated_date() {
    let simulator = start().await;
    let path = format!("/v2/session/{}", simulator.create_session(SessionKind::Order).session);
    simulator.configure(|options| options.clock_skew = -86_400);
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(caller.get(&path).await.status, 200);
    simulator.configure(|options| options.token_life = Duration::ZERO);
    assert_eq!(Caller::login(&simulator).await.get(&path).await.status, 401);
    assert_eq!(caller.get(&path).await.status, 200);
    simulator.configure(|options| options.token_life = Duration::MAX);
    assert_eq!(Caller::login(&simulator).await.get(&path).await.status, 200);
}

#[tokio::test]
async fn the_stated_end_has_nine_digits_and_follows_the_skew() {
    let options = Options { expiration_digits: 0, clock_skew: 7200, ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let reply = Caller::connect(&simulator).await.authenticate().await;
    let body = reply.json();
    let date = body["expiration_date"].as_str().unwrap();
    assert_eq!(date.len(), "2017-01-01T01:30:25.388940303Z".len());
    assert_eq!(body["merchant_uuid"], Options::default().merchant_uuid.as_str());
    let stated = httpdate::parse_http_date(reply.headers["date"].to_str().unwrap()).unwrap();
    let ahead = stated.duration_since(std::time::SystemTime::now()).unwrap();
    assert!((7100..=7200).contains(&ahead.as_secs()));
}

#[tokio::test]
async fn changed_keys_hold_for_new_tokens_only() {
    let simulator = start().await;
    let mut old = Caller::login(&simulator).await;
    simulator.set_keys("public", "private");
    assert_eq!(old.authenticate().await.status, 401);
    let reply = old.post("/v2/authentication", &json!({"public_key": "public", "private_key": "private"})).await;
    assert_eq!(reply.status, 201);
    assert_eq!(old.get("/v2/interest/balance").await.status, 200);
}

#[tokio::test]
async fn a_merchant_sees_only_its_own() {
    let simulator = start().await;
    let ids = simulator.create_session(SessionKind::Order);
    simulator.configure(|options| options.merchant_uuid = "another".to_owned());
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(caller.get(&format!("/v2/session/{}", ids.session)).await.status, 404);
    assert_eq!(caller.get(&format!("/v2/order/{}", ids.order.unwrap())).await.status, 404);
}

#[tokio::test]
async fn a_rotated_pair_stays_valid_for_its_overlap() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    simulator.rotate_keys("public", "private", Duration::MAX);
    assert_eq!(caller.authenticate().await.status, 201);
    let mixed = json!({"public_key": "public", "private_key": "sz_pr_simulated"});
    assert_eq!(caller.post("/v2/authentication", &mixed).await.status, 401);
    simulator.rotate_keys("third", "third", Duration::ZERO);
    for (public, private, status) in
        [("third", "third", 201), ("public", "private", 401), ("sz_pub_simulated", "sz_pr_simulated", 401)]
    {
        let keys = json!({"public_key": public, "private_key": private});
        assert_eq!(caller.post("/v2/authentication", &keys).await.status, status);
    }
}

#[tokio::test]
async fn a_public_key_alone_opens_few_doors() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    let url = json!({"href": "https://shop.example/", "method": "GET"});
    let price = json!({"amount_in_cents": 500, "currency": "USD"});
    let session = json!({"cancel_url": url, "complete_url": url, "order": {"order_amount": price}});
    for (key, status) in [
        ("sz_pub_simulated", 201),
        ("sz_pub_simulated:", 201),
        ("sz_pub_another", 401),
        ("sz_pub_simulated:secret", 401),
        ("", 401),
    ] {
        let encoded = BASE64_STANDARD.encode(key);
        caller.headers.insert("authorization", format!("Basic {encoded}").parse().unwrap());
        assert_eq!(caller.post("/v2/session", &session).await.status, status, "{key}");
        let flag = caller.get("/v2/feature-flags/is-express-checkout").await;
        assert_eq!(flag.status == 200, status == 201, "{key}");
    }
    caller
        .headers
        .insert("authorization", format!("Basic {}", BASE64_STANDARD.encode("sz_pub_simulated")).parse().unwrap());
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    for path in ["/v2/customer".to_owned(), format!("/v2/order/{order}")] {
        assert_eq!(caller.get(&path).await.status, 401, "{path}");
    }
    simulator.rotate_keys("sz_pub_next", "sz_pr_next", Duration::from_secs(60));
    assert_eq!(caller.post("/v2/session", &session).await.status, 201, "the previous pair is valid for its overlap");
    simulator.configure(|options| options.public_key_calls = false);
    assert_eq!(caller.post("/v2/session", &session).await.status, 401, "as before there were such calls");
}

#[tokio::test]
async fn a_shop_that_may_not_sell_is_told_where_to_send_its_shopper() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    caller.headers.insert("sezzle-platform", "eyJpZCI6Ik1hZ2VudG8ifQ==".parse().unwrap());
    let mut keys = json!({"public_key": "sz_pub_simulated", "private_key": "sz_pr_simulated"});
    let path = "/v2/authentication";
    keys["cancel_url"] = json!("https://shop.example/");
    assert_eq!(caller.post(path, &keys).await.status, 201, "unless it is set");
    simulator.configure(|options| options.unauthed_checkout_url = Some("https://checkout.example/?id=1".to_owned()));
    let refused = caller.post(path, &keys).await;
    let problem = &refused.json()[0];
    assert_eq!(refused.status, 401);
    assert_eq!(
        (problem["code"].as_str(), problem["message"].as_str()),
        (Some("unauthed_checkout_url"), Some("https://checkout.example/?id=1"))
    );
    assert_eq!(caller.authenticate().await.status, 201, "only with cancel_url");
    keys["private_key"] = json!("wrong");
    assert_eq!(caller.post(path, &keys).await.json()[0]["code"], "unauthorized", "only with the right keys");
    let platforms: Vec<_> = simulator.journal().iter().map(|entry| entry.headers["sezzle-platform"].clone()).collect();
    assert_eq!(platforms, ["eyJpZCI6Ik1hZ2VudG8ifQ=="; 4], "the journal has it");
}
