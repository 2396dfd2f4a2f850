//! The records of the outbox: its writes, its purges, and how far each publication has come. Pure.

use std::time::Duration;

use crate::clock::Mono;
use crate::fleet::entry::{Entry, Position, WriteId};
use crate::session::ending::Ending;
use crate::session::invalidation::SETTLING;
use crate::session::invalidation::tag_id::TagId;

/// An entry that this pod publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Publication {
    Begin(WriteId),
    End(WriteId),
    Purge(TagId),
    All,
}

/// How long publications matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keep {
    /// How long other pods trust their memory after a poll.
    pub lease: Duration,
    /// The longest life of an entry.
    pub max_ttl: Duration,
    /// How many writes and purges are remembered one by one.
    pub capacity: usize,
}

/// How far a write or purge has come, for an answer that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// No pod serves anything from before the write or purge.
    Everywhere,
    /// All entries are acknowledged. Every lease of another pod from before them is over at this time.
    At(Mono),
    /// Not acknowledged yet.
    NotYet,
    /// No entry waits for an acknowledgement: nothing was published, or the publication was given up.
    Nothing,
}

/// How far a publication has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    Queued,
    /// The publication was sent, and no reply has come.
    Flying,
    /// The server named this position. Whether other pods read the same log is not known yet.
    Landed(Position),
    /// This pod has read the entry in the log that it reads.
    Acked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    pub tag: TagId,
    pub longest: Duration,
    /// How far the beginning has come; `None` if only the end is published.
    pub begin: Option<Delivery>,
    /// Whether another pod may have seen the beginning.
    pub is_out: bool,
    /// The end of the write, once it has ended.
    pub end: Option<End>,
    /// When the first entry of this write was acknowledged in the log that is read now.
    pub acked: Option<Mono>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End {
    pub kind: Ending,
    pub at: Mono,
    pub delivery: Delivery,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Purge {
    pub write: WriteId,
    /// How long nothing may be stored after the purge.
    pub doubt: Duration,
    /// When the purge was asked for.
    pub at: Mono,
    pub delivery: Delivery,
    pub acked: Option<Mono>,
}

impl Write {
    /// A write of which nothing is published yet.
    pub fn new(tag: TagId, longest: Duration) -> Self {
        Self { tag, longest, begin: None, is_out: false, end: None, acked: None }
    }

    /// Whether the write has ended, and the entry of its end is acknowledged.
    pub fn is_told(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.delivery == Delivery::Acked)
    }

    /// Whether only the entry that no part of the write was sent is still to be published.
    pub fn is_closing(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.kind == Ending::NotSent && end.delivery == Delivery::Queued)
    }

    /// The entry of the beginning.
    pub fn begin_entry(&self, write: WriteId) -> Entry {
        Entry::Begin { tag: self.tag, write, longest: self.longest }
    }

    /// The entry of the end; `None` for an open write.
    pub fn end_entry(&self, write: WriteId) -> Option<Entry> {
        let tag = self.tag;
        self.end.as_ref().map(|end| match end.kind {
            Ending::NotSent => Entry::NotSent { tag, write },
            Ending::Answered => Entry::Answered { tag, write },
            Ending::Unknown => Entry::Unknown { tag, write },
        })
    }
}

impl Purge {
    pub fn new(write: WriteId, doubt: Duration, at: Mono) -> Self {
        Self { write, doubt, at, delivery: Delivery::Queued, acked: None }
    }
}

/// How far a write or purge has come whose entry was acknowledged at `acked`.
pub fn arrived(acked: Option<Mono>, keep: &Keep, now: Mono) -> Arrived {
    match acked.map(|at| at.plus(keep.lease)) {
        None => Arrived::NotYet,
        Some(over) if now >= over => Arrived::Everywhere,
        Some(over) => Arrived::At(over),
    }
}

/// How long an end is kept, to be published again if the log is lost: until every pod that reads in time has read the
/// end, and for as long as the end keeps pods from storing answers.
pub fn remembered(kind: Ending, keep: &Keep) -> Duration {
    match kind {
        Ending::NotSent => keep.lease,
        Ending::Answered => keep.lease.max(SETTLING),
        Ending::Unknown => keep.lease.max(keep.max_ttl),
    }
}

/// How long nothing may be stored after a write of this ending, if a purge of everything stands for the write.
pub fn doubt(kind: Ending, keep: &Keep) -> Duration {
    match kind {
        Ending::Unknown => keep.max_ttl,
        Ending::Answered | Ending::NotSent => Duration::ZERO,
    }
}
