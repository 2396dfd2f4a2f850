//! The slots of shared bodies in the server, and the writes of this pod to them.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use http::header::AGE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::body::{Answer, Facts, SharedBody};
use super::commands;
use super::connect::STEP;
use super::conversation::ask;
use super::entry::Position;
use super::key_ring::KeyRing;
use super::keys::SALT;
use super::life::Times;
use super::log::{State, Ticket};
use super::pod::{Lent, Pod};
use super::seal::{SealError, seal};
use crate::clock::{Clock, Now};
use crate::session::invalidation::tag_id::TagId;
use crate::session::shared::{Awaited, Offer, Stored};
use crate::telemetry::metrics::fleet::{BodyResult, CommandResult, FleetCommand};

/// Finds the slot of each session, and holds the parts that reading and writing have in common.
#[derive(Debug)]
pub struct Slots {
    pub pod: Arc<Pod>,
    pub keys: Arc<KeyRing>,
    pub clock: Clock,
    /// The URL to which this pod points links; empty if it does not change links. Pods with different URLs share no
    /// bodies.
    links: String,
    /// Runs the tasks that write bodies.
    tasks: TaskTracker,
    /// Permits for bodies that are being written.
    writing: Arc<Semaphore>,
}

impl Slots {
    pub fn new(pod: Arc<Pod>, keys: Arc<KeyRing>, links: String, tasks: TaskTracker, clock: Clock) -> Self {
        Self { pod, keys, clock, links, tasks, writing: Arc::new(Semaphore::new(MOST_WRITTEN)) }
    }

    /// The slot of a session's body. `None` if the link is not synced, or if the server does not name itself.
    pub fn slot(&self, session: TagId, now: Now) -> Option<Slot> {
        let lent = self.pod.lent()?;
        let log = self.pod.lock();
        let (position, server, id) = log.position().filter(|_| log.state() == State::Synced)?;
        let session = self.in_form(session);
        let body = lent.names.body(server, id, session);
        let waits = !self.pod.times().flight_wait.is_zero();
        let flight = waits.then(|| lent.names.flight(server, id, session));
        let (ticket, synced) = (log.ask(now)?, log.horizon().synced);
        Some(Slot { ticket, synced, position, body, flight, lent })
    }

    /// The id of a session in the form of this pod, whose links lead to its URL.
    fn in_form(&self, session: TagId) -> TagId {
        let hash = digest(&SHA256, &[&session.0, self.links.as_bytes()].concat());
        // A digest of this kind has 32 bytes.
        TagId(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// A permit to write one body; `None` if too many are being written.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.writing).try_acquire_owned().ok()
    }

    fn skipped(&self) {
        self.pod.series.asked(FleetCommand::Share, CommandResult::Skipped);
    }
}

/// The slot of a session in the server, and the state of the log at that moment.
#[derive(Debug)]
pub struct Slot {
    pub lent: Arc<Lent>,
    /// The key of the body.
    pub body: String,
    /// The key of the mark that a pod fetches the session. `None` if this pod does not wait for other pods.
    pub flight: Option<String>,
    pub ticket: Ticket,
    /// When the last answered poll was sent.
    pub synced: Option<Now>,
    /// The position up to which the log was read.
    position: Position,
}

/// A slot for a body that is about to be stored.
#[derive(Debug)]
pub struct SlotOffer {
    pub slots: Arc<Slots>,
    pub slot: Slot,
}

impl Offer for SlotOffer {
    fn share(self: Box<Self>, stored: Stored) -> bool {
        let slots = Arc::clone(&self.slots);
        let (now, server) = (slots.clock.now(), slots.pod.server_clock());
        let life = stored.freshness.ttl.saturating_sub(now.since(stored.at));
        let may_share = slots.pod.lock().may_share(&stored.tags) && !life.is_zero();
        let (Some(server), Some(permit)) = (server.filter(|_| may_share), slots.permit()) else {
            slots.skipped();
            return false;
        };
        let age = stored.freshness.age.saturating_add(now.since(stored.at));
        let times = Times::new(stored.date, stored.expiration, age, life, &server, now);
        slots.tasks.spawn(self.write(stored, times, permit));
        true
    }
}

impl SlotOffer {
    async fn write(self: Box<Self>, stored: Stored, times: Times, _permit: OwnedSemaphorePermit) {
        let Slot { lent, body, position, .. } = &self.slot;
        let series = &self.slots.pod.series;
        let mut headers = stored.answer.headers.clone();
        // The reader computes the age from the times.
        headers.remove(AGE);
        let answer = Answer { etag: stored.answer.etag.clone(), headers, body: stored.answer.body.clone() };
        let facts = Facts { position: *position, times, tags: stored.tags.to_vec() };
        let mut salt = [0; SALT];
        if rand::fill(&mut salt).is_err() {
            return;
        }
        let sealed = match seal(&SharedBody { facts, answer }, &self.slots.keys.keys(), body, salt) {
            Ok(sealed) => sealed,
            Err(SealError::TooLarge) => return series.body(BodyResult::TooLarge),
            Err(SealError::Failed) => return,
        };
        let pipeline = commands::share(body, &sealed, times.end);
        let asked = ask(&lent.line, series, FleetCommand::Share, &pipeline, STEP, commands::shared).await;
        if asked.is_ok() {
            series.body(BodyResult::Stored);
        }
    }
}

/// The mark that this pod fetches a session for all pods.
#[derive(Debug)]
pub struct FetchMark {
    slots: Arc<Slots>,
    slot: Option<Slot>,
}

impl FetchMark {
    pub fn new(slots: Arc<Slots>, slot: Slot) -> Self {
        Self { slots, slot: Some(slot) }
    }
}

impl Awaited for FetchMark {
    fn shared(mut self: Box<Self>) {
        self.slot = None;
    }
}

impl Drop for FetchMark {
    /// Tells the pods that wait that this pod shares nothing.
    fn drop(&mut self) {
        let slots = &self.slots;
        let Some(Slot { lent, body, .. }) = self.slot.take() else { return };
        let (Some(server), Some(permit)) = (slots.pod.server_clock(), slots.permit()) else {
            return slots.skipped();
        };
        let (end, pod) = (server.at_least(slots.clock.now()).plus(NOT_SHARED), Arc::clone(&slots.pod));
        slots.tasks.spawn(async move {
            let pipeline = commands::share_nothing(&body, end);
            // If this fails, the other pods wait for `fleet.flight_wait`.
            let _ = ask(&lent.line, &pod.series, FleetCommand::Share, &pipeline, STEP, commands::shared).await;
            drop(permit);
        });
    }
}

// How long other pods see that the pod which fetched for all had nothing to share.
const NOT_SHARED: Duration = Duration::from_millis(500);

// The most bodies being written, which is more than a fast server leaves unanswered. Each takes up to 256 KiB.
const MOST_WRITTEN: usize = 64;
