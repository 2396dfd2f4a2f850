//! One token for all callers: obtained early, replaced in time, never sent after its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::DATE;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use sezzle_sidecar::simulator::{Fault, Gate, Reset, Rule};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Harness, Session, Setup, arrived, eventually};

const EXCHANGE: &str = "/v2/authentication";

fn exchanges(harness: &Harness) -> usize {
    harness.gateway.count("POST", EXCHANGE)
}

#[tokio::test]
async fn one_exchange_serves_a_thousand_requests() {
    // A busy machine needs long for so many at once.
    let setup = Setup::default().set("LIMITS__IN_FLIGHT", "2000").set("GATEWAY__READ_TIMEOUT", "60s");
    let harness = Arc::new(setup.start().await);
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let harness = Arc::clone(&harness);
        callers.spawn(async move { harness.get("/v2/customer").await.status });
    }
    let statuses = callers.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(harness.gateway.count("GET", "/v2/customer"), 1000);
    assert_eq!(exchanges(&harness), 1);
    let tokens: std::collections::HashSet<_> = harness
        .gateway
        .journal()
        .iter()
        .filter(|exchange| exchange.path != EXCHANGE)
        .map(|exchange| exchange.headers["authorization"].clone())
        .collect();
    assert_eq!(tokens.len(), 1);
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn requests_wait_for_the_first_token() {
    let gate = Gate::new();
    let harness = Setup::default().start_with(|gateway| gateway.script(Rule::path(EXCHANGE).gate(&gate))).await;
    let harness = Arc::new(harness);
    gate.arrived(1).await;
    assert_eq!(harness.client.get(harness.ops, "/readyz").await.status, 503);
    assert_eq!(harness.client.get(harness.ops, "/livez").await.status, 200);
    let caller = Arc::clone(&harness);
    let waiting = tokio::spawn(async move { caller.get("/v2/customer").await.status });
    eventually("waiting", async || harness.metric(r#"in_flight_requests{class="read"}"#).await == 1.0).await;
    gate.release();
    assert_eq!(waiting.await.expect("no panic"), 200);
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn while_exchanges_fail_calls_wait_only_in_a_young_process() {
    let down = || Rule::path(EXCHANGE).status(StatusCode::SERVICE_UNAVAILABLE);
    let harness = Arc::new(Setup::default().start_with(|gateway| gateway.script(down())).await);
    let failed = r#"token_refreshes_total{result="failed",trigger="start"}"#;
    eventually("the first exchange has failed", async || harness.metric(failed).await == 1.0).await;
    let caller = Arc::clone(&harness);
    let waiting = tokio::spawn(async move { caller.get("/v2/customer").await.status });
    eventually("waiting", async || harness.metric(r#"in_flight_requests{class="read"}"#).await == 1.0).await;
    harness.gateway.clear_rules();
    assert_eq!(waiting.await.expect("no panic"), 200, "a short wait at the start saves a retry");
    Arc::into_inner(harness).expect("no caller is left").stop().await;

    let harness = Setup::default().start_with(|gateway| gateway.script(down())).await;
    eventually("the first exchange has failed", async || harness.metric(failed).await == 1.0).await;
    harness.clock.advance(Duration::from_secs(7));
    let began = Instant::now();
    for _ in 0..3 {
        let answer = harness.get("/v2/customer").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "three waits would take 21 s: {:?}", began.elapsed());
    assert_eq!(harness.metric(r#"requests_refused_total{reason="no_token"}"#).await, 3.0);
    harness.stop().await;
}

#[tokio::test]
async fn rejected_and_foreign_keys_are_refused_clearly_and_recover() {
    let harness = Setup::default()
        .start_with(|gateway| gateway.script(Rule::path(EXCHANGE).status(StatusCode::UNAUTHORIZED)))
        .await;
    eventually("rejected", async || {
        harness.client.get(harness.ops, "/readyz").await.text() == "not ready: Sezzle rejected the key pair\n"
    })
    .await;
    let answer = harness.get("/v2/customer").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(harness.gateway.count("GET", "*"), 0, "nothing was sent");
    harness.gateway.clear_rules();
    eventually("recovers by itself", async || harness.get("/v2/customer").await.status == 200).await;
    harness.stop().await;

    let other = "00000000-0000-4000-8000-000000000001";
    let harness = Setup::default().set("CREDENTIALS__MERCHANT_UUID", other).start_unready().await;
    eventually("refused", async || {
        let ready = harness.client.get(harness.ops, "/readyz").await.text();
        ready == "not ready: the keys authenticate as another merchant\n"
    })
    .await;
    assert_eq!(harness.get("/v2/customer").await.status, 503);
    assert!(harness.metric(r#"token_refreshes_total{result="wrong_merchant",trigger="start"}"#).await >= 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn answers_that_hold_no_token_are_tried_again() {
    for rule in [
        Rule::path(EXCHANGE).status(StatusCode::OK).body(""),
        Rule::path(EXCHANGE).body("<html>busy</html>"),
        Rule::path(EXCHANGE).body(r#"{"token":"","expiration_date":"2999-01-01T00:00:00Z"}"#),
        Rule::path(EXCHANGE).body(r#"{"token":"t","expiration_date":"0001-01-01T00:00:00Z","merchant_uuid":"m"}"#),
        Rule::path(EXCHANGE).body("{\"token\":\"a\\nb\",\"expiration_date\":\"2999-01-01T00:00:00Z\"}"),
        Rule::path(EXCHANGE).status(StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let harness = Setup::default().start_with(|gateway| gateway.script(rule.times(2))).await;
        harness.ready().await;
        assert_eq!(harness.metric(r#"token_refreshes_total{result="failed",trigger="start"}"#).await, 1.0);
        assert_eq!(exchanges(&harness), 3);
        harness.stop().await;
    }
}

#[tokio::test]
async fn sixty_requests_on_a_revoked_token_make_one_exchange_and_all_succeed() {
    let harness = Arc::new(Harness::start().await);
    let order = Session::order(&harness.gateway).order;
    harness.gateway.revoke_tokens();
    let mut callers = JoinSet::new();
    for number in 0..60 {
        let (harness, order) = (Arc::clone(&harness), order.clone());
        callers.spawn(async move {
            if number % 2 == 0 {
                harness.get("/v2/customer").await.status
            } else {
                // Writes are sent again, too: Sezzle answers 401 before it processes a call.
                let body = json!({ "reference_id": number.to_string() }).to_string();
                let headers = [("content-type", "application/json")];
                harness.send(Method::PATCH, &format!("/v2/order/{order}"), &headers, &body).await.status
            }
        });
    }
    let statuses = callers.join_all().await;
    assert!(statuses.iter().all(|status| [200, 204].contains(status)), "{statuses:?}");
    assert_eq!(exchanges(&harness), 2, "the first, and one for all sixty");
    assert_eq!(harness.gateway.effects(&order).len(), 30, "each write once");
    assert!(harness.metric("upstream_unauthorized_total").await >= 1.0);
    assert_eq!(harness.metric("unauthorized_passed_on_total").await, 0.0, "no caller saw one");
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn a_route_that_always_answers_401_causes_no_storm() {
    let harness = Harness::start().await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::UNAUTHORIZED));
    for _ in 0..20 {
        let answer = harness.get("/v2/customer").await;
        assert_eq!(answer.status, 401, "Sezzle's answer goes to the caller");
        assert!(!answer.text().contains("sidecar."));
    }
    assert_eq!(exchanges(&harness), 2, "one forced refresh");
    assert_eq!(harness.gateway.count("GET", "/v2/customer"), 21, "one replay");
    assert_eq!(harness.metric("unauthorized_passed_on_total").await, 20.0);
    assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200, "other routes go on");
    harness.clock.advance(Duration::from_secs(11));
    harness.get("/v2/customer").await;
    assert_eq!(exchanges(&harness), 3, "after 10 s it may be tried again");
    harness.stop().await;
}

#[tokio::test]
async fn a_token_is_replaced_before_its_end() {
    let harness = Setup::default().gateway(|gateway| gateway.token_life = Duration::from_secs(4)).start().await;
    let began = Instant::now();
    while exchanges(&harness) < 3 {
        assert_eq!(harness.get("/v2/customer").await.status, 200);
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(harness.metric("upstream_unauthorized_total").await, 0.0, "no request saw an expired token");
    assert!(harness.metric(r#"token_refreshes_total{result="success",trigger="schedule"}"#).await >= 2.0);
    harness.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_never_sent() {
    let harness = Harness::start().await;
    // The machine was suspended, which only the wall clock shows. The gateway issues no new token meanwhile.
    harness.gateway.script(Rule::path(EXCHANGE).status(StatusCode::SERVICE_UNAVAILABLE));
    harness.clock.step_wall(3 * 3600 * 1000);
    let answer = harness.get("/v2/customer").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"));
    let began = Instant::now();
    assert_eq!(harness.get("/v2/customer").await.status, 503);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(harness.gateway.count("GET", "/v2/customer"), 0);
    assert_eq!(harness.client.get(harness.ops, "/readyz").await.status, 200, "Sezzle's health is not readiness");
    harness.gateway.clear_rules();
    eventually("recovers by itself", async || harness.get("/v2/customer").await.status == 200).await;
    harness.stop().await;
}

/// Seconds from now by this machine's clock, as an HTTP date.
fn date(seconds: i64) -> HeaderValue {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let date = if seconds < 0 { now - distance } else { now + distance };
    HeaderValue::from_str(&httpdate::fmt_http_date(date)).expect("a value")
}

/// A date so many minutes from now, as Sezzle writes it.
fn minutes(minutes: i64) -> String {
    let date = time::OffsetDateTime::now_utc() + time::Duration::minutes(minutes);
    date.format(&time::format_description::well_known::Rfc3339).expect("a year of four digits")
}

fn failed() -> &'static str {
    r#"token_refreshes_total{result="failed",trigger="schedule"}"#
}

/// Makes a hundred calls. All are refused for lack of a token, and they do not wait for one.
async fn all_are_refused_at_once(harness: &Harness, what: &str) {
    let mut took = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        let answer = harness.get("/v2/customer").await;
        took.push(began.elapsed());
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"), "{what}");
        assert_eq!(answer.header("retry-after"), "1", "{what}");
    }
    // Single calls may take longer on a busy machine.
    took.sort_unstable();
    assert!(took[50] < Duration::from_millis(100), "{what}: {took:?}");
}

#[tokio::test]
async fn every_answer_without_a_token_fails_the_exchange() {
    let auth = || Rule::path(EXCHANGE);
    let token = |merchant: &str, expiration: &str| {
        format!(r#"{{"token":"t","expiration_date":"{expiration}","merchant_uuid":"{merchant}"}}"#)
    };
    let own = sezzle_sidecar::simulator::Options::default().merchant_uuid;
    let html = HeaderValue::from_static("text/html");
    for (what, rule, result) in [
        ("500", auth().status(StatusCode::INTERNAL_SERVER_ERROR), "failed"),
        ("503", auth().status(StatusCode::SERVICE_UNAVAILABLE), "failed"),
        ("429", auth().status(StatusCode::TOO_MANY_REQUESTS), "failed"),
        ("204", auth().status(StatusCode::NO_CONTENT), "failed"),
        ("a redirect", auth().status(StatusCode::FOUND), "failed"),
        ("HTML", auth().body("<html>busy</html>").set_header(HeaderName::from_static("content-type"), html), "failed"),
        ("an empty body", auth().body(""), "failed"),
        ("half a body", auth().fault(Fault::CutBody(30)), "failed"),
        ("too long a body", auth().fault(Fault::EndlessBody), "failed"),
        ("a body that drips", auth().fault(Fault::DrippingBody { bytes: 1, wait: Duration::from_secs(1) }), "failed"),
        ("no HTTP", auth().fault(Fault::Garbage("\0\u{1}garbage\r\n\r\n".into())), "failed"),
        ("a reset", auth().reset(Reset::BeforeEffect), "failed"),
        ("a closed connection", auth().close(Reset::AfterEffect), "failed"),
        ("a list", auth().body("[]"), "failed"),
        ("a token that is none", auth().body(r#"{"token":5,"expiration_date":"2999-01-01T00:00:00Z"}"#), "failed"),
        ("a token that has ended", auth().body(token(&own, &minutes(-1))), "failed"),
        ("Go's zero date", auth().body(token(&own, "0001-01-01T00:00:00Z")), "failed"),
        ("400", auth().status(StatusCode::BAD_REQUEST), "rejected"),
        ("401", auth().status(StatusCode::UNAUTHORIZED), "rejected"),
        ("403", auth().status(StatusCode::FORBIDDEN), "rejected"),
        ("a firewall's page", blocked(auth()), "failed"),
        ("a gateway's refusal", auth().status(StatusCode::FORBIDDEN).body(r#"{"message":"Forbidden"}"#), "failed"),
        ("another merchant", auth().body(token("m", "2999-01-01T00:00:00Z")), "wrong_merchant"),
    ] {
        let harness = Harness::start().await;
        harness.gateway.script(rule);
        // The refresh is due and fails. A quarter of the token's life remains.
        harness.clock.advance(Duration::from_secs(95 * 60));
        let series = format!("token_refreshes_total{{result=\"{result}\",trigger=\"schedule\"}}");
        eventually(what, async || harness.metric(&series).await >= 1.0).await;
        assert_eq!(harness.get("/v2/customer").await.status, 200, "{what}: the token is used to its end");

        harness.clock.advance(Duration::from_secs(16 * 60));
        harness.gateway.clear_journal();
        all_are_refused_at_once(&harness, what).await;
        assert_eq!(harness.gateway.count("GET", "*"), 0, "{what}: nothing was sent");
        assert!(exchanges(&harness) <= 20, "{what}: {} exchanges", exchanges(&harness));

        harness.gateway.clear_rules();
        // The longest wait between two attempts.
        harness.clock.advance(Duration::from_secs(5));
        eventually(what, async || harness.get("/v2/customer").await.status == 200).await;
        harness.stop().await;
    }
}

#[tokio::test]
async fn every_answer_with_a_token_has_a_known_life() {
    let auth = || Rule::path(EXCHANGE);
    let merchant = sezzle_sidecar::simulator::Options::default().merchant_uuid;
    let without = format!(r#"{{"token":"t","merchant_uuid":"{merchant}"}}"#);
    let unreadable = format!(r#"{{"token":"t","expiration_date":"soon","merchant_uuid":"{merchant}"}}"#);
    let (minute, day) = (60, 86_400);
    let answers = ["200", "no end", "an end that cannot be read"];
    // Skew of the gateway's clock; the fewest and the most minutes for which the token may be used.
    for (what, skew, rule, life) in [
        ("201", 0, None, 109..=110),
        ("200", 0, Some(auth().status(StatusCode::OK).body(whole(&merchant, 60))), 59..=60),
        ("no end", 0, Some(auth().status(StatusCode::CREATED).body(without)), 109..=110),
        ("an end that cannot be read", 0, Some(auth().status(StatusCode::CREATED).body(unreadable)), 109..=110),
        ("no Date", 0, Some(auth().remove_header(DATE)), 109..=110),
        ("a clock 10 min ahead", 10 * minute, None, 109..=110),
        ("a clock 10 min behind", -10 * minute, None, 109..=110),
        ("a clock a day ahead", day, None, 109..=110),
        ("a clock a day behind", -day, None, 109..=110),
        ("a Date 10 min ahead", 0, Some(auth().set_header(DATE, date(10 * minute))), 108..=110),
        ("a Date 10 min behind", 0, Some(auth().set_header(DATE, date(-10 * minute))), 109..=110),
        ("a Date a day ahead", 0, Some(auth().set_header(DATE, date(day))), 109..=110),
        ("a Date a day behind", 0, Some(auth().set_header(DATE, date(-day))), 109..=110),
        ("no real Date", 0, Some(auth().set_header(DATE, HeaderValue::from_static("yesterday"))), 109..=110),
    ] {
        let setup = Setup::default().gateway(|gateway| gateway.clock_skew = skew);
        let issued = !answers.contains(&what);
        let harness = setup.start_with(|gateway| rule.into_iter().for_each(|rule| gateway.script(rule))).await;
        eventually(what, async || harness.client.get(harness.ops, "/readyz").await.status == 200).await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let left = (harness.metric("token_expiry_timestamp_seconds").await - now) / 60.0;
        assert!(life.contains(&(left.ceil() as i64)), "{what}: {left} minutes");
        // The gateway knows only its own token, so the caller gets Sezzle's answer.
        let status = if issued { 200 } else { 401 };
        for _ in 0..20 {
            assert_eq!(harness.get("/v2/customer").await.status, status, "{what}");
        }
        let before = exchanges(&harness);
        assert_eq!(before, if issued { 1 } else { 2 }, "{what}");
        // The token is refreshed in time, and not before.
        harness.clock.advance(Duration::from_secs_f64(left * 60.0 * 0.6));
        assert!(!issued || harness.get("/v2/customer").await.status == 200, "{what}");
        assert_eq!(exchanges(&harness), before, "{what}");
        harness.clock.advance(Duration::from_secs_f64(left * 60.0 * 0.25));
        eventually(what, async || exchanges(&harness) > before).await;
        harness.stop().await;
    }
}

/// A token with so many minutes to live.
fn whole(merchant: &str, life: i64) -> String {
    format!(r#"{{"token":"t","expiration_date":"{}","merchant_uuid":"{merchant}"}}"#, minutes(life))
}

#[tokio::test]
async fn authentication_that_hangs_holds_nobody_up() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path(EXCHANGE).gate(&gate));
    harness.clock.advance(Duration::from_secs(95 * 60));
    eventually("given up", async || harness.metric(failed()).await >= 1.0).await;
    assert_eq!(harness.get("/v2/customer").await.status, 200, "the token is used to its end");
    harness.clock.advance(Duration::from_secs(16 * 60));
    // An exchange is in progress, and callers do not wait for it.
    arrived(&gate, 2).await;
    all_are_refused_at_once(&harness, "an exchange that hangs").await;
    assert_eq!(harness.gateway.count("GET", "/v2/customer"), 1, "nothing was sent");
    gate.release();
    eventually("recovers by itself", async || harness.get("/v2/customer").await.status == 200).await;
    harness.stop().await;
}

#[tokio::test]
async fn no_restart_is_needed_after_hours_without_authentication() {
    let harness = Harness::start().await;
    harness.gateway.script(Rule::path(EXCHANGE).reset(Reset::BeforeReading));
    harness.clock.advance(Duration::from_secs(2 * 3600));
    let down = async || harness.get("/v2/customer").await.status == 503;
    eventually("down", down).await;
    harness.gateway.clear_journal();
    // An hour passes on the clock; attempts are at most 5 s apart.
    for minute in 1..=60 {
        let before = exchanges(&harness);
        harness.clock.advance(Duration::from_secs(60));
        eventually("tried", async || exchanges(&harness) > before).await;
        assert!(down().await, "{minute}");
    }
    harness.gateway.clear_rules();
    harness.clock.advance(Duration::from_secs(5));
    let began = Instant::now();
    eventually("recovers by itself", async || harness.get("/v2/customer").await.status == 200).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    harness.stop().await;
}

#[tokio::test]
async fn the_local_clock_does_not_matter() {
    for skew in [-7200, 7200] {
        let harness = Setup::default().gateway(|gateway| gateway.clock_skew = skew).start().await;
        assert_eq!(harness.get("/v2/customer").await.status, 200);
        assert_eq!(exchanges(&harness), 1);
        let measured = harness.metric("clock_skew_seconds").await;
        assert!((measured - skew as f64).abs() < 5.0, "{measured}");
        harness.stop().await;
    }
}

#[tokio::test]
async fn callers_authenticate_here_and_get_a_placeholder() {
    let harness = Harness::start().await;
    let ask = async |body: &str| harness.post(EXCHANGE, body).await;
    let answer = ask(r#"{"public_key":"sz_pub_simulated","private_key":"whatever"}"#).await;
    assert_eq!(answer.status, 201);
    let json = answer.json();
    let issued = harness.gateway.journal().iter().find_map(|exchange| exchange.headers.get("authorization").cloned());
    assert!(issued.is_none(), "nothing but the sidecar's own exchange was sent");
    assert!(json["token"].as_str().is_some_and(|token| token.contains("placeholder")));
    assert_eq!(json["merchant_uuid"], sezzle_sidecar::simulator::Options::default().merchant_uuid);
    let expires = time::OffsetDateTime::parse(
        json["expiration_date"].as_str().expect("a date"),
        &time::format_description::well_known::Rfc3339,
    );
    let left = expires.expect("RFC 3339") - time::OffsetDateTime::now_utc();
    assert!(left.whole_minutes() > 100 && left.whole_minutes() <= 120, "{left}");

    for body in ["", "{}", r#"{"public_key":"anything","private_key":""}"#] {
        assert_eq!(ask(body).await.status, 201, "{body}");
    }
    let foreign = ask(r#"{"public_key":"sz_pub_somebody","private_key":"x"}"#).await;
    assert_eq!((foreign.status, foreign.error_code().as_str()), (401, "sidecar.foreign_keys"));
    assert_eq!(ask("public_key=x").await.status, 400);
    assert_eq!(harness.get(EXCHANGE).await.status, 405);
    assert_eq!(exchanges(&harness), 1, "none of it was forwarded");

    // An unmodified client sends the placeholder next, and the sidecar removes it.
    let bearer = format!("Bearer {}", json["token"].as_str().expect("a token"));
    assert_eq!(harness.get_with("/v2/customer", &[("authorization", &bearer)]).await.status, 200);
    harness.stop().await;
}

/// The page of a firewall before Sezzle.
fn blocked(rule: Rule) -> Rule {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    rule.status(StatusCode::FORBIDDEN)
        .body("<html>you have been blocked</html>")
        .set_header(HeaderName::from_static("content-type"), html)
}

#[tokio::test]
async fn a_firewalls_page_is_not_sezzles_word_on_the_keys() {
    let harness = Setup::default().start_with(|gateway| gateway.script(blocked(Rule::path(EXCHANGE)))).await;
    eventually("it has failed", async || {
        harness.metric(r#"token_refreshes_total{result="failed",trigger="start"}"#).await == 1.0
    })
    .await;
    let ready = harness.client.get(harness.ops, "/readyz").await.text();
    let cause = "another server than Sezzle refused the request (403, text/html)";
    assert_eq!(ready, format!("not ready: the token exchange failed and is tried again: {cause}\n"));
    harness.gateway.clear_rules();
    harness.clock.advance(Duration::from_secs(5));
    harness.ready().await;
    harness.stop().await;
}

#[tokio::test]
async fn the_exchange_waits_as_long_as_sezzle_asks() {
    let busy = |status| {
        let wait = HeaderValue::from_static("40");
        Rule::path(EXCHANGE).status(status).set_header(HeaderName::from_static("retry-after"), wait)
    };
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let harness = Setup::default().start_with(|gateway| gateway.script(busy(status))).await;
        eventually("asked once", async || exchanges(&harness) == 1).await;
        // Without the header the sidecar would ask every 5 s at least.
        for _ in 0..7 {
            harness.clock.advance(Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(exchanges(&harness), 1, "{status}: nobody asks within 40 s");
        harness.gateway.clear_rules();
        harness.clock.advance(Duration::from_secs(10));
        harness.ready().await;
        assert_eq!(exchanges(&harness), 2, "{status}");
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_401_does_not_make_the_exchange_come_early() {
    let harness = Harness::start().await;
    let wait = HeaderValue::from_static("50");
    let busy = Rule::path(EXCHANGE).status(StatusCode::TOO_MANY_REQUESTS);
    harness.gateway.script(busy.set_header(HeaderName::from_static("retry-after"), wait));
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::UNAUTHORIZED));
    assert_eq!(harness.get("/v2/customer").await.status, 401);
    assert_eq!(exchanges(&harness), 2, "the start's, and the one that was told to wait");
    for _ in 0..4 {
        harness.clock.advance(Duration::from_secs(11));
        assert_eq!(harness.get("/v2/customer").await.status, 401);
    }
    assert_eq!(exchanges(&harness), 2, "nobody asks within 50 s");
    harness.stop().await;
}
