//! Telling the other pods, and holding an answer until they know. Pure.

use std::time::Duration;

use super::outbox::{Arrived, Publication};
use super::reply::{Effect, Page, Ticket};
use super::{Log, Rejoin, State};
use crate::clock::{Mono, Now};
use crate::fleet::entry::{Entry, Item, Position, WriteId};
use crate::session::ending::Ending;
use crate::session::invalidation::tag_id::TagId;

/// Publications for one pipeline, and the question for the log in the same pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The question for the log.
    pub ticket: Ticket,
    sent: Vec<(Publication, Entry)>,
}

impl Batch {
    /// The entries to append, in this order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.sent.iter().map(|(_, entry)| entry)
    }
}

/// The publication that all pods must know before an answer is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The end of a write.
    Write(WriteId),
    /// The last purge of a tag.
    Purge(TagId),
    /// The last purge of everything.
    All,
}

/// Whether an answer may be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The answer may be passed on.
    Go(HoldEnd),
    /// The answer has to wait. Ask again at this time, and whenever the link has read something.
    Until(Mono),
}

/// Why a hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldEnd {
    /// The link is not synced, or nothing was published, so there is nothing to wait for.
    NotAwaited,
    /// No pod serves anything from before the write.
    AllKnow,
    /// The longest wait was over first.
    TimeIsUp,
}

impl Log {
    /// Takes at most `most` entries to publish now. `None` if there is none, or if the link is not synced.
    pub fn publish(&mut self, most: usize, now: Now) -> Option<Batch> {
        let ticket = self.ask(now).filter(|_| self.state == State::Synced && self.outbox.has_queued())?;
        Some(Batch { ticket, sent: self.outbox.take(most) }).filter(|batch| !batch.sent.is_empty())
    }

    /// Reads the reply to a batch: the position of each entry, and the log from the last known entry on. An entry is
    /// acknowledged only if its position came back, the log goes on, and the entry is in it.
    ///
    /// # Errors
    /// When the log does not go on from the last known entry, or does not exist.
    pub fn published(
        &mut self,
        batch: &Batch,
        positions: &[Option<Position>],
        page: &Page<'_>,
        now: Mono,
    ) -> Result<Vec<Effect>, Rejoin> {
        if batch.ticket.generation != self.generation {
            return Ok(Vec::new());
        }
        if positions.len() != batch.sent.len() || positions.contains(&None) {
            return Err(Rejoin::Gap);
        }
        for ((publication, entry), at) in batch.sent.iter().zip(positions.iter().flatten()) {
            self.outbox.landed(*publication, entry, *at);
        }
        let effects = self.polled(&batch.ticket, page, now)?;
        let last = self.place.as_ref().map(|place| place.last.at);
        for ((publication, entry), at) in batch.sent.iter().zip(positions.iter().flatten()) {
            if self.outbox.is_landed(*publication) && Some(*at) <= last {
                // An earlier reply has shown the entry before its position was known.
                let item = Item { at: *at, entry: Ok(*entry) };
                if page.items.contains(&item) {
                    self.outbox.read(entry, *at, &self.keep(), now);
                } else {
                    self.outbox.missed(*publication);
                }
            }
        }
        Ok(effects)
    }

    /// Begins a write of this pod, whose memory was purged already. The write ends within `longest`.
    pub fn begin(&mut self, tag: TagId, longest: Duration, now: Mono) -> WriteId {
        let keep = self.keep();
        self.outbox.begin(tag, longest, &keep, now)
    }

    /// Ends a write of this pod.
    pub fn end(&mut self, write: WriteId, tag: TagId, ending: Ending, now: Mono) {
        let keep = self.keep();
        self.outbox.end(write, tag, ending, &keep, now);
    }

    /// Tells the other pods of a change that a webhook or an operator reported.
    pub fn purge(&mut self, tag: TagId, now: Mono) {
        let keep = self.keep();
        self.outbox.purge(tag, &keep, now);
    }

    /// Tells the other pods that everything may have changed.
    pub fn purge_all(&mut self, now: Mono) {
        self.outbox.purge_all(Duration::ZERO, now);
    }

    /// Whether an answer that waits for a publication may be passed on at `now`. The answer waits until `deadline` at
    /// most.
    pub fn hold(&self, wait: Wait, deadline: Mono, now: Mono) -> Hold {
        if self.state != State::Synced {
            return Hold::Go(HoldEnd::NotAwaited);
        }
        let keep = self.keep();
        let arrived = match wait {
            Wait::Write(id) => self.outbox.write_arrived(id, &keep, now),
            Wait::Purge(tag) => self.outbox.purge_arrived(tag, &keep, now),
            Wait::All => self.outbox.all_arrived(&keep, now),
        };
        match arrived {
            Arrived::Nothing => Hold::Go(HoldEnd::NotAwaited),
            Arrived::Everywhere => Hold::Go(HoldEnd::AllKnow),
            Arrived::At(_) | Arrived::NotYet if now >= deadline => Hold::Go(HoldEnd::TimeIsUp),
            Arrived::At(over) => Hold::Until(over.min(deadline)),
            Arrived::NotYet => Hold::Until(deadline),
        }
    }

    /// Whether something waits to be published.
    pub fn has_queued(&self) -> bool {
        self.outbox.has_queued()
    }

    /// How many publications are not acknowledged.
    pub fn unpublished(&self) -> usize {
        self.outbox.unpublished()
    }

    /// Forgets publications that matter no more. The link calls this about once a second. Returns how many publications
    /// were given up.
    pub fn tidy(&mut self, now: Mono) -> u64 {
        let keep = self.keep();
        self.outbox.tidy(&keep, now)
    }
}
