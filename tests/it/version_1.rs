//! Calls of Sezzle's older API, below `/v1/`. The sidecar refuses them unless it is configured to pass them on. Then a
//! write is sent once, and no exchange of keys goes on.

use std::time::Duration;

use http::header::{ETAG, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use sezzle_sidecar::simulator::{Fault, Reset, Rule};

use crate::support::audit_file::{file, of_calls};
use crate::support::client::Answer;
use crate::support::process::Folder;
use crate::support::{Harness, Session, Setup};

const LOGS: &str = "/v1/logs/merchant";
const COMPLETE: &str = "/v1/checkouts/o-1/complete";
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fn forwarding() -> Setup {
    Setup::default().set("PROXY__V1", "forward")
}

fn is_unknown(answer: &Answer) {
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{}", answer.text());
    assert!(answer.text().contains("look into Sezzle's dashboard"), "{}", answer.text());
}

#[tokio::test]
async fn without_the_setting_no_call_of_version_1_is_sent() {
    let harness = Harness::start().await;
    let paths = [LOGS, COMPLETE, "/v1/orders/o-1?x=1", "/v1/session", "/v1/authentication", "/v1/"];
    for path in paths {
        for method in METHODS {
            let answer = harness.send(method.clone(), path, &[], "").await;
            assert_eq!(answer.status, 404, "{method} {path}");
            if method != Method::HEAD {
                assert_eq!(answer.error_code(), "sidecar.not_found", "{method} {path}");
                assert!(answer.text().contains("proxy.v1 = \\\"forward\\\""), "{}", answer.text());
            }
        }
    }
    assert!(harness.received().is_empty());
    let refused = (paths.len() * METHODS.len()) as f64;
    assert_eq!(harness.metric(r#"requests_refused_total{reason="not_found"}"#).await, refused);
    harness.stop().await;
}

#[tokio::test]
async fn a_call_goes_on_with_the_token_and_comes_back_as_it_is() {
    let harness = forwarding().start().await;
    let body = r#"{"merchant_uuid": "m",  "log": "\u00e9"}"#;
    let headers = [("content-type", "application/json"), ("authorization", "Bearer theirs"), ("cookie", "a=b")];
    let answer = harness.send(Method::POST, &format!("{LOGS}?a=%20b"), &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let arrived = serde_json::json!({"method": "POST", "path": LOGS, "query": "a=%20b", "body": body});
    assert_eq!(answer.json(), arrived);
    assert_eq!(answer.cache(), "fwd=bypass; fwd-status=200");
    assert!(answer.header("sezzle-request-id").is_empty(), "no key is made");
    let sent = harness.gateway.journal().pop().expect("the call");
    let authorization = sent.headers["authorization"].to_str().expect("text");
    assert!(authorization.starts_with("Bearer ") && authorization != "Bearer theirs", "the token: {authorization}");
    assert!(!sent.headers.contains_key("cookie") && !sent.headers.contains_key("sezzle-request-id"), "{sent:?}");
    for _ in 0..2 {
        let read = harness.get("/v1/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8").await;
        assert_eq!((read.status, read.cache()), (200, "fwd=bypass; fwd-status=200"));
    }
    assert_eq!(harness.received().len(), 3, "no answer is stored");
    assert_eq!(harness.metric("cache_entries").await, 0.0);
    let series =
        |method: &str| format!(r#"requests_total{{code="200",method="{method}",route="v1",source="upstream"}}"#);
    assert_eq!((harness.metric(&series("POST")).await, harness.metric(&series("GET")).await), (1.0, 2.0));
    harness.stop().await;
}

#[tokio::test]
async fn a_write_is_sent_once_whatever_becomes_of_the_answer() {
    let harness = forwarding().set("GATEWAY__WRITE_TIMEOUT", "500ms").start().await;
    let series = r#"money_outcome_unknown_total{route="v1"}"#;
    assert_eq!(harness.metric(series).await, 0.0);
    let mut writes = 0;
    let rule = || Rule::path(COMPLETE).status(StatusCode::OK).body("{}");
    for rule in [
        rule().reset(Reset::BeforeEffect),
        rule().reset(Reset::AfterEffect),
        rule().fault(Fault::Garbage("".into())),
        rule().fault(Fault::CutBody(1)),
        rule().delay(Duration::from_secs(60)),
    ] {
        let shown = format!("{rule:?}");
        harness.gateway.clear_rules();
        harness.gateway.script(rule);
        // A key of the caller's may mean nothing to version 1.
        let headers = [("sezzle-request-id", "key"), ("idempotency-key", "other")];
        is_unknown(&harness.send(Method::POST, COMPLETE, &headers, "").await);
        writes += 1;
        assert_eq!(harness.received().len(), writes, "{shown}");
        assert_eq!(harness.metric(series).await, writes as f64, "{shown}");
    }
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT] {
        harness.gateway.clear_rules();
        harness.gateway.script(Rule::path(COMPLETE).status(status).body("[]"));
        let answer = harness.post(COMPLETE, "{}").await;
        assert_eq!((answer.status, answer.text().as_str()), (status.as_u16(), "[]"), "Sezzle's own");
        writes += 1;
        assert_eq!(harness.received().len(), writes, "{status}");
    }
    harness.gateway.clear_rules();
    // A lookup has no effect, so it is asked for again.
    harness.gateway.script(Rule::path("/v1/orders/o-1").times(1).reset(Reset::BeforeEffect));
    assert_eq!(harness.get("/v1/orders/o-1").await.status, 200);
    assert_eq!(harness.received().len(), writes + 2);
    harness.gateway_goes_away().await;
    let answer = harness.post(COMPLETE, "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    harness.stop().await;
}

/// Version 1 may not take the token everywhere. Otherwise each of its refusals would cost an exchange of keys, and keep
/// back the one that a revoked token needs.
#[tokio::test]
async fn a_401_says_nothing_about_the_token() {
    let harness = forwarding().start().await;
    let exchanges = || harness.gateway.count("POST", "/v2/authentication");
    let before = exchanges();
    harness.gateway.script(Rule::path("/v1/*").status(StatusCode::UNAUTHORIZED).body("[]"));
    for method in [Method::GET, Method::POST] {
        for path in [LOGS, COMPLETE] {
            let answer = harness.send(method.clone(), path, &[], "").await;
            assert_eq!((answer.status, answer.text().as_str()), (401, "[]"), "{method} {path}");
        }
    }
    assert_eq!(harness.received().len(), 4, "none is sent again");
    assert_eq!(exchanges(), before);
    assert_eq!(harness.metric("unauthorized_passed_on_total").await, 0.0, "no alert");
    harness.gateway.revoke_tokens();
    assert_eq!(harness.get("/v2/customer").await.status, 200, "with a new token at once");
    assert_eq!(exchanges(), before + 1);
    harness.stop().await;
}

#[tokio::test]
async fn an_exchange_of_keys_never_goes_on_and_gets_no_token() {
    let harness = forwarding().start().await;
    let keys = r#"{"public_key": "sz_pub_theirs", "private_key": "sz_pr_theirs"}"#;
    for path in [
        "/v1/authentication",
        "/v1/authentication/",
        "/v1/authentication?a=b",
        "/v1/authentication/again",
        "/v1/AuthenticatioN",
        "/v1/authent%C4%B1cation",
    ] {
        for method in METHODS {
            let answer = harness.send(method.clone(), path, &[("content-type", "application/json")], keys).await;
            assert_eq!(answer.status, 404, "{method} {path}");
            if method != Method::HEAD {
                assert_eq!(answer.error_code(), "sidecar.not_found", "{method} {path}");
                assert!(answer.text().contains("POST /v2/authentication"), "{}", answer.text());
                assert!(!answer.text().contains("token\"") && !answer.text().contains("theirs"), "{}", answer.text());
            }
        }
    }
    for path in [
        "/v1/%61uthentication",
        "/v1//authentication",
        "//v1/authentication",
        "/v1/./authentication",
        "/v1/../v2/order/o/capture",
        "/v1/%2e%2e/v2/order/o/capture",
        "/v1/logs%2F..%2Fauthentication",
        "/v1/authentication;x",
        "/v1/authentication%20",
        "/%76%31/authentication",
    ] {
        let answer = harness.post(path, keys).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "sidecar.bad_request"), "{path}");
    }
    for path in ["/V1/logs/m", "/v1", "/v11/logs", "/api/v1/logs"] {
        assert_eq!(harness.post(path, keys).await.error_code(), "sidecar.not_found", "{path}");
    }
    assert!(harness.received().is_empty());
    assert_eq!(harness.gateway.count("POST", "/v2/authentication"), 1, "the sidecar's own");
    harness.stop().await;
}

#[tokio::test]
async fn card_data_is_as_secret_here_as_below_version_2() {
    let harness = forwarding().start().await;
    for path in ["/v1/session/card/token/T0k3n", "/v1/SESSION/card/Token/T0k3n/x"] {
        let answer = harness.get(path).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "sidecar.card_data_refused"), "{path}");
    }
    assert!(harness.received().is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn links_in_a_body_stay_and_redirects_lead_back() {
    let harness = forwarding().start().await;
    let body = r#"{"links":[{"href":"https://gateway.sezzle.com/v2/order/o"}]}"#;
    let location = HeaderValue::from_static("https://gateway.sezzle.com/v1/orders/o-1");
    harness.gateway.script(
        Rule::path("/v1/*")
            .status(StatusCode::OK)
            .body(body)
            .set_header(LOCATION, location)
            .set_header(ETAG, HeaderValue::from_static("\"e\"")),
    );
    for method in [Method::GET, Method::POST] {
        let answer = harness.send(method.clone(), "/v1/orders/o-1", &[], "").await;
        assert_eq!((answer.text().as_str(), answer.header("etag")), (body, "\"e\""), "{method}");
        assert_eq!(answer.header("location"), format!("http://{}/v1/orders/o-1", harness.proxy), "{method}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_answer_to_a_lookup_is_streamed() {
    let harness = forwarding().start().await;
    let slow = Rule::path("/v1/orders/o-1").status(StatusCode::OK).body("{\"first\":1}");
    harness.gateway.script(slow.fault(Fault::SlowBody(Duration::from_secs(3600))));
    let mut wire = harness.wire().await;
    wire.send("GET /v1/orders/o-1 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let read = wire.read_until("{\"").await;
    assert!(!read.contains("first\":1}"), "the rest is not there yet: {read}");
    drop(wire);
    let (app, gateway) = harness.into_parts();
    gateway.stop().await;
    app.drain().await;
}

#[tokio::test]
async fn a_write_purges_what_its_path_names_and_no_other_session() {
    let harness = forwarding().start().await;
    let session = Session::order(&harness.gateway);
    let stored = async || harness.get(&session.path).await.cache().starts_with("hit");
    harness.get(&session.path).await;
    for path in [LOGS, COMPLETE, "/v1/merchant_data/woocommerce/m"] {
        assert_eq!(harness.post(path, "{}").await.status, 200, "{path}");
        assert!(stored().await, "{path} has nothing to do with it");
    }
    let id = session.order.as_str();
    assert_eq!(harness.get(&format!("/v1/order/{id}")).await.status, 200);
    assert!(stored().await, "a lookup purges nothing");
    for path in [format!("/v1/order/{id}/refund"), format!("/v1{}", session.path.trim_start_matches("/v2"))] {
        assert_eq!(harness.post(&path, "{}").await.status, 200, "{path}");
        assert!(!stored().await, "{path}");
        assert!(stored().await);
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_write_is_audited_and_names_nobody() {
    let folder = Folder::new();
    let harness = forwarding().set("AUDIT__FILE", file(&folder).display()).start().await;
    harness.gateway.script(
        Rule::path("/v1/order/*").status(StatusCode::OK).body(r#"{"uuid":"of-the-answer","order":{"uuid":"o"}}"#),
    );
    let price = r#"{"amount_in_cents":100,"currency":"USD"}"#;
    assert_eq!(harness.get("/v1/order/o-1").await.status, 200);
    assert_eq!(harness.post("/v1/order/o-1/refund", price).await.status, 200);
    let lines = of_calls(&file(&folder));
    let [begin, end] = <[_; 2]>::try_from(lines).expect("two lines: a lookup has none");
    assert_eq!((&begin["method"], &begin["route"]), (&"POST".into(), &"v1".into()), "{begin}");
    assert_eq!((&end["outcome"], &end["status"], &end["attempts"]), (&"done".into(), &200.into(), &1.into()), "{end}");
    for absent in ["order", "session", "key", "amount", "currency"] {
        assert!(begin.get(absent).is_none(), "{begin}");
    }
    assert!(end.get("sezzle_uuid").is_none() && end.get("sezzle_order").is_none(), "{end}");
    harness.gateway.clear_rules();
    harness.gateway.script(Rule::path(COMPLETE).reset(Reset::AfterEffect));
    is_unknown(&harness.post(COMPLETE, "{}").await);
    assert_eq!(of_calls(&file(&folder))[3]["outcome"], "unknown");
    harness.stop().await;
}
