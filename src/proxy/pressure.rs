//! How much may be under way to Sezzle: a bulkhead for each class of calls, so that none can crowd out another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ProxyError;
use super::route::Class;
use crate::telemetry::metrics::{CLASSES, Metrics, SHED_REASONS};

/// The bulkheads of all classes.
#[derive(Debug)]
pub struct Pressure {
    session: Bulkhead,
    read: Bulkhead,
    report: Bulkhead,
    money: Bulkhead,
    webhooks: Bulkhead,
    receiving: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// What calls of one class share.
#[derive(Debug)]
struct Bulkhead {
    class: &'static str,
    places: Arc<Semaphore>,
    /// Those who wait for a place, which they get in the order they came.
    queue: Semaphore,
    metrics: Arc<Metrics>,
}

/// A place among the calls of a class, held until it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Pressure {
    /// With `limits.in_flight` places for each class that callers wait for.
    pub fn new(in_flight: usize, metrics: &Arc<Metrics>) -> Self {
        for class in CLASSES {
            for reason in SHED_REASONS {
                metrics.shed.with_label_values(&[class, reason]).inc_by(0);
            }
        }
        let bulkhead = |class| Bulkhead::new(class, in_flight, metrics);
        Self {
            session: bulkhead(Class::Session),
            read: bulkhead(Class::Read),
            report: bulkhead(Class::Report),
            money: bulkhead(Class::Money),
            webhooks: bulkhead(Class::Webhooks),
            receiving: Arc::new(Semaphore::new(in_flight)),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes a place for a call, or waits for one in the queue of its class. A caller that goes away leaves the queue.
    ///
    /// # Errors
    /// When the queue is full, or no place became free in time.
    pub async fn enter(&self, class: Class) -> Result<Place, ProxyError> {
        Ok(Place { _permit: self.bulkhead(class).place().await? })
    }

    /// Takes a place among the bodies that are being received. These are places of their own, so that callers who send
    /// slowly do not keep others from Sezzle. Nobody waits for one: whoever has one may take half a minute.
    ///
    /// # Errors
    /// When all are taken.
    pub fn receive(&self, class: Class) -> Result<OwnedSemaphorePermit, ProxyError> {
        Arc::clone(&self.receiving).try_acquire_owned().map_err(|_| {
            self.metrics.shed.with_label_values(&[class.as_str(), "receiving"]).inc();
            ProxyError::Overloaded
        })
    }

    fn bulkhead(&self, class: Class) -> &Bulkhead {
        match class {
            Class::Session => &self.session,
            // A caller's token exchange is answered here and takes no place.
            Class::Read | Class::Credentials => &self.read,
            Class::Report => &self.report,
            Class::Money => &self.money,
            Class::Webhooks => &self.webhooks,
        }
    }
}

impl Bulkhead {
    fn new(class: Class, in_flight: usize, metrics: &Arc<Metrics>) -> Self {
        let places = places(class, in_flight);
        Self {
            class: class.as_str(),
            places: Arc::new(Semaphore::new(places)),
            queue: Semaphore::new(queue(places)),
            metrics: Arc::clone(metrics),
        }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, ProxyError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let Ok(_waiting) = self.queue.try_acquire() else {
            return Err(self.shed("queue_full", ProxyError::Overloaded));
        };
        match timeout(QUEUE_WAIT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(self.shed("queue_timeout", ProxyError::Overloaded)),
        }
    }

    fn shed(&self, reason: &str, error: ProxyError) -> ProxyError {
        self.metrics.shed.with_label_values(&[self.class, reason]).inc();
        error
    }
}

/// How many calls of a class may be under way at once.
fn places(class: Class, in_flight: usize) -> usize {
    match class {
        Class::Session | Class::Read | Class::Money => in_flight,
        // Few at a time are of use to anybody, and each may hold its place for minutes.
        Class::Report | Class::Webhooks => (in_flight / 8).max(1),
        Class::Credentials => 0,
    }
}

/// How many may wait for so many places. With calls of a second or less a quarter of them is free within the wait.
fn queue(places: usize) -> usize {
    (places / 4).max(1)
}

/// How many calls of all classes may be under way at once: connections to Sezzle, if each takes one.
pub fn places_in_all(in_flight: usize) -> usize {
    let classes = [Class::Session, Class::Read, Class::Report, Class::Money, Class::Webhooks];
    classes.into_iter().fold(0, |sum, class| places(class, in_flight).saturating_add(sum))
}

/// How many fetches of sessions there may be at once, under way or waiting for a place.
pub fn fetches(in_flight: usize) -> usize {
    let places = places(Class::Session, in_flight);
    places.saturating_add(queue(places))
}

/// How long a call waits for a place.
pub const QUEUE_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_places_of_its_own() {
        for (in_flight, most, few, all, fetching) in
            [(512, (512, 128), (64, 16), 1664, 640), (1, (1, 1), (1, 1), 5, 2), (16, (16, 4), (2, 1), 52, 20)]
        {
            let sizes = |class| (places(class, in_flight), queue(places(class, in_flight)));
            for class in [Class::Session, Class::Read, Class::Money] {
                assert_eq!(sizes(class), most, "{class:?} of {in_flight}");
            }
            for class in [Class::Report, Class::Webhooks] {
                assert_eq!(sizes(class), few, "{class:?} of {in_flight}");
            }
            assert_eq!((places_in_all(in_flight), fetches(in_flight)), (all, fetching));
        }
    }
}
