//! Every call of Sezzle's v2 API succeeds through the sidecar as without, and each of its documented errors passes.
//! [`BothSides::call`] compares byte for byte the requests that Sezzle gets and the answers that the caller gets.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use sezzle_sidecar::proxy::route::Matched;
use sezzle_sidecar::simulator::{Fault, Rule, Simulator};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use crate::support::both_sides::{BothSides, Request};
use crate::support::{Harness, Session, eventually, pages};

/// A call, its good answer, and the errors that are documented for it.
struct Call {
    request: Request,
    success: u16,
    errors: &'static [u16],
}

const READ: &[u16] = &[401, 404];
const SESSION_READ: &[u16] = &[400, 401, 404];
const CREATE: &[u16] = &[400, 401, 422];
const WRITE: &[u16] = &[400, 401, 404, 422];
const WEBHOOKS: &[u16] = &[400, 401];
/// 409: the URL is already registered.
const CREATE_WEBHOOK: &[u16] = &[400, 401, 409];
const REPORT: &[u16] = &[401];

/// Every call but the token exchange, in an order in which each of them succeeds.
async fn calls(both: &BothSides) -> Vec<Call> {
    let gateway = &both.harness.gateway;
    let session = Session::tokenize(gateway).authorized(gateway);
    let customer = gateway.approve_token(session.token()).expect("a customer");
    let open = Session::order(gateway).order_path;
    let url = |path: &str| json!({ "href": format!("https://shop.example/{path}"), "method": "GET" });
    let checkout = json!({
        "cancel_url": url("no"), "complete_url": url("yes"),
        "customer": { "tokenize": true, "email": "a@b.example", "first_name": "\u{e9}" },
        "order": { "intent": "AUTH", "reference_id": "1", "description": "d", "order_amount": price(10_000) },
    });
    let capture = json!({ "capture_amount": price(4_000), "partial_capture": true });
    let upcharge = json!({ "intent": "AUTH", "upcharge_amount": price(100) });
    let customers_order = json!({ "intent": "AUTH", "reference_id": "1", "order_amount": price(100) });
    let hook = json!({ "url": "https://shop.example/hook", "events": ["order.captured"] });
    let test = json!({ "url": "https://shop.example/hook", "event": "order.captured" });
    let another = json!({ "url": "https://shop.example/another", "events": ["order.captured"] });
    let webhook = both.harness.post("/v2/webhooks", &another.to_string()).await.json()["uuid"].clone();
    let webhook = webhook.as_str().expect("a webhook");
    let card = json!({ "origin": "https://shop.example", "mode": "iframe", "card_response_format": "token" });
    let express = json!({ "currency_code": "USD", "address_uuid": "a" });
    let (virtual_card, read_card) = (gateway.create_card(), gateway.create_card());
    let card_token = gateway.finish_card(&read_card).expect("a token");

    let read = |path: String, errors| call(Method::GET, &path, Value::Null, 200, errors);
    let write = |method, path: String, body, success| call(method, &path, body, success, WRITE);
    let of = |tail: &str| format!("{}{tail}", session.order_path);
    let to = |tail: &str| format!("/v2/customer/{customer}{tail}");
    let report = |path: &str| {
        read(format!("{path}?start-date=2026-01-01&end-date=2026-01-05&offset=0&currency-code=USD&x=%2f+&&="), REPORT)
    };
    vec![
        call(Method::POST, "/v2/session", checkout, 201, CREATE),
        read(session.path.clone(), SESSION_READ),
        call(Method::POST, "/v2/session/card", card, 201, CREATE),
        read(format!("/v2/session/card/token/{card_token}"), READ),
        write(Method::PATCH, format!("/v2/session/{virtual_card}/card"), json!({ "order_id": "1" }), 204),
        read(of(""), READ),
        write(Method::PATCH, of(""), json!({ "reference_id": "2" }), 204),
        write(Method::PATCH, format!("{open}/checkout"), express, 204),
        write(Method::DELETE, format!("{open}/checkout"), Value::Null, 204),
        with_key(write(Method::POST, of("/capture"), capture, 200)),
        with_key(write(Method::POST, of("/refund"), price(1_000), 200)),
        with_key(write(Method::POST, of("/release"), price(2_000), 200)),
        with_key(write(Method::POST, of("/reauthorize"), price(100), 200)),
        with_key(write(Method::POST, of("/upcharge"), upcharge, 200)),
        read("/v2/customer".to_owned(), READ),
        read(to(""), READ),
        write(Method::POST, to("/preapprove"), price(100), 200),
        with_key(write(Method::POST, to("/order"), customers_order, 200)),
        read(format!("/v2/token/{}/session", session.token()), SESSION_READ),
        read(format!("/v2/token/{}/customer", session.token()), SESSION_READ),
        call(Method::DELETE, &to(""), Value::Null, 204, READ),
        call(Method::POST, "/v2/webhooks", hook, 200, CREATE_WEBHOOK),
        read("/v2/webhooks".to_owned(), WEBHOOKS),
        read(format!("/v2/webhooks/{webhook}"), WEBHOOKS),
        call(Method::PATCH, &format!("/v2/webhooks/{webhook}"), another, 200, CREATE_WEBHOOK),
        call(Method::POST, "/v2/webhooks/test", test, 201, WEBHOOKS),
        call(Method::DELETE, &format!("/v2/webhooks/{webhook}"), Value::Null, 204, WEBHOOKS),
        report("/v2/settlements/summaries"),
        read("/v2/settlements/details/c1a0b9d2-3d6e-4f0a-9b51-7e2c88d04f13".to_owned(), REPORT),
        report("/v2/orders/report"),
        read("/v2/interest/balance?currency-code=USD".to_owned(), REPORT),
        report("/v2/interest/activity"),
        read("/v2/feature-flags/is-express-checkout".to_owned(), READ),
        call(Method::POST, "/v2/configuration", json!({ "widgets": true }), 204, CREATE),
        call(Method::POST, "/v2/widget/queue", json!({ "queue": 1 }), 204, CREATE),
    ]
}

fn call(method: Method, target: &str, body: Value, success: u16, errors: &'static [u16]) -> Call {
    let body = if body.is_null() { String::new() } else { format!(" {body:#}\n") };
    Call { request: Request::new(method, target, body), success, errors }
}

/// The calls for which Sezzle documents an idempotency key.
fn with_key(mut call: Call) -> Call {
    call.request.headers.push(("sezzle-request-id", format!("key of {}", call.request.target)));
    call
}

fn price(cents: u64) -> Value {
    json!({ "amount_in_cents": cents, "currency": "USD" })
}

/// Documented answers of a call that only Sezzle's reference has, not its OpenAPI file.
fn token_customer(gateway: &Simulator, token_path: &str) {
    let body = json!({
        "customer_uuid": "c", "status": "active",
        "links": [{ "href": "https://gateway.sezzle.com/v2/customer/c", "method": "GET", "rel": "customer" }],
    });
    gateway.script(Rule::on(Method::GET, token_path).status(StatusCode::OK).body(body.to_string()));
}

#[tokio::test]
async fn every_call_succeeds_as_it_would_without_the_sidecar() {
    let both = BothSides::start().await;
    let calls = calls(&both).await;
    let token =
        calls.iter().find(|call| call.request.target.ends_with("/customer") && call.request.target != "/v2/customer");
    token_customer(&both.harness.gateway, &token.expect("in the list").request.target);
    for Call { request, success, .. } in &calls {
        let answer = both.call(request).await;
        assert_eq!(answer.status, *success, "{} {}: {}", request.method, request.target, answer.text());
        let is_empty = *success == 204 || request.target == "/v2/webhooks/test";
        assert_eq!(answer.body.is_empty(), is_empty, "{} {}", request.method, request.target);
    }
    let called = calls.iter().map(|Call { request, .. }| {
        let matched = Matched::path(request.target.split('?').next().expect("a path")).expect("below /v2/");
        format!("{} {}", request.method, matched.route.template())
    });
    let mut called: BTreeSet<String> = called.collect();
    called.insert("POST /v2/authentication".to_owned());
    assert_eq!(called, pages::calls(), "the whole surface, but for the token exchange");
    both.stop().await;
}

#[tokio::test]
async fn every_documented_error_passes_as_sezzle_gave_it() {
    let both = BothSides::start().await;
    let problem = |location: &str| json!({ "code": "invalid", "location": location, "message": "No \u{201c}such\u{201d} thing.", "debug_uuid": "d-1" });
    let bodies = [
        json!([problem("order.amount.amount_in_cents"), problem("")]).to_string(),
        // One documented example is no array.
        format!("{:#}\n", problem("order")),
    ];
    for Call { request, errors, .. } in calls(&both).await {
        let path = request.target.split('?').next().expect("a path").to_owned();
        for status in errors.iter().copied().chain([429, 500, 503]) {
            for body in &bodies {
                let status = StatusCode::from_u16(status).expect("a status");
                let rule = Rule::on(request.method.clone(), &path).status(status).body(body.clone());
                let rule = if status == StatusCode::TOO_MANY_REQUESTS {
                    rule.set_header(RETRY_AFTER, HeaderValue::from_static("7"))
                } else {
                    rule
                };
                both.harness.gateway.script(rule);
                let answer = both.call(&request).await;
                assert_eq!((answer.status, &answer.text()), (status.as_u16(), body));
                assert_eq!(answer.header("retry-after"), if status.as_u16() == 429 { "7" } else { "" });
                both.harness.gateway.clear_rules();
            }
        }
    }
    eventually("nothing is left under way", async || {
        both.harness.metric(r#"upstream_connections{state="active"}"#).await == 0.0
    })
    .await;
    both.stop().await;
}

#[tokio::test]
async fn the_gateways_own_refusals_pass() {
    let both = BothSides::start().await;
    let absent = "fadbc642-05a4-4e38-9e74-80e325623af9";
    for (method, target, body, status) in [
        (Method::GET, format!("/v2/session/{absent}"), "", 404),
        (Method::GET, "/v2/session/nonsense".to_owned(), "", 400),
        (Method::GET, format!("/v2/order/{absent}"), "", 404),
        (Method::POST, "/v2/session".to_owned(), "{}", 422),
        (Method::POST, "/v2/session".to_owned(), "not json", 400),
        (Method::POST, format!("/v2/order/{absent}/capture"), "{}", 404),
        (Method::DELETE, format!("/v2/customer/{absent}"), "", 404),
    ] {
        let answer = both.call(&Request::new(method, target, body)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.json()[0]["debug_uuid"].is_string(), "{}", answer.text());
    }
    let answer = both.call(&Request::new(Method::GET, "/v2/nothing", "")).await;
    assert_eq!((answer.status, answer.text().as_str()), (404, "404 page not found"));
    assert_eq!(answer.header("content-type"), "text/plain");
    both.stop().await;
}

#[tokio::test]
async fn a_stored_session_is_what_sezzle_sent() {
    let both = BothSides::start().await;
    let path = Session::tokenize(&both.harness.gateway).path;
    let first = both.call(&Request::new(Method::GET, path.as_str(), "")).await;
    let second = both.harness.get(&path).await;
    assert!(first.cache().ends_with("; stored") && second.cache().starts_with("hit"), "{}", second.cache());
    assert_eq!(second.body, first.body);
    for name in ["content-type", "content-length", "date", "etag", "cache-control"] {
        assert_eq!(second.header(name), first.header(name), "{name}");
    }
    both.stop().await;
}

#[tokio::test]
async fn an_answer_that_may_not_be_transformed_is_sezzles_to_the_last_byte() {
    let both = BothSides::start().await;
    let session = Session::order(&both.harness.gateway);
    let rule = Rule::any().set_header(CACHE_CONTROL, HeaderValue::from_static("no-transform, no-store"));
    both.harness.gateway.script(rule);
    for path in [session.path, session.order_path] {
        assert!(
            both.harness.get(&path).await.text().contains("\"href\":\"https://sandbox.gateway.sezzle.com/v2/"),
            "{path}"
        );
    }
    both.stop().await;
}

#[tokio::test]
async fn a_report_reaches_the_caller_while_sezzle_is_still_sending_it() {
    let harness = Harness::start().await;
    let mut callers = Vec::new();
    for (report, kind, first) in [
        ("orders/report", "application/json", "order_uuid"),
        ("settlements/details/c1a0b9d2-3d6e-4f0a-9b51-7e2c88d04f13", "text/csv", "total_order_amount"),
        ("interest/activity", "text/csv", "event_date"),
    ] {
        // Half of the first rows, and no more for an hour.
        let path = format!("/v2/{report}");
        harness.gateway.script(Rule::path(&path).fault(Fault::SlowBody(Duration::from_secs(3600))));
        let mut wire = harness.wire().await;
        wire.send(format!("GET {path}?start-date=2026-01-01 HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        let read = wire.read_until(first).await;
        assert!(read.contains(&format!("content-type: {kind}\r\n")), "{read}");
        callers.push(wire);
    }
    let (app, gateway) = harness.into_parts();
    gateway.stop().await;
    timeout(Duration::from_secs(10), app.drain()).await.expect("the drain ends");
}

#[tokio::test]
async fn the_token_exchange_has_sezzles_shape_and_goes_nowhere() {
    let harness = Harness::start().await;
    let exchanges = harness.gateway.count("POST", "/v2/authentication");
    let placeholder = r#"{"public_key":"any","private_key":"any"}"#;
    // A request as a client sends it, as a client without keys sends it, and as a person writes it.
    for body in [placeholder, "{}", "", " {\n}"] {
        let answer = harness.post("/v2/authentication", body).await;
        let json = answer.json();
        assert_eq!(answer.status, 201, "{json}");
        assert_eq!(answer.header("content-type"), "application/json");
        let members: Vec<&String> = json.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["expiration_date", "merchant_uuid", "token"]);
        assert_eq!(json["merchant_uuid"], "5f2c1ab8-90b4-4d0e-8a3c-6d1f0e7b9a24");
        let expiration = OffsetDateTime::parse(json["expiration_date"].as_str().expect("a date"), &Rfc3339);
        let left = SystemTime::from(expiration.expect("RFC 3339")).duration_since(SystemTime::now()).expect("ahead");
        assert!((Duration::from_secs(7100)..=Duration::from_secs(7200)).contains(&left), "{left:?}");
    }
    for (body, status, code) in [
        ("not json", 400, "sidecar.bad_request"),
        (r#"{"public_key":"sz_pub_of_another","private_key":"sz_pr_x"}"#, 401, "sidecar.foreign_keys"),
    ] {
        let answer = harness.post("/v2/authentication", body).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code));
    }
    assert_eq!(harness.gateway.count("POST", "/v2/authentication"), exchanges);
    harness.stop().await;
}
