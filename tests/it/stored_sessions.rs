//! A session is fetched once and served from memory for as long as the rules allow, and not a moment longer.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY};
use http::{HeaderValue, Method, StatusCode};
use sezzle_sidecar::simulator::{Rule, TokenizePlace};

use crate::support::{Harness, Session, Setup, eventually};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A session with `tokenize` and the path of its lookup.
fn session(harness: &Harness) -> String {
    Session::tokenize(&harness.gateway).path
}

#[tokio::test]
async fn looked_up_twice_fetched_once() {
    let harness = Harness::start().await;
    let path = session(&harness);

    let first = harness.get(&path).await;
    assert_eq!((first.status, first.cache()), (200, "fwd=uri-miss; fwd-status=200; ttl=60; stored"));
    harness.clock.advance(seconds(7));
    let second = harness.get(&path).await;
    assert_eq!((second.status, &second.body), (200, &first.body));
    assert!(["hit; ttl=52", "hit; ttl=53"].contains(&second.cache()), "{}", second.cache());
    // A real second may have ended between the gateway's Date and this lookup.
    assert!(["7", "8"].contains(&second.header("age")), "{}", second.header("age"));
    assert_eq!(second.header("cache-control"), "private, no-cache");
    assert_eq!(second.header("via"), "1.1 sezzle-sidecar");
    assert_eq!(second.header("etag"), first.header("etag"));
    assert_eq!(second.header("date"), first.header("date"));
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"), "each request has its own");

    let mut names: Vec<&str> = second.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = "age cache-control cache-status content-length content-type date etag via x-request-id";
    assert_eq!(names.join(" "), expected);
    assert_eq!(harness.gateway.count("GET", &path), 1);
    assert_eq!(harness.metric(r#"cache_requests_total{result="hit"}"#).await, 1.0);
    assert_eq!(harness.metric(r#"cache_requests_total{result="miss"}"#).await, 1.0);
    assert_eq!(harness.metric("cache_entries").await, 1.0);
    assert!(harness.metric("cache_bytes").await > 1000.0);
    harness.stop().await;
}

#[tokio::test]
async fn the_uuids_case_does_not_matter_and_another_uuid_is_another_session() {
    let harness = Harness::start().await;
    let uuid = Session::order(&harness.gateway).uuid;
    harness.get(&format!("/v2/session/{uuid}")).await;
    let upper = harness.get(&format!("/v2/session/{}", uuid.to_uppercase())).await;
    assert!(upper.cache().starts_with("hit"), "{}", upper.cache());
    let other = Session::order(&harness.gateway).uuid;
    assert_eq!(harness.get(&format!("/v2/session/{other}")).await.json()["uuid"], other.as_str());
    harness.stop().await;
}

#[tokio::test]
async fn nothing_outlives_its_tokenize_wherever_that_stands() {
    for place in [TokenizePlace::TopLevel, TokenizePlace::InOrder, TokenizePlace::Both] {
        for digits in [0, 3, 6, 9] {
            let setup = Setup::default().gateway(|gateway| {
                gateway.tokenize_life = seconds(8);
                gateway.tokenize_place = place;
                gateway.expiration_digits = digits;
            });
            let harness = setup.start().await;
            let path = session(&harness);
            harness.get(&path).await;
            let again = harness.get(&path).await;
            assert!(again.cache().starts_with("hit"), "{place:?} {digits}: {}", again.cache());
            harness.clock.advance(Duration::from_millis(3_100));
            let late = harness.get(&path).await;
            assert!(late.cache().starts_with("fwd=stale"), "{place:?} {digits}: {}", late.cache());
            assert_eq!(harness.gateway.count("GET", &path), 2);
            harness.stop().await;
        }
    }
}

#[tokio::test]
async fn either_clock_ends_a_life() {
    let harness = Harness::start().await;
    let path = session(&harness);
    harness.get(&path).await;
    harness.clock.step_wall(61_000);
    let suspended = harness.get(&path).await;
    assert!(suspended.cache().starts_with("fwd=stale"), "the machine was suspended: {}", suspended.cache());
    harness.clock.step_wall(-3_600_000);
    harness.clock.advance(seconds(61));
    let stepped = harness.get(&path).await;
    assert!(stepped.cache().starts_with("fwd=stale"), "the wall clock was set back: {}", stepped.cache());
    harness.stop().await;
}

#[tokio::test]
async fn a_stale_session_is_counted_as_expired() {
    // Real time: the store frees memory by a clock of its own, and must not evict the session at once.
    let harness = Setup::default().set("CACHE__UNTOKENIZED_TTL", "50ms").start().await;
    let path = Session::order(&harness.gateway).path;
    harness.get(&path).await;
    eventually("stale", async || !harness.get(&path).await.cache().starts_with("hit")).await;
    assert!(harness.metric(r#"cache_requests_total{result="expired"}"#).await >= 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_gateway_whose_clock_differs_gives_no_longer_life() {
    for skew in [-600, 600] {
        let setup = Setup::default().gateway(|gateway| {
            gateway.clock_skew = skew;
            gateway.tokenize_life = seconds(20);
        });
        let harness = setup.start().await;
        let first = harness.get(&session(&harness)).await;
        let ttl = first.cache().split("ttl=").nth(1).and_then(|rest| rest.split(';').next());
        let ttl = ttl.map_or(0, |ttl| ttl.parse::<u64>().expect("seconds"));
        assert!(ttl <= 15, "skew {skew}: {}", first.cache());
        harness.stop().await;
    }
}

#[tokio::test]
async fn sessions_without_tokenize_live_as_long_as_the_settings_say() {
    let harness = Setup::default().set("CACHE__UNTOKENIZED_TTL", "12s").start().await;
    let path = Session::order(&harness.gateway).path;
    assert!(harness.get(&path).await.cache().contains("ttl=12; stored"));
    harness.stop().await;

    let harness = Setup::default().set("CACHE__UNTOKENIZED_TTL", "0s").start().await;
    let path = Session::order(&harness.gateway).path;
    for _ in 0..2 {
        let answer = harness.get(&path).await;
        assert_eq!(answer.cache(), "fwd=uri-miss; fwd-status=200; detail=untokenized");
    }
    assert_eq!(harness.metric(r#"cache_store_skipped_total{reason="untokenized"}"#).await, 2.0);
    harness.stop().await;
}

#[tokio::test]
async fn an_answer_that_may_not_be_stored_is_passed_on_and_the_reason_counted() {
    let harness = Harness::start().await;
    let Session { uuid, path, .. } = Session::tokenize(&harness.gateway);
    let with = |name, value: &'static str| Rule::path(&path).set_header(name, HeaderValue::from_static(value));
    let body = |json: &str| Rule::path(&path).body(json.replace("UUID", &uuid));
    let rows = [
        ("no-store", with(CACHE_CONTROL, "no-store")),
        ("no-cache", with(CACHE_CONTROL, "private, no-cache")),
        ("expired", with(CACHE_CONTROL, "max-age=0")),
        ("vary", with(VARY, "Accept")),
        ("not-json", with(CONTENT_TYPE, "text/plain")),
        ("status", Rule::path(&path).status(StatusCode::NOT_FOUND)),
        ("status", Rule::path(&path).status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("unreadable", body("{\"uuid\":\"UUID\"")),
        ("unreadable", body("{\"uuid\":\"UUID\",\"order\":7}")),
        ("unreadable", body("")),
        // The order and the tokenization have no id here, so a write to them could not purge the session.
        ("unreadable", body("{\"uuid\":\"UUID\",\"order\":{\"intent\":\"AUTH\"}}")),
        ("unreadable", body("{\"uuid\":\"UUID\",\"tokenize\":{\"expiration\":\"2999-01-01T00:00:00Z\"}}")),
        ("other-session", body("{\"uuid\":\"fadbc642-05a4-4e38-9e74-80e325623af9\"}")),
        (
            "expiration",
            body("{\"uuid\":\"UUID\",\"tokenize\":{\"token\":\"t\",\"expiration\":\"0001-01-01T00:00:00Z\"}}"),
        ),
        (
            "expiration",
            body("{\"uuid\":\"UUID\",\"tokenize\":{\"token\":\"t\",\"expiration\":\"2999-01-01T00:00:00Z\"}}"),
        ),
        ("expiration", body("{\"uuid\":\"UUID\",\"order\":{\"uuid\":\"o\",\"tokenize\":{\"token\":\"t\"}}}")),
        (
            "tokenize",
            body("{\"uuid\":\"UUID\",\"tokenize\":{\"token\":\"t\",\"expiration\":\"2020-04-27T14:46:59Z\"}}"),
        ),
    ];
    for (reason, rule) in rows {
        harness.gateway.clear_rules();
        harness.gateway.script(rule);
        let series = format!("cache_store_skipped_total{{reason=\"{reason}\"}}");
        let before = harness.metric(&series).await;
        let answer = harness.get(&path).await;
        assert!(answer.cache().ends_with(&format!("detail={reason}")), "{reason}: {}", answer.cache());
        assert_eq!(harness.metric(&series).await - before, 1.0, "{reason}");
    }
    assert_eq!(harness.metric("cache_entries").await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn the_origins_directives_can_be_ignored() {
    let harness = Setup::default().set("CACHE__ORIGIN_CACHE_CONTROL", "ignore").start().await;
    let path = session(&harness);
    harness.gateway.script(Rule::path(&path).set_header(CACHE_CONTROL, HeaderValue::from_static("no-store")));
    harness.get(&path).await;
    let again = harness.get(&path).await;
    assert!(again.cache().starts_with("hit"), "{}", again.cache());
    assert_eq!(again.header("cache-control"), "no-store", "the answer says what Sezzle said");
    harness.stop().await;
}

#[tokio::test]
async fn callers_wishes_are_obeyed() {
    let harness = Harness::start().await;
    let path = session(&harness);
    let wish = async |wish: &str| harness.get_with(&path, &[("cache-control", wish)]).await;
    let only = wish("only-if-cached").await;
    assert_eq!((only.status, only.error_code().as_str()), (504, "sidecar.not_stored"));
    assert_eq!(harness.gateway.count("GET", &path), 0);

    assert!(wish("no-store").await.cache().ends_with("detail=request"));
    assert_eq!(harness.metric("cache_entries").await, 0.0, "no-store is not stored");
    for (line, hit) in [
        ("max-age=11", true),
        ("max-age=9", false),
        ("min-fresh=40", true),
        ("min-fresh=51", false),
        ("only-if-cached", true),
        ("no-cache", false),
        ("no-store", false),
    ] {
        let fresh = wish("no-cache").await;
        assert!(fresh.cache().starts_with("fwd=request") && fresh.cache().contains("stored"), "{}", fresh.cache());
        harness.clock.advance(seconds(10));
        let answer = wish(line).await;
        assert_eq!(answer.cache().starts_with("hit"), hit, "{line}: {}", answer.cache());
    }
    let pragma = harness.get_with(&path, &[("pragma", "no-cache")]).await;
    assert!(pragma.cache().starts_with("fwd=request"), "{}", pragma.cache());
    harness.stop().await;
}

#[tokio::test]
async fn conditional_requests_are_answered_here() {
    let harness = Harness::start().await;
    let path = session(&harness);
    let modified = HeaderValue::from_static("Mon, 27 Apr 2020 14:46:59 GMT");
    harness.gateway.script(Rule::path(&path).set_header(LAST_MODIFIED, modified));
    let etag = harness.get(&path).await.header("etag").to_owned();
    for (name, value, status) in [
        ("if-none-match", etag.clone(), 304),
        ("if-none-match", format!("\"x\", W/{etag}"), 304),
        ("if-none-match", "*".to_owned(), 304),
        ("if-none-match", "\"x\"".to_owned(), 200),
        ("if-modified-since", "Mon, 27 Apr 2020 14:46:59 GMT".to_owned(), 304),
        ("if-modified-since", "Mon, 27 Apr 2020 14:46:58 GMT".to_owned(), 200),
        ("range", "bytes=0-3".to_owned(), 200),
    ] {
        let answer = harness.get_with(&path, &[(name, &value)]).await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.body.is_empty(), status == 304, "{name}: {value}");
        assert_eq!(answer.header("etag"), etag);
    }
    assert_eq!(harness.gateway.count("GET", &path), 1);
    harness.stop().await;
}

#[tokio::test]
async fn sezzles_own_validator_is_kept_where_no_byte_changed() {
    for (rewrite, kept) in [("false", true), ("true", false)] {
        let harness = Setup::default().set("LINKS__REWRITE", rewrite).start().await;
        let path = session(&harness);
        harness.gateway.script(Rule::path(&path).set_header(ETAG, HeaderValue::from_static("\"theirs\"")));
        assert_eq!(harness.get(&path).await.header("etag") == "\"theirs\"", kept, "rewrite: {rewrite}");
        harness.stop().await;
    }
}

#[tokio::test]
async fn head_is_served_from_the_stored_get_and_passed_on_otherwise() {
    let harness = Harness::start().await;
    let path = session(&harness);
    let head = harness.send(Method::HEAD, &path, &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(harness.gateway.count("HEAD", &path), 1);
    let get = harness.get(&path).await;
    let head = harness.send(Method::HEAD, &path, &[], "").await;
    assert!(head.cache().starts_with("hit"), "{}", head.cache());
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert_eq!((harness.gateway.count("HEAD", &path), harness.gateway.count("GET", &path)), (1, 1));
    harness.stop().await;
}

#[tokio::test]
async fn anything_but_the_plain_lookup_passes_by_the_cache() {
    let harness = Harness::start().await;
    let plain = session(&harness);
    for path in [format!("{plain}?a=b"), format!("{plain}?")] {
        for _ in 0..2 {
            assert_eq!(harness.get(&path).await.cache(), "fwd=bypass; fwd-status=200", "{path}");
        }
    }
    let answer = harness.get("/v2/session/no-uuid").await;
    assert_eq!((answer.status, answer.cache()), (400, "fwd=bypass; fwd-status=400"));
    assert_eq!(harness.metric(r#"cache_requests_total{result="bypass"}"#).await, 5.0);
    harness.stop().await;
}

#[tokio::test]
async fn the_cache_keeps_its_bound_in_bytes() {
    let harness = Setup::default().set("CACHE__MAX_BYTES", "1MiB").start().await;
    let filler = "x".repeat(100 * 1024);
    for _ in 0..40 {
        let Session { uuid, path, .. } = Session::order(&harness.gateway);
        harness.gateway.script(Rule::path(&path).body(format!("{{\"uuid\":\"{uuid}\",\"filler\":\"{filler}\"}}")));
        assert!(harness.get(&path).await.cache().contains("stored"));
        assert!(harness.metric("cache_bytes").await <= 1024.0 * 1024.0);
    }
    assert!(harness.metric(r#"cache_evictions_total{cause="size"}"#).await >= 30.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_body_too_large_to_hold_is_streamed_whole() {
    let harness = Harness::start().await;
    let Session { uuid, path, .. } = Session::order(&harness.gateway);
    let body = format!("{{\"uuid\":\"{uuid}\",\"filler\":\"{}\"}}", "x".repeat(3 * 1024 * 1024));
    harness.gateway.script(Rule::path(&path).body(body.clone()));
    for _ in 0..2 {
        let answer = harness.get(&path).await;
        assert!(answer.cache().ends_with("detail=too-large"), "{}", answer.cache());
        assert!(answer.body == body.as_bytes());
    }
    harness.stop().await;
}

#[tokio::test]
async fn members_nobody_knows_survive() {
    let harness = Harness::start().await;
    let Session { uuid, path, .. } = Session::order(&harness.gateway);
    let body = format!(
        "{{ \"n\" : [1.0e2, null], \"uuid\":\"{uuid}\",\n\t\"order\":{{\"uuid\":\"o\",\"n\\u0065w\":\"\\ud83d\\ude00\"}} }}"
    );
    harness.gateway.script(Rule::path(&path).body(body.clone()));
    for _ in 0..2 {
        assert_eq!(harness.get(&path).await.text(), body);
    }
    assert_eq!(harness.gateway.count("GET", &path), 1);
    harness.stop().await;
}
