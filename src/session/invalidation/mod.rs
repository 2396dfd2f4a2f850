//! Invalidation of the sessions that relate to a changed order or token.
//!
//! A stored session is indexed by its tags, which are read from its body. A purge of a tag removes the sessions stored
//! under it and is remembered. So a fetch that began before the purge is not stored, and is not handed to a caller that
//! arrived after it. For a while after a write Sezzle's own answers may be out of date: an answer fetched in that time
//! gets a short lifetime or is not stored at all. Only stores, purges and callers that joined a fetch take the lock; a
//! hit does not.

pub mod open;
mod tag;
pub mod tag_id;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

pub use self::tag::Tag;
use super::freshness::NotStored;
use crate::clock::Mono;

/// A point in the order of purges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurgeEpoch(u64);

/// Why a tag is purged. The cause decides how answers fetched after the purge are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A write begins, or a webhook or an operator reports a change. Answers fetched from now on are stored as usual.
    Changed,
    /// A write was answered: for [`SETTLING`], an answer lives for [`SETTLING_TTL`] at most.
    Answered,
    /// A write ended and may still take effect: no answer is stored for as long as an entry may live.
    Unknown,
}

/// How long after a write Sezzle's own answers may be out of date.
pub const SETTLING: Duration = Duration::from_secs(10);

/// Longest lifetime of an answer fetched within [`SETTLING`].
pub const SETTLING_TTL: Duration = Duration::from_secs(2);

/// A tag in the index, as a hash of this process to save memory: there may be a million sessions. If two tags have the
/// same hash, the sessions of both are purged together, which costs no more than a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalTagId(pub u64);

/// The history of purges, and the index of stored sessions by tag.
#[derive(Debug)]
pub struct Invalidation {
    ids: RandomState,
    latest: AtomicU64,
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The remembered purges of each tag.
    log: HashMap<Tag, PurgeMark>,
    /// Applies to every tag: the summary of the purges that the log had no room for.
    floor: PurgeMark,
    /// The longest lifetime of an entry.
    max_ttl: Duration,
    /// The bodies stored under each tag. Tags of sessions are not indexed, because they are the keys of the store.
    index: HashMap<LocalTagId, Related>,
}

/// The bodies that relate to a tag. Nearly always there is one.
#[derive(Debug)]
enum Related {
    One(FetchId),
    Many(Vec<FetchId>),
}

/// The remembered facts about the purges of one tag or of several.
///
/// Both times are on the monotonic clock alone, which never runs ahead of real time. The wall clock can be stepped
/// forward, which would end the waits too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PurgeMark {
    last: PurgeEpoch,
    /// Until this time an answer lives for [`SETTLING_TTL`] at most.
    settling: Mono,
    /// Until this time no answer is stored.
    unsettled: Mono,
}

/// One fetch: its session, and its number among all fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchId {
    /// The UUID of the session.
    pub key: Uuid,
    /// Unique in the process, and larger for a fetch that begins later.
    pub id: u64,
}

impl Invalidation {
    /// `capacity` is how many purged tags are remembered one by one, `max_ttl` the longest lifetime of an entry.
    pub fn new(capacity: usize, max_ttl: Duration) -> Self {
        let state = Mutex::new(State { max_ttl, ..State::default() });
        Self { ids: RandomState::new(), latest: AtomicU64::new(0), state, capacity }
    }

    pub fn set_max_ttl(&self, max_ttl: Duration) {
        self.lock().max_ttl = max_ttl;
    }

    /// The ids that a body with these tags is indexed under.
    pub fn indexed<'t>(&self, tags: &'t [Tag]) -> impl Iterator<Item = LocalTagId> + use<'_, 't> {
        let indexed = tags.iter().filter(|tag| !matches!(tag, Tag::Session(_)));
        indexed.map(|tag| LocalTagId(self.ids.hash_one(tag)))
    }

    /// The current epoch. A purge that ended before this call precedes it; one that begins after this call follows it.
    pub fn epoch(&self) -> PurgeEpoch {
        PurgeEpoch(self.latest.load(Ordering::SeqCst))
    }

    /// Whether a body whose fetch began at `began` may go to a caller that arrived at `arrived`.
    ///
    /// The body may, if no purge lies between the two moments or none of its tags was purged after `began`. Only the
    /// last purge of a tag is remembered, so a purge after the arrival refuses the body too. That costs one more fetch
    /// but never gives out an old body.
    ///
    /// Without tags the body's relations are unknown, so any purge may concern it.
    pub fn accepts(&self, tags: Option<&[Tag]>, began: PurgeEpoch, arrived: PurgeEpoch) -> bool {
        arrived <= began || tags.is_some_and(|tags| self.lock().mark(tags).last <= began)
    }

    /// Stores a body whose fetch began at `began` and was sent at `sent`. `insert` stores it: it receives the longest
    /// lifetime that the body may get, and may still refuse. A stored body is indexed.
    ///
    /// Fails when one of the tags was purged after `began`, a write to one of them is unsettled, or `insert` refuses.
    pub fn store<T>(
        &self,
        tags: &[Tag],
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
        for tag in self.indexed(tags) {
            match state.index.entry(tag) {
                Entry::Vacant(vacant) => _ = vacant.insert(Related::One(fetch_id)),
                Entry::Occupied(mut occupied) => occupied.get_mut().push(fetch_id),
            }
        }
        Ok(inserted)
    }

    /// Purges a tag. `remove` is called for each key stored under it.
    pub fn purge(&self, tag: &Tag, cause: Cause, now: Mono, mut remove: impl FnMut(Uuid)) {
        let mut state = self.lock();
        let epoch = self.next();
        if !tag.is_storable() {
            // No session is stored under such a tag, and the log must not grow with identifiers that a caller makes up.
            state.floor.last = epoch;
        } else {
            let mark = PurgeMark::of(epoch, cause, now, state.max_ttl);
            state.remember(tag, mark, now, self.capacity);
        }
        if let Tag::Session(key) = tag {
            remove(*key);
        }
        for tag in self.indexed(std::slice::from_ref(tag)) {
            for fetch_id in state.index.get(&tag).into_iter().flat_map(Related::all) {
                remove(fetch_id.key);
            }
        }
        // Published under the lock: a thread that sees the new epoch and then takes the lock also sees the log entry.
        self.latest.store(epoch.0, Ordering::SeqCst);
    }

    /// Purges every tag. `remove` must remove all stored sessions.
    pub fn purge_all(&self, remove: impl FnOnce()) {
        let mut state = self.lock();
        let epoch = self.next();
        state.floor.last = epoch;
        remove();
        self.latest.store(epoch.0, Ordering::SeqCst);
    }

    /// The epoch after the latest. Call this under the lock only.
    fn next(&self) -> PurgeEpoch {
        // Does not overflow: at one purge per nanosecond the numbers last for centuries.
        PurgeEpoch(self.latest.load(Ordering::SeqCst).saturating_add(1))
    }

    /// Removes a body from the index after it left the cache, for whatever cause.
    pub fn unindex(&self, tags: impl IntoIterator<Item = LocalTagId>, fetch_id: FetchId) {
        let mut state = self.lock();
        for tag in tags {
            if state.index.get_mut(&tag).is_some_and(|related| related.remove(fetch_id)) {
                state.index.remove(&tag);
            }
        }
    }

    // No code under the lock can leave the state half changed, so a panic elsewhere does not make the state unusable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Related {
    fn all(&self) -> &[FetchId] {
        match self {
            Self::One(fetch_id) => std::slice::from_ref(fetch_id),
            Self::Many(all) => all,
        }
    }

    fn push(&mut self, fetch_id: FetchId) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, fetch_id]),
            Self::Many(all) => all.push(fetch_id),
        }
    }

    /// Removes a body, and returns whether no other is left.
    fn remove(&mut self, fetch_id: FetchId) -> bool {
        match self {
            Self::One(only) => *only == fetch_id,
            Self::Many(all) => {
                all.retain(|other| *other != fetch_id);
                all.is_empty()
            }
        }
    }
}

impl State {
    /// The combined facts about all purges that concern any of these tags.
    fn mark(&self, tags: &[Tag]) -> PurgeMark {
        tags.iter().filter_map(|tag| self.log.get(tag)).fold(self.floor, |sum, mark| sum.and(mark))
    }

    fn remember(&mut self, tag: &Tag, mark: PurgeMark, now: Mono, capacity: usize) {
        if let Some(known) = self.log.get_mut(tag) {
            *known = known.and(&mark);
            return;
        }
        if self.log.len() >= capacity {
            self.make_room(mark.last, now, capacity);
        }
        self.log.insert(tag.clone(), mark);
    }

    /// Drops log entries of single tags. The facts that still matter move to the floor and apply to every tag from then
    /// on: a full log forgets nothing but gets more cautious.
    fn make_room(&mut self, epoch: PurgeEpoch, now: Mono, capacity: usize) {
        // This concerns only the fetches in progress: none of them will be stored.
        self.floor.last = epoch;
        self.log.retain(|_, mark| mark.settling > now || mark.unsettled > now);
        // With too little room gained, the next purge would have to search again.
        if self.log.len() > capacity / 2 {
            self.floor = self.log.drain().fold(self.floor, |sum, (_, mark)| sum.and(&mark));
        }
    }
}

impl PurgeMark {
    /// The facts about one purge.
    fn of(last: PurgeEpoch, cause: Cause, now: Mono, max_ttl: Duration) -> Self {
        let mark = Self { last, ..Self::default() };
        match cause {
            Cause::Changed => mark,
            Cause::Answered => Self { settling: now.plus(SETTLING), ..mark },
            Cause::Unknown => Self { settling: now.plus(SETTLING), unsettled: now.plus(max_ttl), ..mark },
        }
    }

    /// The facts about both, the later time of each.
    fn and(&self, other: &Self) -> Self {
        Self {
            last: self.last.max(other.last),
            settling: self.settling.max(other.settling),
            unsettled: self.unsettled.max(other.unsettled),
        }
    }
}

#[cfg(test)]
mod tests;
