//! A fleet follows its server to where it goes: by the word of Sentinels, or through a cluster.

use futures_util::future::join_all;

use crate::support::fleet::{Change, Pod, Shop, is_hit, revision};
use crate::support::redis::{Cluster, Redis, Sentinels};
use crate::support::{Harness, Session, eventually};

/// Nothing unconfirmed is served, and an answer is held for the whole lease. Slow polls, because the machine may be busy.
const STRICT: [(&str, &str); 4] =
    [("FLEET__POLL", "200ms"), ("FLEET__LEASE", "500ms"), ("FLEET__ALONE_TTL", "0s"), ("FLEET__WRITE_WAIT", "1s")];

struct Fleet {
    shop: Shop,
    harnesses: [Harness; 2],
}

impl Fleet {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let shop = Shop::open().await;
        let harnesses = [shop.pod(None, settings).await, shop.pod(None, settings).await];
        let this = Self { shop, harnesses };
        this.synced().await;
        this
    }

    fn pods(&self) -> [Pod; 2] {
        self.harnesses.each_ref().map(Pod::from)
    }

    async fn synced(&self) {
        join_all(self.pods().map(|pod| self.shop.link_is(pod, "synced"))).await;
    }

    /// A write through each pod is shown by the other to a lookup that begins after it was answered.
    async fn keeps_its_promise(&self) {
        let [first, second] = self.pods();
        for (through, other) in [(first, second), (second, first)] {
            eventually("an answer that was held", async || {
                self.synced().await;
                let session = Session::tokenize(&self.shop.gateway);
                eventually("stored", async || is_hit(&self.shop.lookup(other, &session).await)).await;
                let before = self.not_held(through).await;
                self.shop.change(through, Change::Write, &session).await;
                let shown = revision(&self.shop.lookup(other, &session).await);
                let was_held = self.not_held(through).await == before;
                assert!(shown == 2 || !was_held);
                was_held
            })
            .await;
        }
    }

    async fn not_held(&self, pod: Pod) -> f64 {
        let results = ["waited", "gave_up"].map(|result| format!("fleet_holds_total{{result=\"{result}\"}}"));
        self.shop.metric(pod, &results[0]).await + self.shop.metric(pod, &results[1]).await
    }

    async fn rejoins(&self, reason: &str) -> f64 {
        let series = format!("fleet_rejoins_total{{reason=\"{reason}\"}}");
        join_all(self.pods().map(|pod| self.shop.metric(pod, &series))).await.iter().sum()
    }

    /// Lookups and writes go on, whatever the server does.
    async fn serves(&self) {
        let session = Session::tokenize(&self.shop.gateway);
        for (number, pod) in (1..).zip(self.pods()) {
            self.shop.lookup(pod, &session).await;
            self.shop.change(pod, Change::Write, &session).await;
            assert_eq!(revision(&self.shop.lookup(pod, &session).await), number + 1);
        }
    }

    async fn stop(self) {
        join_all(self.harnesses.into_iter().map(Harness::stop_alone)).await;
        self.shop.gateway.stop().await;
    }
}

/// The Sentinels lose a primary that the pods still reach, and promote its replica. The old primary goes on as if nothing
/// had happened, and the pods leave it all the same.
#[tokio::test]
#[ignore = "needs redis-server and redis-sentinel: tests/run"]
async fn an_old_primary_that_lives_on_is_left() {
    let primary = Redis::start().await;
    let replica = Redis::replica_of(&primary).await;
    let sentinels = Sentinels::watch(&primary).await;
    let list: Vec<String> = sentinels.addresses.iter().map(ToString::to_string).collect();
    let list = list.join(",");
    let from = [("FLEET__SENTINELS", list.as_str()), ("FLEET__PRIMARY", "shop"), ("FLEET__INSECURE", "true")];
    let fleet = Fleet::start(&[&STRICT[..], &from].concat()).await;
    fleet.keeps_its_promise().await;
    sentinels.lose(&primary).await;
    eventually("promoted", async || sentinels.primary().await == Some(replica.address)).await;
    fleet.serves().await;
    eventually("with the new primary", async || fleet.rejoins("run_id").await >= 2.0).await;
    assert_eq!(replica.info("role").await, "master");
    fleet.keeps_its_promise().await;
    fleet.stop().await;
}

/// A cluster whose pods know one node only, which holds none of their keys.
async fn in_a_cluster() -> (Cluster, Fleet, usize) {
    let cluster = Cluster::start().await;
    let url = cluster.nodes[5].url();
    let fleet = Fleet::start(&[&STRICT[..], &[("FLEET__URL", url.as_str())]].concat()).await;
    fleet.keeps_its_promise().await;
    let mut owner = None;
    for (number, node) in cluster.nodes.iter().enumerate() {
        if node.info("role").await == "master" && !node.keys("szs1:*:log").await.is_empty() {
            owner = Some(number);
        }
    }
    (cluster, fleet, owner.expect("one has the log"))
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_slot_that_moves_to_another_node_is_followed() {
    let (cluster, fleet, owner) = in_a_cluster().await;
    let log = cluster.nodes[owner].keys("szs1:*:log").await.pop().expect("a log");
    cluster.move_slot(&log, owner, (owner + 1) % 3).await;
    eventually("moved", async || fleet.rejoins("moved").await + fleet.rejoins("run_id").await >= 2.0).await;
    fleet.keeps_its_promise().await;
    assert_eq!(cluster.owner(owner, &log).await, Some((owner + 1) % 3));
    fleet.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_node_that_dies_is_followed_by_its_replica() {
    let (mut cluster, fleet, owner) = in_a_cluster().await;
    cluster.nodes[owner].kill().await;
    fleet.serves().await;
    eventually("with the replica", async || fleet.rejoins("run_id").await + fleet.rejoins("moved").await >= 2.0).await;
    fleet.keeps_its_promise().await;
    fleet.stop().await;
}
