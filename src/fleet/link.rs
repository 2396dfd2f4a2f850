//! The task that keeps a sidecar joined to the log: it connects, reads the log at short intervals, and publishes what
//! is queued.
//!
//! The link sends one pipeline at a time: a publication waits for the poll under way, for less than a round trip. An
//! overdue reply ends the connection, because the server may still carry out the commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::conversation::{Conversation, label};
use super::failure::Failure;
use super::idle::Idle;
use super::join::join;
use super::journal::{Journal, Situation};
use super::log::{Rejoin, State};
use super::names::Names;
use super::pace::{CHANCES, back_off, between_polls};
use super::pod::{Lent, Pod};
use super::refusal::Refusal;
use crate::address::HostPort;
use crate::clock::{Clock, Mono};
use crate::session::SessionCache;
use crate::supervisor::Heartbeat;
use crate::telemetry::log::millis;
use crate::telemetry::metrics::fleet::{FleetCommand, FleetState};

/// The parts that the link works with.
#[derive(Debug)]
pub struct Parts<E: Clone + Send + Sync + 'static> {
    pub pod: Arc<Pod>,
    pub sessions: Arc<SessionCache<E>>,
    pub connector: Connector,
    pub clock: Clock,
}

/// The link of one sidecar, for one run of its task.
#[derive(Debug)]
pub struct Link<E: Clone + Send + Sync + 'static> {
    parts: Arc<Parts<E>>,
    names: Names,
    heartbeat: Heartbeat,
    stop: CancellationToken,
    journal: Journal,
    idle: Idle,
    /// When the pod last forgot the publications that matter no more.
    tidied: Mono,
    /// When this link last deleted the log to make room.
    deleted: Option<Mono>,
    /// The node that has the keys, as another node has said.
    moved_to: Option<HostPort>,
}

/// A link without a sign of life for this long hangs. Two attempts, the longest time between two signs, take a third.
pub const HANG_TIMEOUT: Duration = Duration::from_secs(60);

impl<E: Clone + Send + Sync + 'static> Link<E> {
    pub fn new(parts: Arc<Parts<E>>, names: Names, stop: CancellationToken, heartbeat: Heartbeat) -> Self {
        let now = parts.clock.mono();
        let idle = Idle::new(parts.sessions.fetches(), now);
        Self {
            parts,
            names,
            heartbeat,
            stop,
            journal: Journal::default(),
            idle,
            tidied: now,
            deleted: None,
            moved_to: None,
        }
    }

    /// Runs until `stop`, and then for a moment longer, so that queued entries are published.
    pub async fn run(self) {
        let (pod, stop) = (Arc::clone(&self.parts.pod), self.stop.clone());
        let over = async {
            stop.cancelled().await;
            sleep(LAST_PUBLICATION).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = over => {}
        }
        pod.lose_connection(FleetState::Down);
    }

    async fn work(mut self) {
        let parts = Arc::clone(&self.parts);
        // The number of failures since a connection lasted. The link never gives up.
        let mut failed = 0;
        loop {
            let began = parts.clock.mono();
            let Err(failure) = self.connect(&parts).await else { return };
            parts.pod.lose_connection(state(&failure));
            if parts.clock.mono().since(began) >= LASTING {
                failed = 0;
            }
            let wait = back_off(failed, fastrand::u32(..=CHANCES));
            failed = failed.saturating_add(1);
            self.note(&parts, Situation::Failing(failure), wait);
            tokio::select! {
                () = parts.clock.sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Connects, and serves until something fails or the sidecar stops.
    async fn connect(&mut self, parts: &Parts<E>) -> Result<(), Failure> {
        self.tidy(parts);
        let moved_to = self.moved_to.take();
        let made = timeout(ATTEMPT, parts.connector.connect(moved_to.as_ref())).await;
        let made = made.unwrap_or(Err(Failure::Late(ATTEMPT)));
        parts.pod.series.asked(FleetCommand::Connect, label(made.as_ref().err()));
        let connection = made?;
        let names = self.names.clone();
        let talk = Conversation { connection: &connection, names: &names, pod: &parts.pod, clock: &parts.clock };
        let served = tokio::select! {
            served = self.serve(parts, &talk) => served,
            replaced = parts.connector.replaced(&connection) => Err(replaced),
        };
        if let Err(Failure::Refused(error)) = &served {
            match error.refusal() {
                Refusal::Full => self.make_room(&talk).await,
                Refusal::Moved => self.moved_to = error.moved_to(),
                Refusal::Unfit | Refusal::Denied | Refusal::Other => {}
            }
        }
        served
    }

    async fn serve(&mut self, parts: &Parts<E>, talk: &Conversation<'_>) -> Result<(), Failure> {
        join_in_time(parts, talk, None).await?;
        parts.pod.lend(Lent { line: talk.connection.line().clone(), names: talk.names.clone() });
        loop {
            self.note(parts, Situation::Synced { at: talk.connection.at.clone() }, Duration::ZERO);
            let asked = parts.clock.mono();
            if let Err(why) = exchange(parts, talk).await? {
                join_in_time(parts, talk, Some(why)).await?;
            }
            self.tidy(parts);
            if !self.wait(parts, asked).await {
                return Ok(());
            }
        }
    }

    /// Waits until an entry is queued, or until the next poll is due. The last poll was sent at `asked`. Returns
    /// `false` once the sidecar stops and has nothing left to publish.
    async fn wait(&mut self, parts: &Parts<E>, asked: Mono) -> bool {
        let Parts { pod, sessions, clock, .. } = parts;
        loop {
            if self.stop.is_cancelled() {
                return pod.lock().unpublished() > 0;
            }
            let (times, now) = (pod.times(), clock.mono());
            let idle = self.idle.time(sessions.fetches(), now);
            let due = between_polls(times.poll, idle, times.max_ttl).saturating_sub(now.since(asked));
            // A log that was read in part is read on at once, without a wait.
            if due.is_zero() || pod.lock().state() == State::Late {
                return true;
            }
            tokio::select! {
                // The wait has slices, because the first fetch after a pause ends the slow polls.
                () = clock.sleep(due.min(times.poll)) => {}
                () = pod.queued() => {
                    if pod.lock().has_queued() {
                        return true;
                    }
                }
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Makes room in a full server: deletes the log, which the pods can make again.
    async fn make_room(&mut self, talk: &Conversation<'_>) {
        let now = talk.clock.mono();
        if self.deleted.is_none_or(|at| now.since(at) >= TIDY) {
            self.deleted = Some(now);
            talk.delete_log().await;
        }
    }

    /// Gives a sign of life. About once a second, forgets publications that matter no more.
    fn tidy(&mut self, parts: &Parts<E>) {
        self.heartbeat.beat();
        let now = parts.clock.mono();
        if now.since(self.tidied) >= TIDY {
            self.tidied = now;
            let given_up = parts.pod.lock().tidy(now);
            if given_up > 0 {
                tracing::warn!(
                    changes = given_up,
                    "changes were not told to the fleet before all that they concern had ended"
                );
            }
            parts.sessions.forget_overdue();
            parts.pod.observe();
        }
    }

    fn note(&mut self, parts: &Parts<E>, situation: Situation, wait: Duration) {
        if !self.journal.is_news(&situation, parts.clock.mono()) {
            return;
        }
        match situation {
            Situation::Synced { at } => tracing::info!(server = at, "the sidecar is with its fleet"),
            Situation::Failing(error) => {
                let (advice, retry_ms) = (error.advice(), millis(wait));
                if advice.is_some() {
                    tracing::error!(%error, advice, retry_ms, "{ALONE}");
                } else {
                    tracing::warn!(%error, retry_ms, "{ALONE}");
                }
            }
        }
    }
}

/// Joins the log within [`ATTEMPT`].
async fn join_in_time<E: Clone + Send + Sync + 'static>(
    parts: &Parts<E>,
    talk: &Conversation<'_>,
    why: Option<Rejoin>,
) -> Result<(), Failure> {
    timeout(ATTEMPT, join(talk, &parts.sessions, why)).await.unwrap_or(Err(Failure::Late(ATTEMPT)))
}

/// Publishes queued entries, or polls if none is queued. The inner error says why the log does not go on.
async fn exchange<E: Clone + Send + Sync + 'static>(
    Parts { pod, sessions, clock, .. }: &Parts<E>,
    talk: &Conversation<'_>,
) -> Result<Result<(), Rejoin>, Failure> {
    let (batch, ticket) = {
        let (mut log, now) = (pod.lock(), clock.now());
        (log.publish(BATCH, now), log.ask(now))
    };
    if let Some(batch) = batch {
        let (positions, read) = talk.publish(&batch).await?;
        let page = read.page();
        return Ok(pod.obey(sessions, &page, |log, now| log.published(&batch, &positions, &page, now)));
    }
    let Some(ticket) = ticket else { return Ok(Err(Rejoin::Connect)) };
    let read = talk.poll(ticket.from()).await?;
    let page = read.page();
    Ok(pod.obey(sessions, &page, |log, now| log.polled(&ticket, &page, now)))
}

/// The state that metrics show after this failure, until the next attempt.
fn state(failure: &Failure) -> FleetState {
    match failure {
        Failure::Refused(error) if error.refusal() == Refusal::Denied => FleetState::Down,
        Failure::Late(_) | Failure::Refused(_) | Failure::Replica | Failure::Malformed(_) => FleetState::Late,
        Failure::Files(_)
        | Failure::Unreachable { .. }
        | Failure::Tls { .. }
        | Failure::Lost(_)
        | Failure::NoPrimary { .. }
        | Failure::Replaced => FleetState::Down,
    }
}

const ALONE: &str = "the sidecar is cut off from its fleet, and serves as if there were none";

// The longest attempt to connect or to join. Each step has a shorter deadline, but the sum of many steps, as with many
// dead Sentinels or a log that changes all the time, must not look as if the task hung.
const ATTEMPT: Duration = Duration::from_secs(10);
// The most entries in one batch. With the entries that other pods append meanwhile, a batch still fits into one reply.
const BATCH: usize = 500;
// A connection that lasted for so long counts as sound, and the next failure as the first one.
const LASTING: Duration = Duration::from_secs(2);
const TIDY: Duration = Duration::from_secs(1);
// The longest time for which the end of the process waits until queued entries are published.
const LAST_PUBLICATION: Duration = Duration::from_millis(300);
