//! Sezzle's webhooks. The next lookup sees every change that Sezzle signed, and the service gets the webhook. Any other
//! webhook has no effect.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use http::Method;
use serde_json::json;
use sezzle_sidecar::simulator::{DeliveryState, Gate, Options, Rule, TokenizePlace};
use sezzle_sidecar::telemetry::metrics::WEBHOOK_EVENTS;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::client::Answer;
use crate::support::peer::{self, Peer};
use crate::support::process::{Folder, Sidecar, free_address, lines};
use crate::support::service::{Conduct, Service, signature};
use crate::support::tls::{Authority, self_signed};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, arrived, eventually};

const PATH: &str = "/webhooks/sezzle";
const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
const RETRY: Duration = Duration::from_millis(20);

fn setup() -> Setup {
    Setup::default()
        .set("WEBHOOKS__LISTEN", "127.0.0.1:0")
        .gateway(|gateway| gateway.webhook_retries = vec![RETRY; 200])
        .gateway(|gateway| gateway.tokenize_place = TokenizePlace::Both)
}

/// A sidecar that forwards webhooks to a service.
async fn before(service: &Service) -> Harness {
    setup().set("WEBHOOKS__FORWARD_TO", format!("http://{}/hooks", service.address)).start().await
}

/// A session that the sidecar has stored.
async fn stored(harness: &Harness) -> Session {
    let session = Session::tokenize(&harness.gateway);
    harness.get(&session.path).await;
    assert!(is_stored(harness, &session.path).await);
    session
}

async fn is_stored(harness: &Harness, path: &str) -> bool {
    harness.get(path).await.cache().starts_with("hit")
}

/// Subscribes the sidecar to these events, through the sidecar.
async fn subscribe(harness: &Harness, events: &[&str]) {
    let url = format!("http://{}{PATH}", harness.webhooks());
    let answer = harness.post("/v2/webhooks", &json!({"url": url, "events": events}).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Makes a write that bypasses the sidecar.
async fn elsewhere(harness: &Harness, path: &str, body: &str) -> u16 {
    let gateway = harness.gateway.addr();
    let json = ("content-type", "application/json");
    let Options { public_key, private_key, .. } = Options::default();
    let keys = json!({"public_key": public_key, "private_key": private_key}).to_string();
    let token = harness.client.send(gateway, Method::POST, "/v2/authentication", &[json], &keys).await.json();
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    harness.client.send(gateway, Method::POST, path, &[json, ("authorization", &bearer)], body).await.status
}

/// Sends a correctly signed webhook by hand.
async fn post(harness: &Harness, body: &str) -> Answer {
    let signed = signature(&Options::default().private_key, body);
    send(harness, Method::POST, PATH, &[("sezzle-signature", &signed)], body).await
}

async fn send(harness: &Harness, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    harness.client.send(harness.webhooks(), method, path, headers, body).await
}

async fn counted(harness: &Harness, event: &str, result: &str) -> f64 {
    harness.metric(&format!("webhooks_total{{event=\"{event}\",result=\"{result}\"}}")).await
}

async fn purges(harness: &Harness) -> f64 {
    harness.metric(r#"cache_invalidations_total{source="webhook"}"#).await
}

/// Waits until so many deliveries are over, and returns how the last one ended.
async fn settled(harness: &Harness, deliveries: u64) -> DeliveryState {
    let settled = harness.gateway.deliveries_settled(deliveries);
    timeout(Duration::from_secs(30), settled).await.expect("deliveries within 30 s");
    harness.gateway.deliveries().last().expect("a delivery").state
}

#[tokio::test]
async fn a_change_made_elsewhere_is_seen_once_its_webhook_was_accepted() {
    let harness = setup().start().await;
    subscribe(&harness, &["customer.tokenized", "order.authorized", "order.captured"]).await;
    let session = stored(&harness).await;
    let Session { path, order, order_path, .. } = &session;
    let other = stored(&harness).await;

    assert!(harness.gateway.complete_checkout(order));
    assert_eq!(settled(&harness, 1).await, DeliveryState::Accepted);
    let lookup = harness.get(path).await;
    assert!(lookup.cache().starts_with("fwd=uri-miss"), "{}", lookup.cache());
    assert!(is_stored(&harness, path).await);

    assert_eq!(elsewhere(&harness, &format!("{order_path}/capture"), CAPTURE).await, 200);
    assert_eq!(settled(&harness, 2).await, DeliveryState::Accepted);
    assert_eq!(harness.get(path).await.json()["order"]["captured_amount_in_cents"], 2500);
    assert!(is_stored(&harness, path).await);

    harness.gateway.approve_token(session.token()).expect("an open token");
    assert_eq!(settled(&harness, 3).await, DeliveryState::Accepted);
    assert!(!is_stored(&harness, path).await);

    for event in ["customer.tokenized", "order.authorized", "order.captured"] {
        assert_eq!(counted(&harness, event, "accepted").await, 1.0, "{event}");
    }
    assert_eq!(purges(&harness).await, 3.0);
    assert!(is_stored(&harness, &other.path).await, "a session that no event concerned");
    harness.stop().await;
}

#[tokio::test]
async fn every_event_purges_by_whatever_it_names() {
    let harness = setup().start().await;
    subscribe(&harness, &[&WEBHOOK_EVENTS[..], &["order.of-tomorrow"]].concat()).await;
    let session = stored(&harness).await;
    let Session { uuid, path, order, .. } = &session;
    let mut sent = 0;
    for event in WEBHOOK_EVENTS.into_iter().chain(["order.of-tomorrow"]) {
        for data in [
            json!({"uuid": order}),
            json!({"uuid": "dispute", "order_uuid": order.to_uppercase()}),
            json!({"dispute": {"order": {"id": order}}}),
            json!({"token": session.token(), "customer": {"uuid": "c"}}),
            json!({"session_uuid": uuid}),
        ] {
            harness.get(path).await;
            assert!(is_stored(&harness, path).await);
            assert_eq!(harness.gateway.raise_event(event, &data), 1);
            sent += 1;
            assert_eq!(settled(&harness, sent).await, DeliveryState::Accepted, "{event} {data}");
            assert!(!is_stored(&harness, path).await, "{event} {data}");
        }
    }
    assert_eq!(counted(&harness, "dispute.closed.neutral", "accepted").await, 5.0);
    assert_eq!(counted(&harness, "other", "accepted").await, 5.0);
    harness.stop().await;
}

#[tokio::test]
async fn an_event_that_sezzle_did_not_sign_has_no_effect() {
    let service = Service::start(Conduct::Answer(200)).await;
    let harness = before(&service).await;
    let Session { path, order, .. } = stored(&harness).await;
    let body = json!({"event": "order.captured", "data": {"uuid": order}}).to_string();
    let good = signature(&Options::default().private_key, &body);
    let foreign = signature("sz_pr_of_another", &body);
    let of_another_body = signature(&Options::default().private_key, format!("{body} "));
    let public = signature(&Options::default().public_key, &body);
    let mut flipped = good.clone().into_bytes();
    flipped[63] = if flipped[63] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8(flipped).expect("digits");
    let one = |value: &str| vec![("sezzle-signature", value.to_owned())];
    for headers in [
        vec![],
        one(""),
        one("0"),
        one(&good[..63]),
        one(&good[..62]),
        one(&format!("{good}00")),
        one(&format!("sha256={good}")),
        one(&good.replace(|_| true, "z")),
        one(&format!("{good}, {good}")),
        one(&foreign),
        one(&of_another_body),
        one(&public),
        one(&flipped),
        [one(&good), one(&good)].concat(),
        [one(&good), one(&foreign)].concat(),
        vec![("x-sezzle-signature", good.clone())],
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = send(&harness, Method::POST, PATH, &headers, &body).await;
        assert_eq!((answer.status, answer.text().trim()), (401, r#"{"error":"bad_signature"}"#), "{headers:?}");
    }
    assert_eq!(counted(&harness, "other", "bad_signature").await, 16.0);
    assert!(is_stored(&harness, &path).await);
    assert_eq!((purges(&harness).await, service.received().len()), (0.0, 0));

    let tag = hex(&good);
    let signatures = [
        good.clone(),
        good.to_uppercase(),
        BASE64_STANDARD.encode(&tag),
        BASE64_STANDARD_NO_PAD.encode(&tag),
        BASE64_URL_SAFE.encode(&tag),
        BASE64_URL_SAFE_NO_PAD.encode(&tag),
    ];
    for signed in &signatures {
        harness.get(&path).await;
        let answer = send(&harness, Method::POST, PATH, &[("sezzle-signature", signed)], &body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{signed}");
        assert!(!is_stored(&harness, &path).await);
    }
    assert_eq!(service.received().len(), signatures.len());
    harness.stop().await;
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[tokio::test]
async fn a_signature_in_the_wrong_place_is_named_in_the_log() {
    let address = free_address();
    let listen = address.to_string();
    let sidecar = Sidecar::start(Options::default(), &[("WEBHOOKS__LISTEN", &listen)]).await;
    let signed = signature(&Options::default().private_key, "{}");
    let post = async |name: &str| {
        let mut wire = Wire::connect(address).await;
        wire.send(format!("POST {PATH} HTTP/1.1\r\nhost: a\r\n{name}: {signed}\r\ncontent-length: 2\r\n\r\n{{}}"))
            .await;
        wire.answer().await.status
    };
    assert_eq!((post("x-other-signature").await, post("x-sezzle-signature").await), (401, 401));
    assert_eq!(post("sezzle-signature").await, 200);
    let log = sidecar.stop().await.stdout;
    let lines: Vec<serde_json::Value> = lines(&log).into_iter().filter(|line| line["message"] == "webhook").collect();
    let hints: Vec<&str> = lines.iter().map(|line| line["hint"].as_str().unwrap_or_default()).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(hints[1].starts_with("the signature came in X-Sezzle-Signature, which Sezzle does not send"), "{hints:?}");
    assert_eq!((hints[0], hints[2]), ("", ""));
    assert!(!log.contains(&signed), "{log}");
}

#[tokio::test]
async fn every_other_request_is_told_what_is_wrong() {
    let harness = setup().set("WEBHOOKS__PATH", "/hooks/a").start().await;
    let signed = |body: &str| signature(&Options::default().private_key, body);
    let large = "a".repeat(256 * 1024 + 1);
    for (method, path, body, status, result) in [
        (Method::POST, "/hooks/a", &large[1..], 200, "malformed"),
        (Method::POST, "/hooks/a", large.as_str(), 413, "too_large"),
        (Method::POST, "/webhooks/sezzle", "{}", 404, "not_found"),
        (Method::POST, "/hooks/a/", "{}", 404, "not_found"),
        (Method::POST, "/v2/session", "{}", 404, "not_found"),
        (Method::GET, "/metrics", "", 404, "not_found"),
        (Method::GET, "/hooks/a", "", 405, "method_not_allowed"),
        (Method::PUT, "/hooks/a", "{}", 405, "method_not_allowed"),
        (Method::POST, "/hooks/a?from=sezzle", "{}", 200, "accepted"),
    ] {
        let before = counted(&harness, "other", result).await;
        let answer = send(&harness, method.clone(), path, &[("sezzle-signature", &signed(body))], body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("allow"), if status == 405 { "POST" } else { "" });
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(counted(&harness, "other", result).await, before + 1.0, "{method} {path}");
    }
    // The body is chunked, so no stated length can cause the refusal.
    let mut wire = Wire::connect(harness.webhooks()).await;
    let head = format!("POST /hooks/a HTTP/1.1\r\nhost: a\r\nsezzle-signature: {}\r\n", signed(&large));
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}", large.len())).await;
    assert_eq!(wire.answer().await.status, 413);
    // The webhook may use any host name, or none.
    for host in ["host: hooks.shop.example\r\n", "host: shop.example\r\nsec-fetch-mode: cors\r\n", ""] {
        let mut wire = Wire::connect(harness.webhooks()).await;
        let head = format!("POST /hooks/a HTTP/1.1\r\n{host}sezzle-signature: {}\r\n", signed("{}"));
        wire.send(format!("{head}content-length: 2\r\n\r\n{{}}")).await;
        assert_eq!(wire.answer().await.status, 200, "{host}");
    }
    // A page in a browser cannot use a signature that it has obtained.
    for mark in ["origin: null", "sec-fetch-site: none", "sec-fetch-dest: empty", "sec-fetch-user: ?1"] {
        let mut wire = Wire::connect(harness.webhooks()).await;
        let head = format!("POST /hooks/a HTTP/1.1\r\nhost: a\r\n{mark}\r\nsezzle-signature: {}\r\n", signed("{}"));
        wire.send(format!("{head}content-length: 2\r\n\r\n{{}}")).await;
        assert_eq!(wire.answer().await.status, 403, "{mark}");
    }
    assert_eq!(counted(&harness, "other", "browser_refused").await, 4.0);
    // Half a body.
    let mut wire = Wire::connect(harness.webhooks()).await;
    wire.send(format!("POST /hooks/a HTTP/1.1\r\nsezzle-signature: {}\r\ncontent-length: 9\r\n\r\n{{}}", signed("{}")))
        .await;
    wire.finish_sending().await;
    eventually("counted", async || counted(&harness, "other", "body_broken").await == 1.0).await;
    assert_eq!(purges(&harness).await, 1.0, "what was signed and could not be read");
    harness.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_given_up() {
    let harness = setup().start().await;
    let mut wire = Wire::connect(harness.webhooks()).await;
    let signed = signature("k", "");
    wire.send(format!("POST {PATH} HTTP/1.1\r\nsezzle-signature: {signed}\r\ncontent-length: 9\r\n\r\n{{}}")).await;
    assert_eq!(wire.answer().await.status, 408);
    assert_eq!(counted(&harness, "other", "body_timeout").await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_signed_body_that_cannot_be_read_goes_on_and_purges_everything() {
    let service = Service::start(Conduct::Answer(204)).await;
    let harness = before(&service).await;
    let Session { path, order, .. } = stored(&harness).await;
    let (broken, deep) = (format!("{{\"data\":{{\"uuid\":\"{order}\"}}"), "[".repeat(5000));
    let odd = r#"{"event":"order.captured","data":{"order_uuid":"o","z":"\ud800"}}"#;
    for body in ["", "order=1", &broken, &deep, odd] {
        harness.get(&path).await;
        assert!(is_stored(&harness, &path).await);
        assert_eq!(post(&harness, body).await.status, 200, "{body}");
        assert!(!is_stored(&harness, &path).await, "{body}");
        assert_eq!(service.received().last().expect("one").body, body);
    }
    assert_eq!(counted(&harness, "other", "malformed").await, 5.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_fetch_under_way_when_a_webhook_comes_is_neither_stored_nor_shared_with_later_callers() {
    let harness = setup().start().await;
    subscribe(&harness, &["order.captured"]).await;
    let Session { path, order_path, .. } = Session::tokenize(&harness.gateway).authorized(&harness.gateway);
    let gate = Gate::new();
    harness.gateway.script(Rule::path(&path).gate_after_effect(&gate).times(1));

    let captured = |answer: &Answer| answer.json()["order"]["captured_amount_in_cents"].as_u64().unwrap_or(0);
    let (early, ()) = tokio::join!(harness.get(&path), async {
        // The gateway has read the session, and its answer is on the way.
        arrived(&gate, 1).await;
        assert_eq!(elsewhere(&harness, &format!("{order_path}/capture"), CAPTURE).await, 200);
        assert_eq!(settled(&harness, 1).await, DeliveryState::Accepted);
        // The second lookup must not wait for the answer in progress, although both want the same session.
        let (late, ()) = tokio::join!(harness.get(&path), async {
            eventually("both wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 2.0)
                .await;
            gate.release();
        });
        assert_eq!(captured(&late), 2500, "{}", late.cache());
    });
    assert_eq!(captured(&early), 0, "it asked before");
    assert!(early.cache().ends_with("detail=purged"), "{}", early.cache());
    assert_eq!(captured(&harness.get(&path).await), 2500);
    harness.stop().await;
}

#[tokio::test]
async fn the_service_gets_the_body_and_the_headers_as_they_came() {
    let service = Service::start(Conduct::Answer(202)).await;
    let secret = "shared secret".replace(' ', "-");
    let harness = setup()
        .set("WEBHOOKS__FORWARD_TO", format!("http://{}/hooks/of/sezzle", service.address))
        .set("WEBHOOKS__FORWARD_SECRET", &secret)
        .start()
        .await;
    let body = "{ \"event\":\"order.captured\",\t\"data\": {\"uuid\":\"o\", \"n\": 1.50 } }\n";
    let signed = signature(&Options::default().private_key, body).to_uppercase();
    let headers = [
        ("sezzle-signature", signed.as_str()),
        ("content-type", "application/json; charset=utf-8"),
        ("user-agent", "Sezzle/2"),
        ("x-custom", "1"),
        ("sezzle-sidecar-signature", "forged"),
        ("authorization", "Bearer canary"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];
    assert_eq!(send(&harness, Method::POST, PATH, &headers, body).await.status, 200);
    let received = service.received().pop().expect("a webhook");
    assert_eq!((received.target.as_str(), &received.body[..]), ("POST /hooks/of/sezzle", body.as_bytes()));
    let mut lines: Vec<String> = received.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.sort();
    let mut expected = vec![
        format!("content-length: \"{}\"", body.len()),
        "content-type: \"application/json; charset=utf-8\"".to_owned(),
        format!("host: \"{}\"", service.address),
        format!("sezzle-sidecar-signature: \"{}\"", signature(&secret, body)),
        format!("sezzle-signature: \"{signed}\""),
        "user-agent: \"Sezzle/2\"".to_owned(),
        "x-custom: \"1\"".to_owned(),
    ];
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(harness.metric("webhook_forward_duration_seconds_count").await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn without_the_secret_to_sign_with_nothing_starts() {
    let folder = Folder::new();
    let setup = setup()
        .set("WEBHOOKS__FORWARD_TO", "http://127.0.0.1:1/")
        .set("WEBHOOKS__FORWARD_SECRET_FILE", folder.path().join("absent").display());
    let error = setup.try_start().await.err().expect("no start").to_string();
    assert!(error.starts_with("webhooks.forward_secret: ") && error.contains("/absent: cannot be read"), "{error}");
}

#[tokio::test]
async fn sezzle_repeats_what_the_service_did_not_take() {
    let service = Service::start(Conduct::Answer(500)).await;
    let harness = before(&service).await;
    subscribe(&harness, &["order.refunded"]).await;
    let Session { path, order, .. } = stored(&harness).await;
    let mut deliveries = 0;
    // A redirection is not followed.
    for conduct in [Conduct::Answer(500), Conduct::Answer(307), Conduct::Answer(404), Conduct::Close] {
        let before = service.received().len();
        service.conduct(conduct.clone());
        harness.get(&path).await;
        assert_eq!(harness.gateway.raise_event("order.refunded", &json!({"uuid": order})), 1);
        service.has(before + 2).await;
        assert!(!is_stored(&harness, &path).await, "purged though it was not handed on");
        service.conduct(Conduct::Answer(200));
        deliveries += 1;
        assert_eq!(settled(&harness, deliveries).await, DeliveryState::Accepted, "{conduct:?}");
        let attempts = harness.gateway.deliveries().pop().expect("a delivery").attempts;
        let (last, failed) = attempts.split_last().expect("attempts");
        assert_eq!(last.status, Some(200));
        assert!(failed.len() >= 2 && failed.iter().all(|attempt| attempt.status == Some(502)), "{failed:?}");
        let bodies: Vec<_> = service.received()[before..].iter().map(|received| received.body.clone()).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "the same each time");
    }
    assert!(counted(&harness, "order.refunded", "forward_failed").await >= 8.0);
    assert_eq!(counted(&harness, "order.refunded", "accepted").await, 4.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_there_yet_gets_its_webhook_later() {
    let nobody = crate::support::process::free_address();
    let harness = setup().set("WEBHOOKS__FORWARD_TO", format!("http://{nobody}/")).start().await;
    let answer = post(&harness, r#"{"event":"order.captured"}"#).await;
    assert_eq!((answer.status, answer.text().trim()), (502, r#"{"error":"forward_failed"}"#));
    assert_eq!(counted(&harness, "order.captured", "forward_failed").await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn the_form_of_the_services_answer_does_not_matter() {
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: 1\r\n".repeat(120)).leak();
    for answer in [many, "HTTP/1.1 200 OK\r\nX-Odd : 1\r\nNonsense\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"] {
        let service = Peer::start(peer::Conduct::Close(answer.as_bytes())).await;
        let to = format!("http://{}/hooks", service.address());
        let harness = setup().set("WEBHOOKS__FORWARD_TO", to).start().await;
        assert_eq!(post(&harness, r#"{"event":"order.captured"}"#).await.status, 200, "{answer:.60}");
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_and_sezzle_repeats_it() {
    let service = Service::start(Conduct::Hang).await;
    let setup = setup().set("WEBHOOKS__FORWARD_TO", format!("http://{}/", service.address));
    let harness = setup.gateway(|gateway| gateway.webhook_timeout = Duration::from_secs(60)).start().await;
    subscribe(&harness, &["order.captured"]).await;
    let Session { path, order, .. } = stored(&harness).await;
    harness.gateway.raise_event("order.captured", &json!({"uuid": order}));
    service.has(1).await;
    assert!(!is_stored(&harness, &path).await, "purged before the service heard of it");
    let began = Instant::now();
    timeout(Duration::from_secs(20), service.receives(2)).await.expect("repeated");
    assert!((8..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    service.conduct(Conduct::Answer(200));
    assert_eq!(settled(&harness, 1).await, DeliveryState::Accepted);
    let attempts = harness.gateway.deliveries().pop().expect("a delivery").attempts;
    assert_eq!(attempts.iter().map(|attempt| attempt.status).collect::<Vec<_>>(), [Some(504), Some(200)]);
    assert_eq!(counted(&harness, "order.captured", "forward_timeout").await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn too_many_at_once_are_told_to_come_again() {
    let service = Service::start(Conduct::Hang).await;
    let harness = Arc::new(before(&service).await);
    let body = r#"{"event":"order.captured","data":{"uuid":"o"}}"#;
    let mut waiting = JoinSet::new();
    for _ in 0..32 {
        let harness = Arc::clone(&harness);
        waiting.spawn(async move { post(&harness, body).await.status });
    }
    service.has(32).await;
    let answer = post(&harness, body).await;
    assert_eq!((answer.status, answer.text().trim()), (503, r#"{"error":"busy"}"#));
    assert_eq!(counted(&harness, "order.captured", "busy").await, 1.0);
    assert_eq!(purges(&harness).await, 33.0, "purged all the same");
    service.conduct(Conduct::Answer(200));
    assert_eq!(waiting.join_all().await, [200; 32]);
    // The webhooks have released their places.
    assert_eq!(post(&harness, body).await.status, 200);
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn a_hand_on_runs_to_its_end_though_sezzle_hangs_up() {
    let service = Service::start(Conduct::Hang).await;
    let harness = before(&service).await;
    let body = r#"{"event":"order.captured"}"#;
    let mut wire = Wire::connect(harness.webhooks()).await;
    let signed = signature(&Options::default().private_key, body);
    let head = format!("POST {PATH} HTTP/1.1\r\nsezzle-signature: {signed}\r\ncontent-length: {}\r\n\r\n", body.len());
    wire.send(head + body).await;
    service.has(1).await;
    wire.reset();
    service.conduct(Conduct::Answer(200));
    eventually("accepted", async || counted(&harness, "order.captured", "accepted").await == 1.0).await;
    harness.stop().await;
}

#[tokio::test]
async fn over_tls_the_service_must_prove_its_name() {
    let authority = Authority::new();
    let good = Service::start_tls(Conduct::Answer(200), authority.server(&["localhost"])).await;
    let elsewhere = Service::start_tls(Conduct::Answer(200), authority.server(&["other.example"])).await;
    let own = Service::start_tls(Conduct::Answer(200), self_signed(&["localhost"])).await;
    for (service, status) in [(elsewhere, 502), (own, 502), (good, 200)] {
        let harness = setup()
            .set("GATEWAY__CA_FILE", authority.file())
            .set("WEBHOOKS__FORWARD_TO", format!("https://localhost:{}/hooks", service.address.port()))
            .start()
            .await;
        assert_eq!(post(&harness, "{}").await.status, status);
        assert_eq!(service.received().len(), usize::from(status == 200), "not a byte without");
        harness.stop().await;
    }
}

#[tokio::test]
async fn duplicates_and_old_events_do_no_harm() {
    let service = Service::start(Conduct::Answer(200)).await;
    let harness = before(&service).await;
    subscribe(&harness, &["order.authorized"]).await;
    let Session { path, order, .. } = stored(&harness).await;
    assert!(harness.gateway.complete_checkout(&order));
    assert_eq!(settled(&harness, 1).await, DeliveryState::Accepted);
    for again in 0..3 {
        harness.get(&path).await;
        assert!(harness.gateway.redeliver(0));
        assert_eq!(settled(&harness, 2 + again).await, DeliveryState::Accepted);
        assert!(!is_stored(&harness, &path).await);
    }
    assert_eq!(service.received().len(), 4, "it is the service that tells them apart");
    harness.stop().await;
}

#[tokio::test]
async fn a_drain_accepts_webhooks_and_waits_for_what_is_handed_on() {
    let service = Service::start(Conduct::Hang).await;
    let setup = setup().set("WEBHOOKS__FORWARD_TO", format!("http://{}/", service.address));
    let harness = setup.set("DRAIN__GRACE", "2s").set("DRAIN__TIMEOUT", "60s").start().await;
    let (ops, webhooks) = (harness.ops, harness.webhooks());
    let (client, (app, gateway)) = (crate::support::client::Client::new(), harness.into_parts());
    let drain = tokio::spawn(app.drain());
    eventually("draining", async || client.get(ops, "/readyz").await.status == 503).await;
    let signed = signature(&Options::default().private_key, "{}");
    let signed = [("sezzle-signature", signed.as_str())];
    let request = client.send(webhooks, Method::POST, PATH, &signed, "{}");
    let (answer, ()) = tokio::join!(request, async {
        service.has(1).await;
        let closed = async || tokio::net::TcpStream::connect(webhooks).await.is_err();
        eventually("the grace period is over", closed).await;
        assert!(!drain.is_finished(), "it waits for what is under way");
        service.conduct(Conduct::Answer(200));
    });
    assert_eq!(answer.status, 200);
    drain.await.expect("no panic");
    gateway.stop().await;
}

#[tokio::test]
async fn the_listener_may_be_a_unix_socket_and_is_off_unless_configured() {
    let folder = Folder::new();
    let path = folder.path().join("webhooks.sock");
    let harness = setup().set("WEBHOOKS__LISTEN", format!("unix:{}", path.display())).start().await;
    let mut wire = Wire::unix(&path).await;
    let signed = signature(&Options::default().private_key, "{}");
    wire.send(format!("POST {PATH} HTTP/1.1\r\nsezzle-signature: {signed}\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    assert_eq!(wire.answer().await.status, 200);
    harness.stop().await;
    assert!(!path.exists());

    let harness = Harness::start().await;
    let (app, gateway) = harness.into_parts();
    assert_eq!(app.addresses.webhooks, None);
    app.drain().await;
    gateway.stop().await;
}
