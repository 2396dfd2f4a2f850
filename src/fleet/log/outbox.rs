//! The publications of this pod, and which of them have provably arrived. Pure.
//!
//! No publication is lost silently. A publication that is not acknowledged is published again, or is folded into one
//! purge of everything, or is given up and counted once no entry of another pod can be as old.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use super::records::{Arrived, Keep, Publication};
use super::records::{Delivery, End, Purge, Write, arrived, doubt, remembered};
use crate::clock::Mono;
use crate::fleet::entry::{Entry, Position, WriteId};
use crate::session::ending::Ending;
use crate::session::invalidation::tag_id::TagId;

/// The publications of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox {
    pub(super) writes: BTreeMap<WriteId, Write>,
    /// The last purge of each tag.
    purges: BTreeMap<TagId, Purge>,
    /// The last purge of everything.
    all: Option<Purge>,
    /// The publications to be sent, in this order. An element is skipped if its publication is no longer queued.
    pub(super) queue: VecDeque<Publication>,
    /// The numbers of this pod's writes and purges: from the first until before the next.
    first: WriteId,
    next: WriteId,
}

impl Outbox {
    /// An empty outbox. `first` is random: the numbers of two pods must not meet.
    pub fn new(first: WriteId) -> Self {
        let (writes, purges, queue) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { writes, purges, all: None, queue, first, next: first }
    }

    /// Begins a write that ends within `longest`.
    pub fn begin(&mut self, tag: TagId, longest: Duration, keep: &Keep, now: Mono) -> WriteId {
        let id = self.number();
        // Without room for the write, only its end is published.
        if self.make_room(keep, now) {
            self.writes.insert(id, Write { begin: Some(Delivery::Queued), ..Write::new(tag, longest) });
            self.push(Publication::Begin(id));
        }
        id
    }

    /// Ends a write. Nothing is published for a write of which no part was sent and whose beginning no pod can have
    /// seen.
    pub fn end(&mut self, id: WriteId, tag: TagId, kind: Ending, keep: &Keep, now: Mono) {
        let is_out = self.writes.get(&id).is_some_and(|write| write.is_out);
        if kind == Ending::NotSent && !is_out {
            self.writes.remove(&id);
            return;
        }
        if !self.writes.contains_key(&id) && !self.make_room(keep, now) {
            self.purge_all(doubt(kind, keep), now);
            return;
        }
        let write = self.writes.entry(id).or_insert(Write::new(tag, Duration::ZERO));
        write.end = Some(End { kind, at: now, delivery: Delivery::Queued });
        // An end says all that a beginning says.
        write.begin = write.begin.filter(|begin| *begin != Delivery::Queued);
        self.push(Publication::End(id));
    }

    /// Publishes a purge of a tag.
    pub fn purge(&mut self, tag: TagId, keep: &Keep, now: Mono) {
        // An earlier purge of the tag that has not been sent yet serves for both.
        if self.purges.get(&tag).is_some_and(|purge| purge.delivery == Delivery::Queued) {
            return;
        }
        if !self.make_room(keep, now) {
            self.purge_all(Duration::ZERO, now);
            return;
        }
        let purge = Purge::new(self.number(), Duration::ZERO, now);
        self.purges.insert(tag, purge);
        self.push(Publication::Purge(tag));
    }

    /// Purges everything. Nothing that is fetched within `doubt` is to be stored.
    pub fn purge_all(&mut self, doubt: Duration, now: Mono) {
        let unread = self.all.as_ref().filter(|all| all.delivery != Delivery::Acked);
        let doubt = unread.map_or(doubt, |all| all.doubt.max(doubt));
        self.all = Some(Purge::new(self.number(), doubt, now));
        self.push(Publication::All);
    }

    /// Takes at most `most` publications to be sent now, each with its entry.
    pub fn take(&mut self, most: usize) -> Vec<(Publication, Entry)> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(publication) = self.queue.pop_front() else { break };
            let Some(delivery) = self.delivery(publication).filter(|delivery| **delivery == Delivery::Queued) else {
                continue;
            };
            *delivery = Delivery::Flying;
            if let Publication::Begin(id) = publication
                && let Some(write) = self.writes.get_mut(&id)
            {
                write.is_out = true;
            }
            taken.extend(self.entry(publication).map(|entry| (publication, entry)));
        }
        taken
    }

    /// Notes the position that the server named for a publication.
    pub fn landed(&mut self, publication: Publication, entry: &Entry, at: Position) {
        // A purge of the same tag may have replaced the one that was sent.
        let is_same = self.entry(publication).as_ref() == Some(entry);
        if let Some(delivery) = self.delivery(publication).filter(|delivery| is_same && **delivery == Delivery::Flying)
        {
            *delivery = Delivery::Landed(at);
        }
    }

    /// Publishes a publication again that the server accepted, but that was not found in the log.
    pub fn missed(&mut self, publication: Publication) {
        if let Some(delivery) = self.delivery(publication).filter(|delivery| matches!(delivery, Delivery::Landed(_))) {
            *delivery = Delivery::Queued;
            self.push(publication);
        }
    }

    /// Whether an entry is one of this pod's own.
    pub fn is_own(&self, entry: &Entry) -> bool {
        // The difference, because the numbers may wrap around.
        let issued = self.next.0.wrapping_sub(self.first.0);
        entry.write().is_some_and(|WriteId(id)| id.wrapping_sub(self.first.0) < issued)
    }

    /// Notes that an entry of our own was read in the log.
    pub fn read(&mut self, entry: &Entry, at: Position, keep: &Keep, now: Mono) {
        let publication = match *entry {
            Entry::Begin { write, .. } => Publication::Begin(write),
            Entry::Answered { write, .. } | Entry::Unknown { write, .. } | Entry::NotSent { write, .. } => {
                Publication::End(write)
            }
            Entry::Changed { tag, .. } => Publication::Purge(tag),
            Entry::All { .. } => Publication::All,
            Entry::Id(_) => return,
        };
        if let Some(delivery) = self.delivery(publication).filter(|delivery| **delivery == Delivery::Landed(at)) {
            *delivery = Delivery::Acked;
            let acked = match publication {
                Publication::Begin(id) | Publication::End(id) => self.writes.get_mut(&id).map(|write| &mut write.acked),
                Publication::Purge(tag) => self.purges.get_mut(&tag).map(|purge| &mut purge.acked),
                Publication::All => self.all.as_mut().map(|purge| &mut purge.acked),
            };
            // The first entry of a write counts: from it on, every other pod knows of the write.
            acked.into_iter().for_each(|acked| *acked = acked.or(Some(now)));
        } else {
            match *entry {
                Entry::Begin { tag, write, .. } => self.close_again(tag, write, keep, now),
                Entry::Answered { write, .. } | Entry::Unknown { write, .. } | Entry::NotSent { write, .. } => {
                    // This is the end that was believed lost.
                    let closing = self.writes.get_mut(&write).filter(|write| write.is_closing());
                    closing
                        .and_then(|write| write.end.as_mut())
                        .into_iter()
                        .for_each(|end| end.delivery = Delivery::Acked);
                }
                Entry::Changed { .. } | Entry::All { .. } | Entry::Id(_) => {}
            }
        }
    }

    /// Whether the server has named a position for a publication that was not found in the log yet.
    pub fn is_landed(&self, publication: Publication) -> bool {
        matches!(self.state(publication), Some(Delivery::Landed(_)))
    }

    /// Begins anew after the connection was lost. Nobody knows whether the publications under way have arrived.
    pub fn lose_connection(&mut self) {
        self.requeue(|delivery| delivery != Delivery::Acked);
    }

    /// Begins anew in a log that may not be the one in which entries were acknowledged.
    pub fn rejoin(&mut self) {
        self.writes.values_mut().for_each(|write| write.acked = None);
        self.purges.retain(|_, purge| purge.delivery != Delivery::Acked);
        self.all = self.all.take().filter(|all| all.delivery != Delivery::Acked);
        self.requeue(|_| true);
    }

    /// How far a write has come.
    pub fn write_arrived(&self, id: WriteId, keep: &Keep, now: Mono) -> Arrived {
        let Some(write) = self.writes.get(&id) else { return Arrived::Nothing };
        arrived(write.acked.filter(|_| write.is_told()), keep, now)
    }

    /// How far the last purge of a tag has come.
    pub fn purge_arrived(&self, tag: TagId, keep: &Keep, now: Mono) -> Arrived {
        self.purges.get(&tag).map_or(Arrived::Nothing, |purge| arrived(purge.acked, keep, now))
    }

    /// How far the last purge of everything has come.
    pub fn all_arrived(&self, keep: &Keep, now: Mono) -> Arrived {
        self.all.as_ref().map_or(Arrived::Nothing, |all| arrived(all.acked, keep, now))
    }

    /// Whether a write or purge of this pod concerns one of these tags and may be unknown to another pod, or is not
    /// over.
    pub fn concerns(&self, tags: &[TagId]) -> bool {
        self.writes.values().any(|write| !write.is_told() && tags.contains(&write.tag))
            || self.all.as_ref().is_some_and(|all| all.delivery != Delivery::Acked)
            || tags.iter().filter_map(|tag| self.purges.get(tag)).any(|purge| purge.delivery != Delivery::Acked)
    }

    /// Whether something waits to be sent.
    pub fn has_queued(&self) -> bool {
        self.queue.iter().any(|publication| self.state(*publication) == Some(Delivery::Queued))
    }

    /// How many publications are not acknowledged.
    pub fn unpublished(&self) -> usize {
        let ends = self.writes.values().filter_map(|write| write.end.as_ref()).map(|end| end.delivery);
        let begins = self.writes.values().filter_map(|write| write.begin);
        let purges = self.purges.values().chain(&self.all).map(|purge| purge.delivery);
        begins.chain(ends).chain(purges).filter(|delivery| *delivery != Delivery::Acked).count()
    }

    /// Forgets publications that matter no more. Returns how many publications were given up.
    pub fn tidy(&mut self, keep: &Keep, now: Mono) -> u64 {
        let mut lost = 0_u64;
        let is_over = |from: Mono, length: Duration| now.since(from) >= length;
        self.writes.retain(|_, write| {
            let Some(end) = &write.end else { return true };
            if end.delivery == Delivery::Acked {
                !is_over(end.at, remembered(end.kind, keep)) || write.acked.is_some_and(|at| !is_over(at, keep.lease))
            } else {
                // No entry of another pod is older than its longest life.
                let is_lost = is_over(end.at, keep.max_ttl);
                lost = lost.saturating_add(u64::from(is_lost));
                !is_lost
            }
        });
        let mut keeps = |purge: &Purge| match purge.acked {
            Some(acked) => !is_over(acked, keep.lease),
            None => {
                let is_lost = is_over(purge.at, keep.max_ttl);
                lost = lost.saturating_add(u64::from(is_lost));
                !is_lost
            }
        };
        self.purges.retain(|_, purge| keeps(purge));
        self.all = self.all.take().filter(keeps);
        lost
    }

    /// A new number for a write or a purge.
    fn number(&mut self) -> WriteId {
        let id = self.next;
        self.next = WriteId(id.0.wrapping_add(1));
        id
    }

    fn push(&mut self, publication: Publication) {
        // A publication that was replaced or withdrawn leaves its element behind.
        if self.queue.len() > self.len().saturating_mul(4).saturating_add(100) {
            self.requeue(|delivery| delivery == Delivery::Queued);
        } else {
            self.queue.push_back(publication);
        }
    }

    fn len(&self) -> usize {
        self.writes.len().saturating_add(self.purges.len())
    }

    /// Makes room for one more write or purge, if necessary by folding all that are not acknowledged into one purge of
    /// everything. Returns whether there is room.
    fn make_room(&mut self, keep: &Keep, now: Mono) -> bool {
        if self.len() < keep.capacity {
            return true;
        }
        // Acknowledged writes and purges are kept for a rejoin only, except while an answer may wait for them.
        let is_held = |acked: Option<Mono>| acked.is_some_and(|at| now.since(at) < keep.lease);
        self.writes.retain(|_, write| !write.is_told() || is_held(write.acked));
        self.purges.retain(|_, purge| purge.delivery != Delivery::Acked || is_held(purge.acked));
        if self.len() < keep.capacity {
            return true;
        }
        let untold =
            |write: &Write| write.end.as_ref().filter(|end| end.delivery != Delivery::Acked).map(|end| end.kind);
        let doubt = self.writes.values().filter_map(untold).map(|kind| doubt(kind, keep)).max().unwrap_or_default();
        // A folded write stays open at the pods that know its beginning, until its outcome is unknown there.
        self.writes.retain(|_, write| untold(write).is_none());
        self.purges.retain(|_, purge| purge.delivery == Delivery::Acked);
        self.purge_all(doubt, now);
        self.len() < keep.capacity
    }

    /// Ends a write again whose beginning was read after its end: an attempt to publish the beginning was stuck on the
    /// way, was believed lost, and has now opened the write for all other pods.
    fn close_again(&mut self, tag: TagId, id: WriteId, keep: &Keep, now: Mono) {
        if !self.writes.contains_key(&id) && self.len() < keep.capacity {
            let end = Some(End { kind: Ending::NotSent, at: now, delivery: Delivery::Acked });
            self.writes.insert(id, Write { is_out: true, end, ..Write::new(tag, Duration::ZERO) });
        }
        let end = self.writes.get_mut(&id).and_then(|write| write.end.as_mut());
        if let Some(end) = end.filter(|end| end.delivery == Delivery::Acked) {
            (end.delivery, end.at) = (Delivery::Queued, now);
            self.push(Publication::End(id));
        }
    }

    /// Queues every publication for which `again` holds, beginnings before ends.
    fn requeue(&mut self, again: impl Fn(Delivery) -> bool) {
        self.queue.clear();
        for (id, write) in &mut self.writes {
            if write.end.is_some() {
                // An end says all that a beginning says.
                write.begin = write.begin.filter(|begin| !again(*begin));
            }
            if let Some(begin) = write.begin.as_mut().filter(|begin| again(**begin)) {
                *begin = Delivery::Queued;
                self.queue.push_back(Publication::Begin(*id));
            }
        }
        if let Some(all) = self.all.as_mut().filter(|all| again(all.delivery)) {
            all.delivery = Delivery::Queued;
            self.queue.push_back(Publication::All);
        }
        for (tag, purge) in self.purges.iter_mut().filter(|(_, purge)| again(purge.delivery)) {
            purge.delivery = Delivery::Queued;
            self.queue.push_back(Publication::Purge(*tag));
        }
        for (id, write) in &mut self.writes {
            if let Some(end) = write.end.as_mut().filter(|end| again(end.delivery)) {
                end.delivery = Delivery::Queued;
                self.queue.push_back(Publication::End(*id));
            }
        }
    }

    /// How far a publication has come, to be changed. `None` if there is no such publication any more.
    fn delivery(&mut self, publication: Publication) -> Option<&mut Delivery> {
        match publication {
            Publication::Begin(id) => self.writes.get_mut(&id)?.begin.as_mut(),
            Publication::End(id) => self.writes.get_mut(&id)?.end.as_mut().map(|end| &mut end.delivery),
            Publication::Purge(tag) => self.purges.get_mut(&tag).map(|purge| &mut purge.delivery),
            Publication::All => self.all.as_mut().map(|purge| &mut purge.delivery),
        }
    }

    /// As [`Self::delivery`], to be read.
    fn state(&self, publication: Publication) -> Option<Delivery> {
        match publication {
            Publication::Begin(id) => self.writes.get(&id)?.begin,
            Publication::End(id) => self.writes.get(&id)?.end.as_ref().map(|end| end.delivery),
            Publication::Purge(tag) => self.purges.get(&tag).map(|purge| purge.delivery),
            Publication::All => self.all.as_ref().map(|purge| purge.delivery),
        }
    }

    /// The entry of a publication, as it is now.
    fn entry(&self, publication: Publication) -> Option<Entry> {
        match publication {
            Publication::Begin(write) => self.writes.get(&write).map(|known| known.begin_entry(write)),
            Publication::End(write) => self.writes.get(&write)?.end_entry(write),
            Publication::Purge(tag) => self.purges.get(&tag).map(|purge| Entry::Changed { tag, write: purge.write }),
            Publication::All => self.all.as_ref().map(|all| Entry::All { write: all.write, doubt: all.doubt }),
        }
    }
}
