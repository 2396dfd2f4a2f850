use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::simulator::tests::{Caller, start};
use crate::simulator::{Links, Options, SessionKind, Simulator, TokenizeExpiration, TokenizePlace};

fn request() -> Value {
    json!({
        "cancel_url": {"href": "https://shop.example/cancel", "method": "GET"},
        "complete_url": {"href": "https://shop.example/complete", "method": "GET"},
        "customer": {"tokenize": true, "email": "a@shop.example"},
        "order": {"intent": "AUTH", "reference_id": "r-1", "order_amount": {"amount_in_cents": 500, "currency": "USD"}},
    })
}

fn without(name: &str) -> Value {
    let mut body = request();
    body.as_object_mut().unwrap().remove(name);
    body
}

#[tokio::test]
async fn every_missing_field_is_named() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let reply = caller.post("/v2/session", &json!({"order": {"intent": "AUTH"}})).await;
    assert_eq!(reply.status, 422);
    assert_eq!(reply.locations(), ["cancel_url", "complete_url", "order.order_amount"]);
    let mut body = request();
    body["order"]["order_amount"]["amount_in_cents"] = json!(-1);
    assert_eq!(caller.post("/v2/session", &body).await.locations(), ["order.order_amount.amount_in_cents"]);
    body["order"] = json!({"intent": "SALE", "order_amount": {"amount_in_cents": 1, "currency": "USD"}});
    assert_eq!(caller.post("/v2/session", &body).await.locations(), ["order.intent"]);
    body = without("order");
    body["customer"] = json!({});
    assert_eq!(caller.post("/v2/session", &body).await.locations(), ["order"]);
    assert_eq!(caller.send("POST", "/v2/session", "[]".into()).await.unwrap().status, 400);
    assert!(simulator.journal().iter().skip(1).all(|entry| !entry.effect));
}

#[tokio::test]
async fn unknown_sessions_are_not_found_and_odd_ids_refused() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let reply = caller.get("/v2/session/fadbc642-05a4-4e38-9e74-80e325623af9").await;
    assert_eq!((reply.status.as_u16(), reply.locations()), (404, vec!["session_uuid".to_owned()]));
    assert_eq!(caller.get("/v2/session/12a34bc5-6de7-890f-g123-4hi1238jk902").await.status, 400);
}

#[tokio::test]
async fn each_kind_shows_its_parts() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for (body, order, tokenize) in
        [(request(), true, true), (without("customer"), true, false), (without("order"), false, true)]
    {
        let created = caller.post("/v2/session", &body).await;
        assert_eq!(created.status, 201);
        let session = created.json();
        let read = caller.get(&format!("/v2/session/{}", session["uuid"].as_str().unwrap())).await;
        assert_eq!((read.status.as_u16(), read.json()), (200, session.clone()));
        assert_eq!(read.headers["content-type"], "application/json");
        assert!(!read.headers.contains_key("etag") && !read.headers.contains_key("cache-control"));
        assert_eq!((session.get("order").is_some(), session.get("tokenize").is_some()), (order, tokenize));
    }
    let writes = simulator.journal().iter().filter(|entry| entry.effect).count();
    assert_eq!(writes, 4, "one token and three sessions");
}

#[tokio::test]
async fn bodies_have_the_documented_shape() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let ids = simulator.create_session(SessionKind::OrderAndTokenize);
    let (order, token) = (ids.order.unwrap(), ids.token.unwrap());
    let body = caller.get(&format!("/v2/session/{}", ids.session)).await.json();
    assert_eq!(body["uuid"], ids.session.as_str());
    let own = json!({"href": format!("https://sandbox.gateway.sezzle.com/v2/session/{}", ids.session), "method": "GET", "rel": "self"});
    assert_eq!(body["links"], json!([own]));
    assert_eq!(body["order"]["uuid"], order.as_str());
    assert_eq!(body["order"]["intent"], "AUTH");
    assert_eq!(body["order"]["checkout_url"], format!("https://checkout.sezzle.com/?id={order}"));
    let rels: Vec<&str> =
        body["order"]["links"].as_array().unwrap().iter().map(|link| link["rel"].as_str().unwrap()).collect();
    assert_eq!(rels, ["self", "self", "release", "capture", "refund", "checkout"]);
    assert_eq!(body["order"]["links"][5]["method"], "DELETE");
    assert_eq!(body["tokenize"]["token"], token.as_str());
    assert_eq!(
        body["tokenize"]["links"][0]["href"],
        format!("https://sandbox.gateway.sezzle.com/v2/token/{token}/session")
    );
    assert_eq!(body["tokenize"]["expiration"].as_str().unwrap().len(), "2020-04-27T14:46:59.000Z".len());
}

#[tokio::test]
async fn the_tokenize_part_is_where_it_was_asked_for() {
    for (place, beside, inside) in [
        (TokenizePlace::TopLevel, true, false),
        (TokenizePlace::InOrder, false, true),
        (TokenizePlace::Both, true, true),
    ] {
        let options = Options { tokenize_place: place, ..Options::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let mut caller = Caller::login(&simulator).await;
        let both = simulator.create_session(SessionKind::OrderAndTokenize);
        let body = caller.get(&format!("/v2/session/{}", both.session)).await.json();
        assert_eq!((body.get("tokenize").is_some(), body["order"].get("tokenize").is_some()), (beside, inside));
        let alone = simulator.create_session(SessionKind::Tokenize);
        let body = caller.get(&format!("/v2/session/{}", alone.session)).await.json();
        assert!(body.get("tokenize").is_some() && body.get("order").is_none());
    }
}

#[tokio::test]
async fn order_ids_are_not_always_uuids() {
    let simulator = start().await;
    let mut valid =
        (0..4).map(|_| Uuid::parse_str(&simulator.create_session(SessionKind::Order).order.unwrap()).is_ok());
    assert!(valid.by_ref().eq([false, true, false, true]));
}

#[tokio::test]
async fn the_expiration_is_written_as_asked_for() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let ids = simulator.create_session(SessionKind::OrderAndTokenize);
    let session = format!("/v2/session/{}", ids.session);
    let token = format!("/v2/token/{}/session", ids.token.unwrap());
    simulator.configure(|options| options.expiration_digits = 0);
    simulator.configure(|options| options.tokenize_place = TokenizePlace::InOrder);
    simulator.configure(|options| options.link_base = "http://127.0.0.1:1".to_owned());
    let body = caller.get(&session).await.json();
    assert_eq!(body["links"][0]["href"], format!("http://127.0.0.1:1{session}"));
    let utc = OffsetDateTime::parse(body["order"]["tokenize"]["expiration"].as_str().unwrap(), &Rfc3339).unwrap();
    simulator.configure(|options| options.tokenize_expiration = TokenizeExpiration::Offset(-330));
    let text = caller.get(&session).await.json()["order"]["tokenize"]["expiration"].as_str().unwrap().to_owned();
    assert!(text.ends_with("-05:30"));
    assert_eq!(OffsetDateTime::parse(&text, &Rfc3339).unwrap(), utc);
    for (expiration, written) in [
        (TokenizeExpiration::GoZero, json!("0001-01-01T00:00:00Z")),
        (TokenizeExpiration::Text("soon".to_owned()), json!("soon")),
        (TokenizeExpiration::Absent, Value::Null),
    ] {
        let absent = written.is_null();
        simulator.configure(|options| options.tokenize_expiration = expiration);
        for tokenize in [caller.get(&session).await.json()["order"]["tokenize"].take(), caller.get(&token).await.json()]
        {
            assert_eq!((&tokenize["expiration"], tokenize.get("expiration").is_none()), (&written, absent));
            assert!(tokenize["token"].is_string());
        }
    }
}

#[tokio::test]
async fn links_are_written_as_asked_for() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let ids = simulator.create_session(SessionKind::OrderAndTokenize);
    let path = format!("/v2/session/{}", ids.session);
    let own = format!("https://sandbox.gateway.sezzle.com{path}");
    for (style, expected, of_the_order) in [
        (Links::Full, json!([{"href": own, "method": "GET", "rel": "self"}]), 6),
        (Links::WithoutCheckout, json!([{"href": own, "method": "GET", "rel": "self"}]), 5),
        (Links::WithoutMethod, json!([{"href": own, "rel": "self"}]), 6),
        (Links::TrailingSpace, json!([{"href": format!("{own} "), "method": "GET", "rel": "self"}]), 6),
        (Links::EmptyList, json!([]), 0),
        (Links::EmptyObject, json!([{}]), 1),
    ] {
        simulator.configure(|options| options.links = style);
        let body = caller.get(&path).await.json();
        assert_eq!(body["links"], expected, "{style:?}");
        let links = body["order"]["links"].as_array().unwrap();
        assert_eq!(links.len(), of_the_order, "{style:?}");
        let spaces = links.iter().filter(|link| link["href"].as_str().is_some_and(|href| href.ends_with(' '))).count();
        assert_eq!(spaces, usize::from(style == Links::TrailingSpace), "one of each list");
        assert_eq!(body["tokenize"]["links"].as_array().unwrap().len(), expected.as_array().unwrap().len());
    }
    simulator.configure(|options| options.link_base = "https://gateway.sezzle.com".to_owned());
    simulator.configure(|options| options.links = Links::Full);
    assert_eq!(caller.get(&path).await.json()["links"][0]["href"], format!("https://gateway.sezzle.com{path}"));
}

#[tokio::test]
async fn the_approval_url_can_be_left_out() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let path = format!("/v2/session/{}", simulator.create_session(SessionKind::Tokenize).session);
    assert!(caller.get(&path).await.json()["tokenize"]["approval_url"].is_string());
    simulator.configure(|options| options.approval_url = false);
    assert!(caller.get(&path).await.json()["tokenize"].get("approval_url").is_none());
}

#[tokio::test]
async fn a_slash_at_the_end_creates_a_session_as_well() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(caller.post("/v2/session/", &request()).await.status, 201);
    assert_eq!(caller.get("/v2/session/").await.status, 405);
    simulator.configure(|options| options.session_slash = false);
    assert_eq!(caller.post("/v2/session/", &request()).await.status, 405);
}

#[tokio::test]
async fn calls_that_only_plugins_know_are_answered() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for path in ["/v2/configuration", "/v2/widget/queue"] {
        for body in ["", "{}"] {
            let reply = caller.send("POST", path, body.into()).await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0), "{path}");
        }
    }
    assert_eq!(caller.get("/v2/feature-flags/is-express-checkout").await.json(), json!(true));
    simulator.configure(|options| options.feature_flags = false);
    assert_eq!(caller.get("/v2/feature-flags/is-express-checkout").await.json(), json!(false));
    assert_eq!(caller.get("/v2/feature-flags/").await.status, 404);
}

#[tokio::test]
async fn a_call_of_version_1_is_answered_with_what_arrived() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let posted = caller.send("POST", "/v1/logs/m?a=b", "text".into()).await.unwrap();
    let arrived = json!({"method": "POST", "path": "/v1/logs/m", "query": "a=b", "body": "text"});
    assert_eq!((posted.status.as_u16(), posted.json()), (200, arrived));
    assert!(simulator.journal().last().unwrap().effect);
    assert_eq!(caller.get("/v1/orders/o").await.json()["query"], json!(null));
    assert!(!simulator.journal().last().unwrap().effect);
    simulator.revoke_tokens();
    assert_eq!(caller.get("/v1/orders/o").await.status, 401);
}
