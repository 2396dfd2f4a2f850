//! One sidecar's part in the fleet: the entries that it has read and those that it has to publish. The link and the
//! answers that wait share this state.
//!
//! Nothing here does I/O. A write or a purge pushes into the outbox and wakes the link's task.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use super::apply::apply;
use super::connect::Line;
use super::entry::WriteId;
use super::life::ServerClock;
use super::log::{Effect, GRACE, Hold, HoldEnd, Limits, Log, Page, Rejoin, State, Wait};
use super::names::Names;
use super::pace::patience;
use crate::clock::{Clock, Mono};
use crate::session::SessionCache;
use crate::session::announce::{Announce, Announced};
use crate::session::ending::Ending;
use crate::session::horizon::{SharedHorizon, Trust};
use crate::session::invalidation::SETTLING;
use crate::session::invalidation::tag_id::TagId;
use crate::telemetry::metrics::fleet::{Direction, FOREIGN_ENTRY, FleetSeries, FleetState, HoldResult};

/// The configured times, which a reload may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From one poll of the log to the next.
    pub poll: Duration,
    /// How long memory counts as confirmed after a poll.
    pub lease: Duration,
    /// How long a pod may serve an entry that is not confirmed.
    pub alone_ttl: Duration,
    /// How long a lookup waits for the server.
    pub timeout: Duration,
    /// How long a lookup waits for the fetch of another pod.
    pub flight_wait: Duration,
    /// How long the answer to a write may be held.
    pub write_wait: Duration,
    /// The longest life of an entry.
    pub max_ttl: Duration,
    /// The longest time that a write takes.
    pub longest_write: Duration,
}

impl Times {
    pub fn trust(&self) -> Trust {
        Trust { lease: self.lease, alone_ttl: self.alone_ttl }
    }

    fn limits(&self) -> Limits {
        // A write may be open for the longest write and the grace, and unsettled after that.
        let window = self.longest_write.saturating_add(GRACE).saturating_add(self.max_ttl.max(SETTLING));
        Limits { lease: self.lease, max_ttl: self.max_ttl, window }
    }
}

/// The state of one sidecar in its fleet.
#[derive(Debug)]
pub struct Pod {
    log: Mutex<Log>,
    horizon: Arc<SharedHorizon>,
    times: ArcSwap<Times>,
    /// Wakes the link when there is something to publish.
    queued: Notify,
    /// Wakes the answers that wait, when the link has read something or has lost its connection.
    moved: Notify,
    server_clock: ArcSwapOption<ServerClock>,
    lent: ArcSwapOption<Lent>,
    began: Mono,
    clock: Clock,
    pub series: FleetSeries,
}

/// The link's connection, for lookups.
#[derive(Debug)]
pub struct Lent {
    pub line: Line,
    pub names: Names,
}

impl Pod {
    /// A pod that has read nothing.
    pub fn new(times: Times, clock: Clock, series: FleetSeries) -> Self {
        // The numbers of two pods must not meet.
        let log = Log::new(times.limits(), WriteId(fastrand::u64(..)));
        Self {
            log: Mutex::new(log),
            horizon: Arc::new(SharedHorizon::new(times.trust())),
            times: ArcSwap::from_pointee(times),
            queued: Notify::new(),
            moved: Notify::new(),
            server_clock: ArcSwapOption::empty(),
            lent: ArcSwapOption::empty(),
            began: clock.mono(),
            clock,
            series,
        }
    }

    /// How far this pod's knowledge reaches, for the session cache.
    pub fn horizon(&self) -> Arc<SharedHorizon> {
        Arc::clone(&self.horizon)
    }

    pub fn times(&self) -> Times {
        **self.times.load()
    }

    pub fn change(&self, times: Times) {
        self.lock().change(times.limits());
        self.horizon.change(times.trust());
        self.times.store(Arc::new(times));
    }

    /// Locks the state of the log. A change that memory must obey goes through [`Pod::obey`].
    pub fn lock(&self) -> MutexGuard<'_, Log> {
        // No code under the lock can leave the log half changed.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Advances the log by a reply, applies its effects to memory, and publishes the horizon. Nobody sees the log or the horizon
    /// meanwhile.
    ///
    /// # Errors
    /// When the log does not go on from the last known entry.
    pub fn obey<E: Clone + Send + Sync + 'static>(
        &self,
        sessions: &SessionCache<E>,
        page: &Page<'_>,
        advance: impl FnOnce(&mut Log, Mono) -> Result<Vec<Effect>, Rejoin>,
    ) -> Result<(), Rejoin> {
        let mut log = self.lock();
        let before = log.last();
        apply(sessions, advance(&mut log, self.clock.mono())?);
        self.horizon.publish(*log.horizon());
        for item in page.items.iter().filter(|item| before.is_none_or(|before| item.at > before)) {
            let direction = if log.is_own(item) { Direction::Published } else { Direction::Applied };
            self.series.entries(direction, item.entry.map_or(FOREIGN_ENTRY, |entry| entry.as_str()), 1);
        }
        self.series.set_state(shown(log.state()));
        drop(log);
        self.moved.notify_waiters();
        Ok(())
    }

    /// Notes that the connection is gone, and wakes the answers that wait. `shown` is the state that metrics show until
    /// the next connection.
    pub fn lose_connection(&self, shown: FleetState) {
        self.lent.store(None);
        self.lock().lose_connection();
        self.series.set_state(shown);
        self.moved.notify_waiters();
    }

    /// Lets lookups ask over the link's connection, until it is lost.
    pub fn lend(&self, lent: Lent) {
        self.lent.store(Some(Arc::new(lent)));
    }

    /// The connection for a lookup, if there is one.
    pub fn lent(&self) -> Option<Arc<Lent>> {
        self.lent.load_full()
    }

    /// The last reading of the server's clock.
    pub fn server_clock(&self) -> Option<ServerClock> {
        self.server_clock.load().as_deref().copied()
    }

    /// Notes a reading of the server's clock.
    pub fn note_clock(&self, clock: ServerClock) {
        let halfway = clock.sent.wall.plus(clock.received.since(clock.sent) / 2);
        self.series.clock_differs_by(seconds(clock.time.millis_since(halfway)));
        self.server_clock.store(Some(Arc::new(clock)));
    }

    /// Waits until something may have to be published.
    pub async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Updates the gauges.
    pub fn observe(&self) {
        let (synced, unpublished) = {
            let log = self.lock();
            (log.horizon().synced, log.unpublished())
        };
        let since = synced.map_or(self.began, |synced| synced.mono);
        self.series.synced_for(self.clock.mono().since(since));
        self.series.unpublished(unpublished);
    }

    /// Waits until all other pods know of these changes, so that their answer may be passed on.
    async fn hold(&self, announced: &[Announced]) {
        let began = self.clock.mono();
        let mut result = HoldResult::KnownAtOnce;
        for one in announced {
            let (wait, longest) = self.awaited(*one);
            result = worse(result, self.hold_for(wait, began.plus(longest)).await);
        }
        self.series.held(result, self.clock.mono().since(began));
    }

    /// The publication to wait for, and for how long.
    fn awaited(&self, announced: Announced) -> (Wait, Duration) {
        let times = self.times();
        // The leases of the other pods have to end. Before that, the link may have to give up its connection.
        let purge = times.lease.saturating_add(patience(times.poll));
        match announced {
            Announced::Write(write) => (Wait::Write(WriteId(write)), times.write_wait),
            Announced::Purge(tag) => (Wait::Purge(tag), purge),
            Announced::All => (Wait::All, purge),
        }
    }

    /// Waits for one publication, until `deadline` at most.
    async fn hold_for(&self, wait: Wait, deadline: Mono) -> HoldResult {
        let mut has_waited = false;
        loop {
            // The loop listens before it looks, so that no change in between is missed.
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            let now = self.clock.mono();
            let hold = self.lock().hold(wait, deadline, now);
            match hold {
                Hold::Go(end) => return hold_result(end, has_waited),
                Hold::Until(at) => {
                    has_waited = true;
                    tokio::select! {
                        () = self.clock.sleep(at.since(now)) => {}
                        () = moved => {}
                    }
                }
            }
        }
    }
}

impl Announce for Pod {
    fn begin(&self, tag: TagId) -> u64 {
        let longest = self.times().longest_write;
        let WriteId(write) = self.lock().begin(tag, longest, self.clock.mono());
        self.queued.notify_one();
        write
    }

    fn end(&self, write: u64, tag: TagId, ending: Ending) {
        self.lock().end(WriteId(write), tag, ending, self.clock.mono());
        self.queued.notify_one();
    }

    fn purge(&self, tag: TagId) {
        self.lock().purge(tag, self.clock.mono());
        self.queued.notify_one();
    }

    fn purge_all(&self) {
        self.lock().purge_all(self.clock.mono());
        self.queued.notify_one();
    }

    fn known<'a>(&'a self, what: &'a [Announced]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.hold(what))
    }
}

/// The word of the metric for a hold that ended so.
fn hold_result(end: HoldEnd, has_waited: bool) -> HoldResult {
    match (end, has_waited) {
        (HoldEnd::AllKnow, false) => HoldResult::KnownAtOnce,
        (HoldEnd::AllKnow, true) => HoldResult::Acked,
        (HoldEnd::TimeIsUp, _) => HoldResult::Waited,
        (HoldEnd::NotAwaited, _) => HoldResult::GaveUp,
    }
}

/// The result of two holds of one answer: the result after which other pods may know less.
fn worse(one: HoldResult, other: HoldResult) -> HoldResult {
    let of_less = [HoldResult::GaveUp, HoldResult::Waited, HoldResult::Acked];
    of_less.into_iter().find(|result| [one, other].contains(result)).unwrap_or(HoldResult::KnownAtOnce)
}

fn shown(state: State) -> FleetState {
    match state {
        State::Down => FleetState::Down,
        State::Joining => FleetState::Joining,
        State::Synced => FleetState::Synced,
        State::Late => FleetState::Late,
    }
}

#[expect(clippy::cast_precision_loss, reason = "only shown")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests;
