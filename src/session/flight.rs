//! Fetches in progress that callers wait for together: at most one per session can be joined.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::freshness::{Freshness, NotStored};
use super::invalidation::PurgeEpoch;
use super::invalidation::tag_id::TagId;
use super::response::SessionResponse;

/// The fetches in progress, by session.
#[derive(Debug)]
pub(super) struct Flights<E>(Arc<Mutex<HashMap<Uuid, Arc<Flight<E>>>>>);

/// A fetch that several callers may wait for.
#[derive(Debug)]
pub(super) struct Flight<E> {
    /// The epoch of purges at which the fetch began.
    pub(super) epoch: PurgeEpoch,
    shared: watch::Receiver<Option<FlightResult<E>>>,
}

#[derive(Clone, Debug)]
pub(super) enum FlightResult<E> {
    /// Sezzle's answer, its tags if the body could be read, and whether the answer is stored now.
    Answer {
        answer: Arc<SessionResponse>,
        tags: Option<Arc<[TagId]>>,
        stored: Result<Freshness, NotStored>,
        /// Whether another sidecar had fetched the answer, which therefore has an age.
        is_taken: bool,
    },
    /// The answer may go to one caller only: every other caller has to ask Sezzle itself.
    Released,
    Failed(E),
    /// The task ended without an answer.
    Lost,
}

impl<E> Flights<E> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    /// The locked list. A flight found on it stays there until the lock is released.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Flight<E>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new flight on the locked list, and replaces an older one.
    pub(super) fn begin(&self, list: &mut HashMap<Uuid, Arc<Flight<E>>>, key: Uuid, epoch: PurgeEpoch) -> LedFlight<E> {
        let (share, shared) = watch::channel(None);
        let flight = Arc::new(Flight { epoch, shared });
        list.insert(key, Arc::clone(&flight));
        LedFlight { listed: Listed { flights: Self(Arc::clone(&self.0)), key, flight }, share }
    }
}

impl<E: Clone> Flight<E> {
    pub(super) async fn answer(&self) -> FlightResult<E> {
        let mut shared = self.shared.clone();
        let answer = shared.wait_for(Option::is_some).await;
        answer.ok().and_then(|answer| answer.clone()).unwrap_or(FlightResult::Lost)
    }
}

/// A flight in the hands of its task.
pub(super) struct LedFlight<E> {
    listed: Listed<E>,
    share: watch::Sender<Option<FlightResult<E>>>,
}

impl<E> LedFlight<E> {
    pub(super) fn key(&self) -> Uuid {
        self.listed.key
    }

    pub(super) fn epoch(&self) -> PurgeEpoch {
        self.listed.flight.epoch
    }

    /// Takes the flight off the list, and gives its result to all who wait.
    pub(super) fn land(self, result: FlightResult<E>) {
        drop(self.listed);
        self.share.send_replace(Some(result));
    }
}

/// Removes a flight from the list when its task ends, however the task ends.
struct Listed<E> {
    flights: Flights<E>,
    key: Uuid,
    flight: Arc<Flight<E>>,
}

impl<E> Drop for Listed<E> {
    fn drop(&mut self) {
        let mut list = self.flights.lock();
        // A newer flight may have replaced this one.
        if list.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            list.remove(&self.key);
        }
    }
}
