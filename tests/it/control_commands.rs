//! The control listener obeys its commands, takes none from a web page, and exists only if it is configured.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use sezzle_sidecar::simulator::{Options, Rule, TokenizePlace};

use crate::support::client::{Answer, Client};
use crate::support::process::{Folder, Sidecar, lines as lines_of};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, eventually};

async fn call(path: &Path, method: &str, target: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    let mut wire = Wire::unix(path).await;
    wire.send(head + body).await;
    wire.answer().await
}

async fn start(folder: &Folder) -> (Harness, std::path::PathBuf) {
    let path = folder.path().join("control.sock");
    let harness = Setup::default()
        .set("CONTROL__LISTEN", format!("unix:{}", path.display()))
        .gateway(|gateway| gateway.tokenize_place = TokenizePlace::Both)
        .start()
        .await;
    (harness, path)
}

#[tokio::test]
async fn a_purge_removes_what_it_names_and_nothing_else() {
    let folder = Folder::new();
    let (harness, control) = start(&folder).await;
    assert_eq!(std::fs::metadata(&control).expect("a file").permissions().mode() & 0o777, 0o600, "its own user only");
    let first = Session::tokenize(&harness.gateway);
    let second = Session::tokenize(&harness.gateway);
    let stored = async |session: &Session| harness.get(&session.path).await.cache().starts_with("hit");

    for body in [
        format!(r#"{{"session":"{}"}}"#, first.uuid),
        format!(r#"{{"order":"{}"}}"#, first.order),
        format!(r#"{{"token":"{}"}}"#, first.token()),
    ] {
        stored(&first).await;
        stored(&second).await;
        let answer = call(&control, "POST", "/purge", &body).await;
        assert_eq!((answer.status, answer.text().trim()), (200, r#"{"removed":1}"#), "{body}");
        assert!(!stored(&first).await, "{body}");
        assert!(stored(&second).await, "{body}");
    }
    assert_eq!(call(&control, "POST", "/purge", r#"{"all":true}"#).await.json()["removed"], 2);
    assert!(!stored(&first).await && !stored(&second).await);
    assert_eq!(call(&control, "POST", "/purge", r#"{"order":"nobody's"}"#).await.json()["removed"], 0);
    assert_eq!(harness.metric(r#"cache_invalidations_total{source="control"}"#).await, 5.0);
    harness.stop().await;
    assert!(!control.exists());
}

#[tokio::test]
async fn a_misunderstood_command_changes_nothing_and_the_answer_says_why() {
    let folder = Folder::new();
    let (harness, control) = start(&folder).await;
    let session = Session::order(&harness.gateway).path;
    harness.get(&session).await;
    for (method, target, body, status, why) in [
        ("POST", "/purge", "", 422, "expected a body that names one of session, order, token or all: "),
        ("POST", "/purge", "{\"al\":true}", 422, "unknown variant `al`, expected one of `session`, `order`"),
        ("POST", "/purge", "{\"all\":false}", 422, "expected true"),
        ("POST", "/purge", &" ".repeat(20_000), 413, "the body is too large"),
        ("GET", "/purge", "", 405, "this path takes POST only"),
        ("GET", "/reset", "", 405, "this path takes POST only"),
        ("PUT", "/log/level", "{\"level\":\"loud\"}", 422, "expected one of error, warn, info, debug, trace"),
        ("DELETE", "/log/level", "", 405, "GET, HEAD, PUT"),
        ("GET", "/metrics", "", 404, "try /purge, /reset or /log/level"),
        ("GET", "/v2/customer", "", 404, "try /purge, /reset or /log/level"),
    ] {
        let answer = call(&control, method, target, body).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        let error = answer.json()["error"].as_str().expect("a text").to_owned();
        assert!(error.contains(why), "{error}");
    }
    assert!(harness.get(&session).await.cache().starts_with("hit"));
    harness.stop().await;
}

/// As between two tests of a service: the gateway forgets its rules, and the sidecar what it learned from them.
async fn reset_both(harness: &Harness, control: &Path) -> Answer {
    harness.gateway.reset();
    call(control, "POST", "/reset", "").await
}

/// Lets twenty lookups fail at once, after which the breaker refuses the next. Returns how many connections were made.
async fn fail_until_refused(harness: &Harness) -> f64 {
    harness.gateway.script(Rule::path("/v2/session/*").status(StatusCode::SERVICE_UNAVAILABLE));
    let proxy = harness.proxy;
    let failing = (0..20).map(|_| {
        let path = Session::order(&harness.gateway).path;
        tokio::spawn(async move { Client::new().get(proxy, &path).await.status })
    });
    for failing in failing.collect::<Vec<_>>() {
        assert_eq!(failing.await.expect("no panic"), 503);
    }
    let sent = harness.gateway.count("GET", "/v2/session/*");
    assert!((50..=60).contains(&sent), "{sent} attempts");
    let refused = harness.get(&Session::order(&harness.gateway).path).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "sidecar.circuit_open"));
    harness.metric("upstream_connections_opened_total").await
}

#[tokio::test]
async fn a_reset_ends_the_wait_after_a_429() {
    let folder = Folder::new();
    let (harness, control) = start(&folder).await;
    let wait = HeaderValue::from_static("50");
    let busy = Rule::path("/v2/customer").status(StatusCode::TOO_MANY_REQUESTS).set_header(RETRY_AFTER, wait);
    harness.gateway.script(busy);
    assert_eq!(harness.get("/v2/customer").await.status, 429);
    assert_eq!(harness.get("/v2/customer").await.error_code(), "sidecar.rate_limited");
    harness.gateway.reset();
    assert_eq!(harness.get("/v2/customer").await.error_code(), "sidecar.rate_limited", "the sidecar has not forgotten");
    assert_eq!(reset_both(&harness, &control).await.status, 200);
    assert_eq!(harness.metric(r#"rate_limited_until_timestamp_seconds{class="read"}"#).await, 0.0);
    assert_eq!(harness.get("/v2/customer").await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn a_reset_closes_the_breaker_and_empties_the_cache() {
    let folder = Folder::new();
    let (harness, control) = start(&folder).await;
    let stored = Session::tokenize(&harness.gateway);
    harness.get(&stored.path).await;
    assert!(harness.get(&stored.path).await.cache().starts_with("hit"));
    let opened = fail_until_refused(&harness).await;

    let reset = reset_both(&harness, &control).await;
    assert_eq!((reset.status, reset.text().trim()), (200, r#"{"removed":1}"#));
    assert_eq!(harness.metric(r#"breaker_state{class="session"}"#).await, 0.0);
    // The retry budget is full again, too.
    let next = Session::tokenize(&harness.gateway);
    harness.gateway.script(Rule::path(&next.path).status(StatusCode::SERVICE_UNAVAILABLE).times(2));
    assert_eq!(harness.get(&next.path).await.status, 200);
    assert_eq!(harness.gateway.count("GET", &next.path), 3, "two failed attempts and a good one");
    assert_eq!(harness.metric("upstream_connections_opened_total").await, opened, "connections stay");
    assert_eq!(harness.metric(r#"cache_invalidations_total{source="control"}"#).await, 1.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_web_page_can_send_no_command() {
    let harness = Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0").start().await;
    let control = harness.control();
    for (header, status) in [
        ("host: evil.example", 421),
        ("host: localhost\r\norigin: null", 403),
        ("host: localhost\r\nsec-fetch-site: none", 403),
        ("host: localhost\r\nsec-fetch-dest: empty", 403),
        ("host: localhost\r\nsec-fetch-user: ?1", 403),
        ("host: localhost\r\nsec-fetch-mode: cors", 200),
        ("x: y", 400),
    ] {
        let mut wire = Wire::connect(control).await;
        wire.send(format!("POST /purge HTTP/1.1\r\n{header}\r\ncontent-length: 12\r\n\r\n{{\"all\":true}}")).await;
        assert_eq!(wire.answer().await.status, status, "{header}");
    }
    assert_eq!(harness.metric(r#"cache_invalidations_total{source="control"}"#).await, 1.0, "that of Node's fetch");
    harness.stop().await;
}

#[tokio::test]
async fn the_log_level_changes_while_the_sidecar_runs() {
    let folder = Folder::new();
    let control = folder.path().join("control.sock");
    let listen = format!("unix:{}", control.display());
    let variables = [("CONTROL__LISTEN", listen.as_str()), ("LOG__LEVEL", "warn")];
    let sidecar = Sidecar::start(Options::default(), &variables).await;
    let lines = || sidecar.process.stdout().lines().filter(|line| line.contains(r#""message":"request""#)).count();

    sidecar.get("/v2/customer").await;
    assert_eq!(call(&control, "GET", "/log/level", "").await.json()["level"], "warn");
    assert_eq!(call(&control, "PUT", "/log/level", r#"{"level":"info"}"#).await.json()["level"], "info");
    sidecar.get("/v2/customer").await;
    eventually("a line for the second request", async || lines() == 1).await;
    assert_eq!(call(&control, "GET", "/log/level", "").await.json()["level"], "info");
    call(&control, "PUT", "/log/level", r#"{"level":"error"}"#).await;
    sidecar.get("/v2/customer").await;
    let changes = || sidecar.process.stdout().matches("an operator set the log level").count();
    eventually("both changes are in the log", async || changes() == 2).await;
    assert_eq!(lines(), 1);
    let ended = sidecar.stop().await;
    assert_eq!(ended.code, Some(0));
    let said = lines_of(&ended.stdout).into_iter().filter(|line| line["message"] == "an operator set the log level");
    let said: Vec<_> = said.map(|line| (line["level"].clone(), line["new_level"].clone())).collect();
    assert_eq!(said, [("WARN".into(), "info".into()), ("WARN".into(), "error".into())]);
}
