//! What is stored: a bounded map of sessions with the index of what they relate to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use uuid::Uuid;

use super::entry::{Answer, Entry, OwnHeaders, Shape};
use super::freshness::{Life, Skip};
use super::invalidation::{Cause, Invalidation, Moment, Stored, Tag};
use crate::clock::{Clock, Mono, Now};
use crate::telemetry::metrics::{Metrics, gauge};

/// Stored sessions, bounded in bytes.
#[derive(Debug)]
pub(super) struct Store {
    entries: Cache<Uuid, Entry>,
    departed: Departed,
    invalidation: Invalidation,
    next_id: AtomicU64,
    /// The shape of the last entry.
    shape: Mutex<Arc<Shape>>,
    metrics: Arc<Metrics>,
}

impl Store {
    pub(super) fn new(max_bytes: u64, max_ttl: Duration, own: OwnHeaders, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let departed = Departed::default();
        let listener = (departed.clone(), Arc::clone(&metrics));
        let purge_log = (max_bytes / PURGE_LOG_SHARE / PER_PURGE).min(PURGE_LOG);
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, entry: &Entry| entry.weight())
            .expire_after(FreeWhenDead(clock))
            .eviction_listener(move |_, entry, cause| {
                let (departed, metrics) = &listener;
                metrics.cache_evictions.with_label_values(&[cause_label(cause)]).inc();
                departed.push(entry);
            })
            .build();
        metrics.cache_limit.set(gauge(max_bytes));
        let invalidation = Invalidation::new(usize::try_from(purge_log).unwrap_or(usize::MAX), max_ttl);
        Self {
            entries,
            departed,
            invalidation,
            next_id: AtomicU64::new(0),
            shape: Mutex::new(Arc::new(Shape::new(own))),
            metrics,
        }
    }

    /// What is stored under a key, dead or alive. Takes no lock of ours.
    pub(super) fn get(&self, key: Uuid) -> Option<Entry> {
        self.entries.get(&key)
    }

    /// Names the body that a fetch which begins now may bring.
    pub(super) fn next(&self, key: Uuid) -> Stored {
        Stored { key, id: self.next_id.fetch_add(1, Ordering::Relaxed) }
    }

    /// Stores an answer whose fetch began at `began`, which was `sent` by the clock, and returns the life it got.
    ///
    /// # Errors
    /// When something it relates to was purged since or is unsettled, or a fetch that began later was stored before.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own about one fetch")]
    pub(super) fn insert(
        &self,
        stored: Stored,
        began: Moment,
        sent: Mono,
        answer: &Answer,
        tags: &[Tag],
        life: Life,
        now: Now,
    ) -> Result<Life, Skip> {
        let result = self.invalidation.store(tags, began, sent, stored, |most| {
            if self.entries.get(&stored.key).is_some_and(|entry| entry.stored().id > stored.id) {
                return Err(Skip::Superseded);
            }
            let life = life.at_most(most);
            let mut shape = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
            let tags = self.invalidation.indexed(tags);
            let entry = Entry::new(answer, stored, tags, life, now, &shape).ok_or(Skip::TooLarge)?;
            shape.clone_from(entry.shape());
            drop(shape);
            self.entries.insert(stored.key, entry);
            Ok(life)
        });
        self.clear_departed();
        result
    }

    /// Forgets what was stored before the body that a fetch of this name brought: Sezzle has said something else since.
    pub(super) fn outdate(&self, stored: Stored) {
        // Something newer may come between the two lines. To forget that, too, costs a fetch and no more.
        if self.get(stored.key).is_some_and(|entry| entry.stored().id < stored.id) {
            self.entries.invalidate(&stored.key);
        }
    }

    /// Purges everything that relates to a tag.
    pub(super) fn purge(&self, tag: &Tag, cause: Cause, now: Mono) -> usize {
        self.removed(|remove| self.invalidation.purge(tag, cause, now, remove))
    }

    /// Purges everything.
    pub(super) fn purge_all(&self) -> usize {
        self.removed(|remove| {
            self.invalidation.purge_all(|| self.entries.iter().for_each(|(key, _)| remove(*key)));
        })
    }

    /// How many entries a purge removed.
    fn removed(&self, purge: impl FnOnce(&mut dyn FnMut(Uuid))) -> usize {
        let mut removed: usize = 0;
        purge(&mut |key| removed = removed.saturating_add(self.entries.remove(&key).map_or(0, |_| 1)));
        self.clear_departed();
        removed
    }

    /// Entries live for this long at most from now on.
    pub(super) fn set_max_ttl(&self, max_ttl: Duration) {
        self.invalidation.set_max_ttl(max_ttl);
    }

    /// The order of purges.
    pub(super) fn invalidation(&self) -> &Invalidation {
        &self.invalidation
    }

    /// Brings the gauges up to date, and lets the map do what it puts off.
    pub(super) fn observe(&self) {
        self.entries.run_pending_tasks();
        self.clear_departed();
        self.metrics.cache_entries.set(gauge(self.entries.entry_count()));
        self.metrics.cache_bytes.set(gauge(self.entries.weighted_size()));
    }

    fn clear_departed(&self) {
        for entry in self.departed.take() {
            self.invalidation.forget(entry.tags(), entry.stored());
        }
    }
}

// Purged tags remembered one by one: no more of them than these, and than take an eighth of what the cache may have. Each
// takes about 170 bytes, and its table as much again when it has just grown. They come out of what entries are taken to
// weigh more than they do: `benches/cache.rs` measures all of it together.
const PURGE_LOG: u64 = 10_000;
const PURGE_LOG_SHARE: u64 = 8;
const PER_PURGE: u64 = 300;

/// Entries that left the store and are still in the index. The map reports them while a lock of the index may be
/// held, so they are put aside; every store, purge and scrape clears them, and there are never more than were stored.
#[derive(Clone, Debug, Default)]
struct Departed(Arc<Mutex<Vec<Entry>>>);

impl Departed {
    fn push(&self, entry: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Frees the memory of entries that have been dead for a while. Whether one is dead is decided at every read, not here:
/// a lookup should still find that something had been stored.
struct FreeWhenDead(Clock);

impl Expiry<Uuid, Entry> for FreeWhenDead {
    fn expire_after_create(&self, _: &Uuid, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(self.keep(entry))
    }

    // Without this an overwrite would keep the deadline of what it overwrote.
    fn expire_after_update(&self, _: &Uuid, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(self.keep(entry))
    }
}

impl FreeWhenDead {
    fn keep(&self, entry: &Entry) -> Duration {
        let now = self.0.now();
        entry.ttl(now).saturating_add(KEEP_DEAD).max(entry.useful(now))
    }
}

// So long it can be revived by a 304.
const KEEP_DEAD: Duration = Duration::from_secs(60);

fn cause_label(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Expired => "expired",
        RemovalCause::Explicit => "explicit",
        RemovalCause::Replaced => "replaced",
        RemovalCause::Size => "size",
    }
}

#[cfg(test)]
mod tests;
