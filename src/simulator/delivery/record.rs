//! The record of every delivery.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::simulator::bounded_log::BoundedLog;
use crate::simulator::gateway::WebhookJob;

/// An event on its way to a URL.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The number of the delivery, counted from 0. The number stays when older deliveries are forgotten.
    pub number: usize,
    /// The subscription of the delivery. A test event and a delivery that is sent again have none, and are tried once.
    pub subscription: Option<String>,
    pub event: String,
    pub url: String,
    /// The body, which is the same in every attempt.
    pub body: Bytes,
    /// The attempts that are over, the oldest first.
    pub attempts: Vec<Attempt>,
    pub state: DeliveryState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The start of the attempt, by the machine's clock.
    pub at: SystemTime,
    /// The status of the answer; `None` without a connection or a complete head in time.
    pub status: Option<u16>,
}

/// The state of a delivery. All states but the first are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The delivery is being tried, or waits for its next attempt. The state stays if the simulator stops meanwhile.
    Pending,
    /// The receiver answered 200.
    Accepted,
    /// The last attempt failed. The subscription, if it has one, was deleted for all its events.
    GivenUp,
    /// The subscription was deleted before the next attempt.
    Unsubscribed,
    /// The delivery was never tried, for this reason.
    NotSent(&'static str),
}

/// State that the tasks of deliveries share.
#[derive(Debug)]
pub(in crate::simulator) struct Deliveries {
    pub(in crate::simulator) log: Mutex<BoundedLog<Delivery>>,
    pub(in crate::simulator) settled: watch::Sender<u64>,
    pub(in crate::simulator) dropped: AtomicU64,
    /// Ends the deliveries under way.
    abandoned: Mutex<CancellationToken>,
    /// Permits for deliveries without a final state.
    pub(in crate::simulator) pending: Arc<Semaphore>,
    /// Permits for attempts under way.
    pub(in crate::simulator) attempts: Semaphore,
}

impl Deliveries {
    pub(in crate::simulator) fn log(&self) -> MutexGuard<'_, BoundedLog<Delivery>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all deliveries, and ends those under way.
    pub(in crate::simulator) fn reset(&self) {
        std::mem::take(&mut *self.abandoned()).cancel();
        self.log().clear();
    }

    pub(super) fn abandoned(&self) -> MutexGuard<'_, CancellationToken> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, job: &WebhookJob) -> usize {
        let mut log = self.log();
        let delivery = Delivery {
            number: log.next(),
            subscription: job.subscription.clone(),
            event: job.event.clone(),
            url: job.url.clone(),
            body: job.body.clone(),
            attempts: Vec::new(),
            state: DeliveryState::Pending,
        };
        log.push(delivery, job.body.len())
    }

    pub(super) fn attempted(&self, number: usize, attempt: Attempt) {
        self.log().change(number, size_of::<Attempt>(), |delivery| delivery.attempts.push(attempt));
    }

    pub(super) fn settle(&self, number: usize, state: DeliveryState) {
        self.log().change(number, 0, |delivery| delivery.state = state);
        self.settled.send_modify(|settled| *settled += 1);
    }
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            log: Mutex::new(BoundedLog::new(MAX_ENTRIES, MAX_BYTES)),
            settled: watch::Sender::new(0),
            dropped: AtomicU64::new(0),
            abandoned: Mutex::default(),
            pending: Arc::new(Semaphore::new(MAX_PENDING)),
            attempts: Semaphore::new(MAX_ATTEMPTS_AT_ONCE),
        }
    }
}

/// The most deliveries: enough for a test to look back, and few enough for a demonstration that runs for days.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most deliveries without a final state, which is more than any test has.
const MAX_PENDING: usize = 1000;
/// The most attempts at once, so that a receiver sees several at once, but no flood.
const MAX_ATTEMPTS_AT_ONCE: usize = 16;
