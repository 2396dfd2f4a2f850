//! Joining the log: the first time, and again when it does not go on. Pure.

use std::time::Duration;

use super::purged::Purged;
use super::{Effect, GRACE, Log, Page, Place, Rejoin, State, Ticket};
use crate::clock::{Mono, Now};
use crate::fleet::entry::{Entry, Item, LogId, Position};
use crate::fleet::names::Server;
use crate::session::invalidation::Cause;

/// The replies to the first questions on a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// When the first of the questions was sent.
    pub sent: Now,
    /// The server, if it names itself.
    pub server: Option<Server>,
    /// The name of the log, if there is one.
    pub id: Option<LogId>,
    /// The oldest and the newest entry, if there is a log.
    pub ends: Option<(Item, Item)>,
    /// The server's clock in milliseconds.
    pub time: u64,
}

/// The next thing to do after a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// There is no log: make a log, with its name as the first entry, and greet again.
    Create,
    /// The log and the server are the same as before: read on. If the log does not go on, scan.
    GoOn(Ticket),
    /// Read the log from this position on, then [`Log::rejoin`].
    Scan(Position, Rejoin),
}

impl Log {
    /// Begins anew, on a new connection or on the present one. Publications under way are sent again.
    pub fn greet(&mut self, greeting: &Greeting) -> Step {
        self.lose_connection();
        self.state = State::Joining;
        let (Some(id), Some(ends)) = (greeting.id, &greeting.ends) else { return Step::Create };
        let scan = |why| Step::Scan(self.scan_from(greeting, &ends.1), why);
        let Some(place) = &self.place else { return scan(Rejoin::Connect) };
        if place.server.is_none() || place.server != greeting.server {
            // Acknowledged entries may be lost, even if the last entry that this pod read is still there.
            return scan(Rejoin::RunId);
        }
        if place.id != id {
            return scan(Rejoin::Id);
        }
        Step::GoOn(Ticket { generation: self.generation, from: place.last, sent: greeting.sent })
    }

    /// The position at which a pod begins to read if it trusts nothing that it had before: as far back as a write may
    /// be open or unsettled, and not after the newest entry.
    pub fn scan_from(&self, greeting: &Greeting, newest: &Item) -> Position {
        let window = u64::try_from(self.limits.window.as_millis()).unwrap_or(u64::MAX);
        newest.at.min(Position { ms: greeting.time.saturating_sub(window), seq: 0 })
    }

    /// Begins a new epoch with the first page of a scan. If the page is not whole, polls read the rest.
    ///
    /// # Errors
    /// When the log has changed since the greeting.
    pub fn rejoin(&mut self, greeting: &Greeting, page: &Page<'_>, now: Mono) -> Result<Vec<Effect>, Rejoin> {
        let (Some(id), Some((oldest, newest))) = (greeting.id, &greeting.ends) else { return Err(Rejoin::Id) };
        let in_order = page.items.is_sorted_by(|earlier, later| earlier.at < later.at);
        let (Some(first), true) = (page.items.first(), in_order) else { return Err(Rejoin::Gap) };
        if page.is_whole && !page.items.contains(newest) {
            return Err(Rejoin::Gap);
        }
        // The ends of writes in the last seconds may be lost, and Sezzle may not show these writes everywhere yet. A
        // pod that had read no log has lost no end, and is like every sidecar after its start.
        let cause = if self.place.is_none() { Cause::Changed } else { Cause::Answered };
        self.generation = self.generation.wrapping_add(1);
        self.horizon.rejoin(now);
        self.purged = Purged::since(first.at);
        self.place = Some(Place { server: greeting.server.clone(), id, last: *first });
        self.outbox.rejoin();
        let mut effects = vec![Effect::Rejoined { cause, doubt: self.uncovered(greeting, oldest, newest, now) }];
        for item in page.items {
            effects.extend(self.note_entry(item, page.time, now));
        }
        // After a page that was cut, the log is not yet read to its end.
        self.state = State::Late;
        if page.is_whole {
            self.horizon.sync(greeting.sent);
            self.state = State::Synced;
        }
        Ok(effects)
    }

    /// The time until which nothing may be stored, if the log was cut: the beginning of an open write may be in the
    /// part that is gone. A log that begins with its name was not cut.
    fn uncovered(&self, greeting: &Greeting, oldest: &Item, newest: &Item, now: Mono) -> Option<Mono> {
        let from = self.scan_from(greeting, newest);
        let is_covered = oldest.at <= from || matches!(oldest.entry, Ok(Entry::Id(_)));
        let age = Duration::from_millis(greeting.time.saturating_sub(oldest.at.ms));
        (!is_covered).then(|| now.plus(self.limits.window.saturating_sub(age).max(GRACE)))
    }
}
