//! A server that hangs, or holds nonsense, costs a lookup at most the configured wait, and most lookups nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use sezzle_sidecar::simulator::Rule;
use tokio::time::{Instant, sleep_until};

use crate::support::fleet::{Change, Pod, Shop, is_hit, key_file, revision, sharing};
use crate::support::process::Folder;
use crate::support::redis::{Redis, Reply};
use crate::support::redis_proxy::{RedisProxy, Way};
use crate::support::{Harness, Session, eventually};

const LOOKUPS: u32 = 200;
/// The time from one lookup to the next, through each sidecar.
const PACE: Duration = Duration::from_millis(10);
const SESSIONS: usize = 60;
/// The longest time that a fleet may add to a lookup or to a write.
const ADDED: Duration = Duration::from_millis(50);
/// A time that a fleet adds to no call on any machine, because no call waits until the server answers again.
const NEVER: Duration = Duration::from_secs(3);

/// Two hundred lookups through a pod and as many through a sidecar in no fleet, each after the other. The server stops
/// answering after a quarter of them.
#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn no_lookup_and_no_write_waits_for_a_server_that_hangs() {
    let (redis, folder) = (Redis::start().await, Folder::new());
    let network = RedisProxy::before(redis.address).await;
    let key_file = key_file(&folder);
    let shop = Arc::new(Shop::open().await);
    let (pod, alone) = (shop.pod(Some(&network.url()), &sharing(&key_file)).await, shop.pod(None, &[]).await);
    let pods = [Pod::from(&pod), Pod::from(&alone)];
    shop.link_is(pods[0], "synced").await;
    let sessions: Vec<Arc<Session>> = (0..SESSIONS).map(|_| Arc::new(Session::tokenize(&shop.gateway))).collect();
    // A write that takes longer than the lease is held for a round trip only, as long as the server answers.
    shop.gateway.script(Rule::on(Method::PATCH, "/v2/order/*").delay(Duration::from_millis(350)));
    let begun = Instant::now();
    let (mut calls, mut asked) = (Vec::new(), Vec::new());
    for number in 0..LOOKUPS {
        sleep_until(begun + PACE * number).await;
        match number {
            50 => network.stall(Way::ToCaller),
            // Long after the first lookup that waited in vain.
            125 => asked.push(asked_the_server(&shop, pods[0]).await),
            _ => {}
        }
        let (session, is_write) = (&sessions[number as usize * 7 % SESSIONS], number % 10 == 9);
        for pod in pods {
            let (shop, session) = (Arc::clone(&shop), Arc::clone(session));
            calls.push(tokio::spawn(async move {
                let begun = Instant::now();
                if is_write {
                    shop.change(pod, Change::Write, &session).await;
                } else {
                    shop.lookup(pod, &session).await;
                }
                (is_write, begun.elapsed())
            }));
        }
    }
    let done: Vec<(bool, Duration)> = join_all(calls).await.into_iter().map(|call| call.expect("answered")).collect();
    asked.push(asked_the_server(&shop, pods[0]).await);
    assert_eq!(asked[0], asked[1], "nobody asks a server that does not answer");
    for is_write in [false, true] {
        // Both calls of a pair began at the same time, on the same machine.
        let pairs = done.chunks(2).filter(|pair| pair[0].0 == is_write);
        let mut added: Vec<Duration> = pairs.map(|pair| pair[0].1.saturating_sub(pair[1].1)).collect();
        added.sort();
        // Calls that wait when the server stops answering wait in vain for a moment: some lookups, and two writes.
        assert!(added[added.len() * 3 / 4] <= ADDED, "writes ({is_write}): {added:?}");
        assert!(added[added.len() - 1] <= NEVER, "writes ({is_write}): {added:?}");
    }
    network.mend();
    shop.link_is(pods[0], "synced").await;
    for harness in [pod, alone] {
        harness.stop_alone().await;
    }
    shop.gateway.clone().stop().await;
}

/// How many times a lookup has asked the server for a body.
async fn asked_the_server(shop: &Shop, pod: Pod) -> f64 {
    let mut sum = 0.0;
    for result in ["ok", "timeout", "refused", "error"] {
        sum += shop.metric(pod, &format!("fleet_commands_total{{command=\"read\",result=\"{result}\"}}")).await;
    }
    sum
}

/// Other data in the place of a shared body is never an answer.
#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_body_that_is_gone_cut_damaged_or_of_another_is_a_miss() {
    let (redis, folder) = (Redis::start().await, Folder::new());
    let key_file = key_file(&folder);
    let shop = Shop::open().await;
    // The machine may be busy, so a lookup waits as long as it can.
    let settings = [&sharing(&key_file)[..], &[("FLEET__TIMEOUT", "50ms"), ("FLEET__POLL", "300ms")]].concat();
    let settings = [&settings[..], &[("FLEET__LEASE", "1s")]].concat();
    let harnesses = [shop.pod(Some(&redis.url()), &settings).await, shop.pod(Some(&redis.url()), &settings).await];
    let [first, second] = harnesses.each_ref().map(Pod::from);
    for pod in [first, second] {
        shop.link_is(pod, "synced").await;
    }
    // Without damage the body is taken, or the rest of this test would prove nothing.
    eventually("taken", async || taken(&shop, &redis, [first, second], "PING").await).await;
    for damage in ["DEL KEY", "SET KEY x", "SETRANGE KEY 0 x", "SETRANGE KEY 40 xxxx", "APPEND KEY x", "LPUSH KEY x"] {
        for _ in 0..3 {
            assert!(!taken(&shop, &redis, [first, second], damage).await, "{damage}");
        }
    }
    let unopened = "fleet_bodies_total{result=\"unopened\"}";
    assert!(shop.metric(second, unopened).await >= 1.0);
    join_all(harnesses.into_iter().map(Harness::stop_alone)).await;
    shop.gateway.stop().await;
}

/// Lets the first pod share a session, changes the shared body, and returns whether the second pod takes it.
async fn taken(shop: &Shop, redis: &Redis, [first, second]: [Pod; 2], damage: &str) -> bool {
    let session = Session::tokenize(&shop.gateway);
    let before = redis.keys("szs1:*:b:*").await;
    if !shop.lookup(first, &session).await.header("cache-status").contains("stored, ") {
        return false;
    }
    let mut key = None;
    eventually("shared", async || {
        key = redis.keys("szs1:*:b:*").await.into_iter().find(|key| !before.contains(key));
        key.is_some()
    })
    .await;
    let key = key.expect("shared");
    if damage.starts_with("LPUSH") {
        redis.call(&format!("DEL {key}")).await;
    }
    assert!(!matches!(redis.call(&damage.replace("KEY", &key)).await, Reply::Nothing));
    let answer = shop.lookup(second, &session).await;
    assert_eq!((answer.json()["uuid"].as_str(), revision(&answer)), (Some(session.uuid.as_str()), 1));
    assert!(!is_hit(&answer));
    answer.header("cache-status").starts_with("sezzle-fleet; hit")
}
