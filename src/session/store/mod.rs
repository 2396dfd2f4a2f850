//! The store: a bounded map of sessions with an index by tag.

mod map;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use self::map::{Map, Removed};
use super::entry::{Entry, HeaderTemplate};
use super::fetch_id::FetchId;
use super::freshness::{Freshness, NotStored};
use super::invalidation::tag_id::{TagId, TagIds};
use super::invalidation::{Cause, Invalidation, PurgeEpoch, Tag};
use super::response::SessionResponse;
use crate::clock::{Clock, Mono, Now};
use crate::telemetry::metrics::{Metrics, gauge};

pub use self::map::Removal;

/// Stored sessions, bounded in bytes.
#[derive(Debug)]
pub(super) struct Store {
    entries: Map,
    pub(super) invalidation: Invalidation,
    next_id: AtomicU64,
    /// The template of the last entry, for the next one to share.
    template: Mutex<Arc<HeaderTemplate>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Store {
    pub(super) fn new(
        max_bytes: u64,
        max_ttl: Duration,
        fleet: Option<TagIds>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let purge_log = (max_bytes / PURGE_LOG_SHARE / PER_PURGE).min(PURGE_LOG);
        metrics.cache_limit.set(gauge(max_bytes));
        let invalidation = Invalidation::new(usize::try_from(purge_log).unwrap_or(usize::MAX), max_ttl, fleet);
        let (entries, next_id, template) = (Map::new(max_bytes), AtomicU64::new(0), Mutex::default());
        Self { entries, invalidation, next_id, template, clock, metrics }
    }

    /// The entry of a session, fresh or stale. Takes no lock of the invalidation.
    pub(super) fn get(&self, key: Uuid) -> Option<Entry> {
        self.entries.get(key)
    }

    /// Numbers a fetch that begins now.
    pub(super) fn next(&self, key: Uuid) -> FetchId {
        FetchId { key, id: self.next_id.fetch_add(1, Ordering::Relaxed) }
    }

    /// How many fetches were numbered.
    pub(super) fn numbered(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed)
    }

    /// Stores an answer whose fetch began at `began` and was sent at `sent`. Returns the freshness of the entry. Fails
    /// when one of the tags was purged after `began` or is unsettled, or a fetch that began later has already been
    /// stored.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own about one fetch")]
    pub(super) fn insert(
        &self,
        fetch_id: FetchId,
        began: PurgeEpoch,
        sent: Now,
        answer: &SessionResponse,
        tags: &[TagId],
        freshness: Freshness,
        now: Now,
    ) -> Result<Freshness, NotStored> {
        let mut removed = Vec::new();
        let result = self.invalidation.store(tags, began, sent.mono, fetch_id.key, |most| {
            if self.entries.get(fetch_id.key).is_some_and(|entry| entry.fetch_id().id > fetch_id.id) {
                return Err(NotStored::Superseded);
            }
            let freshness = freshness.at_most(most);
            let mut template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
            let tags = self.invalidation.indexed(tags);
            let entry =
                Entry::new(answer, fetch_id, tags, freshness, sent, now, &template).ok_or(NotStored::TooLarge)?;
            template.clone_from(entry.template());
            drop(template);
            let keep = entry.ttl(now).saturating_add(KEEP_STALE).max(entry.servable(now));
            removed = self.entries.insert(entry, keep, now.mono);
            Ok(freshness)
        });
        self.forget(removed);
        result
    }

    /// Removes the body of an earlier fetch than this one, because Sezzle has given a different answer since.
    pub(super) fn outdate(&self, fetch_id: FetchId) {
        self.forget(self.entries.remove(fetch_id.key, |entry| entry.fetch_id().id < fetch_id.id));
    }

    /// Purges the sessions that relate to a tag, and returns how many were stored.
    pub(super) fn purge(&self, tag: &Tag, cause: Cause, now: Mono) -> usize {
        self.removed(|remove| self.invalidation.purge(tag, cause, now, remove))
    }

    /// Purges all sessions, and returns how many were stored.
    pub(super) fn purge_all(&self) -> usize {
        let mut removed = Vec::new();
        self.invalidation.purge_all(|| removed = self.entries.remove_all());
        self.forget(removed)
    }

    pub(super) fn begin_elsewhere(&self, tag: TagId, write: u64, overdue: Mono, now: Mono) {
        self.removed(|remove| self.invalidation.begin_elsewhere(tag, write, overdue, now, remove));
    }

    pub(super) fn end_elsewhere(&self, tag: TagId, write: u64, cause: Option<(Cause, Mono)>) {
        self.removed(|remove| self.invalidation.end_elsewhere(tag, write, cause, remove));
    }

    pub(super) fn changed_elsewhere(&self, tag: TagId, now: Mono) {
        self.removed(|remove| self.invalidation.changed_elsewhere(tag, now, remove));
    }

    pub(super) fn all_changed_elsewhere(&self, doubt: Option<Mono>, now: Mono) {
        let mut removed = Vec::new();
        let all = || removed = self.entries.remove_all();
        self.invalidation.all_changed_elsewhere(Cause::Answered, doubt, now, all);
        self.forget(removed);
    }

    /// Runs a purge, and returns how many entries it removed.
    fn removed(&self, purge: impl FnOnce(&mut dyn FnMut(Uuid))) -> usize {
        let mut removed = Vec::new();
        purge(&mut |key| removed.extend(self.entries.remove(key, |_| true)));
        self.forget(removed)
    }

    /// Counts entries that left the map, and removes them from the index. Until then a purge looks for them in vain,
    /// which does no harm. Returns how many they are.
    fn forget(&self, removed: impl IntoIterator<Item = Removed>) -> usize {
        let each = removed.into_iter().map(|(entry, cause)| {
            self.metrics.cache_evictions.with_label_values(&[cause.as_str()]).inc();
            self.invalidation.unindex(entry.tags(), entry.fetch_id().key);
        });
        each.count()
    }

    pub(super) fn set_max_ttl(&self, max_ttl: Duration) {
        self.invalidation.set_max_ttl(max_ttl);
    }

    /// Updates the gauges, and frees the memory of entries that have been stale for a while. Every read decides for
    /// itself whether an entry is stale: a lookup should still find that one had been stored.
    pub(super) fn observe(&self) {
        self.forget(self.entries.sweep(self.clock.mono()));
        self.metrics.cache_entries.set(gauge(self.entries.len() as u64));
        self.metrics.cache_bytes.set(gauge(self.entries.weight()));
    }
}

// Purged tags that are remembered one by one: at most this number, and at most as many as fit in an eighth of the
// cache's bytes. Each takes 65 bytes, and as much again just after the table has grown. In a fleet as many open writes
// are remembered, of about 70 bytes. This memory is covered by the entries' weight, which is estimated too high:
// `benches/cache.rs` measures the total.
const PURGE_LOG: u64 = 10_000;
const PURGE_LOG_SHARE: u64 = 8;
const PER_PURGE: u64 = 300;

// How long a stale entry is kept so that a 304 can renew it.
const KEEP_STALE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
