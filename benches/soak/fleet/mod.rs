//! Three sidecars that are one fleet over a Redis, with faults of the Redis and of the ways to it.
//!
//! The settings are the strict ones of docs/fleet.md: nothing that is not confirmed is served, and the answer to a write
//! waits for a lease and a poll. So the verdict holds that no lookup was stale after a write of which, as its sidecar
//! says, all others knew. After any other write, as while one sidecar alone was cut off, a lookup may be stale for
//! `cache.max_ttl`. At the end all links are synced again, and nothing is left to be published.

mod faults;
mod history;
mod redis;
#[path = "../../../tests/it/support/redis_proxy.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod redis_proxy;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::history::{History, Pod, Summary};
use self::redis::Redis;
use self::redis_proxy::RedisProxy;
use crate::process::{Sidecar, soon};
use crate::traffic::Traffic;
use crate::verdict::Verdict;

const PODS: usize = 3;
const LOOKERS: usize = 4;
const MAX_TTL: Duration = Duration::from_secs(10);
const SYNCED: &str = "fleet_state{state=\"synced\"}";
const UNPUBLISHED: &str = "fleet_unpublished";
/// How long a link may take to be synced again on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Fleet {
    redis: Redis,
    /// The way of each sidecar to the Redis.
    proxies: Vec<RedisProxy>,
    folder: TempDir,
}

/// A fleet that has soaked. Its Redis still runs.
pub struct Soaked {
    _fleet: Fleet,
    faults: usize,
    history: Summary,
}

impl Fleet {
    pub async fn start() -> Self {
        let redis = Redis::start().await;
        let proxies = join_all((0..PODS).map(|_| RedisProxy::before(redis.address))).await;
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        fs::write(&keys, "c2V2ZW4gdGltZXMgc2V2ZW4gaXMgZm9ydHkgbmluZSE=").expect("writable");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("settable");
        Self { redis, proxies, folder }
    }

    /// The settings of each sidecar.
    pub fn settings(&self) -> Vec<Vec<(&'static str, String)>> {
        let keys = self.folder.path().join("keys").display().to_string();
        let settings = |proxy: &RedisProxy| {
            vec![
                ("FLEET__URL", proxy.url()),
                ("FLEET__KEY_FILE", keys.clone()),
                ("LINKS__BASE_URL", "http://sidecar.test:8080".to_owned()),
                ("FLEET__ALONE_TTL", "0s".to_owned()),
                ("FLEET__WRITE_WAIT", "400ms".to_owned()),
                ("FLEET__FLIGHT_WAIT", "200ms".to_owned()),
                ("CACHE__MAX_TTL", format!("{}s", MAX_TTL.as_secs())),
            ]
        };
        self.proxies.iter().map(settings).collect()
    }

    /// Brings about faults and checks a history until the soak ends.
    pub fn soak(
        mut self,
        sidecars: &[Sidecar],
        traffic: &Arc<Traffic>,
        until: Instant,
        seed: u64,
    ) -> impl Future<Output = Soaked> + Send + use<> {
        let pods = sidecars.iter().map(|sidecar| Pod { proxy: sidecar.proxy, ops: sidecar.ops }).collect();
        let history = Arc::new(History::new(Arc::clone(traffic), pods, until));
        let mut rng = Rng::with_seed(seed);
        async move {
            let mut tasks = JoinSet::new();
            for _ in 0..LOOKERS {
                tasks.spawn(Arc::clone(&history).look(rng.fork()));
            }
            for through in 0..PODS {
                tasks.spawn(Arc::clone(&history).write(through, rng.fork()));
            }
            let faults = faults::come_and_go(&mut self.redis, &self.proxies, until, rng.fork()).await;
            tasks.join_all().await;
            Soaked { history: history.summary(), faults, _fleet: self }
        }
    }
}

impl Soaked {
    pub async fn judge(&self, sidecars: &[Sidecar], verdict: &mut Verdict) {
        let Summary { lookups, writes: [known, others], stale } = &self.history;
        println!("\nfaults of the Redis and of the ways to it: {}", self.faults);
        println!("history: {lookups} lookups; writes that all sidecars knew of: {known}, others: {others}");
        for (which, allowed, stale) in [("known", Duration::ZERO, &stale[0]), ("other", MAX_TTL, &stale[1])] {
            let longest = stale.as_ref().map_or(Duration::ZERO, |(longest, _)| *longest);
            println!(
                "stale after {which} writes: {}, for {longest:?} at most",
                if stale.is_some() { "yes" } else { "no" }
            );
            if let Some((longest, what)) = stale {
                verdict.hold(allowed > *longest, || format!("stale after {which} writes: {what}"));
            }
        }
        verdict.hold(self.faults > 0 && *lookups > 0 && *known > 0, || "the history says nothing".to_owned());
        let synced = synced(sidecars).await;
        verdict.hold(synced, || format!("a link is not synced {LIMIT:?} after the last fault"));
        for (number, Sidecar { ops, .. }) in sidecars.iter().enumerate() {
            let shared = ["hit", "stored"].map(|result| format!("fleet_bodies_total{{result=\"{result}\"}}"));
            let names = [UNPUBLISHED, "fleet_rejoins_total", &shared[0], &shared[1]];
            let [unpublished, rejoins, taken, stored] = ops.metrics(names).await;
            println!("sidecar {}: {rejoins} rejoins, {taken} sessions taken and {stored} shared", number + 1);
            verdict.hold(unpublished == 0, || format!("{unpublished} entries of sidecar {} are left", number + 1));
            verdict.hold(taken > 0 && stored > 0, || format!("sidecar {} shared nothing", number + 1));
        }
    }
}

/// Whether all links become synced, with nothing unpublished.
pub async fn synced(sidecars: &[Sidecar]) -> bool {
    soon(LIMIT, async || {
        let links = join_all(sidecars.iter().map(|sidecar| sidecar.ops.metrics([SYNCED, UNPUBLISHED]))).await;
        links.iter().all(|link| *link == [1, 0])
    })
    .await
}
