//! The remembered purges, of each tag and of all. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use super::tag_id::TagId;
use crate::clock::Mono;

/// A point in the order of purges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurgeEpoch(pub(super) u64);

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

/// The history of purges.
#[derive(Debug)]
pub(super) struct History {
    /// The remembered purges of each tag.
    log: HashMap<TagId, PurgeMark>,
    /// The combined facts about purges of everything, and about purges without room in the log. They apply to every
    /// tag.
    floor: PurgeMark,
    /// How many purged tags are remembered one by one.
    capacity: usize,
}

/// The remembered facts about the purges of one tag or of several.
///
/// Both times are on the monotonic clock alone, which never runs ahead of real time. The wall clock can be stepped
/// forward, which would end the waits too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PurgeMark {
    pub(super) last: PurgeEpoch,
    /// Until this time an answer lives for [`SETTLING_TTL`] at most.
    pub(super) settling: Mono,
    /// Until this time no answer is stored.
    pub(super) unsettled: Mono,
}

impl History {
    pub(super) fn new(capacity: usize) -> Self {
        Self { log: HashMap::new(), floor: PurgeMark::default(), capacity }
    }

    /// The combined facts about all purges that concern any of these tags.
    pub(super) fn mark(&self, tags: &[TagId]) -> PurgeMark {
        tags.iter().filter_map(|tag| self.log.get(tag)).fold(self.floor, |sum, mark| sum.combine(mark))
    }

    /// Remembers a purge of one tag.
    pub(super) fn note(&mut self, tag: TagId, mark: PurgeMark, now: Mono) {
        let is_full = self.log.len() >= self.capacity;
        match self.log.entry(tag) {
            Entry::Occupied(mut known) => *known.get_mut() = known.get().combine(&mark),
            Entry::Vacant(room) if !is_full => {
                room.insert(mark);
            }
            Entry::Vacant(_) => {
                self.make_room(mark.last, now);
                self.log.insert(tag, mark);
            }
        }
    }

    /// Remembers that any session may have been purged: no fetch that is in progress is stored.
    pub(super) fn end_fetches(&mut self, epoch: PurgeEpoch) {
        self.floor.last = epoch;
    }

    /// Remembers a purge that concerns every tag.
    pub(super) fn note_all(&mut self, mark: PurgeMark) {
        self.floor = self.floor.combine(&mark);
    }

    /// Drops log entries of single tags. The facts that still matter move to the floor and apply to every tag from then
    /// on: a full log forgets nothing but gets more cautious.
    fn make_room(&mut self, epoch: PurgeEpoch, now: Mono) {
        self.end_fetches(epoch);
        self.log.retain(|_, mark| mark.settling > now || mark.unsettled > now);
        // With too little room gained, the next purge would have to search again.
        if self.log.len() > self.capacity / 2 {
            self.floor = self.log.drain().fold(self.floor, |sum, (_, mark)| sum.combine(&mark));
        }
    }

    /// How many purged tags are remembered one by one.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.log.len()
    }
}

impl PurgeMark {
    /// The facts about one purge. Its cause counts from `since`.
    pub(super) fn of(last: PurgeEpoch, cause: Cause, since: Mono, max_ttl: Duration) -> Self {
        let mark = Self { last, ..Self::default() };
        match cause {
            Cause::Changed => mark,
            Cause::Answered => Self { settling: since.plus(SETTLING), ..mark },
            Cause::Unknown => Self { settling: since.plus(SETTLING), unsettled: since.plus(max_ttl), ..mark },
        }
    }

    /// The facts about two purges together: of each time the later one.
    pub(super) fn combine(&self, other: &Self) -> Self {
        Self {
            last: self.last.max(other.last),
            settling: self.settling.max(other.settling),
            unsettled: self.unsettled.max(other.unsettled),
        }
    }
}
