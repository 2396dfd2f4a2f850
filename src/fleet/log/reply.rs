//! Questions to the log, replies, and their effects on memory. Pure.

use crate::clock::{Mono, Now};
use crate::fleet::entry::{Item, Position, WriteId};
use crate::session::invalidation::Cause;
use crate::session::invalidation::tag_id::TagId;

/// The effect of an entry of the log on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Another pod's write begins: purge the tag, and store nothing under it until the write ends. From `overdue` on
    /// its outcome counts as unknown.
    Begin {
        tag: TagId,
        write: WriteId,
        /// When its outcome becomes unknown.
        overdue: Mono,
    },
    /// Another pod's write has ended: close this write alone, and purge the tag if there is a cause.
    End {
        tag: TagId,
        write: WriteId,
        /// Why to purge, and when that was.
        cause: Option<(Cause, Mono)>,
    },
    Changed(TagId),
    /// Purge everything, as after a write that was answered. Nothing that is asked for before `doubt` is to be stored.
    All {
        /// Until when nothing is stored.
        doubt: Option<Mono>,
    },
    /// Nothing that was fetched until now is confirmed any more, though it stays in memory. Fetches under way are not
    /// stored and not handed to those who arrive later. As in [`Effect::All`], nothing that is asked for before `doubt`
    /// is to be stored.
    Rejoined {
        /// How later fetches are stored.
        cause: Cause,
        /// Until when nothing is stored.
        doubt: Option<Mono>,
    },
}

/// A question to the log: its reply is read with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) generation: u64,
    pub(super) from: Item,
    pub(super) sent: Now,
}

impl Ticket {
    /// The last entry that was read: the reply has to begin with it.
    pub fn from(&self) -> Position {
        self.from.at
    }
}

/// A reply: the entries from a position on.
#[derive(Clone, Copy, Debug)]
pub struct Page<'p> {
    pub items: &'p [Item],
    /// Whether the log had no more: the reply was not cut by its limit.
    pub is_whole: bool,
    /// The server's clock in milliseconds.
    pub time: u64,
}
