//! `cache.stale_if_error`: when Sezzle fails, an expired session is served for as long as the operator allows, but
//! never against a write, an expiration, Sezzle's word or the caller's.

use http::Method;
use uuid::Uuid;

use crate::support::origin::{Lines, Origin, session};
use crate::support::scripted::Script;
use crate::support::{Setup, eventually};

/// A sidecar that serves sessions for ten minutes after their lifetime of 30 seconds.
async fn start() -> Origin {
    let setup = Setup::default().set("CACHE__STALE_IF_ERROR", "10m").set("GATEWAY__READ_TIMEOUT", "300ms");
    Origin::start_with(setup).await
}

/// Stores a session and waits until it is stale.
async fn stale_session(origin: &Origin, lines: Lines<'_>) -> Uuid {
    let uuid = session();
    origin.serves(uuid, lines);
    let first = origin.get(uuid, &[]).await;
    assert!(first.cache().contains("stored"), "{}", first.cache());
    origin.pass(60);
    uuid
}

fn is_stale(cache: &str) -> bool {
    cache.starts_with("hit; ttl=-") && cache.ends_with("; detail=stale-if-error")
}

#[tokio::test]
async fn a_stale_session_is_served_when_sezzle_fails() {
    let origin = start().await;
    let closed = Script::Last(Vec::new());
    let silent = Script::Bytes(Vec::new());
    let cut = Script::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec());
    let garbage = Script::Last(b"\x16\x03\x01".to_vec());
    let large = format!("HTTP/1.1 503 S\r\ncontent-length: 300000\r\n\r\n{}", "x".repeat(300_000)).into_bytes();
    let answers = ["500 I", "502 B", "503 S", "504 G"];
    let answers = answers.map(|status| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes());
    let failures = [closed, silent, cut, garbage, Script::Bytes(large)];
    let mut served = 0.0;
    for failure in failures.into_iter().chain(answers.map(Script::Bytes)) {
        let uuid = stale_session(&origin, &[]).await;
        origin.gateway.script(failure.clone());
        let stale = origin.get(uuid, &[]).await;
        assert_eq!(
            (stale.status, stale.json()["uuid"].as_str()),
            (200, Some(uuid.to_string().as_str())),
            "{failure:?}"
        );
        assert!(
            ["hit; ttl=-30; detail=stale-if-error", "hit; ttl=-31; detail=stale-if-error"].contains(&stale.cache())
        );
        assert!(["60", "61"].contains(&stale.header("age")), "{}", stale.header("age"));
        let etag = stale.header("etag");
        let unchanged = origin.get(uuid, &[("if-none-match", etag)]).await;
        assert!(unchanged.status == 304 && is_stale(unchanged.cache()), "{}", unchanged.cache());
        served += 2.0;
        // A HEAD has no body to be cut short.
        if !matches!(&failure, Script::Last(bytes) if bytes.starts_with(b"HTTP")) {
            let head = origin.ask(Method::HEAD, uuid, &[]).await;
            assert!(head.status == 200 && is_stale(head.cache()) && head.body.is_empty(), "{}", head.cache());
            served += 1.0;
        }
        assert_eq!(origin.harness.metric(r#"cache_requests_total{result="stale"}"#).await, served);
        // Sezzle is asked each time, and its first good answer is used.
        origin.serves(uuid, &[]);
        assert!(origin.get(uuid, &[]).await.cache().starts_with("fwd=stale; fwd-status=200"));
    }
    // Sezzle is out of reach: first the open connections end, then no new one is made.
    let uuid = stale_session(&origin, &[]).await;
    origin.gateway.vanish();
    for _ in 0..3 {
        assert!(is_stale(origin.get(uuid, &[]).await.cache()));
    }
    assert!(origin.harness.metric(r#"upstream_errors_total{kind="connection_refused"}"#).await >= 1.0);
    assert_eq!(origin.get(session(), &[]).await.status, 503, "what was never stored is not there");
    origin.harness.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_no_failure_is_passed_on() {
    let origin = start().await;
    for status in ["404 N", "410 G", "401 U", "403 F", "429 T", "422 U", "501 N", "505 X"] {
        // After a 429 nothing is sent for a second.
        origin.pass(1);
        let uuid = stale_session(&origin, &[]).await;
        origin.answers(status, &[], r#"[{"code":"not_found","message":"of Sezzle's"}]"#);
        let answer = origin.get(uuid, &[]).await;
        assert_eq!(answer.status.to_string(), status[..3], "{}", answer.cache());
        origin.answers("503 S", &[], "[]");
        let failed = origin.get(uuid, &[]).await;
        let gone = ["404 N", "410 G"].contains(&status);
        assert_eq!(failed.status, if gone { 503 } else { 200 }, "after {status}: {}", failed.cache());
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_refusal_of_somebody_before_sezzle_says_nothing_of_the_session() {
    let origin = start().await;
    let html: Lines<'_> = &[("content-type", "text/html")];
    let plain: Lines<'_> = &[("content-type", "text/plain")];
    for status in ["404 N", "410 G", "403 F"] {
        for (lines, body) in
            [(html, "<html>no such page</html>"), (plain, "404 page not found"), (&[], r#"{"message":"Forbidden"}"#)]
        {
            let uuid = stale_session(&origin, &[]).await;
            origin.answers(status, lines, body);
            let answer = origin.get(uuid, &[]).await;
            assert!(is_stale(answer.cache()), "{status} {body}: {} {}", answer.status, answer.cache());
            let unknown = origin.get(session(), &[]).await;
            assert_eq!((unknown.status.to_string().as_str(), unknown.text().as_str()), (&status[..3], body));
            let head = origin.ask(Method::HEAD, uuid, &[]).await;
            assert_eq!(head.status.to_string(), status[..3], "{body}");
            // The stored session is still there, unless a HEAD said in JSON that the session is gone.
            origin.answers("503 S", &[], "[]");
            if !lines.is_empty() {
                assert!(is_stale(origin.get(uuid, &[]).await.cache()), "{status} {body}");
            }
        }
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn staleness_has_an_end() {
    let origin = start().await;
    let uuid = stale_session(&origin, &[]).await;
    origin.answers("503 S", &[], "[]");
    origin.pass(565);
    assert!(is_stale(origin.get(uuid, &[]).await.cache()), "594 s past its life");
    origin.pass(10);
    let over = origin.get(uuid, &[]).await;
    assert_eq!(over.status, 503, "{}", over.cache());

    // Only the wall clock moves: the machine was suspended.
    let uuid = stale_session(&origin, &[]).await;
    origin.answers("503 S", &[], "[]");
    origin.harness.clock.step_wall(580_000);
    assert_eq!(origin.get(uuid, &[]).await.status, 503);
    // The wall clock is set back by a year: the monotonic clock still knows.
    origin.harness.clock.step_wall(-365 * 86_400_000);
    origin.pass(575);
    assert_eq!(origin.get(uuid, &[]).await.status, 503);
    origin.harness.stop().await;
}

#[tokio::test]
async fn never_past_the_expiration() {
    let origin = start().await;
    let uuid = session();
    let body = format!(r#"{{"uuid":"{uuid}","tokenize":{{"token":"t","expiration":"{}"}}}}"#, origin.expiration(100));
    origin.answers("200 OK", &[], &body);
    origin.get(uuid, &[]).await;
    origin.answers("503 S", &[], "[]");
    origin.pass(90);
    assert!(is_stale(origin.get(uuid, &[]).await.cache()), "30 s past its life, 5 s before the margin");
    origin.pass(6);
    assert_eq!(origin.get(uuid, &[]).await.status, 503, "within the margin");
    origin.harness.stop().await;
}

#[tokio::test]
async fn never_after_a_write() {
    let origin = start().await;
    for status in ["200 OK", "404 N", "500 I"] {
        let uuid = stale_session(&origin, &[]).await;
        origin.answers("503 S", &[], "[]");
        assert!(is_stale(origin.get(uuid, &[]).await.cache()));
        origin.answers(status, &[], "{}");
        origin.harness.post(&format!("/v2/order/o-{uuid}/capture"), "{}").await;
        origin.answers("503 S", &[], "[]");
        assert_eq!(origin.get(uuid, &[]).await.status, 503, "after a write that ended with {status}");
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn never_what_was_fetched_while_a_write_settled() {
    let origin = start().await;
    let uuid = session();
    origin.answers("200 OK", &[], "{}");
    origin.harness.post(&format!("/v2/order/o-{uuid}/capture"), "{}").await;
    origin.serves(uuid, &[("ETag", "\"a\"")]);
    let first = origin.get(uuid, &[]).await;
    assert!(first.cache().ends_with("ttl=2; stored") || first.cache().ends_with("ttl=1; stored"), "{}", first.cache());
    origin.pass(3);
    // Sezzle's answer may come from a replica that had not seen the write: neither a 304 nor a failure renews the
    // session.
    origin.answers("503 S", &[], "[]");
    let failed = origin.get(uuid, &[]).await;
    assert_eq!((failed.status, origin.last("if-none-match").as_str()), (503, ""), "{}", failed.cache());
    origin.harness.stop().await;
}

#[tokio::test]
async fn never_against_sezzles_word_unless_that_is_ignored() {
    for (origin_cache_control, lines) in [
        ("honor", &["max-age=10, must-revalidate", "max-age=10, proxy-revalidate", "max-age=10, stale-if-error=5"]),
        ("ignore", &["max-age=10, must-revalidate", "no-store", "no-cache"]),
    ] {
        let setup = Setup::default()
            .set("CACHE__STALE_IF_ERROR", "10m")
            .set("CACHE__UNTOKENIZED_TTL", "30s")
            .set("CACHE__ORIGIN_CACHE_CONTROL", origin_cache_control);
        let origin = Origin::start_with(setup).await;
        for line in lines {
            let uuid = stale_session(&origin, &[("Cache-Control", line)]).await;
            origin.answers("503 S", &[], "[]");
            let answer = origin.get(uuid, &[]).await;
            assert_eq!(is_stale(answer.cache()), origin_cache_control == "ignore", "{line}: {}", answer.cache());
        }
        origin.harness.stop().await;
    }
}

#[tokio::test]
async fn never_against_the_callers_word() {
    let origin = start().await;
    let uuid = stale_session(&origin, &[]).await;
    origin.answers("503 S", &[], "[]");
    for (name, line, served) in [
        ("cache-control", "no-cache", false),
        ("cache-control", "no-store", false),
        ("cache-control", "max-age=3600", false),
        ("cache-control", "min-fresh=0", false),
        ("pragma", "no-cache", false),
        ("cache-control", "max-stale=5", true),
        ("cache-control", "no-transform", true),
    ] {
        let answer = origin.get(uuid, &[(name, line)]).await;
        assert_eq!(is_stale(answer.cache()), served, "{line}: {}", answer.cache());
    }
    let only = origin.get(uuid, &[("cache-control", "only-if-cached")]).await;
    assert_eq!(only.status, 504);
    origin.harness.stop().await;
}

#[tokio::test]
async fn stale_sessions_are_not_served_unless_configured() {
    let origin = Origin::start().await;
    let uuid = stale_session(&origin, &[("Cache-Control", "max-age=2, stale-if-error=3600")]).await;
    for failure in [Script::Last(Vec::new()), Script::Bytes(b"HTTP/1.1 503 S\r\ncontent-length: 0\r\n\r\n".to_vec())] {
        origin.gateway.script(failure);
        let status = origin.get(uuid, &[]).await.status;
        assert!([502, 503].contains(&status), "{status}");
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn sessions_that_may_be_served_stale_stay_in_memory() {
    // Real time, by which the store frees memory. The same clock frees expired sessions that are of no further use.
    let setup = Setup::default().set("CACHE__STALE_IF_ERROR", "1h").set("CACHE__UNTOKENIZED_TTL", "20ms");
    let origin = Origin::start_with(setup).await;
    let uuid = session();
    origin.serves(uuid, &[]);
    origin.get(uuid, &[]).await;
    origin.answers("503 S", &[], "[]");
    eventually("stale", async || is_stale(origin.get(uuid, &[]).await.cache())).await;
    assert_eq!(origin.harness.metric("cache_entries").await, 1.0);
    origin.harness.stop().await;
}
