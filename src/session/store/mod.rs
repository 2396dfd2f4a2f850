//! The store: a bounded map of sessions with an index by tag.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::task::yield_now;
use uuid::Uuid;

use super::entry::{Entry, HeaderTemplate};
use super::freshness::{Freshness, NotStored};
use super::invalidation::tag_id::TagId;
use super::invalidation::{Cause, FetchId, Invalidation, PurgeEpoch, Tag};
use super::response::SessionResponse;
use crate::clock::{Clock, Mono, Now};
use crate::telemetry::metrics::{Metrics, gauge};

/// The beginning of a fetch, in three orders: of all fetches, of purges, and of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchStart {
    pub(super) id: FetchId,
    /// The epoch of purges when the fetch began.
    pub(super) epoch: PurgeEpoch,
    /// When the fetch was sent.
    pub(super) sent: Now,
}

/// How many purged tags a store of this size remembers one by one.
pub(super) fn remembered_purges(max_bytes: u64) -> usize {
    usize::try_from((max_bytes / PURGE_LOG_SHARE / PER_PURGE).min(PURGE_LOG)).unwrap_or(usize::MAX)
}

/// Stored sessions, bounded in bytes.
#[derive(Debug)]
pub(super) struct Store {
    entries: Cache<Uuid, Entry>,
    evicted: Evicted,
    invalidation: Arc<Invalidation>,
    next_id: AtomicU64,
    /// No lookup finds an entry of a fetch whose number is below this one: everything was purged after those fetches
    /// had begun. So a purge of everything takes effect at once, however long it takes to remove the entries.
    hidden: AtomicU64,
    /// The template of the last entry, for the next one to share.
    template: Mutex<Arc<HeaderTemplate>>,
    metrics: Arc<Metrics>,
}

impl Store {
    pub(super) fn new(max_bytes: u64, invalidation: Arc<Invalidation>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let evicted = Evicted::default();
        let listener = (evicted.clone(), Arc::clone(&metrics));
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            // A checkout asks for its session a few times within minutes and never again. The default policy admits a
            // session to a full cache only when it was asked for more often than others, and so answers hardly any.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, entry: &Entry| entry.weight())
            .expire_after(EvictStale(clock))
            .eviction_listener(move |key, entry, cause| {
                let (evicted, metrics) = &listener;
                metrics.cache_evictions.with_label_values(&[cause_label(cause)]).inc();
                evicted.push((key, entry));
            })
            .build();
        metrics.cache_limit.set(gauge(max_bytes));
        let (next_id, hidden) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { entries, evicted, invalidation, next_id, hidden, template: Mutex::default(), metrics }
    }

    /// The entry of a session, fresh or stale. Takes none of our locks.
    pub(super) fn get(&self, key: Uuid) -> Option<Entry> {
        self.entries.get(&key).filter(|entry| !self.is_hidden(entry.fetch()))
    }

    /// Numbers a fetch that begins now.
    pub(super) fn begin_fetch(&self, key: Uuid) -> FetchId {
        FetchId { key, id: self.next_id.fetch_add(1, Ordering::Relaxed) }
    }

    /// How many fetches have begun.
    pub(super) fn fetches(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed)
    }

    /// Stores an answer. Returns the freshness of the entry. Fails when one of the tags was purged after the fetch began
    /// or is unsettled, or a fetch that began later has already been stored.
    pub(super) fn insert(
        &self,
        start: FetchStart,
        answer: &SessionResponse,
        tags: &[TagId],
        freshness: Freshness,
        now: Now,
    ) -> Result<Freshness, NotStored> {
        let FetchStart { id: fetch_id, epoch, sent } = start;
        let result = self.invalidation.insert_unless_purged(tags, epoch, sent.mono, fetch_id, |most| {
            // An answer that was taken from the fleet may know of a purge that came after its fetch was numbered.
            if self.is_hidden(fetch_id.id) {
                return Err(NotStored::Purged);
            }
            if self.entries.get(&fetch_id.key).is_some_and(|entry| entry.fetch() > fetch_id.id) {
                return Err(NotStored::Superseded);
            }
            let freshness = freshness.at_most(most);
            let mut template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
            let tags = self.invalidation.indexed(tags);
            let entry =
                Entry::new(answer, fetch_id.id, tags, freshness, sent, now, &template).ok_or(NotStored::TooLarge)?;
            template.clone_from(entry.template());
            drop(template);
            self.entries.insert(fetch_id.key, entry);
            Ok(freshness)
        });
        // A worker must not wait long here: a purge of everything takes its own entries from the index.
        self.unindex_some_evicted();
        result
    }

    /// Removes the body of an earlier fetch than this one, because Sezzle has given a different answer since.
    pub(super) fn outdate(&self, fetch_id: FetchId) {
        // A newer body may be stored between these two lines. Removing that one too costs one more fetch.
        if self.get(fetch_id.key).is_some_and(|entry| entry.fetch() < fetch_id.id) {
            self.entries.invalidate(&fetch_id.key);
        }
    }

    /// Purges the sessions that relate to a tag, and returns how many were stored.
    pub(super) fn purge(&self, tag: &Tag, cause: Cause, now: Mono) -> usize {
        self.run_purge(|remove| self.invalidation.purge(tag, cause, now, remove))
    }

    /// Hides all entries: no lookup finds them from now on. Call this under the lock of all purges.
    ///
    /// A worker that stores an answer waits for that lock, so [`Self::remove_all_hidden`] removes the entries later. A
    /// session that is stored anew in that time may be removed with them, which costs one more fetch.
    pub(super) fn hide_all(&self) {
        // Each entry in the map was inserted under the same lock, by a fetch that has its number already.
        self.hidden.store(self.fetches(), Ordering::SeqCst);
    }

    /// Removes all hidden entries, and returns how many there were. Lets other tasks of its thread run meanwhile.
    pub(super) async fn remove_all_hidden(&self) -> usize {
        let (mut entries, mut removed) = (self.entries.iter(), 0_usize);
        loop {
            let some: Vec<_> = entries.by_ref().take(FEW).collect();
            let is_last = some.len() < FEW;
            removed = removed.saturating_add(self.remove_hidden(some));
            if is_last {
                return removed;
            }
            yield_now().await;
        }
    }

    /// Removes the hidden ones of these entries, and returns how many there were.
    fn remove_hidden(&self, entries: impl IntoIterator<Item = Keyed>) -> usize {
        let hidden = entries.into_iter().filter(|(_, entry)| self.is_hidden(entry.fetch()));
        let removed = hidden.filter(|(key, _)| self.entries.remove(&**key).is_some()).count();
        self.unindex_evicted();
        removed
    }

    /// Runs a purge, which passes the key of each session that it removes. Returns how many were stored.
    pub(super) fn run_purge(&self, purge: impl FnOnce(&mut dyn FnMut(Uuid))) -> usize {
        let mut removed: usize = 0;
        purge(&mut |key| {
            let found = self.entries.remove(&key).is_some_and(|entry| !self.is_hidden(entry.fetch()));
            removed = removed.saturating_add(usize::from(found));
        });
        self.unindex_evicted();
        removed
    }

    /// Whether everything was purged after this fetch had begun.
    fn is_hidden(&self, fetch: u64) -> bool {
        fetch < self.hidden.load(Ordering::SeqCst)
    }

    /// Updates the gauges, and lets the map do its postponed work.
    pub(super) fn observe(&self) {
        self.entries.run_pending_tasks();
        self.unindex_evicted();
        self.metrics.cache_entries.set(gauge(self.entries.entry_count()));
        self.metrics.cache_bytes.set(gauge(self.entries.weighted_size()));
    }

    fn unindex_evicted(&self) {
        while self.unindex_some_evicted() {}
    }

    /// Removes from the index up to [`FEW`] entries that have left the store. Returns whether there were any.
    fn unindex_some_evicted(&self) -> bool {
        let evicted = self.evicted.take(FEW);
        let fetch_id = |key: &Uuid, entry: &Entry| FetchId { key: *key, id: entry.fetch() };
        self.invalidation.unindex(evicted.iter().map(|(key, entry)| (entry.tags(), fetch_id(key, entry))));
        !evicted.is_empty()
    }
}

// How many entries are taken from the index under one lock. A worker that waits for the lock serves nobody meanwhile.
const FEW: usize = 64;

// Purged tags that are remembered one by one: at most this number, and at most as many as fit in an eighth of the
// cache's bytes. Each takes 65 bytes, and as much again just after the table has grown. In a fleet as many open writes
// are remembered, of about 70 bytes. This memory is covered by the entries' weight, which is estimated too high:
// `benches/cache.rs` measures the total.
const PURGE_LOG: u64 = 10_000;
const PURGE_LOG_SHARE: u64 = 8;
const PER_PURGE: u64 = 300;

/// Entries that left the store and are still in the index. The map reports an eviction while a lock of the index may be
/// held, so the entry is put aside. Every purge and scrape clears the list, and every store takes some entries from it.
/// The list never holds more entries than were stored.
#[derive(Clone, Debug, Default)]
struct Evicted(Arc<Mutex<Vec<Keyed>>>);

/// An entry with its key.
type Keyed = (Arc<Uuid>, Entry);

impl Evicted {
    fn push(&self, evicted: Keyed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(evicted);
    }

    fn take(&self, most: usize) -> Vec<Keyed> {
        let mut evicted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = evicted.len().saturating_sub(most);
        let taken = evicted.drain(left..).collect();
        if left == 0 {
            evicted.shrink_to(FEW);
        }
        taken
    }
}

/// Frees the memory of entries that have been stale for a while. Every read decides for itself whether an entry is
/// stale: a lookup should still find that one had been stored.
struct EvictStale(Clock);

impl Expiry<Uuid, Entry> for EvictStale {
    fn expire_after_create(&self, _: &Uuid, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(self.keep(entry))
    }

    // Without this an overwrite would keep the deadline of the old entry.
    fn expire_after_update(&self, _: &Uuid, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(self.keep(entry))
    }
}

impl EvictStale {
    fn keep(&self, entry: &Entry) -> Duration {
        let now = self.0.now();
        entry.ttl(now).saturating_add(KEEP_STALE).max(entry.servable(now))
    }
}

// How long a stale entry is kept so that a 304 can renew it.
const KEEP_STALE: Duration = Duration::from_secs(60);

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
