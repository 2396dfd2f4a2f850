//! The meaning of a path: a slash at its end changes no label, writes to the newer calls purge the sessions they
//! change, and reports with personal data are never stored.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use sezzle_sidecar::simulator::{EffectKind, Fault, Reset, Rule};

use crate::support::{Harness, Session, Setup, header};

const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

async fn requests(harness: &Harness, code: u16, method: &str, route: &str) -> f64 {
    let labels = format!(r#"code="{code}",method="{method}",route="{route}",source="upstream""#);
    harness.metric(&format!("requests_total{{{labels}}}")).await
}

#[tokio::test]
async fn a_session_is_created_with_a_slash_as_without() {
    let harness = Harness::start().await;
    let url = |path: &str| json!({ "href": format!("https://shop.example/{path}"), "method": "GET" });
    let order = json!({ "intent": "AUTH", "reference_id": "1", "description": "d",
                        "order_amount": { "amount_in_cents": 100, "currency": "USD" } });
    let body = json!({ "cancel_url": url("no"), "complete_url": url("yes"), "order": order }).to_string();
    let answer = harness.post("/v2/session/", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let link = answer.json()["links"][0]["href"].as_str().expect("a link").to_owned();
    assert!(link.starts_with(&format!("http://{}/v2/session/", harness.proxy)), "led back here: {link}");
    assert_eq!(harness.received(), ["POST /v2/session/"], "as it came");
    assert_eq!(requests(&harness, 201, "POST", "/v2/session").await, 1.0);
    // The call is still a write, and so is never sent again.
    harness.gateway.script(Rule::path("/v2/session/").reset(Reset::AfterEffect));
    let answer = harness.post("/v2/session/", &body).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!(harness.received().len(), 2);
    assert_eq!(harness.metric(r#"money_outcome_unknown_total{route="/v2/session"}"#).await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_write_with_a_slash_has_its_label_and_purges_and_is_not_sent_again() {
    let harness = Harness::start().await;
    let Session { path: lookup, order_path, .. } = Session::order(&harness.gateway);
    harness.get(&lookup).await;
    let capture = format!("{order_path}/capture/");
    harness.gateway.script(Rule::path(&capture).status(StatusCode::OK).body("{}"));
    harness.gateway.script(Rule::path(&capture).times(1).reset(Reset::AfterEffect));
    let answer = harness.send(Method::POST, &capture, &[JSON], CAPTURE).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    let sent: Vec<_> = harness.gateway.journal().into_iter().filter(|call| call.path == capture).collect();
    assert_eq!((sent.len(), header(&sent[0].headers, "sezzle-request-id")), (1, ""), "no key, and sent once");
    let unknown = r#"money_outcome_unknown_total{route="/v2/order/{order}/capture"}"#;
    assert_eq!(harness.metric(unknown).await, 1.0);
    assert!(harness.get(&lookup).await.cache().starts_with("fwd=uri-miss"));
    harness.stop().await;
}

#[tokio::test]
async fn a_lookup_with_a_slash_neither_uses_nor_feeds_the_cache() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).uuid;
    let (plain, slash) = (format!("/v2/session/{session}"), format!("/v2/session/{session}/"));
    // The gateway's answer never matters, even if it looks like the session or says that there is none.
    for (status, body) in [(200, format!(r#"{{"uuid":"{session}","old":true}}"#)), (404, "[]".to_owned())] {
        harness.gateway.script(
            Rule::path(&slash)
                .status(StatusCode::from_u16(status).expect("a status"))
                .set_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body.clone()),
        );
        let before = harness.gateway.count("GET", &slash);
        for _ in 0..2 {
            let answer = harness.get(&slash).await;
            assert_eq!((answer.status, answer.text()), (status, body.clone()));
            assert_eq!(answer.cache(), format!("fwd=bypass; fwd-status={status}"));
        }
        assert_eq!(harness.gateway.count("GET", &slash) - before, 2, "asked for each time");
        let answer = harness.get(&plain).await;
        assert_eq!(answer.status, 200);
        assert!(answer.json()["old"].is_null(), "{}", answer.text());
    }
    assert_eq!(harness.gateway.count("GET", &plain), 1, "and what is stored stays");
    assert_eq!(requests(&harness, 404, "GET", "/v2/session/{session}").await, 2.0);
    // A write below the session purges it, with a slash and without.
    for path in [slash.to_string(), format!("{plain}/card/"), format!("{plain}/new/call")] {
        assert!(harness.get(&plain).await.status == 200);
        assert!(harness.get(&plain).await.cache().starts_with("hit"), "{path}");
        harness.send(Method::PATCH, &path, &[JSON], "{}").await;
        assert!(harness.get(&plain).await.cache().starts_with("fwd=uri-miss"), "{path}");
        // Past the short or zero lifetime of answers fetched meanwhile.
        harness.clock.advance(Duration::from_secs(61));
    }
    harness.stop().await;
}

#[tokio::test]
async fn an_express_checkout_and_a_virtual_card_purge_what_they_change() {
    let harness = Harness::start().await;
    let Session { path: lookup, order, order_path, .. } = Session::order(&harness.gateway);
    let card = harness.gateway.create_card();
    let card_lookup = format!("/v2/session/{card}");
    for (path, body, session, route) in [
        (
            format!("{order_path}/checkout"),
            json!({ "currency_code": "USD", "address_uuid": "a" }),
            &lookup,
            "/v2/order/{order}/checkout",
        ),
        (format!("/v2/session/{card}/card"), json!({ "order_id": "1" }), &card_lookup, "/v2/session/{session}/card"),
    ] {
        assert_eq!(harness.get(session).await.status, 200, "{path}");
        assert!(harness.get(session).await.cache().starts_with("hit"), "{path}");
        let answer = harness.send(Method::PATCH, &path, &[JSON], &body.to_string()).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.text());
        assert!(harness.get(session).await.cache().starts_with("fwd=uri-miss"), "{path}");
        assert_eq!(requests(&harness, 204, "PATCH", route).await, 1.0);
        // The call is not documented with a key, so the sidecar makes none up and promises none.
        assert_eq!(answer.header("sezzle-request-id"), "");
    }
    assert_eq!(harness.gateway.effects(&order)[0].kind, EffectKind::UpdateCheckout);
    // A new card changes no existing session.
    assert!(harness.get(&lookup).await.status == 200 && harness.get(&lookup).await.cache().starts_with("hit"));
    let body = json!({ "origin": "https://shop.example", "mode": "popup", "card_response_format": "token" });
    let answer = harness.post("/v2/session/card", &body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(harness.get(&lookup).await.cache().starts_with("hit"));
    assert_eq!(requests(&harness, 201, "POST", "/v2/session/card").await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_question_with_a_body_is_a_write() {
    let harness = Harness::start().await;
    let Session { path: lookup, order_path, .. } = Session::order(&harness.gateway);
    let (query, path) = (Method::from_bytes(b"QUERY").expect("a method"), order_path);
    harness.get(&lookup).await;
    let ask = async |path: &str| harness.send(query.clone(), path, &[JSON], r#"{"of":1}"#).await;
    harness.gateway.script(Rule::path(&path).status(StatusCode::OK).body("{}"));
    assert_eq!(ask(&path).await.status, 200);
    let sent = harness.gateway.journal().pop().expect("a call");
    assert_eq!((sent.method, &sent.body[..]), (query.clone(), &br#"{"of":1}"#[..]), "the body is part of it");
    assert!(harness.get(&lookup).await.cache().starts_with("fwd=uri-miss"), "purged");
    harness.gateway.script(Rule::path("/v2/customer").times(1).reset(Reset::AfterEffect));
    let calls = harness.received().len();
    let answer = ask("/v2/customer").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!(harness.received().len(), calls + 1, "sent once");
    harness.stop().await;
}

#[tokio::test]
async fn a_report_of_customers_is_streamed_and_kept_by_nobody() {
    let harness = Setup::default().start().await;
    let row = r#"{"order_uuid":"o","customer_email":"a@b.example","links":[{"href":"https://gateway.sezzle.com/v2/order/o"}]}"#;
    let report = format!("[{row},{row}]");
    let json = || {
        let rule = Rule::on(Method::GET, "/v2/orders/report").status(StatusCode::OK);
        rule.set_header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(report.clone())
    };
    harness.gateway.script(json());
    for target in ["/v2/orders/report?start-date=2026-01-01", "/v2/orders/report?start-date=2026-01-01"] {
        let answer = harness.get(target).await;
        assert_eq!((answer.status, answer.text()), (200, report.clone()), "not a byte of it is changed");
        assert_eq!(answer.header("cache-control"), "private, no-cache");
        assert_eq!(answer.cache(), "fwd=bypass; fwd-status=200");
    }
    assert_eq!(harness.received().len(), 2, "asked for each time");
    assert_eq!(harness.metric("cache_entries").await, 0.0);
    harness.gateway.clear_rules();
    harness.gateway.script(json().fault(Fault::SlowBody(Duration::from_secs(3600))));
    let mut wire = harness.wire().await;
    wire.send("GET /v2/orders/report HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    wire.read_until("customer_email").await;
    drop(wire);
    let (app, gateway) = harness.into_parts();
    gateway.stop().await;
    app.drain().await;
}
