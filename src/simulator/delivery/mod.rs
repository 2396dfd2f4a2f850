//! Webhooks on their way: the record of every delivery, and the handle's methods about them.
//!
//! `gateway` decides which webhook goes to whom; [`attempts`] makes the attempts, [`post`] sends one of them.

mod attempts;
mod post;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::simulator::bounded_log::BoundedLog;
use crate::simulator::gateway::WebhookJob;
use crate::simulator::{Core, Simulator};

/// An event on its way to a URL.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Counts the deliveries from 0; it stays the same while older ones are forgotten.
    pub number: usize,
    /// The subscription it is made for. A test event and a delivery sent again have none: they are tried once.
    pub subscription: Option<String>,
    /// The event's name.
    pub event: String,
    /// The receiver's URL.
    pub url: String,
    /// The body, which is the same in every attempt.
    pub body: Bytes,
    /// The attempts that are over, the first one first.
    pub attempts: Vec<Attempt>,
    /// The state of the delivery.
    pub state: DeliveryState,
}

/// An attempt to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The start of the attempt, by the machine's clock.
    pub at: SystemTime,
    /// The status that was answered; `None` without a connection or a complete head in time.
    pub status: Option<u16>,
}

/// The state of a delivery. All states but the first are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Being tried, or waiting to be tried again. So it stays when the simulator is stopped meanwhile.
    Pending,
    /// Answered with 200.
    Accepted,
    /// The last attempt failed. The subscription, if it has one, was deleted for all its events.
    GivenUp,
    /// The subscription was deleted before the next attempt.
    Unsubscribed,
    /// Never tried, for this reason.
    NotSent(&'static str),
}

impl Simulator {
    /// Raises any event, known to Sezzle or not, with any data: disputes come about in no other way. Answers how many
    /// subscriptions of the current merchant list it.
    pub fn raise_event(&self, event: &str, data: &Value) -> usize {
        self.core.act(|gateway| gateway.raise(event, data))
    }

    /// Every delivery so far, in the order they began. Only the newest 10,000 and 64 MiB of bodies are kept.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.core.deliveries.log().iter().cloned().collect()
    }

    /// Waits, without a limit of its own, until so many deliveries in all have come to their end.
    pub async fn deliveries_settled(&self, deliveries: u64) {
        // The wait fails only once the sender is gone, and this handle keeps it.
        let _ = self.core.deliveries.settled.subscribe().wait_for(|settled| *settled >= deliveries).await;
    }

    /// How many deliveries were not begun because a thousand were pending already.
    pub fn deliveries_dropped(&self) -> u64 {
        self.core.deliveries.dropped.load(Ordering::SeqCst)
    }

    /// Sends the body of an earlier delivery again, signed anew, as a delivery of its own that is tried once. `false` when
    /// there is no such delivery any more.
    pub fn redeliver(&self, number: usize) -> bool {
        let job = self.core.deliveries.log().find(number).map(|delivery| WebhookJob {
            subscription: None,
            event: delivery.event.clone(),
            url: delivery.url.clone(),
            body: delivery.body.clone(),
        });
        let found = job.is_some();
        dispatch(&self.core, job);
        found
    }

    /// Sets the waits between the attempts to deliver a webhook. A wait that has begun goes on.
    pub fn set_webhook_retries(&self, waits: Vec<Duration>) {
        self.core.gateway().options.webhook_retries = waits;
    }

    /// Sets how long the receiver of a webhook may take to answer the attempts made from now on.
    pub fn set_webhook_timeout(&self, timeout: Duration) {
        self.core.gateway().options.webhook_timeout = timeout;
    }
}

/// State that the tasks of deliveries share.
#[derive(Debug)]
pub(super) struct Deliveries {
    log: Mutex<BoundedLog<Delivery>>,
    settled: watch::Sender<u64>,
    dropped: AtomicU64,
    /// Ends the deliveries under way.
    abandoned: Mutex<CancellationToken>,
    /// Places for deliveries that are not settled.
    pending: Arc<Semaphore>,
    /// Places for attempts under way.
    attempts: Semaphore,
}

impl Deliveries {
    pub(super) fn log(&self) -> MutexGuard<'_, BoundedLog<Delivery>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all deliveries, and ends those under way.
    pub(super) fn reset(&self) {
        std::mem::take(&mut *self.abandoned()).cancel();
        self.log().clear();
    }

    fn abandoned(&self) -> MutexGuard<'_, CancellationToken> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, job: &WebhookJob) -> usize {
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

    fn attempted(&self, number: usize, attempt: Attempt) {
        self.log().change(number, size_of::<Attempt>(), |delivery| delivery.attempts.push(attempt));
    }

    fn settle(&self, number: usize, state: DeliveryState) {
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

/// Begins to deliver, each job in a task of its own: none waits for another's retries. They end with the simulator.
pub(super) fn dispatch(core: &Arc<Core>, jobs: impl IntoIterator<Item = WebhookJob>) {
    for job in jobs {
        let Ok(place) = core.deliveries.pending.clone().try_acquire_owned() else {
            core.deliveries.dropped.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        let (abandoned, number) = (core.deliveries.abandoned().clone(), core.deliveries.open(&job));
        let task = {
            let core = core.clone();
            async move {
                let state = core.stopping.run_until_cancelled(attempts::deliver(&core, number, &job));
                let state = abandoned.run_until_cancelled(state).await.flatten();
                drop(place);
                if let Some(state) = state {
                    core.deliveries.settle(number, state);
                }
            }
        };
        core.tasks.spawn_on(task, &core.runtime);
    }
}

/// Enough for a test to look back, and little enough for a demonstration that runs for days.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// More than any test has under way.
const MAX_PENDING: usize = 1000;
/// A receiver sees some at once, but not a flood.
const MAX_ATTEMPTS_AT_ONCE: usize = 16;
