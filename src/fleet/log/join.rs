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
    /// There is no log: make one, with its name as the first entry, and greet again.
    Create,
    /// Log and server are those of before: read on. If the log does not go on, scan.
    GoOn(Ticket),
    /// Read the log from this position on, then [`Log::rejoin`].
    Scan(Position, Rejoin),
}

impl Log {
    /// Begins with a new connection, or anew with the one there is. Publications under way are sent again.
    pub fn greet(&mut self, greeting: &Greeting) -> Step {
        self.lose_connection();
        self.state = State::Joining;
        let (Some(id), Some(ends)) = (greeting.id, &greeting.ends) else { return Step::Create };
        let scan = |why| Step::Scan(self.scan_from(greeting, &ends.1), why);
        let Some(place) = &self.place else { return scan(Rejoin::Connect) };
        if place.server.is_none() || place.server != greeting.server {
            // Entries may have been lost that were acknowledged, even if the last that this pod read is there.
            return scan(Rejoin::RunId);
        }
        if place.id != id {
            return scan(Rejoin::Id);
        }
        Step::GoOn(Ticket { generation: self.generation, from: place.last, sent: greeting.sent })
    }

    /// Where a pod begins to read that trusts nothing it had before: as far back as a write may be open or unsettled,
    /// and not after the newest entry.
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
        // Ends of the last seconds may be lost, of writes that Sezzle does not show everywhere yet. A pod that had read
        // no log has lost none; it is what every sidecar is after its start.
        let cause = if self.place.is_none() { Cause::Changed } else { Cause::Answered };
        self.generation = self.generation.wrapping_add(1);
        self.horizon.rejoin(now);
        self.purged = Purged::since(first.at);
        self.place = Some(Place { server: greeting.server.clone(), id, last: *first });
        self.outbox.rejoin();
        let mut effects = vec![Effect::Rejoined { cause, doubt: self.uncovered(greeting, oldest, newest, now) }];
        for item in page.items {
            effects.extend(self.apply(item, page.time, now));
        }
        // After a page that was cut, the log can be read, and is not read in time yet.
        self.state = State::Late;
        if page.is_whole {
            self.horizon.sync(greeting.sent);
            self.state = State::Synced;
        }
        Ok(effects)
    }

    /// Until when nothing may be stored because the log was cut, and a write may be open that was in the lost part. A
    /// log that begins with its name was not cut.
    fn uncovered(&self, greeting: &Greeting, oldest: &Item, newest: &Item, now: Mono) -> Option<Mono> {
        let from = self.scan_from(greeting, newest);
        let is_covered = oldest.at <= from || matches!(oldest.entry, Ok(Entry::Id(_)));
        let age = Duration::from_millis(greeting.time.saturating_sub(oldest.at.ms));
        (!is_covered).then(|| now.plus(self.limits.window.saturating_sub(age).max(GRACE)))
    }
}
