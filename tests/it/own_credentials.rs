//! Callers with credentials of their own: a public key in `Authorization: Basic`, and an exchange that asks about a
//! shop. No caller gets more rights than it asks for, and none acts for a merchant that it does not mean.

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use sezzle_sidecar::simulator::{Gate, Options, Reset, Rule};

use crate::support::client::Answer;
use crate::support::frame_caller::FrameCaller;
use crate::support::frames::END_STREAM;
use crate::support::process::Sidecar;
use crate::support::{Harness, Session, Setup, arrived, eventually};

const EXCHANGE: &str = "/v2/authentication";
/// Sezzle's answer for a shop that may not sell with these keys.
const REFUSAL: &str =
    "[{\"code\":\"unauthed_checkout_url\",\"message\":\"https://checkout.example/?id=1\",\"location\":\"\"}]";

fn basic(key: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(key))
}

fn ours() -> String {
    basic(&Options::default().public_key)
}

#[tokio::test]
async fn a_call_under_our_public_key_goes_on_as_it_is() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    assert!(harness.get(&session).await.cache().starts_with("fwd=uri-miss"));
    assert!(harness.get(&session).await.cache().starts_with("hit"));
    let public = Options::default().public_key;
    let paths = [session.as_str(), "/v2/customer", "/v2/order/o/capture", "/v2/session"];
    for path in paths {
        harness.gateway.script(Rule::path(path).status(StatusCode::OK).body("{\"of\":\"the public key\"}"));
    }
    for authorization in
        [ours(), basic(&format!("{public}:")), format!("basic {}", BASE64_STANDARD_NO_PAD.encode(&public))]
    {
        for (method, path) in [
            (Method::GET, paths[0]),
            (Method::HEAD, paths[0]),
            (Method::GET, paths[1]),
            (Method::POST, paths[2]),
            (Method::POST, paths[3]),
        ] {
            let answer = harness.send(method.clone(), path, &[("authorization", &authorization)], "").await;
            assert_eq!((answer.status, answer.cache()), (200, "fwd=bypass; fwd-status=200"), "{method} {path}");
            let call = harness.gateway.journal().pop().expect("a call");
            assert_eq!((call.method, call.path.as_str()), (method, path));
            let sent: Vec<&HeaderValue> = call.headers.get_all(AUTHORIZATION).iter().collect();
            assert_eq!(sent, [authorization.as_str()], "{path}: as it is, and nothing beside it");
        }
    }
    assert_eq!(harness.metric("public_key_calls_total").await, 15.0);
    harness.gateway.clear_rules();
    assert!(!harness.get(&session).await.text().contains("the public key"), "nothing of it is in memory");
    harness.stop().await;
}

#[tokio::test]
async fn a_call_refused_under_a_public_key_is_not_repeated_with_the_token() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    harness.get(&session).await;
    let before = harness.gateway.journal().len();
    harness.gateway.script(Rule::path("/v2/*").status(StatusCode::UNAUTHORIZED));
    for path in [session.as_str(), "/v2/customer"] {
        let answer = harness.get_with(path, &[("authorization", &ours())]).await;
        assert_eq!((answer.status, &answer.json()[0]["code"]), (401, &json!("simulated")), "{path}");
    }
    assert_eq!(harness.gateway.journal().len(), before + 2, "no second attempt, and no new token");
    assert_eq!(harness.metric("upstream_unauthorized_total").await, 0.0, "nothing is wrong with the token");
    assert_eq!(harness.metric("unauthorized_passed_on_total").await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_public_key_needs_no_token() {
    let gate = Gate::new();
    let harness = Setup::default().start_with(|gateway| gateway.script(Rule::path(EXCHANGE).gate(&gate))).await;
    harness.gateway.script(Rule::path("/v2/session").status(StatusCode::CREATED).body("{}"));
    let answer = harness.send(Method::POST, "/v2/session", &[("authorization", &ours())], "{}").await;
    assert_eq!(answer.status, 201);
    gate.release();
    harness.stop().await;
}

#[tokio::test]
async fn another_merchants_public_key_is_refused() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    harness.get(&session).await;
    let before = harness.received();
    let foreign = [
        basic("sz_pub_another"),
        basic("sz_pub_another:"),
        basic("sz_pub_another:sz_pr_x"),
        format!("bAsIc  {}", BASE64_STANDARD_NO_PAD.encode("sz_pub_another")),
        "Bearer sz_pub_another".to_owned(),
    ];
    for authorization in &foreign {
        for (method, path) in [
            (Method::POST, "/v2/session"),
            (Method::GET, session.as_str()),
            (Method::HEAD, session.as_str()),
            (Method::GET, "/v2/orders/report"),
            (Method::POST, EXCHANGE),
            (Method::POST, "/v2/order/o/capture"),
        ] {
            let answer = harness.send(method.clone(), path, &[("authorization", authorization)], "").await;
            assert_eq!(answer.status, 401, "{method} {path}");
            if method != Method::HEAD {
                assert_eq!(answer.error_code(), "sidecar.foreign_keys", "{method} {path}");
                assert!(!answer.text().contains("sz_pub_another"), "{}", answer.text());
            }
        }
    }
    // HTTP/1.1 allows spaces before a value and removes them; HTTP/2 does not remove them.
    for space in [" ", "\t"] {
        let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
        let (stream, padded) = (caller.stream(), format!("{space}{}", foreign[0]));
        let head = caller.head(stream, END_STREAM, "POST", "/v2/session", &[("authorization", &padded)]);
        caller.send(head).await;
        assert_eq!(caller.told(stream).await.status, Some(401), "{padded:?}");
    }
    let lines: &[(&str, &str)] = &[("authorization", &ours()), ("authorization", &foreign[0])];
    assert_eq!(harness.get_with("/v2/customer", lines).await.error_code(), "sidecar.foreign_keys");
    assert_eq!(harness.received(), before, "nothing is sent");
    assert_eq!(harness.metric("requests_refused_total{reason=\"foreign_keys\"}").await, 33.0);
    for other in ["Basic eDp5", "Basic c3pfcHI6", "Basic", "Bearer x_y", "sz_pr_x"] {
        let answer = harness.get_with("/v2/customer", &[("authorization", other)]).await;
        assert_eq!(answer.status, 200, "{other}");
    }
    let call = harness.gateway.journal().pop().expect("a call");
    assert!(
        call.headers[AUTHORIZATION].to_str().is_ok_and(|sent| sent.starts_with("Bearer ") && !sent.contains("sz_pr"))
    );
    harness.stop().await;
}

#[tokio::test]
async fn no_public_key_of_a_callers_is_logged() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__LEVEL", "trace")]).await;
    let foreign = basic("sz_pub_another");
    for (authorization, status) in [(ours(), 401), (foreign.clone(), 401)] {
        let answer = sidecar.send(Method::GET, "/v2/customer", &[("authorization", &authorization)], "").await;
        assert_eq!(answer.status, status);
    }
    let process = sidecar.stop().await;
    let log = format!("{}{}", process.stdout, process.stderr);
    assert!(log.contains("/v2/customer"), "{log}");
    for secret in [Options::default().public_key, ours(), foreign, "sz_pub_another".to_owned()] {
        let encoded = secret.trim_start_matches("Basic ");
        assert!(!log.contains(encoded), "{encoded} in {log}");
    }
}

async fn exchange(harness: &Harness, body: &Value, platform: Option<&str>) -> Answer {
    let mut lines = vec![("content-type", "application/json")];
    lines.extend(platform.map(|platform| ("sezzle-platform", platform)));
    harness.send(Method::POST, EXCHANGE, &lines, &body.to_string()).await
}

fn with_shop(url: &str) -> Value {
    json!({ "public_key": "any", "private_key": "any", "cancel_url": url })
}

/// Exchanges that reached Sezzle, without the sidecar's own first one.
fn asked(harness: &Harness) -> usize {
    harness.gateway.count("POST", EXCHANGE) - 1
}

async fn counted(harness: &Harness, result: &str) -> f64 {
    harness.metric(&format!("caller_exchanges_total{{result=\"{result}\"}}")).await
}

#[tokio::test]
async fn sezzle_is_asked_about_a_shop_with_our_keys() {
    let harness = Harness::start().await;
    let answer = exchange(&harness, &with_shop("https://shop.example/cart?a=\u{e9}"), Some("eyJpZCI6Ik0ifQ==")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let call = harness.gateway.journal().pop().expect("an exchange");
    let (sent, options): (Value, _) = (serde_json::from_slice(&call.body).expect("JSON"), Options::default());
    let expected = json!({
        "public_key": options.public_key,
        "private_key": options.private_key,
        "cancel_url": "https://shop.example/cart?a=\u{e9}",
    });
    assert_eq!(sent, expected);
    assert_eq!(call.headers["sezzle-platform"], "eyJpZCI6Ik0ifQ==");
    // The sidecar keeps the token of this answer.
    assert_eq!(answer.json()["token"], "placeholder-the-sidecar-adds-the-real-token");
    assert_eq!(answer.json()["merchant_uuid"], options.merchant_uuid);
    assert_eq!((asked(&harness), counted(&harness, "granted").await), (1, 1.0));

    // The answer is valid for ten minutes, for this shop on this platform.
    let again =
        async || exchange(&harness, &with_shop("https://shop.example/cart?a=\u{e9}"), Some("eyJpZCI6Ik0ifQ==")).await;
    assert_eq!((again().await.status, asked(&harness)), (201, 1));
    assert_eq!(counted(&harness, "remembered").await, 1.0);
    exchange(&harness, &with_shop("https://other.example/"), Some("eyJpZCI6Ik0ifQ==")).await;
    exchange(&harness, &with_shop("https://shop.example/cart?a=\u{e9}"), None).await;
    exchange(&harness, &json!({}), Some("eyJpZCI6Ik0ifQ==")).await;
    assert_eq!(asked(&harness), 4);
    harness.clock.advance(Duration::from_secs(599));
    assert_eq!((again().await.status, asked(&harness)), (201, 4));
    harness.clock.advance(Duration::from_secs(2));
    assert_eq!((again().await.status, asked(&harness)), (201, 5));

    // An exchange without a shop causes no question to Sezzle.
    for body in [json!({ "cancel_url": null }), json!({ "cancel_url": "" }), json!({})] {
        assert_eq!(exchange(&harness, &body, Some("")).await.status, 201);
    }
    assert_eq!((asked(&harness), counted(&harness, "placeholder").await), (5, 3.0));
    let foreign = json!({ "public_key": "sz_pub_another", "cancel_url": "https://shop.example/" });
    assert_eq!(exchange(&harness, &foreign, None).await.error_code(), "sidecar.foreign_keys");
    let twice = [("sezzle-platform", "a"), ("sezzle-platform", "b")];
    assert_eq!(harness.send(Method::POST, EXCHANGE, &twice, "{}").await.error_code(), "sidecar.bad_request");
    assert_eq!(asked(&harness), 5, "nothing is asked for these");
    harness.stop().await;
}

#[tokio::test]
async fn sezzles_refusal_of_a_shop_is_passed_on() {
    let harness = Harness::start().await;
    for status in [400, 401, 403, 422] {
        let url = format!("https://shop.example/{status}");
        let code = StatusCode::from_u16(status).expect("a status");
        harness.gateway.script(Rule::path(EXCHANGE).status(code).body(REFUSAL).times(1));
        for turn in ["asked", "remembered"] {
            let answer = exchange(&harness, &with_shop(&url), None).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, REFUSAL), "{turn}");
            assert_eq!(answer.header("content-type"), "application/json");
        }
        harness.clock.advance(Duration::from_secs(61));
        assert_eq!(exchange(&harness, &with_shop(&url), None).await.status, 201, "it has been admitted since");
    }
    assert_eq!((counted(&harness, "refused").await, counted(&harness, "remembered").await), (4.0, 4.0));
    // A refusal also counts if only the platform was given. Any other refusal counts only for the callers that wait for
    // it.
    harness.gateway.script(Rule::path(EXCHANGE).status(StatusCode::FORBIDDEN).body("[{\"code\":\"x\"}]").times(1));
    let answer = exchange(&harness, &json!({}), Some("p")).await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "[{\"code\":\"x\"}]"));
    harness.clock.advance(Duration::from_secs(2));
    assert_eq!(exchange(&harness, &json!({}), Some("p")).await.status, 201);
    harness.stop().await;
}

#[tokio::test]
async fn without_an_answer_of_sezzles_a_shop_is_not_admitted() {
    let harness = Harness::start().await;
    let page = || Rule::path(EXCHANGE).status(StatusCode::FORBIDDEN).body("<html>blocked</html>");
    let html = HeaderValue::from_static("text/html");
    for (number, (rule, status, code)) in [
        (Rule::path(EXCHANGE).status(StatusCode::INTERNAL_SERVER_ERROR), 500, "simulated"),
        (Rule::path(EXCHANGE).status(StatusCode::TOO_MANY_REQUESTS), 429, "simulated"),
        (page().set_header(CONTENT_TYPE, html), 403, ""),
        (Rule::path(EXCHANGE).reset(Reset::BeforeEffect), 502, "sidecar.upstream_failed"),
        (Rule::path(EXCHANGE).status(StatusCode::OK).body("<html>"), 502, "sidecar.upstream_failed"),
        (Rule::path(EXCHANGE).status(StatusCode::OK).body("{\"token\":\"\"}"), 502, "sidecar.upstream_failed"),
        (
            Rule::path(EXCHANGE).status(StatusCode::OK).body("{\"token\":\"t\",\"merchant_uuid\":\"another\"}"),
            502,
            "sidecar.upstream_failed",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        harness.gateway.clear_rules();
        harness.gateway.script(rule);
        let answer = exchange(&harness, &with_shop(&format!("https://shop.example/{number}")), None).await;
        assert_eq!(answer.status, status, "{number}: {}", answer.text());
        if code.is_empty() {
            assert_eq!((answer.text().as_str(), answer.header("content-type")), ("<html>blocked</html>", "text/html"));
        } else {
            assert_eq!(answer.json()[0]["code"], code, "{number}");
        }
        // A caller that gave only its platform asked about no shop, and can use the existing token.
        let answer = exchange(&harness, &json!({}), Some(&format!("p{number}"))).await;
        assert_eq!(answer.status, 201, "{number}: {}", answer.text());
        assert!(answer.json()["token"].is_string());
    }
    assert_eq!(counted(&harness, "failed").await, 14.0);
    harness.stop().await;
}

#[tokio::test]
async fn exchanges_for_one_shop_are_made_one_at_a_time() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path(EXCHANGE).gate(&gate).status(StatusCode::FORBIDDEN).body(REFUSAL));
    let ask = async || exchange(&harness, &with_shop("https://shop.example/"), None).await.status;
    let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), async {
        arrived(&gate, 1).await;
        eventually("all three are there", async || {
            harness.metric("in_flight_requests{class=\"credentials\"}").await == 3.0
        })
        .await;
        gate.release();
    });
    assert_eq!([first, second, third], [403; 3]);
    assert_eq!(asked(&harness), 1);
    harness.stop().await;
}

/// A caller that may do next to nothing can name a new shop in each exchange.
#[tokio::test]
async fn exchanges_for_made_up_shops_do_not_reach_sezzle_without_a_bound() {
    let harness = Harness::start().await;
    let named = async |number: usize| exchange(&harness, &with_shop(&format!("https://{number}.example/")), None).await;
    // On a slow machine some more are due while the test runs.
    let mut granted = 0;
    for number in 0..60 {
        let answer = named(number).await;
        if answer.status == 429 {
            let told = (answer.error_code(), answer.header("retry-after").to_owned());
            assert_eq!(told, ("sidecar.rate_limited".to_owned(), "1".to_owned()), "{number}");
        } else {
            assert_eq!(answer.status, 201, "{number}");
            granted += 1;
        }
    }
    assert!((20..50).contains(&granted), "{granted}");
    let refused = (60 - granted) as f64;
    assert_eq!((asked(&harness), counted(&harness, "rate_limited").await), (granted, refused));
    assert_eq!(harness.metric("requests_refused_total{reason=\"rate_limited\"}").await, refused);
    assert_eq!(named(0).await.status, 201, "Sezzle's last answer still counts");
    assert_eq!(asked(&harness), granted);
    // A client that names its platform alone asked for nothing that needs Sezzle.
    assert_eq!(exchange(&harness, &json!({}), Some("p")).await.status, 201);
    harness.clock.advance(Duration::from_secs(5));
    assert_eq!([named(60).await.status, named(61).await.status, named(62).await.status], [201; 3]);
    // The sidecar's own exchange is apart from these.
    harness.clock.advance(Duration::from_secs(100 * 60));
    let renewed = "token_refreshes_total{result=\"success\",trigger=\"schedule\"}";
    eventually("the token is renewed", async || harness.metric(renewed).await == 1.0).await;
    harness.stop().await;
}
