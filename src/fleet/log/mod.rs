//! The state of one pod's link to the log: the entries that it has read and published, and the decisions that follow.
//! Pure.
//!
//! The link's task does the I/O: it sends the questions that this state makes, hands the replies back, and applies the
//! [`Effect`]s in their order before anybody else sees the state again. Every reply brings back the [`Ticket`] of its
//! question, so that a reply that outlived its connection or its log changes nothing.

mod join;
pub mod outbox;
mod purged;
mod records;
mod reply;
mod tell;

use std::time::Duration;

use self::outbox::{Keep, Outbox};
use self::purged::Purged;
use super::entry::{Entry, Item, LogId, Position, WriteId};
use super::names::Server;
use crate::clock::{Mono, Now};
use crate::session::horizon::Horizon;
use crate::session::invalidation::Cause;
use crate::session::invalidation::tag_id::TagId;

pub use self::join::{Greeting, Step};
pub use self::reply::{Effect, Page, Ticket};
pub use self::tell::{Batch, Hold, HoldEnd, Wait};

/// One pod's link to the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    limits: Limits,
    state: State,
    /// Counts connections and rejoins. A reply to a question of an earlier one is ignored.
    generation: u64,
    place: Option<Place>,
    horizon: Horizon,
    purged: Purged,
    outbox: Outbox,
}

/// The configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How long a pod trusts its memory after a poll.
    pub lease: Duration,
    /// The longest life of an entry.
    pub max_ttl: Duration,
    /// How far back a joining pod reads: as long as a write may be open or unsettled.
    pub window: Duration,
}

/// The state of the link, for metrics and for lookups, which ask Redis only over a synced link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Down,
    /// Connected, and the log is not read yet.
    Joining,
    /// The log is read in time.
    Synced,
    /// A reply is overdue, or was a refusal. No lookup asks until the link is synced again.
    Late,
}

/// Why a pod no longer trusts the entries that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejoin {
    Connect,
    /// The server process is another, or was a replica in the meantime.
    RunId,
    /// The log does not go on from the last entry that was read.
    Gap,
    /// The log has another name, or none.
    Id,
}

/// The place in the log up to which a pod has read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    server: Option<Server>,
    id: LogId,
    last: Item,
}

/// How long a write may stay open after the longest time that its pod allows, because the entry of its end takes time.
pub const GRACE: Duration = Duration::from_secs(15);

impl Log {
    /// A link that is not connected. `first` is random: the numbers of two pods must not meet.
    pub fn new(limits: Limits, first: WriteId) -> Self {
        let (horizon, purged, outbox) = (Horizon::default(), Purged::default(), Outbox::new(first));
        Self { limits, state: State::Down, generation: 0, place: None, horizon, purged, outbox }
    }

    pub fn change(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// How far this pod's knowledge reaches.
    pub fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// The position up to which the log was read, with its server and the name of the log. A body is shared with the
    /// position that was read *before* the body was stored here, so this pod has obeyed every purge up to that
    /// position.
    pub fn position(&self) -> Option<(Position, &Server, LogId)> {
        let place = self.place.as_ref()?;
        Some((place.last.at, place.server.as_ref()?, place.id))
    }

    /// The position of the last entry that was read.
    pub fn last(&self) -> Option<Position> {
        self.place.as_ref().map(|place| place.last.at)
    }

    /// Whether this pod published an entry.
    pub fn is_own(&self, item: &Item) -> bool {
        item.entry.is_ok_and(|entry| self.outbox.is_own(&entry))
    }

    /// Notes that a reply is overdue, or was a refusal.
    pub fn set_late(&mut self) {
        if self.state == State::Synced {
            self.state = State::Late;
        }
    }

    /// Notes that the connection is gone. Publications under way are sent again on the next connection.
    pub fn lose_connection(&mut self) {
        self.state = State::Down;
        self.generation = self.generation.wrapping_add(1);
        self.outbox.lose_connection();
    }

    /// A question to be sent now, for the log from the last known entry on. `None` before the log was joined, and
    /// without a connection.
    pub fn ask(&self, now: Now) -> Option<Ticket> {
        let place = self.place.as_ref().filter(|_| matches!(self.state, State::Synced | State::Late))?;
        Some(Ticket { generation: self.generation, from: place.last, sent: now })
    }

    /// Advances by the reply to a lookup's question. Only a poll prolongs the lease, because only a poll shows that the
    /// server still accepts what others publish.
    ///
    /// # Errors
    /// When the log does not go on from the last known entry.
    pub fn advance(&mut self, ticket: &Ticket, page: &Page<'_>, now: Mono) -> Result<Vec<Effect>, Rejoin> {
        if ticket.generation != self.generation {
            return Ok(Vec::new());
        }
        let last = self.place.as_ref().map(|place| place.last).ok_or(Rejoin::Connect)?;
        let fresh = go_on(ticket.from, last, page.items).ok_or(Rejoin::Gap)?;
        let mut effects = Vec::with_capacity(fresh.len());
        for item in fresh {
            effects.extend(self.note_entry(item, page.time, now));
        }
        Ok(effects)
    }

    /// Advances by the reply to a poll, and prolongs the lease.
    ///
    /// # Errors
    /// When the log does not go on from the last known entry.
    pub fn polled(&mut self, ticket: &Ticket, page: &Page<'_>, now: Mono) -> Result<Vec<Effect>, Rejoin> {
        let effects = self.advance(ticket, page, now)?;
        if ticket.generation == self.generation && page.is_whole {
            // An entry that was appended after the question was sent need not be in the reply.
            self.horizon.sync(ticket.sent);
            self.state = State::Synced;
        }
        Ok(effects)
    }

    /// Whether the log and this pod's own writes allow the use of a body that was read from Redis together with the
    /// log. The pod that shared the body had read the log up to `position`. Open writes of other pods forbid the use,
    /// too: `Invalidation` decides about these.
    pub fn may_take(&self, ticket: &Ticket, page: &Page<'_>, tags: &[TagId], position: Position) -> bool {
        let last = self.place.as_ref().map(|place| place.last.at);
        ticket.generation == self.generation
            && page.is_whole
            && Some(position) <= last
            && self.purged.is_clean(tags, position)
            && !self.outbox.concerns(tags)
    }

    /// Whether a body that was fetched and stored here may be shared. An own write in progress forbids it.
    pub fn may_share(&self, tags: &[TagId]) -> bool {
        self.state == State::Synced && !self.outbox.concerns(tags)
    }

    fn keep(&self) -> Keep {
        Keep { lease: self.limits.lease, max_ttl: self.limits.max_ttl, capacity: CAPACITY }
    }

    /// Notes one entry, and returns its effect on memory. `time` is the server's clock in milliseconds.
    fn note_entry(&mut self, item: &Item, time: u64, now: Mono) -> Option<Effect> {
        if let Some(place) = &mut self.place {
            place.last = *item;
        }
        // The time on our clock at which the entry was appended. The last poll did not show the entry, so the entry is
        // no older than that poll, even if Redis's clock was set forward.
        let age = Duration::from_millis(time.saturating_sub(item.at.ms));
        let age = self.horizon.synced.map_or(age, |synced| age.min(now.since(synced.mono)));
        let since = Mono(now.0.saturating_sub(age));
        let Ok(entry) = item.entry else {
            // A foreign entry may mean anything, even a write that stays open for the longest time.
            self.purged.note_all(item.at);
            return Some(Effect::All { doubt: Some(now.plus(self.limits.window)) });
        };
        match entry {
            Entry::Begin { tag, .. }
            | Entry::Answered { tag, .. }
            | Entry::Unknown { tag, .. }
            | Entry::Changed { tag, .. } => self.purged.note(tag, item.at, CAPACITY),
            Entry::All { .. } => self.purged.note_all(item.at),
            Entry::NotSent { .. } | Entry::Id(_) => {}
        }
        if self.outbox.is_own(&entry) {
            // This pod has purged its memory already, when it queued the entry.
            let keep = self.keep();
            self.outbox.read(&entry, item.at, &keep, now);
            return None;
        }
        match entry {
            Entry::Begin { tag, write, longest } => {
                Some(Effect::Begin { tag, write, overdue: since.plus(longest.saturating_add(GRACE)) })
            }
            Entry::Answered { tag, write } => Some(Effect::End { tag, write, cause: Some((Cause::Answered, since)) }),
            Entry::Unknown { tag, write } => Some(Effect::End { tag, write, cause: Some((Cause::Unknown, since)) }),
            Entry::NotSent { tag, write } => Some(Effect::End { tag, write, cause: None }),
            Entry::Changed { tag, .. } => Some(Effect::Changed(tag)),
            Entry::All { doubt, .. } => Some(Effect::All { doubt: (!doubt.is_zero()).then(|| since.plus(doubt)) }),
            Entry::Id(id) => {
                self.place.iter_mut().for_each(|place| place.id = id);
                None
            }
        }
    }
}

/// The entries of a reply after `last`, if the log goes on. It goes on if the reply begins with the entry `from`, byte
/// for byte, and contains `last`, unless the reply ends before `last`.
fn go_on(from: Item, last: Item, items: &[Item]) -> Option<&[Item]> {
    let in_order = items.is_sorted_by(|earlier, later| earlier.at < later.at);
    let known = items.partition_point(|item| item.at < last.at);
    let (_, rest) = items.split_at_checked(known)?;
    if !in_order || items.first() != Some(&from) {
        return None;
    }
    match rest.split_first() {
        // A reply from before `last` was read has nothing new.
        None => Some(rest),
        Some((first, fresh)) => (*first == last).then_some(fresh),
    }
}

/// The most writes, purges and purged tags that are remembered one by one.
pub const CAPACITY: usize = 10_000;

#[cfg(test)]
mod tests;
