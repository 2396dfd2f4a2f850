//! A lookup through any pod, begun after a change was answered through another, shows the change.

use futures_util::future::join_all;
use http::Method;
use sezzle_sidecar::simulator::Rule;
use std::time::Duration;

use crate::support::fleet::{Change, Pod, Shop, is_hit, revision};
use crate::support::redis::{Engine, Redis};
use crate::support::{Harness, Session, eventually};

const PODS: usize = 4;
/// Sessions that are changed at the same time, each through another pod than the one before.
const SESSIONS: usize = 8;

/// Nothing unconfirmed is served, and an answer is held for the whole lease. The times are long for a busy machine: a
/// poll that is answered too late would end the promise.
const STRICT: [(&str, &str); 4] =
    [("FLEET__POLL", "300ms"), ("FLEET__LEASE", "600ms"), ("FLEET__ALONE_TTL", "0s"), ("FLEET__WRITE_WAIT", "1s")];

struct Fleet {
    shop: Shop,
    harnesses: Vec<Harness>,
    pods: Vec<Pod>,
}

impl Fleet {
    /// A fleet whose pods are synced, or so many sidecars that do not know each other.
    async fn start(url: Option<&str>, settings: &[(&str, &str)]) -> Self {
        let shop = Shop::open().await;
        let harnesses = join_all((0..PODS).map(|_| shop.pod(url, settings))).await;
        let pods: Vec<Pod> = harnesses.iter().map(Pod::from).collect();
        if url.is_some() {
            join_all(pods.iter().map(|pod| shop.link_is(*pod, "synced"))).await;
        }
        Self { shop, harnesses, pods }
    }

    /// Lets every pod store a session.
    async fn store(&self, session: &Session) {
        for pod in &self.pods {
            eventually("stored", async || is_hit(&self.shop.lookup(*pod, session).await)).await;
        }
    }

    /// Stores a session everywhere, changes it through one pod, and returns the revision that each pod shows then.
    async fn change(&self, through: usize, change: Change) -> Vec<u64> {
        let session = Session::tokenize(&self.shop.gateway);
        self.store(&session).await;
        self.shop.change(self.pods[through % PODS], change, &session).await;
        let shown = self.pods.iter().map(async |pod| revision(&self.shop.lookup(*pod, &session).await));
        join_all(shown).await
    }

    /// Changes so many sessions at the same time, until each answer was held until all pods knew. All pods show every
    /// change then. On a busy machine a poll may be late; an answer that is not held for that reason is counted.
    async fn shows_everywhere(&self, change: Change, sessions: usize) {
        for _ in 0..10 {
            join_all(self.pods.iter().map(|pod| self.shop.link_is(*pod, "synced"))).await;
            let before = self.not_held().await;
            let shown = join_all((0..sessions).map(|through| self.change(through, change))).await;
            if self.not_held().await == before {
                assert_eq!(shown, vec![vec![2; PODS]; sessions], "{change:?}");
                return;
            }
        }
        panic!("some answer is never held until all pods know: {change:?}");
    }

    async fn not_held(&self) -> f64 {
        let results = ["waited", "gave_up"].map(|result| format!("fleet_holds_total{{result=\"{result}\"}}"));
        self.sum(&results[0]).await + self.sum(&results[1]).await
    }

    /// The sum of a series over all pods.
    async fn sum(&self, series: &str) -> f64 {
        join_all(self.pods.iter().map(|pod| self.shop.metric(*pod, series))).await.iter().sum()
    }

    async fn stop(self) {
        join_all(self.harnesses.into_iter().map(Harness::stop_alone)).await;
        self.shop.gateway.stop().await;
    }
}

/// The other tests of this file would find this if the pods told each other nothing.
#[tokio::test]
async fn without_a_fleet_other_pods_show_the_state_before_a_change() {
    let fleet = Fleet::start(None, &[]).await;
    for change in Change::ALL {
        let shown = fleet.change(1, change).await;
        assert_eq!(shown, [1, 2, 1, 1], "{change:?}");
    }
    fleet.stop().await;
}

async fn nobody_shows_what_was_before(url: &str) {
    let fleet = Fleet::start(Some(url), &STRICT).await;
    for change in [Change::Write, Change::Webhook, Change::Purge] {
        fleet.shows_everywhere(change, SESSIONS).await;
    }
    // Alone, because each of these purges the sessions of all others.
    fleet.shows_everywhere(Change::PurgeAll, 1).await;
    assert_eq!(fleet.sum("fleet_unconfirmed_served_total").await, 0.0);
    fleet.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn no_pod_shows_the_state_before_a_change_with_redis() {
    let redis = Redis::start().await;
    nobody_shows_what_was_before(&redis.url()).await;
}

#[tokio::test]
#[ignore = "needs Redis 6.2: tests/run"]
async fn no_pod_shows_the_state_before_a_change_with_redis_6_2() {
    let redis = Redis::with(Engine::Redis62, &[]).await;
    nobody_shows_what_was_before(&redis.url()).await;
}

#[tokio::test]
#[ignore = "needs valkey-server: tests/run"]
async fn no_pod_shows_the_state_before_a_change_with_valkey_over_a_unix_socket() {
    let valkey = Redis::with(Engine::Valkey, &[]).await;
    nobody_shows_what_was_before(&format!("unix:{}", valkey.socket().display())).await;
}

/// With the defaults, a write that takes longer than the lease is held for a round trip only, and then no pod shows the
/// state before it.
#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_write_that_takes_longer_than_the_lease_is_hardly_held() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(Some(&redis.url()), &[]).await;
    let slow = Rule::on(Method::PATCH, "/v2/order/*").delay(Duration::from_millis(400));
    fleet.shop.gateway.script(slow);
    // All pods know of such a write once its end has arrived, which is long before the 50 ms are over. One write at a
    // time: a busy machine would let some of many wait longer.
    let (mut tried, mut known) = (0, 0);
    eventually("four writes that all pods knew of in time", async || {
        let unconfirmed = "fleet_unconfirmed_served_total";
        let before = (fleet.not_held().await, fleet.sum(unconfirmed).await);
        let shown = fleet.change(tried, Change::Write).await;
        let after = (fleet.not_held().await, fleet.sum(unconfirmed).await);
        tried += 1;
        // On a machine so busy that polls are late, the wait may be over first, and memory is served unconfirmed.
        if after.0 == before.0 {
            assert!(after.1 > before.1 || shown == [2; PODS], "{shown:?}");
            known += 1;
        }
        known == 4
    })
    .await;
    fleet.stop().await;
}
