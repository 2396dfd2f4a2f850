//! Invalidation of the sessions that relate to a changed order or token.
//!
//! A stored session is indexed by its tags, which are read from its body. A purge of a tag removes the sessions stored
//! under it and is remembered. So a fetch that began before the purge is not stored, and is not handed to a caller that
//! arrived after it. For a while after a write Sezzle's own answers may be out of date: an answer fetched in that time
//! gets a short lifetime or is not stored at all. Only stores, purges and callers that joined a fetch take the lock; a
//! hit does not.
//!
//! In a fleet, purges also come from other sidecars, with the ids of their tags. While a write of another sidecar is
//! open, nothing that relates to it is stored or handed on.

mod history;
mod index;
pub mod open;
mod tag;
pub mod tag_id;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use self::history::{History, PurgeMark};
use self::index::Index;
use self::open::OpenWrites;
use self::tag_id::{TagId, TagIds, TagPrefix};
use super::freshness::NotStored;
use crate::clock::Mono;
use crate::sezzle::session::SessionFacts;

pub use self::history::{Cause, PurgeEpoch, SETTLING, SETTLING_TTL};
pub use self::index::FetchId;
pub use self::tag::Tag;

/// The history of purges, and the index of stored sessions by tag.
#[derive(Debug)]
pub struct Invalidation {
    ids: TagIds,
    /// Whether other sidecars tell of purges.
    in_fleet: bool,
    latest: AtomicU64,
    state: Mutex<State>,
    /// How many purged tags, and how many open writes, are remembered one by one.
    capacity: usize,
}

#[derive(Debug)]
struct State {
    history: History,
    /// The writes of other sidecars that are under way.
    open: OpenWrites,
    index: Index,
    /// The longest lifetime of an entry.
    max_ttl: Duration,
}

/// Why a caller may not have the answer of a fetch that another caller began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The session may have been purged since the fetch began.
    Purged,
    /// Another sidecar writes to the session: the answer of no fetch may be handed on until that write ends.
    Open,
}

impl Invalidation {
    /// `capacity` is how many purged tags are remembered one by one, `max_ttl` the longest lifetime of an entry. In a
    /// fleet, all sidecars compute the ids of tags alike.
    pub fn new(capacity: usize, max_ttl: Duration, fleet: Option<TagIds>) -> Self {
        let (history, open, index) = (History::new(capacity), OpenWrites::default(), Index::default());
        Self {
            in_fleet: fleet.is_some(),
            ids: fleet.unwrap_or_else(TagIds::alone),
            latest: AtomicU64::new(0),
            state: Mutex::new(State { history, open, index, max_ttl }),
            capacity,
        }
    }

    pub fn set_max_ttl(&self, max_ttl: Duration) {
        self.lock().max_ttl = max_ttl;
    }

    /// The ids of every tag of a session's body, first that of the session itself.
    pub fn tags(&self, asked: Uuid, facts: &SessionFacts) -> Arc<[TagId]> {
        Tag::of(asked, facts).iter().map(|tag| self.ids.id(tag)).collect()
    }

    /// The tags under which a body with these tags is indexed. In a fleet these are all. A sidecar by itself only ever
    /// purges a session whose key it knows, and saves the memory for the session's own tag, which is the first.
    pub fn indexed(&self, tags: &[TagId]) -> impl Iterator<Item = TagPrefix> {
        tags.iter().skip(usize::from(!self.in_fleet)).map(|tag| tag.prefix())
    }

    /// The current epoch. A purge that ended before this call precedes it; one that begins after this call follows it.
    pub fn epoch(&self) -> PurgeEpoch {
        PurgeEpoch(self.latest.load(Ordering::SeqCst))
    }

    /// Whether a body whose fetch began at `began` may go to a caller that arrived at `arrived` and began no fetch.
    ///
    /// The body may, if no purge lies between the two moments or none of its tags was purged after `began`. Only the
    /// last purge of a tag is remembered, so a purge after the arrival refuses the body too. That costs one more fetch
    /// but never gives out an old body.
    ///
    /// Without tags the body's relations are unknown, so any purge and any open write may concern it.
    pub fn accepts(
        &self,
        tags: Option<&[TagId]>,
        began: PurgeEpoch,
        arrived: PurgeEpoch,
        now: Mono,
    ) -> Result<(), Refused> {
        let state = self.lock();
        let overdue = tags.map_or_else(|| state.open.last_overdue(), |tags| state.open.overdue(tags));
        if overdue.is_some_and(|overdue| now < overdue) {
            return Err(Refused::Open);
        }
        // In a fleet, the end of a write can reach this sidecar after its caller has the answer. So a purge after the
        // arrival counts too.
        let in_order = arrived <= began && !self.in_fleet;
        let last = tags.map_or_else(|| self.epoch(), |tags| state.history.mark(tags).last);
        if in_order || last <= began { Ok(()) } else { Err(Refused::Purged) }
    }

    /// Stores a body whose fetch began at `began` and was sent at `sent`. `insert` stores it: it receives the longest
    /// lifetime that the body may get, and may still refuse. A stored body is indexed.
    ///
    /// Fails when one of the tags was purged after `began`, a write to one of them is unsettled or under way at another
    /// sidecar, or `insert` refuses.
    pub fn insert_unless_purged<T>(
        &self,
        tags: &[TagId],
        began: PurgeEpoch,
        sent: Mono,
        fetch_id: FetchId,
        insert: impl FnOnce(Duration) -> Result<T, NotStored>,
    ) -> Result<T, NotStored> {
        let mut state = self.lock();
        let mark = state.mark(tags);
        if mark.last > began {
            return Err(NotStored::Purged);
        }
        if sent < mark.unsettled {
            return Err(NotStored::Unsettled);
        }
        let inserted = insert(if sent < mark.settling { SETTLING_TTL } else { Duration::MAX })?;
        state.index.add(self.indexed(tags), fetch_id);
        Ok(inserted)
    }

    /// Purges a tag. `remove` is called for each key stored under it.
    pub fn purge(&self, tag: &Tag, cause: Cause, now: Mono, mut remove: impl FnMut(Uuid)) {
        let id = self.ids.id(tag);
        self.change(|state, epoch| {
            if !tag.is_storable() {
                // The log must not grow with identifiers that a caller makes up.
                return state.history.end_fetches(epoch);
            }
            if let Tag::Session(key) = tag {
                remove(*key);
            }
            state.purge(id, epoch, (cause, now), remove);
        });
    }

    /// Purges every tag. From the end of `hide` on, no lookup may find a session that was stored before.
    pub fn purge_all(&self, hide: impl FnOnce()) {
        self.change(|state, epoch| {
            state.history.end_fetches(epoch);
            hide();
        });
    }

    /// Purges a tag to which another sidecar writes, and opens the write. At `overdue` its outcome becomes unknown.
    pub fn begin_elsewhere(&self, tag: TagId, write: u64, overdue: Mono, now: Mono, remove: impl FnMut(Uuid)) {
        self.change(|state, epoch| {
            state.open.open(tag, write, overdue, self.capacity);
            state.purge(tag, epoch, (Cause::Changed, now), remove);
        });
    }

    /// Closes a write of another sidecar. Purges its tag if there is a cause, which counts from the given time.
    pub fn end_elsewhere(&self, tag: TagId, write: u64, cause: Option<(Cause, Mono)>, remove: impl FnMut(Uuid)) {
        let Some(cause) = cause else { return self.lock().open.close(tag, write) };
        self.change(|state, epoch| {
            state.open.close(tag, write);
            state.purge(tag, epoch, cause, remove);
        });
    }

    /// Purges a tag after another sidecar learnt of a change.
    pub fn changed_elsewhere(&self, tag: TagId, now: Mono, remove: impl FnMut(Uuid)) {
        self.change(|state, epoch| state.purge(tag, epoch, (Cause::Changed, now), remove));
    }

    /// Purges every tag. No answer to a request that is sent before `doubt` is stored. `hide` hides all stored sessions
    /// as for [`Self::purge_all`], or none if only answers still to come are in doubt.
    pub fn all_changed_elsewhere(&self, cause: Cause, doubt: Option<Mono>, now: Mono, hide: impl FnOnce()) {
        self.change(|state, epoch| {
            let mark = PurgeMark::of(epoch, cause, now, state.max_ttl);
            state.history.note_all(PurgeMark { unsettled: mark.unsettled.max(doubt.unwrap_or_default()), ..mark });
            hide();
        });
    }

    /// Forgets the writes of other sidecars whose outcome has been unknown for so long that it does not matter.
    pub fn forget_overdue(&self, now: Mono) {
        let state = self.lock();
        let before = now.minus(state.max_ttl.max(SETTLING));
        let first = state.open.first_overdue();
        drop(state);
        if first.is_some_and(|first| first < before) {
            self.change(|state, epoch| {
                state.open.forget(before);
                // A fetch in progress may have been sent while such a write still mattered.
                state.history.end_fetches(epoch);
            });
        }
    }

    /// Makes a change under the lock and gives it the next epoch, so that all changes have one order.
    fn change(&self, change: impl FnOnce(&mut State, PurgeEpoch)) {
        let mut state = self.lock();
        // Does not overflow: at one purge per nanosecond the numbers last for centuries.
        let epoch = PurgeEpoch(self.latest.load(Ordering::SeqCst).saturating_add(1));
        change(&mut state, epoch);
        // Published under the lock: a thread that sees the new epoch and then takes the lock also sees the log entry.
        self.latest.store(epoch.0, Ordering::SeqCst);
    }

    /// Removes bodies from the index after they left the cache, for whatever cause. `bodies` yields the tags and the fetch
    /// of each.
    pub fn unindex<T: IntoIterator<Item = TagPrefix>>(&self, bodies: impl ExactSizeIterator<Item = (T, FetchId)>) {
        if bodies.len() == 0 {
            return;
        }
        let mut state = self.lock();
        for (tags, fetch_id) in bodies {
            tags.into_iter().for_each(|tag| state.index.remove(tag, fetch_id));
        }
    }

    // No code under the lock can leave the state half changed, so a panic elsewhere does not make the state unusable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The combined facts about all purges and open writes that concern any of these tags.
    fn mark(&self, tags: &[TagId]) -> PurgeMark {
        let purged = self.history.mark(tags);
        // Until the write ends, Sezzle may show the state before or after it. An overdue write has an unknown outcome.
        let open = |overdue| PurgeMark::of(PurgeEpoch::default(), Cause::Unknown, overdue, self.max_ttl);
        self.open.overdue(tags).map_or(purged, |overdue| purged.combine(&open(overdue)))
    }

    /// Purges a tag for a cause that counts from the given time.
    fn purge(&mut self, tag: TagId, epoch: PurgeEpoch, cause: (Cause, Mono), remove: impl FnMut(Uuid)) {
        let (cause, since) = cause;
        self.history.note(tag, PurgeMark::of(epoch, cause, since, self.max_ttl), since);
        self.index.sessions(tag.prefix()).for_each(remove);
    }
}

/// For models that keep the open writes and nothing else.
#[cfg(test)]
impl Invalidation {
    pub fn open(&self) -> OpenWrites {
        self.lock().open.clone()
    }

    pub fn set_open(&self, open: OpenWrites) {
        self.lock().open = open;
    }
}

#[cfg(test)]
mod tests;
