//! Questions to the log, replies, and their effects on memory. Pure.

use crate::clock::{Mono, Now};
use crate::fleet::entry::{Item, Position, WriteId};
use crate::session::invalidation::Cause;
use crate::session::invalidation::tag_id::TagId;

/// The effect of an entry of the log on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Another pod's write begins: purge the tag, and store nothing under the tag until the write ends.
    Begin {
        tag: TagId,
        write: WriteId,
        /// From this time on, the outcome of the write counts as unknown.
        overdue: Mono,
    },
    /// Another pod's write has ended: close this write alone, and purge the tag if there is a cause.
    End {
        tag: TagId,
        write: WriteId,
        /// Why to purge, and when the write ended.
        cause: Option<(Cause, Mono)>,
    },
    Changed(TagId),
    /// Purge everything, as after a write that was answered.
    All {
        /// No answer to a lookup that begins before this time is stored.
        doubt: Option<Mono>,
    },
    /// Entries that were fetched until now stay in memory, and are no longer confirmed. Fetches under way are not
    /// stored, and not handed to later callers.
    Rejoined {
        /// The cause that decides how long later fetches are stored.
        cause: Cause,
        /// No answer to a lookup that begins before this time is stored.
        doubt: Option<Mono>,
    },
}

/// A question to the log. Its reply is read together with this ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) generation: u64,
    pub(super) from: Item,
    pub(super) sent: Now,
}

impl Ticket {
    /// The position of the last entry that was read. The reply has to begin with that entry.
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
