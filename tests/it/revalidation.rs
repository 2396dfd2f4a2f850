//! An expired session can be revalidated: the sidecar sends Sezzle's validators back, and trusts a 304 for exactly what
//! it says. No caller gets a 304 without having asked for one.

use std::sync::Arc;

use http::Method;
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderValue, StatusCode};
use sezzle_sidecar::simulator::{Gate, Rule};

use crate::support::origin::{Lines, Origin, early_in_a_second, session};
use crate::support::{Harness, Session, Setup, arrived, eventually};

const OLD: &str = "Mon, 27 Apr 2020 14:46:59 GMT";

#[tokio::test]
async fn a_304_renews_a_stale_session() {
    let origin = Origin::start().await;
    for (validators, etag, modified) in [
        (&[("ETag", "\"a\"")] as Lines<'_>, "\"a\"", ""),
        (&[("ETag", "W/\"a\"")], "W/\"a\"", ""),
        (&[("Last-Modified", OLD)], "", OLD),
        (&[("ETag", "\"a\""), ("Last-Modified", OLD)], "\"a\"", OLD),
    ] {
        let uuid = session();
        let before = origin.harness.metric(r#"cache_requests_total{result="revalidated"}"#).await;
        let first: Vec<_> =
            [("Cache-Control", "max-age=10"), ("Date", "@0"), ("Age", "2"), ("X-Gateway", "old"), ("Vary", "")]
                .into_iter()
                .chain(validators.iter().copied())
                .collect();
        origin.serves(uuid, &first);
        let stored = origin.get(uuid, &[]).await;
        origin.pass(11);

        let second: Vec<_> = [("Cache-Control", "max-age=20"), ("Date", "@0"), ("X-Gateway", "new")]
            .into_iter()
            .chain(validators.iter().copied())
            .collect();
        early_in_a_second().await;
        origin.answers("304 Not Modified", &second, "");
        let renewed = origin.get(uuid, &[]).await;
        assert_eq!(
            (origin.last("if-none-match").as_str(), origin.last("if-modified-since").as_str()),
            (etag, modified)
        );
        assert_eq!((renewed.status, &renewed.body), (200, &stored.body));
        let cache = renewed.cache();
        assert!(
            ["20", "19"].iter().any(|ttl| cache == format!("fwd=stale; fwd-status=304; ttl={ttl}; stored")),
            "{cache}"
        );
        assert_eq!(renewed.header("x-gateway"), "new");
        assert_eq!(renewed.header("cache-control"), "max-age=20");
        assert_eq!(renewed.header("etag"), stored.header("etag"));
        assert_ne!(renewed.header("date"), stored.header("date"));
        assert_eq!(renewed.header("age"), "", "it is as young as the 304");
        assert_eq!(origin.harness.metric(r#"cache_requests_total{result="revalidated"}"#).await - before, 1.0);

        origin.pass(15);
        let asked = origin.asked();
        let hit = origin.get(uuid, &[]).await;
        assert!(hit.cache().starts_with("hit"), "{}", hit.cache());
        assert!(["15", "16"].contains(&hit.header("age")), "{}", hit.header("age"));
        assert_eq!((hit.header("x-gateway"), &hit.body, origin.asked()), ("new", &stored.body, asked));
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_wants_a_younger_answer_gets_one_by_a_304_too() {
    let origin = Origin::start().await;
    let uuid = session();
    origin.serves(uuid, &[("ETag", "\"a\"")]);
    let stored = origin.get(uuid, &[]).await;
    origin.pass(10);
    origin.answers("304 N", &[("ETag", "\"a\"")], "");
    let younger = origin.get(uuid, &[("cache-control", "max-age=5")]).await;
    assert_eq!(younger.cache(), "fwd=request; fwd-status=304; ttl=30; stored");
    assert_eq!((younger.status, &younger.body), (200, &stored.body));
    // A caller that wants nothing stored gets an answer that was not stored.
    origin.serves(uuid, &[("ETag", "\"a\"")]);
    let anew = origin.get(uuid, &[("cache-control", "no-cache")]).await;
    assert_eq!(
        (anew.cache(), origin.last("if-none-match").as_str()),
        ("fwd=request; fwd-status=200; ttl=30; stored", "")
    );
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_304_that_says_something_else_is_not_believed() {
    let origin = Origin::start().await;
    for (stored, fresh) in [
        (&[("ETag", "\"a\"")] as Lines<'_>, &[("ETag", "\"b\"")] as Lines<'_>),
        (&[("ETag", "\"a\"")], &[("ETag", "\"a\""), ("ETag", "\"b\"")]),
        (&[("Last-Modified", OLD), ("Date", "@0")], &[("Last-Modified", "Mon, 27 Apr 2020 14:47:00 GMT")]),
        (&[("Last-Modified", OLD), ("Date", "@0")], &[("ETag", "\"a\"")]),
    ] {
        let uuid = session();
        origin.serves(uuid, stored);
        origin.get(uuid, &[]).await;
        origin.pass(31);
        origin.answers("304 Not Modified", fresh, "");
        let asked = origin.asked();
        let answer = origin.get(uuid, &[]).await;
        // The sidecar asks again without a condition and gets 304 once more, which is no answer.
        assert_eq!((answer.status, origin.asked() - asked), (502, 2), "{stored:?} {fresh:?}");
        let heads = origin.gateway.heads();
        assert!(heads[asked].contains("\r\nif-"), "{}", heads[asked]);
        assert!(!heads[asked + 1].contains("\r\nif-"), "{}", heads[asked + 1]);
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_304_nobody_asked_for_is_followed_by_a_request_for_all_of_it() {
    let harness = Harness::start().await;
    let path = path(&harness);
    for wish in ["max-age=9", "no-cache", "no-store"] {
        harness.gateway.clear_rules();
        harness.gateway.script(Rule::path(&path).status(StatusCode::NOT_MODIFIED).times(1));
        let before = harness.gateway.count("GET", &path);
        // The caller's own condition does not apply either: Sezzle was not asked about the caller's tag.
        let answer = harness.get_with(&path, &[("cache-control", wish), ("if-none-match", "\"mine\"")]).await;
        assert_eq!((answer.status, harness.gateway.count("GET", &path) - before), (200, 2), "{wish}");
        harness.clock.advance(std::time::Duration::from_secs(61));
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_callers_own_condition_is_answered_by_what_was_revived() {
    let origin = Origin::start().await;
    let uuid = session();
    origin.serves(uuid, &[("ETag", "\"a\"")]);
    origin.get(uuid, &[]).await;
    for (condition, status) in [("\"a\"", 304), ("\"b\"", 200)] {
        origin.pass(31);
        origin.answers("304 Not Modified", &[("ETag", "\"a\"")], "");
        let answer = origin.get(uuid, &[("if-none-match", condition)]).await;
        assert_eq!(origin.last("if-none-match"), "\"a\"", "ours, not the caller's");
        assert_eq!(answer.status, status, "{condition}");
        assert!(answer.cache().starts_with("fwd=stale; fwd-status=304"), "{}", answer.cache());
    }
    // Another body gets another tag.
    origin.pass(31);
    origin.answers("200 OK", &[("ETag", "\"b\"")], format!(r#"{{"uuid":"{uuid}","new":true}}"#));
    let answer = origin.get(uuid, &[("if-none-match", "\"a\"")]).await;
    assert!(answer.status == 200 && answer.cache().starts_with("fwd=stale; fwd-status=200"), "{}", answer.cache());
    assert_eq!(answer.json()["new"], true);
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_session_without_a_reliable_validator_is_fetched_whole() {
    let origin = Origin::start().await;
    for lines in [
        &[] as Lines<'_>,
        &[("ETag", "unquoted")],
        &[("ETag", "\"a\""), ("ETag", "\"b\"")],
        // The session may have changed again within the second of its Date.
        &[("Date", "@0"), ("Last-Modified", "@0")],
        &[("Last-Modified", "soon")],
    ] {
        let uuid = session();
        origin.serves(uuid, lines);
        origin.get(uuid, &[]).await;
        origin.pass(31);
        let answer = origin.get(uuid, &[]).await;
        assert!(answer.cache().starts_with("fwd=stale; fwd-status=200"), "{lines:?}: {}", answer.cache());
        assert_eq!(origin.last("if-none-match") + &origin.last("if-modified-since"), "", "{lines:?}");
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_session_that_is_over_is_not_revived() {
    let origin = Origin::start().await;
    let uuid = session();
    let body = format!(r#"{{"uuid":"{uuid}","tokenize":{{"token":"t","expiration":"{}"}}}}"#, origin.expiration(100));
    origin.answers("200 OK", &[("ETag", "\"a\"")], &body);
    origin.get(uuid, &[]).await;
    origin.pass(61);
    origin.answers("304 Not Modified", &[("ETag", "\"a\"")], "");
    let renewed = origin.get(uuid, &[]).await;
    let ttl: u64 = renewed.cache().split("ttl=").nth(1).and_then(|rest| rest[..2].parse().ok()).expect("a ttl");
    assert!((32..=34).contains(&ttl), "to its expiration less the margin, and no longer: {}", renewed.cache());
    origin.pass(34);
    origin.answers("200 OK", &[("ETag", "\"a\"")], &body);
    let over = origin.get(uuid, &[]).await;
    assert_eq!(
        (origin.last("if-none-match").as_str(), over.cache()),
        ("", "fwd=stale; fwd-status=200; detail=tokenize")
    );
    origin.harness.stop().await;
}

#[tokio::test]
async fn rewritten_links_do_not_hide_sezzles_validator() {
    let harness = Harness::start().await;
    let path = path(&harness);
    let tagged = || Rule::path(&path).set_header(ETAG, HeaderValue::from_static("\"theirs\""));
    harness.gateway.script(tagged());
    let stored = harness.get(&path).await;
    assert_ne!(stored.header("etag"), "\"theirs\"");
    assert!(stored.text().contains(&harness.proxy.to_string()));
    harness.clock.advance(std::time::Duration::from_secs(61));
    harness.gateway.script(tagged().status(StatusCode::NOT_MODIFIED));
    let renewed = harness.get(&path).await;
    assert!(renewed.cache().starts_with("fwd=stale; fwd-status=304"), "{}", renewed.cache());
    assert_eq!((renewed.header("etag"), &renewed.body), (stored.header("etag"), &stored.body));
    let asked = harness.gateway.journal().pop().expect("a call");
    assert_eq!(asked.headers.get("if-none-match").expect("a condition"), "\"theirs\"");
    let hit = harness.get_with(&path, &[("if-none-match", stored.header("etag"))]).await;
    assert_eq!((hit.status, hit.cache().starts_with("hit")), (304, true));
    harness.stop().await;
}

#[tokio::test]
async fn callers_share_one_revalidation() {
    let harness = Arc::new(Harness::start().await);
    let path = path(&harness);
    let tagged = || Rule::path(&path).set_header(ETAG, HeaderValue::from_static("\"a\""));
    harness.gateway.script(tagged());
    harness.get(&path).await;
    harness.clock.advance(std::time::Duration::from_secs(61));
    let gate = Gate::new();
    harness.gateway.script(tagged().status(StatusCode::NOT_MODIFIED).gate(&gate));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (harness, path) = (Arc::clone(&harness), path.clone());
        callers.spawn(async move { harness.get(&path).await });
    }
    arrived(&gate, 1).await;
    eventually("all wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 10.0).await;
    gate.release();
    let answers = callers.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.cache().contains("fwd-status=304")));
    assert_eq!(answers.iter().filter(|answer| answer.cache().ends_with("collapsed")).count(), 9);
    assert_eq!(harness.gateway.count("GET", &path), 2);
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn a_write_during_a_revalidation_leaves_nothing_of_the_old_body() {
    let harness = Arc::new(Harness::start().await);
    let Session { path, order_path, .. } = Session::tokenize(&harness.gateway).authorized(&harness.gateway);
    let tagged = || Rule::on(Method::GET, &path).set_header(ETAG, HeaderValue::from_static("\"a\""));
    harness.gateway.script(tagged());
    harness.get(&path).await;
    harness.clock.advance(std::time::Duration::from_secs(61));

    let gate = Gate::new();
    harness.gateway.script(tagged().status(StatusCode::NOT_MODIFIED).gate_after_effect(&gate).times(1));
    let early = tokio::spawn({
        let (harness, path) = (Arc::clone(&harness), path.clone());
        async move { harness.get(&path).await }
    });
    arrived(&gate, 1).await;
    let capture = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
    assert_eq!(harness.post(&format!("{order_path}/capture"), capture).await.status, 200);
    harness.gateway.clear_rules();
    // This lookup came after the write, so the 304 does not answer it, whichever fetch it waits for.
    let late = tokio::spawn({
        let (harness, path) = (Arc::clone(&harness), path.clone());
        async move { harness.get(&path).await }
    });
    eventually("both wait", async || harness.metric(r#"in_flight_requests{class="session"}"#).await == 2.0).await;
    gate.release();
    let early = early.await.expect("no panic");
    assert!(early.cache().ends_with("fwd-status=304; detail=purged"), "{}", early.cache());
    let late = late.await.expect("no panic");
    assert_eq!(late.json()["order"]["captured_amount_in_cents"], 2500);
    let next = harness.get(&path).await;
    assert_eq!(next.json()["order"]["captured_amount_in_cents"], 2500);
    Arc::into_inner(harness).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn a_304_can_take_back_that_it_may_be_stored() {
    let harness = Setup::default().set("CACHE__STALE_IF_ERROR", "10m").start().await;
    let path = path(&harness);
    let tagged = || Rule::path(&path).set_header(ETAG, HeaderValue::from_static("\"a\""));
    harness.gateway.script(tagged());
    let stored = harness.get(&path).await;
    harness.clock.advance(std::time::Duration::from_secs(61));
    let no_store = HeaderValue::from_static("no-store");
    harness.gateway.script(tagged().status(StatusCode::NOT_MODIFIED).set_header(CACHE_CONTROL, no_store));
    let renewed = harness.get(&path).await;
    assert_eq!(renewed.body, stored.body);
    assert_eq!(renewed.cache(), "fwd=stale; fwd-status=304; detail=no-store");
    harness.gateway.clear_rules();
    harness.gateway.script(Rule::path(&path).status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(harness.get(&path).await.status, 503, "nothing is left to be served");
    harness.stop().await;
}

fn path(harness: &Harness) -> String {
    Session::tokenize(&harness.gateway).path
}
