//! Decides which calls are held back, to spare Sezzle or other calls: a bulkhead for each class of calls, so that none can
//! crowd out another; quiet when Sezzle asks for fewer calls; a circuit breaker when Sezzle fails.
//!
//! A call takes a [`Place`], and each time it is sent a [`Leave`]. An answer from memory takes neither.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ProxyError;
use super::route::Class;
use crate::clock::{Clock, Mono, Now};
use crate::telemetry::metrics::{BREAKERS, CLASSES, Metrics, QUIETED, SHED_REASONS, gauge};
use crate::upstream::breaker::{Breaker, Outcome, Pass, State};
use crate::upstream::error::UpstreamError;
use crate::upstream::quiet::Quiet;
use crate::upstream::retry::Budget;
use crate::upstream::retry_after::retry_after;

/// The bulkheads of all classes.
#[derive(Debug)]
pub struct Pressure {
    session: Arc<Bulkhead>,
    read: Arc<Bulkhead>,
    report: Arc<Bulkhead>,
    money: Arc<Bulkhead>,
    webhooks: Arc<Bulkhead>,
    receiving: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The places that the calls of one class share.
#[derive(Debug)]
struct Bulkhead {
    class: Class,
    places: Arc<Semaphore>,
    /// Calls that wait for a place, oldest first.
    queue: Semaphore,
    fares: Mutex<Fares>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// How calls of one class have fared.
#[derive(Debug, Default)]
struct Fares {
    breaker: Breaker,
    quiet: Quiet,
    budget: Budget,
}

impl Fares {
    /// Why a call would not be sent now.
    fn refusal(&self, guarded: bool, now: Now) -> Option<ProxyError> {
        let limited = self.quiet.left(now).map(ProxyError::RateLimited);
        limited.or_else(|| self.breaker.refuses(now.mono).filter(|_| guarded).map(ProxyError::CircuitOpen))
    }
}

/// A place among the calls of a class, held until it is dropped.
#[derive(Debug)]
pub struct Place {
    bulkhead: Arc<Bulkhead>,
    /// Whether the breaker has a say in it.
    guarded: bool,
    /// When it was taken.
    since: Now,
    _permit: OwnedSemaphorePermit,
}

/// Leave to send a call once. Dropped before it has [`Leave::ended`], as when the call is sent again, it says nothing of
/// Sezzle.
#[derive(Debug)]
pub struct Leave<'p> {
    bulkhead: &'p Bulkhead,
    pass: Option<Pass>,
}

impl Pressure {
    /// With `limits.in_flight` places for each class that callers wait for.
    pub fn new(in_flight: usize, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        for class in CLASSES {
            for reason in SHED_REASONS {
                metrics.shed.with_label_values(&[class, reason]).inc_by(0);
            }
        }
        for class in BREAKERS {
            metrics.breaker_state.with_label_values(&[class]).set(0);
        }
        for class in QUIETED {
            metrics.rate_limited_until.with_label_values(&[class]).set(0);
        }
        let bulkhead = |class| Arc::new(Bulkhead::new(class, in_flight, clock, metrics));
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
    /// When the queue is full, or no place became free in time, or the call would not be sent anyhow.
    pub async fn enter(&self, class: Class, method: &Method, now: Now) -> Result<Place, ProxyError> {
        let bulkhead = Arc::clone(self.bulkhead(class));
        // The breaker says nothing of calls that move money, each of which is worth trying, and an OPTIONS says nothing of
        // Sezzle.
        let guarded = class != Class::Money && matches!(*method, Method::GET | Method::HEAD);
        let (permit, since) = match Arc::clone(&bulkhead.places).try_acquire_owned() {
            Ok(permit) => (permit, now),
            // A call that would be refused anyhow does not wait for a place first.
            Err(_) => {
                bulkhead.check(|fares| fares.refusal(guarded, now))?;
                (bulkhead.wait().await?, bulkhead.clock.now())
            }
        };
        bulkhead.check(|fares| {
            let refusal = fares.refusal(guarded, since);
            if refusal.is_none() {
                fares.budget.deposit(since.mono);
            }
            refusal
        })?;
        Ok(Place { bulkhead, guarded, since, _permit: permit })
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

    /// Brings the gauges up to date.
    pub fn observe(&self) {
        for bulkhead in [&self.session, &self.read, &self.report, &self.money, &self.webhooks] {
            bulkhead.observe();
        }
    }

    fn bulkhead(&self, class: Class) -> &Arc<Bulkhead> {
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

impl Place {
    /// When it was taken.
    pub fn since(&self) -> Now {
        self.since
    }

    /// Asks for leave to send the call now, be it for the first time or once more.
    ///
    /// # Errors
    /// When it must not be sent: Sezzle asked for fewer calls, or fails.
    pub fn leave(&self, now: Now) -> Result<Leave<'_>, ProxyError> {
        let bulkhead = &*self.bulkhead;
        let pass = bulkhead.change(|fares| match fares.quiet.left(now) {
            Some(left) => Err(ProxyError::RateLimited(left)),
            None if !self.guarded => Ok(None),
            None => fares.breaker.admit(now.mono).map(Some).map_err(ProxyError::CircuitOpen),
        });
        Ok(Leave { bulkhead, pass: pass? })
    }

    /// Counts a call that is not sent at all, for this reason.
    pub fn shed(&self, refusal: ProxyError) -> ProxyError {
        self.bulkhead.shed(refusal.code(), refusal)
    }

    /// Whether there is room for one more attempt in what may be repeated in this class; takes it.
    pub fn may_repeat(&self, now: Mono) -> bool {
        self.bulkhead.change(|fares| fares.budget.withdraw(now))
    }
}

impl Leave<'_> {
    /// Whether it is the one call that tries a gateway which failed: it is sent once and not repeated.
    pub fn is_probe(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_probe)
    }

    /// The head of its answer has come; the body may take long.
    pub fn heard(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.bulkhead.quieted(retry_after(headers));
        }
    }

    /// This came of the call: its answer's status, or why there is none.
    pub fn ended(mut self, answer: Result<StatusCode, &UpstreamError>, now: Mono) {
        self.tell(Outcome::of(answer), now);
    }

    fn tell(&mut self, outcome: Outcome, now: Mono) {
        if let Some(pass) = self.pass.take() {
            self.bulkhead.change(|fares| fares.breaker.ended(&pass, outcome, now, fastrand::f64()));
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.pass.is_some() {
            self.tell(Outcome::Unknown, self.bulkhead.clock.mono());
        }
    }
}

impl Bulkhead {
    fn new(class: Class, in_flight: usize, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        let places = places(class, in_flight);
        let queue = queue(places);
        metrics.places_limit.with_label_values(&[class.as_str()]).set(gauge(places));
        metrics.queue_limit.with_label_values(&[class.as_str()]).set(gauge(queue));
        Self {
            class,
            places: Arc::new(Semaphore::new(places)),
            queue: Semaphore::new(queue),
            fares: Mutex::default(),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
        }
    }

    fn observe(&self) {
        let (class, metrics) = ([self.class.as_str()], &self.metrics);
        let places = metrics.places_limit.with_label_values(&class).get();
        let queue = metrics.queue_limit.with_label_values(&class).get();
        let taken = |of: i64, free: &Semaphore| of.saturating_sub(gauge(free.available_permits()));
        metrics.places_taken.with_label_values(&class).set(taken(places, &self.places));
        metrics.queue_length.with_label_values(&class).set(taken(queue, &self.queue));
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, ProxyError> {
        let Ok(_waiting) = self.queue.try_acquire() else {
            return Err(self.shed("queue_full", ProxyError::Overloaded));
        };
        match timeout(QUEUE_WAIT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(self.shed("queue_timeout", ProxyError::Overloaded)),
        }
    }

    /// Refuses what would not be sent.
    fn check(&self, refusal: impl FnOnce(&mut Fares) -> Option<ProxyError>) -> Result<(), ProxyError> {
        self.change(refusal).map_or(Ok(()), |error| Err(self.shed(error.code(), error)))
    }

    /// Sezzle asked for fewer calls of this class.
    fn quieted(&self, wait: Option<Duration>) {
        // A call that moves money is worth an answer of Sezzle's own each time.
        if self.class == Class::Money {
            return;
        }
        let now = self.clock.now();
        let begins = self.change(|fares| {
            let begins = fares.quiet.ask(wait, now);
            let until = fares.quiet.until().map_or(0, |until| until.0.saturating_add(999).div_euclid(1000));
            self.metrics.rate_limited_until.with_label_values(&[self.class.as_str()]).set(until);
            begins.then(|| fares.quiet.left(now)).flatten()
        });
        if let Some(left) = begins {
            let (class, seconds) = (self.class.as_str(), left.as_secs_f64());
            tracing::warn!(class, seconds, "Sezzle asks for fewer calls (429): further ones are answered here");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Fares) -> T) -> T {
        let class = self.class.as_str();
        let mut fares = self.fares.lock().unwrap_or_else(PoisonError::into_inner);
        let before = label(fares.breaker.state());
        let result = change(&mut fares);
        let state = fares.breaker.state();
        if label(state) == before {
            return result;
        }
        self.metrics.breaker_state.with_label_values(&[class]).set(label(state));
        drop(fares);
        match state {
            State::Open(until) => {
                let seconds = until.since(self.clock.now().mono).as_secs_f64();
                tracing::warn!(
                    class,
                    seconds,
                    "Sezzle fails: the circuit breaker is open and further calls are not sent"
                );
            }
            State::HalfOpen { .. } => tracing::info!(class, "the circuit breaker is half-open: one call tries Sezzle"),
            State::Closed => tracing::info!(class, "the circuit breaker is closed: calls are sent again"),
        }
        result
    }

    fn shed(&self, reason: &str, error: ProxyError) -> ProxyError {
        self.metrics.shed.with_label_values(&[self.class.as_str(), reason]).inc();
        error
    }
}

/// The value of `breaker_state`.
fn label(state: State) -> i64 {
    match state {
        State::Closed => 0,
        State::Open(_) => 1,
        State::HalfOpen { .. } => 2,
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
