//! Fetches under way that callers wait for together: at most one that can be joined per session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::entry::Answer;
use super::freshness::{Life, Skip};
use super::invalidation::{Moment, Tag};

/// The list of flights.
#[derive(Debug)]
pub(super) struct Flights<E>(Arc<Mutex<HashMap<Uuid, Arc<Flight<E>>>>>);

/// A fetch that callers wait for.
#[derive(Debug)]
pub(super) struct Flight<E> {
    /// When it began, in the order of purges.
    pub(super) began: Moment,
    shared: watch::Receiver<Option<Shared<E>>>,
}

/// What those who waited for a flight get.
#[derive(Clone, Debug)]
pub(super) enum Shared<E> {
    /// Sezzle's answer, what it relates to if that can be known, and whether it is stored now.
    Answer { answer: Arc<Answer>, tags: Option<Arc<[Tag]>>, stored: Result<Life, Skip> },
    /// The answer was for one caller only: each has to ask for itself.
    Released,
    /// No answer.
    Failed(E),
    /// The task ended without an answer.
    Lost,
}

impl<E> Flights<E> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    /// The list, locked: what is found on it stays there until it is unlocked.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Flight<E>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new flight on the locked list, in the place of an older one if there is one.
    pub(super) fn begin(
        &self,
        list: &mut HashMap<Uuid, Arc<Flight<E>>>,
        key: Uuid,
        began: Moment,
    ) -> (Landing<E>, watch::Sender<Option<Shared<E>>>) {
        let (share, shared) = watch::channel(None);
        let flight = Arc::new(Flight { began, shared });
        list.insert(key, Arc::clone(&flight));
        (Landing { flights: Self(Arc::clone(&self.0)), key, flight }, share)
    }
}

impl<E: Clone> Flight<E> {
    /// Waits for what this flight brings.
    pub(super) async fn answer(&self) -> Shared<E> {
        let mut shared = self.shared.clone();
        let answer = shared.wait_for(Option::is_some).await;
        answer.ok().and_then(|answer| answer.clone()).unwrap_or(Shared::Lost)
    }
}

/// Takes a flight off the list when its task ends, in whatever way.
pub(super) struct Landing<E> {
    flights: Flights<E>,
    key: Uuid,
    flight: Arc<Flight<E>>,
}

impl<E> Drop for Landing<E> {
    fn drop(&mut self) {
        let mut list = self.flights.lock();
        // A younger flight may have taken its place.
        if list.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            list.remove(&self.key);
        }
    }
}
