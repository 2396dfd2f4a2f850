//! A history of random lookups, changes and faults, checked at its end: a lookup that begins after a change was
//! answered shows that change, whatever happened to the server, to the network or to a pod.
//!
//! `FLEET_HISTORY_SECONDS` makes a history longer, and `FLEET_HISTORY_SEED` chooses one.

use std::env;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{join, join_all};
use http::Method;
use sezzle_sidecar::simulator::Rule;
use tokio::time::{Instant, sleep, timeout};

use crate::support::Session;
use crate::support::client::Ended;
use crate::support::fleet::{Change, Pod, Shop, is_hit, key_file, revision, sharing};
use crate::support::process::{Folder, Sidecar};
use crate::support::redis::Redis;
use crate::support::redis_proxy::{RedisProxy, Way};

const PODS: usize = 3;
const ORDERS: usize = 5;
const LOOKERS: usize = 6;
const MAX_TTL: Duration = Duration::from_secs(3);
/// How much longer than chosen a history may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const ALONE_TTL: Duration = Duration::from_secs(2);

/// A fault of the server, of the network or of a pod.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing arrives on this way for a while, for one pod or for all.
    Stalled(Way),
    Slow,
    Cut,
    Refused,
    Forgotten,
    Flushed,
    LogDeleted,
    NameDeleted,
    ServerPaused,
    /// Killed, and started again without data.
    ServerKilled,
    /// Killed, and started again with data from some time before.
    ServerRolledBack,
    PodKilled,
    PodPaused,
    FailedOver,
    /// The replica had stopped following some time before.
    FailedOverWithLoss,
}

const FAULTS: [Fault; 16] = [
    Fault::Stalled(Way::ToServer),
    Fault::Stalled(Way::ToCaller),
    Fault::Slow,
    Fault::Cut,
    Fault::Refused,
    Fault::Forgotten,
    Fault::Flushed,
    Fault::LogDeleted,
    Fault::NameDeleted,
    Fault::ServerPaused,
    Fault::ServerKilled,
    Fault::ServerRolledBack,
    Fault::PodKilled,
    Fault::PodPaused,
    Fault::FailedOver,
    Fault::FailedOverWithLoss,
];

/// A pod that may be killed and replaced.
struct Slot {
    pod: Mutex<Pod>,
    /// Counts kills and starts after them: a request that meets one may stay unanswered.
    killed: AtomicU64,
}

struct World {
    shop: Shop,
    settings: Vec<(&'static str, String)>,
    slots: Vec<Slot>,
    proxies: Vec<RedisProxy>,
    orders: Vec<Mutex<Arc<Order>>>,
    lookups: Mutex<Vec<Lookup>>,
    over: Instant,
    tried: Tried,
}

/// Counts of the events that a history is to bring about.
#[derive(Debug, Default)]
struct Tried {
    hits: AtomicUsize,
    /// Lookups that were answered by a session that another pod had fetched.
    shared: AtomicUsize,
    /// Changes that all pods are said to know.
    held: AtomicUsize,
}

struct Order {
    session: Session,
    /// One change of an order at a time, so that each has the next revision.
    changing: tokio::sync::Mutex<()>,
    changes: Mutex<Vec<Answered>>,
}

/// An answered change. The first of an order makes revision 2.
struct Answered {
    at: Instant,
    through: usize,
    change: Change,
    /// Whether the pod says that it held the answer until all pods knew.
    known: bool,
}

struct Lookup {
    order: Arc<Order>,
    begun: Instant,
    through: usize,
    revision: u64,
    cache: String,
}

impl World {
    async fn open(over: Instant, settings: &[(&'static str, String)], server: &Redis) -> (Self, Vec<Sidecar>) {
        let shop = Shop::open().await;
        // Long enough for lookups and changes to meet each other.
        shop.gateway.script(Rule::on(Method::GET, "/v2/session/*").delay(Duration::from_millis(10)));
        shop.gateway.script(Rule::on(Method::PATCH, "/v2/order/*").delay(Duration::from_millis(20)));
        let settings = settings.to_vec();
        let proxies = join_all((0..PODS).map(|_| RedisProxy::before(server.address))).await;
        let pods =
            join_all(proxies.iter().map(async |proxy| shop.process(&proxy.url(), &texts(&settings)).await)).await;
        let (sidecars, pods): (Vec<_>, Vec<_>) = pods.into_iter().unzip();
        let slot = |pod| Slot { pod: Mutex::new(pod), killed: AtomicU64::new(0) };
        let slots = pods.into_iter().map(slot).collect();
        let orders = (0..ORDERS).map(|_| Mutex::new(Order::new(&shop))).collect();
        let (lookups, tried) = (Mutex::default(), Tried::default());
        let this = Self { shop, settings, slots, proxies, orders, lookups, over, tried };
        this.synced().await;
        (this, sidecars)
    }

    /// For the chosen time, and on a busy machine until enough was tried.
    fn goes_on(&self) -> bool {
        Instant::now() < self.over || (Instant::now() < self.over + PATIENCE && !self.is_enough())
    }

    fn is_enough(&self) -> bool {
        let shares = self.settings.iter().any(|(name, _)| *name == "FLEET__KEY_FILE");
        let [hits, shared, held] =
            [&self.tried.hits, &self.tried.shared, &self.tried.held].map(|count| count.load(Ordering::Relaxed));
        hits > 50 && held > 5 && (shared > 10 || !shares)
    }

    fn pod(&self, through: usize) -> Pod {
        *lock(&self.slots[through].pod)
    }

    async fn synced(&self) {
        join_all((0..PODS).map(|through| self.shop.link_is(self.pod(through), "synced"))).await;
    }

    async fn look(&self, mut random: Random) {
        while self.goes_on() {
            let (through, number) = (random.below(PODS), random.below(ORDERS));
            let order = Arc::clone(&lock(&self.orders[number]));
            let killed = self.slots[through].killed.load(Ordering::SeqCst);
            let (pod, begun) = (self.pod(through), Instant::now());
            match self.shop.client.try_send(pod.proxy, Method::GET, &order.session.path, &[], "").await {
                Ended::Whole(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let (revision, cache) = (revision(&answer), answer.cache().to_owned());
                    self.tried.hits.fetch_add(usize::from(is_hit(&answer)), Ordering::Relaxed);
                    self.tried.shared.fetch_add(usize::from(cache.starts_with("sezzle-fleet; hit")), Ordering::Relaxed);
                    lock(&self.lookups).push(Lookup { order, begun, through, revision, cache });
                }
                ended => {
                    let kills = self.slots[through].killed.load(Ordering::SeqCst);
                    let is_dead = kills % 2 == 1;
                    assert!(is_dead || kills != killed, "a lookup stayed unanswered: {ended:?}");
                }
            }
            sleep(Duration::from_millis(random.between(1, 20))).await;
        }
    }

    /// Makes one change after another through one pod, so that its metrics tell how each was held.
    async fn change(&self, through: usize, mut random: Random) {
        while self.goes_on() {
            sleep(Duration::from_millis(random.between(1, 200))).await;
            let place = &self.orders[random.below(ORDERS)];
            let order = Arc::clone(&lock(place));
            let Ok(_turn) = order.changing.try_lock() else { continue };
            let change = match random.below(10) {
                0 => Change::PurgeAll,
                1 => Change::Purge,
                2 | 3 => Change::Webhook,
                _ => Change::Write,
            };
            let (pod, before) = (self.pod(through), self.holds(through).await);
            if !self.shop.try_change(pod, change, &order.session).await {
                // The change may have taken effect, so the next revision is unknown.
                *lock(place) = Order::new(&self.shop);
                continue;
            }
            let at = Instant::now();
            let number = {
                let mut changes = lock(&order.changes);
                changes.push(Answered { at, through, change, known: false });
                changes.len() - 1
            };
            if let (Some(before), Some(after)) = (before, self.holds(through).await) {
                let known = after.0 > before.0 && after.1 == before.1;
                lock(&order.changes)[number].known = known;
                self.tried.held.fetch_add(usize::from(known), Ordering::Relaxed);
            }
        }
    }

    /// How many answers a pod held until all pods knew, and how many it did not. `None` of a pod that was killed.
    async fn holds(&self, through: usize) -> Option<(f64, f64)> {
        let pod = self.pod(through);
        let Ended::Whole(answer) = self.shop.client.try_send(pod.ops, Method::GET, "/metrics", &[], "").await else {
            return None;
        };
        let sum = |results: [&str; 2]| -> f64 {
            results.map(|result| answer.metric(&format!("fleet_holds_total{{result=\"{result}\"}}"))).iter().sum()
        };
        Some((sum(["none", "acked"]), sum(["waited", "gave_up"])))
    }

    async fn break_things(&self, mut random: Random, sidecars: &mut [Sidecar], servers: &mut [Redis; 2]) -> Vec<Fault> {
        let mut done = Vec::new();
        let mut rest: Vec<Fault> = Vec::new();
        while self.goes_on() {
            if rest.is_empty() {
                rest = FAULTS.to_vec();
            }
            let fault = rest.swap_remove(random.below(rest.len()));
            done.push(fault);
            let pause = Duration::from_millis(random.between(100, 1000));
            self.bring_about(fault, pause, &mut random, sidecars, servers).await;
            self.proxies.iter().for_each(RedisProxy::mend);
            timeout(Duration::from_secs(20), self.synced()).await.unwrap_or_else(|_| panic!("synced after {fault:?}"));
            sleep(Duration::from_millis(300)).await;
        }
        done
    }

    async fn bring_about(
        &self,
        fault: Fault,
        pause: Duration,
        random: &mut Random,
        sidecars: &mut [Sidecar],
        servers: &mut [Redis; 2],
    ) {
        let through = random.below(PODS);
        let proxies = if random.below(2) == 0 { &self.proxies[..] } else { &self.proxies[through..=through] };
        match fault {
            Fault::Stalled(way) => proxies.iter().for_each(|proxy| proxy.stall(way)),
            Fault::Slow => proxies.iter().for_each(|proxy| proxy.delay(pause / 20)),
            Fault::Cut => proxies.iter().for_each(RedisProxy::cut),
            Fault::Refused => proxies.iter().for_each(RedisProxy::refuse),
            Fault::Forgotten => proxies.iter().for_each(RedisProxy::forget),
            Fault::Flushed => drop(servers[0].call("FLUSHALL").await),
            Fault::LogDeleted => servers[0].delete("szs1:*:log").await,
            Fault::NameDeleted => servers[0].delete("szs1:*:id").await,
            Fault::ServerPaused => servers[0].pause(),
            Fault::ServerKilled => servers[0].kill().await,
            Fault::ServerRolledBack => drop(servers[0].call("SAVE").await),
            Fault::PodKilled => {
                self.slots[through].killed.fetch_add(1, Ordering::SeqCst);
                sidecars[through].process.signal("KILL");
            }
            Fault::PodPaused => sidecars[through].process.signal("STOP"),
            Fault::FailedOver => {}
            Fault::FailedOverWithLoss => drop(servers[1].call("REPLICAOF NO ONE").await),
        }
        sleep(pause).await;
        match fault {
            Fault::ServerPaused => servers[0].go_on(),
            Fault::ServerKilled => servers[0].start_again().await,
            Fault::ServerRolledBack => {
                servers[0].kill().await;
                servers[0].start_again().await;
                servers[0].forget_dump();
            }
            Fault::PodKilled => {
                let (sidecar, pod) = self.shop.process(&self.proxies[through].url(), &texts(&self.settings)).await;
                *lock(&self.slots[through].pod) = pod;
                self.slots[through].killed.fetch_add(1, Ordering::SeqCst);
                sidecars[through] = sidecar;
            }
            Fault::PodPaused => sidecars[through].process.signal("CONT"),
            Fault::FailedOver | Fault::FailedOverWithLoss => {
                servers[1].call("REPLICAOF NO ONE").await;
                self.proxies.iter().for_each(|proxy| proxy.lead_to(servers[1].address));
                self.proxies.iter().for_each(RedisProxy::cut);
                servers.swap(0, 1);
                servers[1].follow(&servers[0]).await;
            }
            _ => {}
        }
    }

    /// How long after the answer of a change somebody was shown the state from before it: the longest times, over the
    /// changes that all pods are said to know and over all others.
    fn check(&self) -> Check {
        let mut check = Check::default();
        let lookups = lock(&self.lookups);
        for lookup in lookups.iter() {
            let changes = lock(&lookup.order.changes);
            let shown = usize::try_from(lookup.revision).expect("few changes") - 1;
            for (number, answered) in changes.iter().enumerate().skip(shown) {
                let Some(stale) = lookup.begun.checked_duration_since(answered.at) else { continue };
                let longest = if answered.known { &mut check.known } else { &mut check.others };
                if stale > *longest {
                    *longest = stale;
                    let Answered { through, change, .. } = answered;
                    let Lookup { order, through: looked, revision, cache, .. } = lookup;
                    let what = format!(
                        "{stale:?} after {change:?} through pod {through} made revision {} of {}, pod {looked} showed \
                         revision {revision}: {cache}",
                        number + 2,
                        order.session.order,
                    );
                    *(if answered.known { &mut check.worst_known } else { &mut check.worst_other }) = what;
                }
            }
        }
        check
    }
}

#[derive(Debug, Default)]
struct Check {
    known: Duration,
    others: Duration,
    worst_known: String,
    worst_other: String,
}

impl Order {
    fn new(shop: &Shop) -> Arc<Self> {
        let session = Session::tokenize(&shop.gateway);
        Arc::new(Self { session, changing: tokio::sync::Mutex::default(), changes: Mutex::default() })
    }
}

/// Runs a history, and returns the check of it.
#[expect(clippy::print_stdout, reason = "a history that fails must be found again")]
async fn history(settings: &[(&'static str, &str)]) -> Check {
    let seed = env::var("FLEET_HISTORY_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = Random::new(seed.unwrap_or_else(Random::any));
    let seconds = env::var("FLEET_HISTORY_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(12);
    println!("FLEET_HISTORY_SEED={}", random.0);
    let primary = Redis::start().await;
    let replica = Redis::replica_of(&primary).await;
    let over = Instant::now() + Duration::from_secs(seconds);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let (world, mut sidecars) = World::open(over, &settings, &primary).await;
    // Both run on until the last lookup has its answer.
    let mut servers = [primary, replica];
    let lookers = join_all((0..LOOKERS).map(|_| world.look(random.fork())));
    let changers = join_all((0..PODS).map(|through| world.change(through, random.fork())));
    let broken = world.break_things(random.fork(), &mut sidecars, &mut servers);
    let ((_, _), faults) = join(join(lookers, changers), broken).await;
    let check = world.check();
    let lookups = lock(&world.lookups).len();
    println!("{lookups} lookups, {:?}, faults {faults:?}: {check:#?}", world.tried);
    assert!(world.is_enough(), "{lookups} lookups, {:?}", world.tried);
    check
}

/// Nothing unconfirmed is served, and an answer is held for the whole lease.
const STRICT: [(&str, &str); 5] = [
    ("FLEET__POLL", "100ms"),
    ("FLEET__LEASE", "300ms"),
    ("FLEET__ALONE_TTL", "0s"),
    ("FLEET__WRITE_WAIT", "1s"),
    ("CACHE__MAX_TTL", "3s"),
];

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_strict_fleet_shows_nothing_from_before_a_change_that_was_held() {
    let check = history(&STRICT).await;
    assert_eq!(check.known, Duration::ZERO, "{}", check.worst_known);
    assert!(check.others <= MAX_TTL, "{}", check.worst_other);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_strict_fleet_that_shares_sessions_shows_nothing_from_before_a_change_either() {
    let folder = Folder::new();
    let key_file = key_file(&folder);
    let settings = [&STRICT[..], &sharing(&key_file), &[("FLEET__FLIGHT_WAIT", "200ms")]].concat();
    let check = history(&settings).await;
    assert_eq!(check.known, Duration::ZERO, "{}", check.worst_known);
    assert!(check.others <= MAX_TTL, "{}", check.worst_other);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_fleet_shows_nothing_for_longer_than_configured() {
    let check = history(&[("FLEET__ALONE_TTL", "2s"), ("CACHE__MAX_TTL", "3s")]).await;
    assert!(check.known <= ALONE_TTL, "{}", check.worst_known);
    assert!(check.others <= MAX_TTL, "{}", check.worst_other);
}

fn texts<'s>(settings: &'s [(&'static str, String)]) -> Vec<(&'static str, &'s str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A small generator (xorshift64), so that a seed repeats the choices of a history.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn any() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        u64::try_from(now.as_nanos() % u128::from(u64::MAX)).expect("less")
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).expect("small")).expect("small")
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("not poisoned")
}
