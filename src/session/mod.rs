//! The session cache: stored sessions, and one fetch per session however many callers wait for it.
//!
//! One cache serves one principal. A process has one environment, and its credentials cannot change to another
//! merchant's. So a session's UUID, compared in full, is the whole key.
//!
//! The proxy passes in how to fetch a session. Read next: [`freshness`] (which answers may be stored and served) and
//! [`invalidation`] (the effects of a write).

pub mod announce;
mod changed;
mod elsewhere;
pub mod ending;
pub mod entry;
mod exchanges;
mod fetch;
mod flight;
pub mod freshness;
pub mod horizon;
pub mod invalidation;
pub mod response;
mod results;
pub mod revalidation;
pub mod shared;
mod store;
mod take;
pub mod writing;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use moka::sync::Cache;
use prometheus::IntCounter;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::announce::InFleet;
use self::entry::Entry;
use self::flight::Flights;
use self::freshness::{NotStored, Policy, RequestDirectives};
use self::horizon::{Outlook, Serve};
use self::invalidation::Invalidation;
pub use self::results::{CacheResult, Fetched, Found, FromFleet, Hit, LookupResult, StaleHit};
use self::shared::Sharing;
use self::store::{Store, remembered_purges};
use crate::clock::{Clock, Now};
use crate::telemetry::metrics::Metrics;

#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes for bodies, keys and bookkeeping together.
    pub max_bytes: u64,
    /// Largest number of fetches that callers may share; beyond it each caller fetches alone.
    pub max_flights: usize,
    /// The rules that [`SessionCache::change`] may replace.
    pub rules: Rules,
    /// The ties to other sidecars; `None` for a sidecar by itself.
    pub fleet: Option<InFleet>,
}

/// The rules that may change while the cache is in use.
#[derive(Clone, Debug)]
pub struct Rules {
    pub policy: Policy,
    /// How long a caller waits for an answer.
    pub lookup_timeout: Duration,
}

#[derive(Debug)]
pub struct SessionCache<E> {
    max_flights: usize,
    rules: ArcSwap<Rules>,
    /// The purges, which the store asks before each insert.
    invalidation: Arc<Invalidation>,
    store: Arc<Store>,
    flights: Flights<E>,
    /// Sessions whose last answer was for one caller only: callers do not wait for each other's fetches of them.
    unshared: Cache<Uuid, ()>,
    fleet: Option<InFleet>,
    /// Set if the fleet shares answers.
    sharing: OnceLock<Sharing>,
    tasks: TaskTracker,
    clock: Clock,
    metrics: Arc<Metrics>,
    purges_by_writes: IntCounter,
    /// Whether the warning about Sezzle's `no-store` was logged.
    warned: AtomicBool,
}

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Makes an empty cache. Shared fetches run as `tasks`.
    pub fn new(options: Options, tasks: TaskTracker, clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        for reason in NotStored::ALL {
            metrics.cache_store_skipped.with_label_values(&[reason.as_str()]).inc_by(0);
        }
        let unshared = Cache::builder().max_capacity(MAX_UNSHARED).time_to_live(UNSHARED_FOR).build();
        let Options { max_bytes, max_flights, rules, fleet } = options;
        let ids = fleet.as_ref().map(|fleet| fleet.ids.clone());
        let invalidation = Arc::new(Invalidation::new(remembered_purges(max_bytes), rules.policy.max_ttl, ids));
        Arc::new(Self {
            store: Arc::new(Store::new(max_bytes, Arc::clone(&invalidation), clock.clone(), Arc::clone(&metrics))),
            invalidation,
            flights: Flights::new(),
            warned: AtomicBool::new(false),
            max_flights,
            rules: ArcSwap::from_pointee(rules),
            unshared,
            fleet,
            sharing: OnceLock::new(),
            tasks,
            clock,
            purges_by_writes: metrics.cache_invalidations.with_label_values(&["write"]),
            metrics,
        })
    }

    /// Looks up a session, by the caller's directives, both clocks, and in a fleet the horizon. Takes none of our
    /// locks.
    pub fn find(&self, key: Uuid, directives: &RequestDirectives, now: Now) -> Found {
        // Loaded before the entry is read: see `SharedHorizon::load`.
        let outlook = self.outlook();
        let Some(entry) = self.store.get(key) else { return Found::Absent };
        let (age, ttl) = (entry.age(now), entry.ttl(now));
        if ttl.is_zero() {
            Found::Stale
        } else if !directives.accept(age, ttl) {
            Found::Unwanted
        } else if self.may_serve(outlook.as_deref(), &entry, now) {
            Found::Fresh(Hit { entry, age, ttl })
        } else {
            Found::Stale
        }
    }

    /// A stale entry that may be served because Sezzle failed. A purged session has no entry.
    pub fn find_stale(&self, key: Uuid, directives: &RequestDirectives) -> Option<StaleHit> {
        let outlook = self.outlook();
        let entry = self.store.get(key).filter(|_| directives.accept_stale())?;
        let now = self.clock.now();
        let overdue = entry.stale_for(now).filter(|_| self.may_serve(outlook.as_deref(), &entry, now))?;
        Some(StaleHit { age: entry.age(now), overdue, entry })
    }

    fn outlook(&self) -> Option<Guard<Arc<Outlook>>> {
        self.fleet.as_ref().map(|fleet| fleet.horizon.load())
    }

    /// Decides by the horizon whether an entry may be served; `None` outside a fleet. Counts an entry that is served
    /// unconfirmed.
    fn may_serve(&self, outlook: Option<&Arc<Outlook>>, entry: &Entry, now: Now) -> bool {
        match outlook.map(|outlook| outlook.serve(entry.began(), now)) {
            None | Some(Serve::Confirmed) => true,
            Some(Serve::Unconfirmed) => {
                self.metrics.fleet_unconfirmed_served.with_label_values::<&str>(&[]).inc();
                true
            }
            Some(Serve::No) => false,
        }
    }

    /// Replaces the rules. If the policy differs, all sessions stored under the old one are purged, and fetches in
    /// progress are not stored.
    pub fn change(&self, rules: Rules) {
        let policy = rules.policy.clone();
        let before = self.rules.swap(Arc::new(rules));
        if policy != before.policy {
            self.invalidation.set_max_ttl(policy.max_ttl);
            // The rules are this sidecar's own: nothing has changed for others.
            self.invalidation.purge_all(|| self.store.hide_all());
            self.remove_hidden_later();
            self.metrics.cache_invalidations.with_label_values(&["reload"]).inc();
        }
    }

    /// Removes what a purge of everything has hidden, in a task that nobody waits for.
    fn remove_hidden_later(&self) {
        let store = Arc::clone(&self.store);
        self.tasks.spawn(async move {
            store.remove_all_hidden().await;
        });
    }

    /// Updates the gauges.
    pub fn observe(&self) {
        self.store.observe();
    }
}

// How long callers do not wait for each other's fetches of a session whose last answer was for one caller only.
const UNSHARED_FOR: Duration = Duration::from_secs(5);
const MAX_UNSHARED: u64 = 10_000;

#[cfg(test)]
mod tests;
