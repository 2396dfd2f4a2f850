//! No call of a caller moves more than `max_amount` allows, however its body spells the amount.

use http::{Method, StatusCode};
use sezzle_sidecar::simulator::Rule;

use super::{READER, Scene, TILL};
use crate::support::Session;
use crate::support::wire::Wire;

const CALLERS: &str = r#"
[[callers]]
name = "small"
token_file = "@/till"
allow = ["all"]
max_amount = ["500.00 USD", "100.00 CAD"]

[[callers]]
name = "large"
token_file = "@/reader"
allow = ["all"]
"#;

fn price(cents: &str, currency: &str) -> String {
    format!(r#"{{"amount_in_cents":{cents},"currency":"{currency}"}}"#)
}

/// The documented body of each bounded call, with `#` in the place of its amount.
const BODIES: [(&str, &str); 6] = [
    ("/v2/session", r##"{"cancel_url":{"href":"https://a/"},"order":{"intent":"AUTH","order_amount":#}}"##),
    ("/v2/order/o/capture", r##"{"capture_amount":#,"partial_capture":true}"##),
    ("/v2/order/o/refund", "#"),
    ("/v2/order/o/reauthorize", "#"),
    ("/v2/order/o/upcharge", r##"{"intent":"CAPTURE","upcharge_amount":#}"##),
    ("/v2/customer/c/order", r##"{"intent":"AUTH","order_amount":#}"##),
];

#[tokio::test]
async fn a_call_moves_no_more_than_its_caller_may() {
    let scene = Scene::with(CALLERS, &[]).await;
    scene.sidecar.gateway.script(Rule::path("/v2/*").status(StatusCode::OK).body("{}"));
    for (path, body) in BODIES {
        for (cents, currency, allowed) in [
            ("50000", "USD", true),
            ("1", "USD", true),
            ("0", "USD", true),
            ("10000", "CAD", true),
            ("50001", "USD", false),
            ("18446744073709551615", "USD", false),
            ("10001", "CAD", false),
            ("1", "EUR", false),
        ] {
            let body = body.replace('#', &price(cents, currency));
            let before = scene.received().len();
            let answer = scene.send(Method::POST, path, TILL, &body).await;
            assert_eq!(answer.status == 200, allowed, "{path} {body}: {}", answer.text());
            if !allowed {
                assert_eq!((answer.status, answer.error_code().as_str()), (403, "sidecar.amount_over_limit"), "{body}");
                assert!(answer.header("sezzle-request-id").is_empty(), "no key was made");
            }
            assert_eq!(scene.received().len() - before, usize::from(allowed), "{path} {body}");
            assert_eq!(scene.send(Method::POST, path, READER, &body).await.status, 200, "another caller has no bound");
        }
    }
    assert_eq!(scene.refused("small", "amount_over_limit").await, 24.0);
    assert_eq!(scene.refused("large", "amount_over_limit").await, 0.0);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn an_amount_that_cannot_be_read_is_too_large() {
    let scene = Scene::with(CALLERS, &[("PROXY__V1", "forward")]).await;
    let small = price("1", "USD");
    let mut bodies: Vec<(Method, &str, String)> = Vec::new();
    for (path, body) in BODIES {
        for amount in [
            r#""1.00 USD""#,
            "1",
            "null",
            "[]",
            "{}",
            r#"{"amount_in_cents":1}"#,
            r#"{"currency":"USD"}"#,
            r#"{"amount_in_cents":"1","currency":"USD"}"#,
            r#"{"amount_in_cents":1.0,"currency":"USD"}"#,
            r#"{"amount_in_cents":1e0,"currency":"USD"}"#,
            r#"{"amount_in_cents":-1,"currency":"USD"}"#,
            r#"{"amount_in_cents":1,"amount_in_cents":99999999,"currency":"USD"}"#,
            r#"{"amount_in_cents":1,"Amount_In_Cents":99999999,"currency":"USD"}"#,
            r#"{"amount_in_cents":1,"currency":"USD","currency":"EUR"}"#,
            r#"{"amount_in_cents":1,"currency":"usd"}"#,
        ] {
            bodies.push((Method::POST, path, body.replace('#', amount)));
        }
        let good = body.replace('#', &small);
        bodies.push((Method::POST, path, String::new()));
        bodies.push((Method::POST, path, format!("{good}{good}")));
        bodies.push((Method::POST, path, format!("\u{feff}{good}")));
        bodies.push((Method::POST, path, "amount_in_cents=1&currency=USD".to_owned()));
        bodies.push((Method::PUT, path, good.clone()));
        bodies.push((Method::POST, path, "[".repeat(10_000)));
    }
    bodies.push((Method::POST, "/v2/order/o/capture", small.clone()));
    bodies.push((Method::POST, "/v2/session", r#"{"customer":{"tokenize":true}}"#.to_owned()));
    bodies.push((Method::POST, "/v2/session/card", r#"{"mode":"iframe"}"#.to_owned()));
    bodies.push((Method::POST, "/v2/unknown", small.clone()));
    bodies.push((Method::POST, "/v2/order/o/Refund", small.clone()));
    bodies.push((Method::POST, "/v1/checkouts/o/complete", small.clone()));
    bodies.push((Method::POST, "/v1/order/o/refund", small.clone()));
    bodies.push((Method::DELETE, "/v2/order/o", String::new()));
    for (method, path, body) in bodies {
        let answer = scene.send(method.clone(), path, TILL, &body).await;
        let shown = &body[..body.len().min(100)];
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "sidecar.amount_over_limit"), "{path} {shown}");
    }
    assert!(scene.received().is_empty(), "{:?}", scene.received());
    let large = format!("{small}{}", " ".repeat(2 << 20));
    assert_eq!(
        scene.send(Method::POST, "/v2/order/o/refund", TILL, &large).await.error_code(),
        "sidecar.body_too_large"
    );
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn calls_that_move_no_money_have_no_bound() {
    let scene = Scene::with(CALLERS, &[]).await;
    scene.sidecar.gateway.script(Rule::path("/v2/*").status(StatusCode::OK).body("{}"));
    for (method, path) in [
        (Method::GET, "/v2/order/o"),
        (Method::GET, "/v2/customer"),
        (Method::PATCH, "/v2/order/o"),
        (Method::DELETE, "/v2/order/o/checkout"),
        (Method::POST, "/v2/order/o/release"),
        (Method::DELETE, "/v2/customer/c"),
        (Method::POST, "/v2/customer/c/preapprove"),
        (Method::PATCH, "/v2/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8/card"),
        (Method::POST, "/v2/webhooks"),
    ] {
        assert_eq!(scene.send(method.clone(), path, TILL, "any").await.status, 200, "{method} {path}");
    }
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_real_capture_within_the_bound_goes_through() {
    let scene = Scene::with(CALLERS, &[]).await;
    let session = Session::order(&scene.sidecar.gateway).authorized(&scene.sidecar.gateway);
    let path = format!("{}/capture", session.order_path);
    let capture = |cents: &str| format!(r#"{{"capture_amount":{},"partial_capture":true}}"#, price(cents, "USD"));
    assert_eq!(scene.send(Method::POST, &path, TILL, &capture("50001")).await.status, 403);
    let answer = scene.send(Method::POST, &path, TILL, &capture("5000")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // A body in chunks, sent as slowly as a caller likes, is read as one.
    let mut wire = Wire::connect(scene.sidecar.proxy).await;
    wire.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TILL}\r\n")).await;
    wire.send("transfer-encoding: chunked\r\n\r\n1\r\n{\r\n").await;
    let rest = capture("60000")[1..].to_owned();
    wire.send(format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len())).await;
    assert_eq!(wire.answer().await.error_code(), "sidecar.amount_over_limit");
    assert_eq!(scene.received().len(), 1);
    scene.sidecar.stop().await;
}

/// Each of these bodies has a small amount for a server that reads JSON, and a large one for another server.
#[tokio::test]
async fn an_amount_that_another_server_may_read_elsewhere_is_too_large() {
    let scene = Scene::with(CALLERS, &[]).await;
    scene.sidecar.gateway.script(Rule::path("/v2/*").status(StatusCode::OK).body("{}"));
    let form = r#"{"amount_in_cents":1,"currency":"USD","x":"&amount_in_cents=99999999&currency=USD&"}"#;
    let utf7 =
        r#"{"amount_in_cents":1,"currency":"USD","x":"+ACI-,+ACI-amount_in_cents+ACI-:99999999,+ACI-y+ACI-:+ACI-"}"#;
    let small = price("1", "USD");
    let authorization = format!("Bearer {TILL}");
    let json = ("content-type", "application/json");
    for (query, lines, body) in [
        ("", vec![("content-type", "application/x-www-form-urlencoded")], form),
        ("", vec![("content-type", "multipart/form-data; boundary=x")], small.as_str()),
        ("", vec![("content-type", "application/json; charset=utf-7")], utf7),
        ("", vec![json, ("content-type", "text/xml")], small.as_str()),
        ("", vec![json, ("content-encoding", "gzip")], small.as_str()),
        ("?amount_in_cents=99999999", vec![json], small.as_str()),
    ] {
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(&lines);
        let path = format!("/v2/order/o/refund{query}");
        let answer = scene.sidecar.send(Method::POST, &path, &headers, body).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "sidecar.amount_over_limit"), "{lines:?}");
    }
    // A changed checkout can name a new amount.
    let checkout = r#"{"currency_code":"USD","shipping_options":[{"final_order_amount_in_cents":99999999}]}"#;
    let answer = scene.send(Method::PATCH, "/v2/order/o/checkout", TILL, checkout).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "sidecar.amount_over_limit"));
    assert!(scene.received().is_empty(), "{:?}", scene.received());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json; charset=utf-8")];
    assert_eq!(scene.sidecar.send(Method::POST, "/v2/order/o/refund", &headers, &small).await.status, 200);
    scene.sidecar.stop().await;
}
