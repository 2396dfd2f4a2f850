//! When its server, the network or a pod fails, a fleet serves on: no lookup and no write fails, no caller waits longer
//! than configured, nothing from before a change is shown for longer than allowed, and everything heals by itself.
//!
//! | what fails | tests |
//! |---|---|
//! | the server is not there at the start | `a_server_that_is_not_there_yet_is_joined_later` |
//! | connections are refused, reset, stalled, lost; the server is killed or paused | `alone::` |
//! | replies take 20 ms | `a_slow_server_delays_no_hit` |
//! | one pod alone is cut off | `a_pod_that_is_cut_off_tells_of_its_writes_later`, `a_pod_that_is_cut_off_serves_no_longer_than_configured` |
//! | acknowledged entries are lost: failover, restart, flush, eviction of the log | `rejoined::` |
//! | the name of the log is evicted | `a_log_without_a_name_goes_on` |
//! | the server refuses writes or knows nobody | `refused::` |
//! | there is no place for a further connection | `a_pod_without_a_place_at_the_server_works_alone` |
//! | a pod dies in a write, or is paused | `a_write_of_a_dead_pod_stays_open`, `a_paused_pod_wakes_without_trust` |
//! | clocks of pods differ | `clocks_of_pods_may_differ` |

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::{join_all, join3};
use http::Method;
use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::time::{Instant, sleep};

use crate::support::fleet::{Change, Pod, Shop, is_hit, revision};
use crate::support::process::free_address;
use crate::support::redis::{Engine, Redis};
use crate::support::redis_proxy::{RedisProxy, Way};
use crate::support::{Harness, Session, arrived, eventually};

const ALONE: Duration = Duration::from_secs(1);
/// The longest time that a fleet may add to a lookup or to a write, here in the middle of many.
const ADDED: Duration = Duration::from_millis(50);
/// A time that no call may take on any machine, because no call waits for a server that is gone.
const NEVER: Duration = Duration::from_secs(3);
const CALLS: usize = 15;

/// Two pods, each behind a network of its own, and a sidecar in no fleet to compare them with.
struct Pair {
    shop: Shop,
    networks: [RedisProxy; 2],
    fleet: [Harness; 2],
    alone: Harness,
}

impl Pair {
    async fn start(server: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let this = Self::start_unjoined(server, settings).await;
        this.synced().await;
        this
    }

    async fn start_unjoined(server: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let shop = Shop::open().await;
        let networks = [RedisProxy::before(server).await, RedisProxy::before(server).await];
        let [first, second] = [networks[0].url(), networks[1].url()];
        let (a, b, alone) =
            join3(shop.pod(Some(&first), settings), shop.pod(Some(&second), settings), shop.pod(None, &[])).await;
        Self { shop, networks, fleet: [a, b], alone }
    }

    fn a(&self) -> Pod {
        Pod::from(&self.fleet[0])
    }

    fn b(&self) -> Pod {
        Pod::from(&self.fleet[1])
    }

    async fn synced(&self) {
        for pod in [self.a(), self.b()] {
            self.shop.link_is(pod, "synced").await;
        }
    }

    fn mend(&self) {
        self.networks.iter().for_each(RedisProxy::mend);
    }

    /// A session that both pods have stored.
    async fn stored(&self) -> Session {
        let session = Session::tokenize(&self.shop.gateway);
        for pod in [self.a(), self.b()] {
            eventually("stored", async || is_hit(&self.shop.lookup(pod, &session).await)).await;
        }
        session
    }

    async fn sees(&self, pod: Pod, session: &Session, expected: u64) {
        eventually("the change is shown", async || revision(&self.shop.lookup(pod, session).await) == expected).await;
    }

    /// A change through one pod is shown by the other to a lookup that begins after it was answered.
    async fn tells(&self, through: Pod, other: Pod, change: Change) {
        // On a busy machine a poll may be late. Then an answer is not held, or memory is served unconfirmed where that
        // is configured, and both are counted.
        for _ in 0..20 {
            self.synced().await;
            let session = self.stored().await;
            let before = (self.not_held(through).await, self.unconfirmed(other).await);
            self.shop.change(through, change, &session).await;
            let shown = revision(&self.shop.lookup(other, &session).await);
            if (self.not_held(through).await, self.unconfirmed(other).await) == before {
                assert_eq!(shown, 2, "{change:?}");
                return;
            }
        }
        panic!("no answer was held until all pods knew, or memory is always unconfirmed");
    }

    async fn not_held(&self, pod: Pod) -> f64 {
        let mut sum = 0.0;
        for result in ["waited", "gave_up"] {
            sum += self.shop.metric(pod, &format!("fleet_holds_total{{result=\"{result}\"}}")).await;
        }
        sum
    }

    /// Asserts that lookups and writes through a pod take no longer than through the sidecar in no fleet.
    async fn delays_nobody(&self, pod: Pod) {
        let session = Session::tokenize(&self.shop.gateway);
        let alone = Pod::from(&self.alone);
        for what in ["lookups", "writes"] {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for _ in 0..CALLS {
                // A session that the pod may not serve from memory is fetched in both ways.
                let mut fetched = false;
                for (pod, times) in [(pod, &mut with), (alone, &mut without)] {
                    let begun = Instant::now();
                    match what {
                        "lookups" if fetched => drop(self.shop.fetch(pod, &session).await),
                        "lookups" => fetched = !is_hit(&self.shop.lookup(pod, &session).await),
                        _ => self.shop.change(pod, Change::Write, &session).await,
                    }
                    times.push(begun.elapsed());
                }
            }
            for times in [&mut with, &mut without] {
                times.sort();
            }
            let (middle, worst) = (CALLS / 2, with[CALLS - 1]);
            assert!(with[middle] <= without[middle] + ADDED, "{what}: {with:?}, in no fleet {without:?}");
            assert!(worst < NEVER, "{what}: {with:?}");
        }
    }

    async fn unpublished(&self, pod: Pod) -> f64 {
        self.shop.metric(pod, "fleet_unpublished").await
    }

    async fn rejoins(&self, pod: Pod) -> f64 {
        let text = self.shop.client.get(pod.ops, "/metrics").await.text();
        let lines = text.lines().filter(|line| line.starts_with("sezzle_sidecar_fleet_rejoins_total"));
        lines.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
    }

    async fn unconfirmed(&self, pod: Pod) -> f64 {
        self.shop.metric(pod, "fleet_unconfirmed_served_total").await
    }

    async fn stop(self) {
        self.mend();
        join_all(self.fleet.into_iter().chain([self.alone]).map(Harness::stop_alone)).await;
        self.shop.gateway.stop().await;
    }
}

/// Nothing unconfirmed is served, and an answer is held for the whole lease. A poll may take 200 ms before the link
/// gives its connection up, so that a busy machine is no fault.
const STRICT: [(&str, &str); 4] =
    [("FLEET__POLL", "200ms"), ("FLEET__LEASE", "500ms"), ("FLEET__ALONE_TTL", "0s"), ("FLEET__WRITE_WAIT", "1s")];

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_server_that_is_not_there_yet_is_joined_later() {
    let address = free_address();
    let pair = Pair::start_unjoined(address, &STRICT_ALONE).await;
    for pod in [pair.a(), pair.b()] {
        pair.shop.link_is(pod, "down").await;
        pair.delays_nobody(pod).await;
    }
    let session = pair.stored().await;
    assert!(pair.unconfirmed(pair.b()).await > 0.0, "served as without a fleet, and counted");
    // The other pod could not be told. It shows the state before the write no longer than configured.
    pair.shop.change(pair.a(), Change::Write, &session).await;
    let told = Instant::now();
    shown_in_time(&pair, &session, told).await;
    let _redis = Redis::at(address, Engine::Redis, &[]).await;
    pair.synced().await;
    pair.tells(pair.a(), pair.b(), Change::Write).await;
    pair.stop().await;
}

/// Unconfirmed sessions are served for a second.
const STRICT_ALONE: [(&str, &str); 4] =
    [("FLEET__POLL", "200ms"), ("FLEET__LEASE", "500ms"), ("FLEET__ALONE_TTL", "1s"), ("FLEET__WRITE_WAIT", "1s")];

/// Looks a changed session up through the other pod until the change is shown. No lookup may show the state before it
/// that began later after the answer than unconfirmed memory may be served.
async fn shown_in_time(pair: &Pair, session: &Session, told: Instant) {
    loop {
        let begun = Instant::now();
        let lookup = pair.shop.lookup(pair.b(), session).await;
        if revision(&lookup) == 2 {
            return;
        }
        assert!(begun < told + ALONE, "{:?} after the answer: {}", begun - told, lookup.cache());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Nobody reaches the server, in every way in which that happens. Each pod works as if it were alone.
mod alone {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Lost {
        Refused,
        Killed,
        Paused,
        Stalled(Way),
    }

    async fn works_alone(lost: Lost, engine: Engine) {
        let mut redis = Redis::with(engine, &[]).await;
        let pair = Pair::start(redis.address, &STRICT_ALONE).await;
        let session = pair.stored().await;
        assert_eq!(pair.unconfirmed(pair.b()).await, 0.0);
        match lost {
            Lost::Refused => pair.networks.iter().for_each(RedisProxy::refuse),
            Lost::Killed => redis.kill().await,
            Lost::Paused => redis.pause(),
            Lost::Stalled(way) => pair.networks.iter().for_each(|network| network.stall(way)),
        }
        let begun = Instant::now();
        pair.shop.change(pair.a(), Change::Write, &session).await;
        let told = Instant::now();
        assert!(told - begun < NEVER, "{:?}", told - begun);
        assert_eq!(revision(&pair.shop.lookup(pair.a(), &session).await), 2, "its own pod knows at once");
        shown_in_time(&pair, &session, told).await;
        for pod in [pair.a(), pair.b()] {
            eventually("lost", async || pair.shop.metric(pod, "fleet_state{state=\"synced\"}").await == 0.0).await;
            pair.delays_nobody(pod).await;
        }
        assert!(pair.unpublished(pair.a()).await > 0.0, "kept for later");
        match lost {
            Lost::Killed => redis.start_again().await,
            Lost::Paused => redis.go_on(),
            Lost::Refused | Lost::Stalled(_) => pair.mend(),
        }
        pair.synced().await;
        eventually("told later", async || pair.unpublished(pair.a()).await == 0.0).await;
        pair.tells(pair.a(), pair.b(), Change::Webhook).await;
        pair.stop().await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_a_refused_connection() {
        works_alone(Lost::Refused, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_the_servers_end() {
        works_alone(Lost::Killed, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs Redis 6.2: tests/run"]
    async fn after_the_end_of_a_redis_6_2() {
        works_alone(Lost::Killed, Engine::Redis62).await;
    }

    #[tokio::test]
    #[ignore = "needs valkey-server: tests/run"]
    async fn after_the_end_of_a_valkey() {
        works_alone(Lost::Killed, Engine::Valkey).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn beside_a_server_that_hangs() {
        works_alone(Lost::Paused, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs valkey-server: tests/run"]
    async fn beside_a_valkey_that_hangs() {
        works_alone(Lost::Paused, Engine::Valkey).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn when_questions_do_not_arrive() {
        works_alone(Lost::Stalled(Way::ToServer), Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn when_replies_do_not_arrive() {
        works_alone(Lost::Stalled(Way::ToCaller), Engine::Redis).await;
    }
}

/// A router forgets the connections of both pods. Each pod notices within a poll and connects anew.
#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_connection_that_is_lost_in_silence_is_replaced() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT).await;
    for _ in 0..2 {
        let before = [pair.networks[0].connections(), pair.networks[1].connections()];
        pair.networks.iter().for_each(RedisProxy::forget);
        for (network, before) in pair.networks.iter().zip(before) {
            eventually("connected anew", async || network.connections() > before).await;
        }
        pair.tells(pair.a(), pair.b(), Change::Write).await;
    }
    pair.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_slow_server_delays_no_hit() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT).await;
    // 20 ms in all, which is within the deadline of a poll.
    pair.networks.iter().for_each(|network| network.delay(Duration::from_millis(10)));
    let hits = async |pod: Pod, session: &Session| {
        let mut times = Vec::new();
        while times.len() < CALLS {
            let begun = Instant::now();
            if is_hit(&pair.shop.lookup(pod, session).await) {
                times.push(begun.elapsed());
            }
        }
        times.sort();
        times[CALLS / 2]
    };
    let session = pair.stored().await;
    let (slow, alone) = (hits(pair.a(), &session).await, hits(Pod::from(&pair.alone), &session).await);
    assert!(slow < alone + Duration::from_millis(15), "{slow:?}, in no fleet {alone:?}");
    for change in Change::ALL {
        pair.tells(pair.b(), pair.a(), change).await;
    }
    pair.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_pod_that_is_cut_off_tells_of_its_writes_later() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT).await;
    let session = pair.stored().await;
    pair.networks[0].refuse();
    eventually("cut off", async || pair.shop.metric(pair.a(), "fleet_state{state=\"synced\"}").await == 0.0).await;
    pair.delays_nobody(pair.a()).await;
    pair.shop.change(pair.a(), Change::Write, &session).await;
    assert!(pair.unpublished(pair.a()).await > 0.0);
    pair.networks[0].mend();
    pair.synced().await;
    eventually("told later", async || pair.unpublished(pair.a()).await == 0.0).await;
    pair.sees(pair.b(), &session, 2).await;
    pair.tells(pair.a(), pair.b(), Change::Write).await;
    pair.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_pod_that_is_cut_off_serves_no_longer_than_configured() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT_ALONE).await;
    let session = pair.stored().await;
    pair.networks[1].refuse();
    pair.shop.change(pair.a(), Change::Write, &session).await;
    shown_in_time(&pair, &session, Instant::now()).await;
    pair.delays_nobody(pair.b()).await;
    pair.networks[1].mend();
    pair.tells(pair.a(), pair.b(), Change::Write).await;
    pair.stop().await;
}

/// Acknowledged entries may be lost. Every pod notices, trusts nothing from before, and tells again.
mod rejoined {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Loss {
        Failover,
        Restart,
        Flush,
        Log,
        /// A dump of some time before is loaded.
        RolledBack,
    }

    async fn rejoins(loss: Loss, engine: Engine) {
        let mut redis = Redis::with(engine, &[]).await;
        let pair = Pair::start(redis.address, &STRICT).await;
        let replica = if loss == Loss::Failover { Some(Redis::replica_of(&redis).await) } else { None };
        let session = pair.stored().await;
        let before = [pair.rejoins(pair.a()).await, pair.rejoins(pair.b()).await];
        match loss {
            Loss::Failover => {
                let replica = replica.as_ref().expect("started");
                replica.call("REPLICAOF NO ONE").await;
                // The replica lacks this write.
                let lost = pair.stored().await;
                pair.shop.change(pair.a(), Change::Write, &lost).await;
                pair.networks.iter().for_each(|network| network.lead_to(replica.address));
                pair.networks.iter().for_each(RedisProxy::cut);
            }
            Loss::Restart => {
                redis.kill().await;
                redis.start_again().await;
            }
            Loss::Flush => drop(redis.call("FLUSHALL").await),
            Loss::Log => redis.delete("szs1:*:log").await,
            Loss::RolledBack => {
                redis.call("SAVE").await;
                let lost = pair.stored().await;
                pair.shop.change(pair.a(), Change::Write, &lost).await;
                redis.kill().await;
                redis.start_again().await;
            }
        }
        for (pod, before) in [(pair.a(), before[0]), (pair.b(), before[1])] {
            eventually("rejoined", async || pair.rejoins(pod).await > before).await;
        }
        pair.synced().await;
        for pod in [pair.a(), pair.b()] {
            let first = pair.shop.lookup(pod, &session).await;
            assert!(!is_hit(&first), "from before the loss: {}", first.cache());
            eventually("stored again", async || is_hit(&pair.shop.lookup(pod, &session).await)).await;
        }
        for change in [Change::Write, Change::PurgeAll] {
            pair.tells(pair.a(), pair.b(), change).await;
        }
        assert_eq!(pair.unconfirmed(pair.b()).await, 0.0);
        pair.stop().await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_a_failover_with_loss() {
        rejoins(Loss::Failover, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs Redis 6.2: tests/run"]
    async fn after_a_failover_of_a_redis_6_2() {
        rejoins(Loss::Failover, Engine::Redis62).await;
    }

    #[tokio::test]
    #[ignore = "needs valkey-server: tests/run"]
    async fn after_a_failover_of_a_valkey() {
        rejoins(Loss::Failover, Engine::Valkey).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_a_restart_without_data() {
        rejoins(Loss::Restart, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_a_restart_with_old_data() {
        rejoins(Loss::RolledBack, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_everything_was_flushed() {
        rejoins(Loss::Flush, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs Redis 6.2: tests/run"]
    async fn after_a_redis_6_2_was_flushed() {
        rejoins(Loss::Flush, Engine::Redis62).await;
    }

    #[tokio::test]
    #[ignore = "needs valkey-server: tests/run"]
    async fn after_a_valkey_was_flushed() {
        rejoins(Loss::Flush, Engine::Valkey).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn after_the_log_was_evicted() {
        rejoins(Loss::Log, Engine::Redis).await;
    }
}

/// The name of the log is needed to join only. A pod that joins gives the log another, and nothing is lost.
#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_log_without_a_name_goes_on() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT).await;
    for joining in [&pair.networks[..0], &pair.networks[..1], &pair.networks[..]] {
        redis.delete("szs1:*:id").await;
        joining.iter().for_each(RedisProxy::cut);
        pair.tells(pair.a(), pair.b(), Change::Write).await;
        pair.tells(pair.b(), pair.a(), Change::Webhook).await;
        assert_eq!(redis.keys("szs1:*:id").await.len(), usize::from(!joining.is_empty()));
    }
    pair.stop().await;
}

/// The server answers, but takes no writes, or does not know the pods. Nothing is served as confirmed.
mod refused {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Refusal {
        Full,
        FailingDisk,
        NoReplicas,
        ReadOnly,
        Password,
        Permission,
    }

    async fn works_alone(refusal: Refusal, engine: Engine) {
        let redis = Redis::with(engine, &["--save", "3600 1"]).await;
        let other = if refusal == Refusal::ReadOnly { Some(Redis::with(engine, &[]).await) } else { None };
        let pair = Pair::start(redis.address, &STRICT).await;
        let session = pair.stored().await;
        match refusal {
            Refusal::Full => drop(redis.call("CONFIG SET maxmemory 1").await),
            Refusal::FailingDisk => redis.fail_to_save().await,
            Refusal::NoReplicas => drop(redis.call("CONFIG SET min-replicas-to-write 1").await),
            Refusal::ReadOnly => redis.follow(other.as_ref().expect("started")).await,
            Refusal::Password => {
                redis.call("CONFIG SET requirepass secret").await;
                pair.networks.iter().for_each(RedisProxy::cut);
            }
            Refusal::Permission => drop(redis.call("ACL SETUSER default -xadd -setrange").await),
        }
        for pod in [pair.a(), pair.b()] {
            eventually("refused", async || pair.shop.metric(pod, "fleet_state{state=\"synced\"}").await == 0.0).await;
            // The lease of the last poll that was not refused ends.
            eventually("not confirmed", async || !is_hit(&pair.shop.lookup(pod, &session).await)).await;
            pair.delays_nobody(pod).await;
        }
        pair.shop.change(pair.a(), Change::Write, &session).await;
        assert_eq!(revision(&pair.shop.lookup(pair.b(), &session).await), 2, "nothing unconfirmed is served");
        match refusal {
            Refusal::Full => drop(redis.call("CONFIG SET maxmemory 0").await),
            Refusal::FailingDisk => redis.save_again().await,
            Refusal::NoReplicas => drop(redis.call("CONFIG SET min-replicas-to-write 0").await),
            Refusal::ReadOnly => drop(redis.call("REPLICAOF NO ONE").await),
            Refusal::Password => drop(redis.call_as("secret", "CONFIG SET requirepass ").await),
            Refusal::Permission => drop(redis.call("ACL SETUSER default +@all").await),
        }
        pair.synced().await;
        eventually("told later", async || pair.unpublished(pair.a()).await == 0.0).await;
        pair.tells(pair.a(), pair.b(), Change::Write).await;
        assert_eq!(pair.unconfirmed(pair.b()).await, 0.0);
        pair.stop().await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn by_a_server_without_memory() {
        works_alone(Refusal::Full, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs Redis 6.2: tests/run"]
    async fn by_a_redis_6_2_without_memory() {
        works_alone(Refusal::Full, Engine::Redis62).await;
    }

    #[tokio::test]
    #[ignore = "needs valkey-server: tests/run"]
    async fn by_a_valkey_without_memory() {
        works_alone(Refusal::Full, Engine::Valkey).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn by_a_server_that_cannot_save() {
        works_alone(Refusal::FailingDisk, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn by_a_server_without_replicas() {
        works_alone(Refusal::NoReplicas, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn by_a_server_that_became_a_replica() {
        works_alone(Refusal::ReadOnly, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn by_a_server_with_a_new_password() {
        works_alone(Refusal::Password, Engine::Redis).await;
    }

    #[tokio::test]
    #[ignore = "needs redis-server: tests/run"]
    async fn by_a_server_that_forbids_a_command() {
        works_alone(Refusal::Permission, Engine::Redis).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_cluster_without_its_slots_is_no_server() {
    let bus = free_address().port().to_string();
    let redis = Redis::with(Engine::Redis, &["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
    let pair = Pair::start_unjoined(redis.address, &STRICT).await;
    let refused = "fleet_commands_total{command=\"join\",result=\"refused\"}";
    eventually("refused", async || pair.shop.metric(pair.a(), refused).await > 0.0).await;
    pair.delays_nobody(pair.a()).await;
    assert_eq!(pair.shop.metric(pair.a(), "fleet_state{state=\"synced\"}").await, 0.0);
    pair.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_server_that_speaks_no_tls_is_no_server() {
    let redis = Redis::start().await;
    let shop = Shop::open().await;
    let pod = shop.pod(Some(&redis.url().replace("redis:", "rediss:")), &[]).await;
    shop.link_is(Pod::from(&pod), "down").await;
    let session = Session::tokenize(&shop.gateway);
    shop.lookup(Pod::from(&pod), &session).await;
    assert!(is_hit(&shop.lookup(Pod::from(&pod), &session).await));
    pod.stop_alone().await;
    shop.gateway.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_pod_without_a_place_at_the_server_works_alone() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT_ALONE).await;
    redis.call("CONFIG SET maxclients 1").await;
    let third = pair.shop.pod(Some(&redis.url()), &STRICT_ALONE).await;
    pair.shop.link_is(Pod::from(&third), "down").await;
    pair.delays_nobody(Pod::from(&third)).await;
    third.stop_alone().await;
    pair.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_write_of_a_dead_pod_stays_open() {
    let redis = Redis::start().await;
    let shop = Shop::open().await;
    let settings = [("GATEWAY__WRITE_TIMEOUT", "5s"), ("CACHE__MAX_TTL", "20s")];
    let (mut dying, pod) = shop.process(&redis.url(), &settings).await;
    let reader = shop.pod(Some(&redis.url()), &settings).await;
    let other = Pod::from(&reader);
    for pod in [pod, other] {
        shop.link_is(pod, "synced").await;
    }
    let session = Session::tokenize(&shop.gateway);
    eventually("stored", async || is_hit(&shop.lookup(other, &session).await)).await;
    let gate = Gate::new();
    shop.gateway.script(Rule::on(Method::PATCH, &session.order_path).gate(&gate).times(1));
    let write = shop.write_in_background(pod, &session);
    arrived(&gate, 1).await;
    eventually("begun", async || !is_hit(&shop.lookup(other, &session).await)).await;
    dying.process.signal("KILL");
    eventually("dead", async || dying.process.has_ended()).await;
    assert!(!write.await.expect("no panic"));
    for _ in 0..3 {
        let lookup = shop.lookup(other, &session).await;
        assert!(!is_hit(&lookup) && revision(&lookup) == 1, "{}", lookup.cache());
    }
    // Sezzle does what the dead pod asked for.
    gate.release();
    eventually("done", async || revision(&shop.lookup(other, &session).await) == 2).await;
    assert!(!is_hit(&shop.lookup(other, &session).await), "still open");
    // As long as the write may be open: its own time, the time for its body, and the time for its end to arrive.
    reader.clock.advance(Duration::from_secs(5 + 30 + 15 + 1));
    assert!(!is_hit(&shop.lookup(other, &session).await), "its outcome is unknown");
    // As long as the outcome of the write matters.
    reader.clock.advance(Duration::from_secs(20 + 1));
    eventually("stored again", async || is_hit(&shop.lookup(other, &session).await)).await;
    reader.stop_alone().await;
    shop.gateway.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_paused_pod_wakes_without_trust() {
    let redis = Redis::start().await;
    let shop = Shop::open().await;
    let (sleeper, asleep) = shop.process(&redis.url(), &STRICT).await;
    let writer = shop.pod(Some(&redis.url()), &STRICT).await;
    let writing = Pod::from(&writer);
    for pod in [asleep, writing] {
        shop.link_is(pod, "synced").await;
    }
    for _ in 0..3 {
        let session = Session::tokenize(&shop.gateway);
        eventually("stored", async || is_hit(&shop.lookup(asleep, &session).await)).await;
        sleeper.process.signal("STOP");
        shop.change(writing, Change::Write, &session).await;
        // The lookup waits in the paused pod's socket.
        let (lookup, ()) = tokio::join!(shop.lookup(asleep, &session), async {
            sleep(Duration::from_millis(50)).await;
            sleeper.process.signal("CONT");
        });
        assert_eq!(revision(&lookup), 2, "{}", lookup.cache());
        shop.link_is(asleep, "synced").await;
    }
    drop(sleeper);
    writer.stop_alone().await;
    shop.gateway.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn clocks_of_pods_may_differ() {
    let redis = Redis::start().await;
    let pair = Pair::start(redis.address, &STRICT).await;
    for milliseconds in [600_000, -600_000] {
        pair.fleet[0].clock.step_wall(milliseconds);
        pair.fleet[1].clock.step_wall(-milliseconds);
        pair.tells(pair.a(), pair.b(), Change::Write).await;
        pair.tells(pair.b(), pair.a(), Change::Purge).await;
    }
    pair.stop().await;
}
