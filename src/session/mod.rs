//! The session cache: what is stored, and one fetch per session however many callers wait for it.
//!
//! One cache serves one principal: a process has one environment, and its credentials refuse to become another
//! merchant's, so a session's UUID, compared in full, is the whole key.
//!
//! How a session is fetched is passed in. Read next: [`freshness`] (what may be stored and served) and
//! [`invalidation`] (what a write does).

pub mod entry;
mod flight;
pub mod freshness;
pub mod invalidation;
mod outcome;
pub mod revalidation;
mod store;
pub mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};
use moka::sync::Cache;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::entry::{Answer, Entry, OwnHeaders};
use self::flight::{Flight, Flights, Shared};
use self::freshness::{Life, Policy, Skip, Wishes};
use self::invalidation::{Cause, Moment, Stored, Tag};
pub use self::outcome::{CacheResult, Fetched, Found, Hit, Stale};
use self::revalidation::{Conditions, freshen, with_date};
use self::store::Store;
use self::writing::Writing;
use crate::clock::{Clock, Now};
use crate::sezzle::error::is_error;
use crate::sezzle::session::SessionFacts;
use crate::telemetry::metrics::Metrics;

/// What the session cache may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bodies, keys and bookkeeping together, in bytes.
    pub max_bytes: u64,
    /// Fetches that callers may wait for together; beyond it each caller fetches for itself.
    pub max_flights: usize,
    /// What callers get beside the headers that are stored.
    pub own_headers: OwnHeaders,
    /// What may change later, by [`SessionCache::change`].
    pub rules: Rules,
}

/// What the session cache goes by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Rules for what is stored.
    pub policy: Policy,
    /// How long a caller waits for an answer.
    pub patience: Duration,
}

/// How a fetch ended for one caller.
#[derive(Debug)]
pub enum Outcome<S, E> {
    /// Somebody else's fetch was stored a moment ago.
    Stored(Hit),
    /// An answer, and whether it is stored now.
    Answer(Arc<Answer>, Result<Life, Skip>),
    /// An answer that has to be streamed.
    Streaming(S),
    /// No answer.
    Failed(E),
    /// No answer in the time a caller waits, or the task that fetched it ended without one.
    Lost,
}

/// The session cache.
#[derive(Debug)]
pub struct SessionCache<E> {
    max_flights: usize,
    rules: ArcSwap<Rules>,
    store: Store,
    flights: Flights<E>,
    /// Sessions whose last answer was for one caller only: nobody waits for another caller's fetch of them.
    unshared: Cache<Uuid, ()>,
    tasks: TaskTracker,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Whether it was said that Sezzle's `no-store` keeps the cache from doing its work.
    warned: AtomicBool,
}

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// An empty cache. Fetches run as `tasks`.
    pub fn new(options: Options, tasks: TaskTracker, clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        for skip in Skip::ALL {
            metrics.cache_store_skipped.with_label_values(&[skip.as_str()]).inc_by(0);
        }
        let unshared = Cache::builder().max_capacity(MAX_UNSHARED).time_to_live(UNSHARED_FOR).build();
        let Options { max_bytes, max_flights, own_headers, rules } = options;
        Arc::new(Self {
            store: Store::new(max_bytes, rules.policy.max_ttl, own_headers, clock.clone(), Arc::clone(&metrics)),
            flights: Flights::new(),
            warned: AtomicBool::new(false),
            max_flights,
            rules: ArcSwap::from_pointee(rules),
            unshared,
            tasks,
            clock,
            metrics,
        })
    }

    /// What is stored for a session, by the caller's wishes and both clocks. Takes no lock.
    pub fn find(&self, key: Uuid, wishes: &Wishes, now: Now) -> Found {
        let Some(entry) = self.store.get(key) else { return Found::Absent };
        let (age, ttl) = (entry.age(now), entry.ttl(now));
        if ttl.is_zero() {
            Found::Dead
        } else if wishes.accept(age, ttl) {
            Found::Fresh(Hit { entry, age, ttl })
        } else {
            Found::Unwanted
        }
    }

    /// What may be served of a session although it is dead, because Sezzle failed. A purge has removed what it purged.
    pub fn stale(&self, key: Uuid, wishes: &Wishes) -> Option<Stale> {
        let entry = self.store.get(key).filter(|_| wishes.accept_stale())?;
        let now = self.clock.now();
        entry.stale(now).map(|overdue| Stale { age: entry.age(now), overdue, entry })
    }

    /// Takes notice of Sezzle's answer to a HEAD (RFC 9111, 4.3.5): when it is not of what is stored, that is outdated.
    pub fn head_seen(&self, asked: Stored, status: StatusCode, headers: &HeaderMap) {
        let differs = |entry: &Entry| status != StatusCode::OK || !Conditions::vouches(&entry.answer(), headers);
        // There is no body to tell whose word it is.
        let is_verdict = status == StatusCode::OK || is_gone(status) && freshness::is_json(headers);
        if is_verdict && self.store.get(asked.key).is_some_and(|entry| differs(&entry)) {
            self.store.outdate(asked);
        }
    }

    /// Names an exchange about a session that begins now, in the order of all of them.
    pub fn begin(&self, key: Uuid) -> Stored {
        self.store.next(key)
    }

    /// Fetches a session, or waits for the fetch that is under way. `fetch` is given what to ask Sezzle whether what is
    /// stored is still right, if that can be asked. The second value says which: `true` when the
    /// answer came from another caller's fetch.
    ///
    /// A caller that goes away takes nothing with it: a fetch that others may wait for runs in a task of its own.
    pub async fn fetch<S, F>(
        self: &Arc<Self>,
        key: Uuid,
        wishes: &Wishes,
        fetch: impl Fn(Option<Conditions>) -> F,
    ) -> (Outcome<S, E>, bool)
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        let arrived = self.store.invalidation().now();
        // However often it looks, and whoever it waits for.
        let until = Instant::now().checked_add(self.rules.load().patience).unwrap_or_else(Instant::now);
        let alone = wishes.no_store || wishes.no_cache || self.unshared.contains_key(&key);
        // Any flight will do at first. If a write came between its beginning and this caller's arrival, one that
        // began after the arrival is needed, and that one cannot be refused: so this looks twice at most.
        for not_before in [None, Some(arrived)] {
            if alone {
                break;
            }
            match self.join_or_lead(key, wishes, not_before, &fetch) {
                Role::Stored(hit) => return (Outcome::Stored(hit), true),
                Role::Leader(own) => {
                    let outcome = timeout_at(until, own).await;
                    return (outcome.ok().and_then(Result::ok).unwrap_or(Outcome::Lost), false);
                }
                Role::Follower(flight) => match timeout_at(until, flight.answer()).await {
                    Ok(Shared::Answer { answer, tags, stored }) => {
                        if self.store.invalidation().accepts(tags.as_deref(), flight.began, arrived) {
                            return (Outcome::Answer(answer, stored), true);
                        }
                    }
                    // What failed before something was purged says nothing of how it is now.
                    Ok(Shared::Failed(_)) if arrived > flight.began && not_before.is_none() => {}
                    Ok(Shared::Failed(error)) => return (Outcome::Failed(error), true),
                    Ok(Shared::Released) => break,
                    Ok(Shared::Lost) | Err(_) => return (Outcome::Lost, true),
                },
                Role::Alone => break,
            }
        }
        let began = self.store.invalidation().now();
        // In a box of its own: hardly any lookup needs the room.
        let alone = Box::pin(self.settle(key, began, !wishes.no_store, None, fetch(None)));
        (timeout_at(until, alone).await.map_or(Outcome::Lost, |(outcome, _)| outcome), false)
    }

    /// Purges everything that relates to a tag, and keeps what is being fetched from being stored. Returns how many
    /// sessions were stored under it.
    pub fn purge(&self, tag: &Tag) -> usize {
        self.store.purge(tag, Cause::Changed, self.clock.now().mono)
    }

    /// Begins a write to `tag`, if it is known what it changes.
    pub fn begin_write(self: &Arc<Self>, tag: Option<Tag>) -> Writing<E> {
        Writing::begin(Arc::clone(self), tag)
    }

    /// Purges every session there is, and keeps what is being fetched from being stored. Returns how many there were.
    pub fn purge_all(&self) -> usize {
        self.store.purge_all()
    }

    /// Goes by other rules from now on. Where they are others for what is stored, nothing stays that was stored by the
    /// ones before, nor is what is being fetched by them stored any more.
    pub fn change(&self, rules: Rules) {
        let policy = rules.policy.clone();
        let before = self.rules.swap(Arc::new(rules));
        if policy != before.policy {
            self.store.set_max_ttl(policy.max_ttl);
            self.purge_all();
            self.metrics.cache_invalidations.with_label_values(&["reload"]).inc();
        }
    }

    /// Brings the gauges up to date.
    pub fn observe(&self) {
        self.store.observe();
    }

    /// Joins the fetch under way, or begins one.
    fn join_or_lead<S, F>(
        self: &Arc<Self>,
        key: Uuid,
        wishes: &Wishes,
        not_before: Option<Moment>,
        fetch: impl Fn(Option<Conditions>) -> F,
    ) -> Role<S, E>
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key)
            && not_before.is_none_or(|moment| flight.began >= moment)
        {
            return Role::Follower(Arc::clone(flight));
        }
        // A flight is taken off the list after its answer was stored: whoever finds neither is really the first.
        if let Found::Fresh(hit) = self.find(key, wishes, self.clock.now()) {
            return Role::Stored(hit);
        }
        if flights.len() >= self.max_flights {
            return Role::Alone;
        }
        let (give, own) = oneshot::channel();
        let began = self.store.invalidation().now();
        let (landing, share) = self.flights.begin(&mut flights, key, began);
        drop(flights);

        let cache = Arc::clone(self);
        // Read after the moment was: what is purged from now on is purged since the fetch began.
        let now = self.clock.now();
        let (basis, conditions) =
            self.store.get(key).and_then(|entry| entry.conditions(now).map(|asked| (entry, asked))).unzip();
        // In a box of its own: a task is moved several times before it runs.
        let fetch = Box::pin(fetch(conditions));
        // Awaited by whoever waits for the flight, and by the drain. It ends by itself: every fetch has a deadline.
        self.tasks.spawn(async move {
            let (outcome, shared) = cache.settle(key, began, true, basis, fetch).await;
            if matches!(shared, Shared::Released) {
                cache.unshared.insert(key, ());
            }
            // New callers must find what was stored before the flight is gone, and not wait for one that is over.
            drop(landing);
            share.send_replace(Some(shared));
            let _ = give.send(outcome);
        });
        Role::Leader(own)
    }

    /// Runs a fetch and stores what it brought if it may be stored. Returns what the caller who asked for it gets,
    /// and what those who waited get.
    ///
    /// That `basis` is unchanged is an answer like any other: Sezzle gave it after the fetch began, and so it is stored
    /// and handed on as the same body sent once more would be.
    async fn settle<S>(
        &self,
        key: Uuid,
        began: Moment,
        may_store: bool,
        basis: Option<Entry>,
        fetch: impl Future<Output = Fetched<S, E>>,
    ) -> (Outcome<S, E>, Shared<E>) {
        let (sent, stored) = (self.clock.now(), self.store.next(key));
        let fetched = fetch.await;
        let now = self.clock.now();
        let answer = match fetched {
            Fetched::Whole(answer) => answer,
            Fetched::Unchanged(headers) => match basis {
                Some(basis) => freshen(&basis.answer(), &headers),
                None => return (Outcome::Lost, Shared::Lost),
            },
            Fetched::Streaming(stream, status) => {
                self.count_skip(Skip::TooLarge);
                if status == StatusCode::OK {
                    self.store.outdate(stored);
                }
                return (Outcome::Streaming(stream), Shared::Released);
            }
            Fetched::Failed(error) => return (Outcome::Failed(error.clone()), Shared::Failed(error)),
        };
        let facts = SessionFacts::read(&answer.body);
        let tags: Option<Arc<[Tag]>> = facts.as_ref().map(|facts| Tag::of(key, facts).into());
        let elapsed = now.since(sent);
        let rules = self.rules.load();
        let decided = freshness::life(&rules.policy, key, answer.status, &answer.headers, facts.as_ref(), elapsed, now);
        let (answer, named) = (with_date(answer, now.wall), stored);
        let stored = match (decided, &tags) {
            (Ok(_), _) if !may_store => Err(Skip::Request),
            (Ok(life), Some(tags)) => self.store.insert(named, began, sent.mono, &answer, tags, life, now),
            (Ok(_), None) => Err(Skip::Unreadable),
            (Err(skip), _) => Err(skip),
        };
        if (decided.is_err() || !may_store) && is_verdict(&answer) {
            self.store.outdate(named);
        }
        match &stored {
            Ok(life) => self.metrics.cache_ttl.observe(life.ttl.as_secs_f64()),
            Err(skip) => self.count_skip(*skip),
        }
        let answer = Arc::new(answer);
        let shared = match stored {
            Err(skip) if skip.forbids_sharing() => Shared::Released,
            Ok(_) | Err(_) => Shared::Answer { answer: Arc::clone(&answer), tags, stored },
        };
        (Outcome::Answer(answer, stored), shared)
    }

    fn count_skip(&self, skip: Skip) {
        if skip == Skip::NoStore && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Sezzle marks sessions no-store, so they are not cached; cache.origin_cache_control = \"ignore\" would \
                 store them all the same (said once)"
            );
        }
        self.metrics.cache_store_skipped.with_label_values(&[skip.as_str()]).inc();
    }
}

/// Whether an answer says what has become of the session, and not only that this request failed: what was known before
/// is outdated then.
fn is_verdict(answer: &Answer) -> bool {
    answer.status == StatusCode::OK || is_gone(answer.status) && is_error(&answer.body)
}

/// Whether a status says that there is no such session, if Sezzle says it.
fn is_gone(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

// How long nobody waits for another caller's fetch of a session whose answer was for one caller only.
const UNSHARED_FOR: Duration = Duration::from_secs(5);
const MAX_UNSHARED: u64 = 10_000;

enum Role<S, E> {
    /// It was stored in the meantime.
    Stored(Hit),
    /// First to ask: a task fetches it, and this is where its answer comes.
    Leader(oneshot::Receiver<Outcome<S, E>>),
    /// Somebody else was first.
    Follower(Arc<Flight<E>>),
    /// There are too many flights already.
    Alone,
}

#[cfg(test)]
mod tests;
