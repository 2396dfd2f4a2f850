//! A lookup that begins after a write's answer never gets a body from before the write. Each row is one way in which
//! lookups and writes can interleave; gates hold the gateway at the chosen moment.
//!
//! A row shows the order of events. `L` is a lookup, `W` a write to the order of its session; `(` is the beginning, `)`
//! the end, `r` the moment in which the gateway reads the session, `e` the moment in which the write takes effect.
//!
//! | interleaving | test |
//! |---|---|
//! | `L1( r W(e) L2( L1) L2)` | `a_fetch_from_before_a_write_reaches_nobody_who_came_after_it` |
//! | `W( L1( r e) L2( L1) L2)` | `a_fetch_from_during_a_write_reaches_nobody_who_came_after_it` |
//! | `L1( r W( L2( L1) L2) e) L3()` | `a_fetch_from_before_a_write_reaches_nobody_who_came_during_it` |
//! | `W( L1(r) e) L2()` and `W( e L1(r) ) L2()` | `a_session_stored_during_a_write_is_gone_with_the_writes_answer` |
//! | `W1( W2(e) L1() e1) L2()` | `two_writes_that_overlap_are_both_seen` |
//! | `L1( r W1(e) L2( L1) r W2(e) L3( L2) L3)` | `a_caller_looks_again_once_at_most` |
//! | `W(e) L1(old) L2()` | `a_gateway_that_is_behind_its_own_write_is_believed_for_two_seconds` |
//! | `W( ) L1() e L2()` | `a_write_that_takes_effect_after_all_is_seen` |
//! | `L1( r W(e) H() N() L1)` with HEAD and `no-store` | `callers_who_do_not_wait_for_others_see_the_write_too` |
//! | `L1() L2() W(e) L3()`, L2 overwrites L1 | `an_overwritten_body_takes_no_relation_with_it` |
//! | `L1( r W(e) L1)`, L1 names another order than before | `the_order_that_the_body_names_counts` |
//! | `L1( r W(e) L2( L1) L2)`, W of more than the log holds | `a_log_that_cannot_tell_is_cautious` |

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use sezzle_sidecar::simulator::{Gate, Reset, Rule};
use tokio::task::JoinHandle;

use crate::support::client::Answer;
use crate::support::{Harness, Session, Setup, arrived, eventually};

const CHANGE: &str = r#"{"reference_id":"new"}"#;

/// A sidecar, its gateway and one session, whose order a test may change.
struct Shop {
    harness: Arc<Harness>,
    session: Session,
}

impl Shop {
    async fn open() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let harness = Arc::new(setup.start().await);
        let session = Session::tokenize(&harness.gateway);
        Self { harness, session }
    }

    fn lookup_path(&self) -> String {
        self.session.path.clone()
    }

    fn order_path(&self) -> String {
        self.session.order_path.clone()
    }

    async fn lookup(&self) -> Answer {
        self.harness.get(&self.lookup_path()).await
    }

    /// Starts a lookup. When this returns, the lookup fetches, or waits for another fetch.
    async fn begin_lookup(&self) -> JoinHandle<Answer> {
        let series = r#"in_flight_requests{class="session"}"#;
        let others = self.harness.metric(series).await;
        let (harness, path) = (Arc::clone(&self.harness), self.lookup_path());
        let lookup = tokio::spawn(async move { harness.get(&path).await });
        eventually("under way", async || self.harness.metric(series).await == others + 1.0).await;
        lookup
    }

    /// Starts a lookup whose answer the gateway has read and holds at the gate.
    async fn park_lookup(&self, gate: &Gate) -> JoinHandle<Answer> {
        self.harness.gateway.script(Rule::on(Method::GET, &self.lookup_path()).gate_after_effect(gate).times(1));
        let lookup = self.begin_lookup().await;
        arrived(gate, 1).await;
        lookup
    }

    async fn write(&self) -> Answer {
        write(&self.harness, &self.order_path()).await
    }

    /// Starts a write that the gateway holds as the rule says.
    async fn park_write(&self, gate: &Gate, park: impl FnOnce(Rule, &Gate) -> Rule) -> JoinHandle<Answer> {
        self.harness.gateway.script(park(Rule::on(Method::PATCH, &self.order_path()), gate).times(1));
        let (harness, path) = (Arc::clone(&self.harness), self.order_path());
        let write = tokio::spawn(async move { write(&harness, &path).await });
        arrived(gate, 1).await;
        write
    }

    fn lookups_sent(&self) -> usize {
        self.harness.gateway.count("GET", &self.lookup_path())
    }

    async fn skipped(&self, reason: &str) -> f64 {
        self.harness.metric(&format!("cache_store_skipped_total{{reason=\"{reason}\"}}")).await
    }

    fn pass(&self, seconds: u64) {
        self.harness.clock.advance(Duration::from_secs(seconds));
    }

    async fn close(self) {
        Arc::into_inner(self.harness).expect("no caller is left").stop().await;
    }
}

async fn write(harness: &Harness, path: &str) -> Answer {
    harness.send(Method::PATCH, path, &[("content-type", "application/json")], CHANGE).await
}

async fn done(call: JoinHandle<Answer>) -> Answer {
    call.await.expect("no panic")
}

/// The number of the order's revision in this answer, counted from 1.
fn revision(answer: &Answer) -> i64 {
    answer.json()["order"]["revision"].as_i64().unwrap_or_else(|| panic!("no revision: {}", answer.text()))
}

fn ttl(answer: &Answer) -> u64 {
    let ttl = answer.cache().split("; ").find_map(|part| part.strip_prefix("ttl="));
    ttl.unwrap_or_else(|| panic!("not stored: {}", answer.cache())).parse().expect("seconds")
}

fn is_hit(answer: &Answer) -> bool {
    answer.cache().starts_with("hit")
}

#[tokio::test]
async fn a_fetch_from_before_a_write_reaches_nobody_who_came_after_it() {
    let shop = Shop::open().await;
    let gate = Gate::new();
    let early = shop.park_lookup(&gate).await;
    let joined = shop.begin_lookup().await;
    assert_eq!(shop.write().await.status, 204);
    let late = [shop.begin_lookup().await, shop.begin_lookup().await];
    assert_eq!(shop.lookups_sent(), 1, "they wait for the one under way, which might be of another order");
    gate.release();
    let early = done(early).await;
    assert_eq!((revision(&early), revision(&done(joined).await)), (1, 1));
    assert!(early.cache().ends_with("detail=purged"), "{}", early.cache());
    for late in late {
        assert_eq!(revision(&done(late).await), 2);
    }
    assert_eq!(shop.lookups_sent(), 2, "those who looked again shared one fetch");
    assert_eq!(revision(&shop.lookup().await), 2);
    shop.close().await;
}

#[tokio::test]
async fn a_fetch_from_during_a_write_reaches_nobody_who_came_after_it() {
    let shop = Shop::open().await;
    let (writing, reading) = (Gate::new(), Gate::new());
    let write = shop.park_write(&writing, Rule::gate).await;
    let during = shop.park_lookup(&reading).await;
    writing.release();
    assert_eq!(done(write).await.status, 204);
    let late = shop.begin_lookup().await;
    reading.release();
    assert_eq!(revision(&done(during).await), 1, "it asked before the write was answered");
    assert_eq!(revision(&done(late).await), 2);
    assert_eq!((shop.lookups_sent(), shop.skipped("purged").await), (2, 1.0));
    assert_eq!(revision(&shop.lookup().await), 2);
    shop.close().await;
}

#[tokio::test]
async fn a_fetch_from_before_a_write_reaches_nobody_who_came_during_it() {
    let shop = Shop::open().await;
    let (writing, reading) = (Gate::new(), Gate::new());
    let before = shop.park_lookup(&reading).await;
    let write = shop.park_write(&writing, Rule::gate).await;
    let during = shop.begin_lookup().await;
    reading.release();
    assert!(done(before).await.cache().ends_with("detail=purged"));
    assert!(done(during).await.cache().contains("stored"), "a fetch of its own");
    assert_eq!(shop.lookups_sent(), 2);
    writing.release();
    done(write).await;
    assert_eq!(revision(&shop.lookup().await), 2);
    shop.close().await;
}

#[tokio::test]
async fn a_session_stored_during_a_write_is_gone_with_the_writes_answer() {
    for (park, seen) in [(Rule::gate as fn(Rule, &Gate) -> Rule, 1), (Rule::gate_after_effect, 2)] {
        let shop = Shop::open().await;
        let gate = Gate::new();
        assert!(shop.lookup().await.cache().contains("stored"));
        let write = shop.park_write(&gate, park).await;
        let during = shop.lookup().await;
        assert!(during.cache().contains("stored"), "purged before it was sent: {}", during.cache());
        assert_eq!(revision(&during), seen);
        assert!(is_hit(&shop.lookup().await));
        gate.release();
        done(write).await;
        // The answer has arrived, so the second purge is over.
        let after = shop.lookup().await;
        assert!(after.cache().starts_with("fwd=uri-miss"), "{}", after.cache());
        assert_eq!(revision(&after), 2);
        assert_eq!(shop.harness.metric(r#"cache_invalidations_total{source="write"}"#).await, 2.0);
        shop.close().await;
    }
}

#[tokio::test]
async fn two_writes_that_overlap_are_both_seen() {
    for (park, seen) in [(Rule::gate as fn(Rule, &Gate) -> Rule, 2), (Rule::gate_after_effect, 3)] {
        let shop = Shop::open().await;
        let (writing, reading) = (Gate::new(), Gate::new());
        let first = shop.park_write(&writing, park).await;
        assert_eq!(shop.write().await.status, 204);
        assert_eq!(revision(&shop.lookup().await), seen, "after the second, during the first");
        shop.pass(11);
        assert!(!is_hit(&shop.lookup().await));
        assert!(is_hit(&shop.lookup().await), "settled for the one that has ended");
        // This lookup is fetched again during the first write, and still in progress when that write ends.
        shop.pass(60);
        let between = shop.park_lookup(&reading).await;
        writing.release();
        done(first).await;
        let last = shop.begin_lookup().await;
        reading.release();
        assert_eq!(revision(&done(between).await), seen);
        assert_eq!(revision(&done(last).await), 3);
        assert_eq!(revision(&shop.lookup().await), 3);
        shop.close().await;
    }
}

#[tokio::test]
async fn a_caller_looks_again_once_at_most() {
    let shop = Shop::open().await;
    let (first, second) = (Gate::new(), Gate::new());
    let before = shop.park_lookup(&first).await;
    shop.write().await;
    let caller = shop.begin_lookup().await;
    shop.harness.gateway.script(Rule::on(Method::GET, &shop.lookup_path()).gate_after_effect(&second).times(1));
    first.release();
    assert_eq!(revision(&done(before).await), 1);
    // The caller's own fetch reads the state between the two writes.
    arrived(&second, 1).await;
    shop.write().await;
    let later = shop.begin_lookup().await;
    second.release();
    assert_eq!(revision(&done(caller).await), 2, "fetched after it came, which is all it was promised");
    assert_eq!(revision(&done(later).await), 3);
    assert_eq!((shop.lookups_sent(), shop.skipped("purged").await), (3, 2.0));
    shop.close().await;
}

#[tokio::test]
async fn a_gateway_that_is_behind_its_own_write_is_believed_for_two_seconds() {
    let shop = Shop::open().await;
    let old = shop.lookup().await;
    assert_eq!(ttl(&old), 60);
    shop.write().await;
    shop.harness.gateway.script(Rule::path(&shop.lookup_path()).body(old.body.clone()).times(1));
    let behind = shop.lookup().await;
    assert_eq!((revision(&behind), ttl(&behind)), (1, 2));
    shop.pass(2);
    let after = shop.lookup().await;
    assert!(after.cache().starts_with("fwd=stale"), "{}", after.cache());
    assert_eq!((revision(&after), ttl(&after)), (2, 2), "and this one may be behind too");
    // A wall clock that is stepped forward does not end the wait.
    shop.harness.clock.step_wall(600_000);
    assert_eq!(ttl(&shop.lookup().await), 2);
    shop.pass(8);
    assert_eq!(ttl(&shop.lookup().await), 60, "ten seconds after the write");
    shop.close().await;
}

#[tokio::test]
async fn a_write_that_takes_effect_after_all_is_seen() {
    let shop = Shop::with(Setup::default().set("GATEWAY__WRITE_TIMEOUT", "300ms")).await;
    shop.lookup().await;
    let gate = Gate::new();
    let unknown = done(shop.park_write(&gate, Rule::gate).await).await;
    assert_eq!((unknown.status, unknown.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    for sent in 2..4 {
        let lookup = shop.lookup().await;
        assert_eq!(lookup.cache(), "fwd=uri-miss; fwd-status=200; detail=unsettled");
        assert_eq!((revision(&lookup), shop.lookups_sent()), (1, sent));
    }
    gate.release();
    eventually("done after all", async || revision(&shop.lookup().await) == 2).await;
    let late = shop.lookup().await;
    assert_eq!(late.cache(), "fwd=uri-miss; fwd-status=200; detail=unsettled");
    assert!(shop.skipped("unsettled").await >= 4.0);
    shop.pass(59);
    assert!(shop.lookup().await.cache().ends_with("detail=unsettled"));
    shop.pass(1);
    assert_eq!(ttl(&shop.lookup().await), 60);
    assert!(is_hit(&shop.lookup().await));
    shop.close().await;
}

#[tokio::test]
async fn every_open_outcome_leaves_the_session_unsettled() {
    let timeout = || Setup::default().set("GATEWAY__WRITE_TIMEOUT", "300ms");
    for (rule, status) in [
        (Rule::any().reset(Reset::AfterEffect), 504),
        (Rule::any().gate_after_effect(&Gate::new()), 504),
        (Rule::any().status(StatusCode::INTERNAL_SERVER_ERROR), 500),
        (Rule::any().status(StatusCode::GATEWAY_TIMEOUT), 504),
    ] {
        let shop = Shop::with(timeout()).await;
        shop.harness.gateway.script(rule.times(1));
        assert_eq!(shop.write().await.status, status);
        assert!(shop.lookup().await.cache().ends_with("detail=unsettled"), "{status}");
        // The answer to a later write does not settle the earlier one.
        assert_eq!(shop.write().await.status, 204);
        assert!(shop.lookup().await.cache().ends_with("detail=unsettled"), "{status}");
        shop.close().await;
    }
    let shop = Shop::open().await;
    shop.harness.gateway.script(Rule::any().status(StatusCode::UNPROCESSABLE_ENTITY).times(1));
    assert_eq!(shop.write().await.status, 422);
    assert_eq!(ttl(&shop.lookup().await), 2, "refused is an answer");
    shop.close().await;
}

#[tokio::test]
async fn a_write_that_was_never_sent_is_none() {
    let shop = Shop::open().await;
    shop.lookup().await;
    let harness = Arc::clone(&shop.harness);
    harness.gateway_goes_away().await;
    let unsent = shop.write().await;
    assert_eq!((unsent.status, unsent.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    assert_eq!(harness.metric(r#"cache_invalidations_total{source="write"}"#).await, 1.0, "before, in case it is one");
    drop(harness);
    shop.close().await;
}

#[tokio::test]
async fn callers_who_do_not_wait_for_others_see_the_write_too() {
    let shop = Shop::open().await;
    let gate = Gate::new();
    let path = shop.lookup_path();
    let early = shop.park_lookup(&gate).await;
    shop.write().await;
    for wish in ["no-store", "no-cache"] {
        let own = shop.harness.get_with(&path, &[("cache-control", wish)]).await;
        assert_eq!(revision(&own), 2, "{wish}");
        assert_eq!(own.cache().contains("stored"), wish == "no-cache", "{}", own.cache());
    }
    shop.write().await;
    let head = shop.harness.send(Method::HEAD, &path, &[], "").await;
    assert!(head.status == 200 && !is_hit(&head), "{}", head.cache());
    let stored = shop.harness.get_with(&path, &[("cache-control", "only-if-cached")]).await;
    assert_eq!(stored.error_code(), "sidecar.not_stored");
    gate.release();
    assert!(done(early).await.cache().ends_with("detail=purged"));
    shop.pass(11);
    assert_eq!(revision(&shop.lookup().await), 3);
    let head = shop.harness.send(Method::HEAD, &path, &[], "").await;
    assert!(is_hit(&head), "{}", head.cache());
    shop.close().await;
}

#[tokio::test]
async fn an_overwritten_body_takes_no_relation_with_it() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        let stored = shop.harness.get_with(&shop.lookup_path(), &[("cache-control", "no-cache")]).await;
        assert!(stored.cache().contains("stored"), "{}", stored.cache());
    }
    // By now the index no longer has the overwritten body.
    assert_eq!(shop.harness.metric("cache_entries").await, 1.0);
    shop.write().await;
    assert_eq!(revision(&shop.lookup().await), 2);
    shop.close().await;
}

#[tokio::test]
async fn the_order_that_the_body_names_counts() {
    let shop = Shop::open().await;
    let path = shop.lookup_path();
    let naming = |order: &str| {
        Rule::path(&path).body(format!(r#"{{"uuid":"{}","order":{{"uuid":"{order}"}}}}"#, shop.session.uuid))
    };
    shop.harness.gateway.script(naming("other").times(1));
    shop.lookup().await;
    assert!(is_hit(&shop.lookup().await));
    shop.write().await;
    assert!(is_hit(&shop.lookup().await), "it is not about this order");
    // The next fetched body does name this order, and a write to the order comes in between.
    shop.pass(60);
    let gate = Gate::new();
    let parked = shop.park_lookup(&gate).await;
    shop.write().await;
    gate.release();
    assert!(done(parked).await.cache().ends_with("detail=purged"));
    shop.pass(10);
    assert!(shop.lookup().await.cache().contains("stored"));
    write(&shop.harness, "/v2/order/other").await;
    assert!(is_hit(&shop.lookup().await), "it is not about that one any more");
    shop.write().await;
    assert!(!is_hit(&shop.lookup().await));
    shop.close().await;
}

#[tokio::test]
async fn every_way_to_name_what_a_write_changes_is_understood() {
    let shop = Shop::open().await;
    let order = "A b:\u{e9}-1";
    let body = format!(
        r#"{{"uuid":"{}","order":{{"uuid":"{order}"}},"tokenize":{{"token":"To-K","expiration":"2999-01-01T00:00:00Z"}}}}"#,
        shop.session.uuid
    );
    // A date so far ahead is ignored.
    let soon = shop.lookup().await.json()["tokenize"]["expiration"].as_str().expect("a date").to_owned();
    shop.harness.gateway.script(Rule::path(&shop.lookup_path()).body(body.replace("2999-01-01T00:00:00Z", &soon)));
    shop.pass(60);
    for (method, path) in [
        (Method::POST, "/v2/order/A%20b%3A%C3%A9-1/capture".to_owned()),
        (Method::DELETE, "/v2/order/a%20B:%c3%a9-1/checkout".to_owned()),
        (Method::PUT, "/v2/order/a%20b:%C3%A9-1/not/known/yet/".to_owned()),
        (Method::PATCH, "/v2/Order/A%20b:%C3%A9-1".to_owned()),
        (Method::POST, "/v2/token/tO-k/session".to_owned()),
        (Method::POST, "/v2/TO%E2%84%AAEN/To-K/session".to_owned()),
        (Method::PATCH, shop.lookup_path().replace("session", "%C5%BFe%C5%BFsion") + "/card"),
        (Method::DELETE, "/v2/token/To-K".to_owned()),
        (Method::PATCH, shop.lookup_path().to_uppercase().replace("/V2/", "/v2/")),
        (Method::POST, format!("{}/not-known-yet", shop.lookup_path())),
    ] {
        shop.lookup().await;
        assert!(is_hit(&shop.lookup().await), "before {method} {path}");
        shop.harness.send(method.clone(), &path, &[], "").await;
        assert!(!is_hit(&shop.lookup().await), "{method} {path}");
        shop.pass(60);
    }
    shop.lookup().await;
    for path in ["/v2/session", "/v2/customer/c/order", "/v2/customer/c", "/v2/order", "/v2/webhooks"] {
        shop.harness.post(path, "{}").await;
        assert!(is_hit(&shop.lookup().await), "{path} names nothing");
    }
    shop.close().await;
    let shop = Shop::open().await;
    shop.lookup().await;
    shop.harness.post(&format!("/v2/token/{}/x", shop.session.token()), "{}").await;
    assert!(!is_hit(&shop.lookup().await), "the gateway's own token");
    shop.close().await;
}

#[tokio::test]
async fn a_log_that_cannot_tell_is_cautious() {
    let shop = Shop::open().await;
    let gate = Gate::new();
    let early = shop.park_lookup(&gate).await;
    // Longer than any identifier in the log of purges, so that it could be any of them.
    write(&shop.harness, &format!("/v2/order/{}", "o".repeat(200))).await;
    let late = shop.begin_lookup().await;
    gate.release();
    assert!(done(early).await.cache().ends_with("detail=purged"));
    assert!(done(late).await.cache().contains("ttl=60; stored"), "and this began after it");
    assert_eq!(shop.lookups_sent(), 2);
    shop.close().await;
}
