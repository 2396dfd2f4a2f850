//! Decides which calls are held back, to spare Sezzle or other calls. Each class of calls has its own limit, so that no
//! class can crowd out another. A class is held back after Sezzle asked for fewer calls, and a circuit breaker opens
//! when Sezzle fails.
//!
//! A call takes a [`Permit`], and a [`SendPermit`] each time it is sent. An answer from memory takes neither.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::error::ProxyError;
use super::route::Class;
use crate::clock::{Clock, Mono, Now};
use crate::telemetry::metrics::{BREAKERS, Metrics, RATE_LIMITED_CLASSES, SHED_REASONS, gauge};
use crate::upstream::breaker::{Breaker, BreakerPermit, Signal, State};
use crate::upstream::error::UpstreamError;
use crate::upstream::rate_limit_hold::RateLimitHold;
use crate::upstream::retry::Budget;
use crate::upstream::retry_after::retry_after;

/// The limits of all classes.
#[derive(Debug)]
pub struct Pressure {
    session: Arc<ClassLimit>,
    read: Arc<ClassLimit>,
    report: Arc<ClassLimit>,
    money: Arc<ClassLimit>,
    webhooks: Arc<ClassLimit>,
    receiving: Semaphore,
    receiving_keys: Semaphore,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct ClassLimit {
    class: Class,
    permits: Arc<Semaphore>,
    /// Room for the calls that wait for a permit.
    queue: Semaphore,
    health: Mutex<ClassHealth>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// How calls of one class ended lately, and so whether more of them are sent.
#[derive(Debug, Default)]
struct ClassHealth {
    breaker: Breaker,
    hold: RateLimitHold,
    budget: Budget,
}

impl ClassHealth {
    /// Why a call would not be sent now, if so.
    fn refusal(&self, guarded: bool, now: Now) -> Option<ProxyError> {
        let limited = self.hold.left(now).map(ProxyError::RateLimited);
        limited.or_else(|| self.breaker.refuses(now.mono).filter(|_| guarded).map(ProxyError::CircuitOpen))
    }
}

/// The right to have one call of a class under way, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<ClassLimit>,
    /// Whether the breaker may refuse the call.
    guarded: bool,
    /// When the call got the permit.
    pub since: Now,
    _taken: OwnedSemaphorePermit,
}

/// The right to send a call once. A send permit that is dropped before [`SendPermit::finish`], as when the call is sent
/// again, tells the breaker nothing about Sezzle.
#[derive(Debug)]
pub struct SendPermit<'p> {
    limit: &'p ClassLimit,
    breaker: Option<BreakerPermit>,
}

impl Pressure {
    /// `in_flight` is the number of permits of a class that callers wait for.
    pub fn new(in_flight: usize, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        for class in Class::WORDS {
            for reason in SHED_REASONS {
                metrics.shed.with_label_values(&[class, reason]).inc_by(0);
            }
        }
        for class in BREAKERS {
            metrics.breaker_state.with_label_values(&[class]).set(0);
        }
        for class in RATE_LIMITED_CLASSES {
            metrics.rate_limited_until.with_label_values(&[class]).set(0);
        }
        let limit = |class| Arc::new(ClassLimit::new(class, in_flight, clock, metrics));
        Self {
            session: limit(Class::Session),
            read: limit(Class::Read),
            report: limit(Class::Report),
            money: limit(Class::Money),
            webhooks: limit(Class::Webhooks),
            receiving: Semaphore::new(in_flight),
            receiving_keys: Semaphore::new(in_flight),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes a permit for a call, or waits for one in the queue of the class. A caller that goes away leaves the queue.
    /// Fails when the queue is full, no permit became free in time, or the call would not be sent anyhow.
    pub async fn enter(&self, class: Class, method: &Method, now: Now) -> Result<Permit, ProxyError> {
        let limit = Arc::clone(self.limit(class));
        // A call that moves money is always worth trying, and an OPTIONS tells nothing about Sezzle's health.
        let guarded = class != Class::Money && matches!(*method, Method::GET | Method::HEAD);
        let (taken, since) = match Arc::clone(&limit.permits).try_acquire_owned() {
            Ok(taken) => (taken, now),
            // A call that would be refused anyhow does not wait for a permit first.
            Err(_) => {
                limit.check(|health| health.refusal(guarded, now))?;
                // Boxed, since hardly any call needs this future's room.
                (Box::pin(limit.wait()).await?, limit.clock.now())
            }
        };
        limit.check(|health| {
            let refusal = health.refusal(guarded, since);
            if refusal.is_none() {
                health.budget.deposit(since.mono);
            }
            refusal
        })?;
        Ok(Permit { limit, guarded, since, _taken: taken })
    }

    /// Takes a permit to receive a body. These permits are apart from those of the classes, so that slow callers do not
    /// keep others from Sezzle. The bodies of exchanges have permits of their own, because strangers may send some.
    /// Nobody waits for a permit, because a caller may keep it for half a minute.
    pub fn receive(&self, class: Class) -> Result<SemaphorePermit<'_>, ProxyError> {
        let permits = if class == Class::Credentials { &self.receiving_keys } else { &self.receiving };
        permits.try_acquire().map_err(|_| {
            self.metrics.shed.with_label_values(&[class.as_str(), "receiving"]).inc();
            ProxyError::Overloaded
        })
    }

    /// Forgets how calls ended lately, as at the start: closes the breakers, ends the waits after a 429, and fills the
    /// retry budgets.
    pub fn reset(&self) {
        for limit in [&self.session, &self.read, &self.report, &self.money, &self.webhooks] {
            limit.reset();
        }
    }

    /// Brings the gauges up to date.
    pub fn observe(&self) {
        for limit in [&self.session, &self.read, &self.report, &self.money, &self.webhooks] {
            limit.observe();
        }
    }

    fn limit(&self, class: Class) -> &Arc<ClassLimit> {
        match class {
            Class::Session => &self.session,
            // The sidecar answers a caller's token exchange itself, without a permit.
            Class::Read | Class::Credentials => &self.read,
            Class::Report => &self.report,
            Class::Money => &self.money,
            Class::Webhooks => &self.webhooks,
        }
    }
}

impl Permit {
    /// Asks to send the call, be it for the first time or again. Refuses when Sezzle asked for fewer calls, or fails.
    pub fn acquire_send(&self, now: Now) -> Result<SendPermit<'_>, ProxyError> {
        let limit = &*self.limit;
        let breaker = limit.change(|health| match health.hold.left(now) {
            Some(left) => Err(ProxyError::RateLimited(left)),
            None if !self.guarded => Ok(None),
            None => health.breaker.admit(now.mono).map(Some).map_err(ProxyError::CircuitOpen),
        });
        Ok(SendPermit { limit, breaker: breaker? })
    }

    /// Counts a call that is not sent at all, for this reason.
    pub fn shed(&self, refusal: ProxyError) -> ProxyError {
        self.limit.shed(refusal.code(), refusal)
    }

    /// Takes room for one retry from the budget of the class. Returns whether there was room.
    pub fn withdraw_retry(&self, now: Mono) -> bool {
        self.limit.change(|health| health.budget.withdraw(now))
    }
}

impl SendPermit<'_> {
    /// Whether this call is the trial of a half-open breaker. A trial is sent once and not repeated.
    pub fn is_trial(&self) -> bool {
        self.breaker.as_ref().is_some_and(BreakerPermit::is_trial)
    }

    /// Takes note of the head of the answer. The body may take long.
    pub fn head_received(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.limit.begin_hold(retry_after(headers));
        }
    }

    /// Tells the breaker how the call ended: the status of the answer, or why there is none.
    pub fn finish(mut self, answer: Result<StatusCode, &UpstreamError>, now: Mono) {
        self.signal(Signal::from_result(answer), now);
    }

    fn signal(&mut self, signal: Signal, now: Mono) {
        if let Some(permit) = self.breaker.take() {
            self.limit.change(|health| health.breaker.ended(&permit, signal, now, fastrand::f64()));
        }
    }
}

impl Drop for SendPermit<'_> {
    fn drop(&mut self) {
        if self.breaker.is_some() {
            self.signal(Signal::Neutral, self.limit.clock.mono());
        }
    }
}

impl ClassLimit {
    fn new(class: Class, in_flight: usize, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        let permits = permits(class, in_flight);
        let queue = queue_length(permits);
        metrics.places_limit.with_label_values(&[class.as_str()]).set(gauge(permits));
        metrics.queue_limit.with_label_values(&[class.as_str()]).set(gauge(queue));
        Self {
            class,
            permits: Arc::new(Semaphore::new(permits)),
            queue: Semaphore::new(queue),
            health: Mutex::default(),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
        }
    }

    fn observe(&self) {
        let (class, metrics) = ([self.class.as_str()], &self.metrics);
        let permits = metrics.places_limit.with_label_values(&class).get();
        let queue = metrics.queue_limit.with_label_values(&class).get();
        let taken = |of: i64, free: &Semaphore| of.saturating_sub(gauge(free.available_permits()));
        metrics.places_taken.with_label_values(&class).set(taken(permits, &self.permits));
        metrics.queue_length.with_label_values(&class).set(taken(queue, &self.queue));
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, ProxyError> {
        let Ok(_waiting) = self.queue.try_acquire() else {
            return Err(self.shed("queue_full", ProxyError::Overloaded));
        };
        match timeout(QUEUE_WAIT, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) | Err(_) => Err(self.shed("queue_timeout", ProxyError::Overloaded)),
        }
    }

    /// Refuses a call that would not be sent.
    fn check(&self, refusal: impl FnOnce(&mut ClassHealth) -> Option<ProxyError>) -> Result<(), ProxyError> {
        self.change(refusal).map_or(Ok(()), |error| Err(self.shed(error.code(), error)))
    }

    /// Takes note that Sezzle asked for fewer calls of this class.
    fn begin_hold(&self, wait: Option<Duration>) {
        // Each call that moves money deserves an answer from Sezzle itself.
        if self.class == Class::Money {
            return;
        }
        let now = self.clock.now();
        let begins = self.change(|health| {
            let begins = health.hold.extend(wait, now);
            let until = health.hold.until().map_or(0, |until| until.0.saturating_add(999).div_euclid(1000));
            self.metrics.rate_limited_until.with_label_values(&[self.class.as_str()]).set(until);
            begins.then(|| health.hold.left(now)).flatten()
        });
        if let Some(left) = begins {
            let (class, seconds) = (self.class.as_str(), left.as_secs_f64());
            tracing::warn!(class, seconds, "Sezzle asks for fewer calls (429), so the sidecar holds back this class");
        }
    }

    fn reset(&self) {
        self.change(|health| {
            health.breaker.reset();
            (health.hold, health.budget) = (RateLimitHold::default(), Budget::default());
            if self.class != Class::Money {
                self.metrics.rate_limited_until.with_label_values(&[self.class.as_str()]).set(0);
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut ClassHealth) -> T) -> T {
        let class = self.class.as_str();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let before = label(health.breaker.state());
        let result = change(&mut health);
        let state = health.breaker.state();
        if label(state) == before {
            return result;
        }
        self.metrics.breaker_state.with_label_values(&[class]).set(label(state));
        drop(health);
        match state {
            State::Open(until) => {
                let seconds = until.since(self.clock.mono()).as_secs_f64();
                tracing::warn!(
                    class,
                    seconds,
                    "Sezzle fails: the circuit breaker opens, and the sidecar sends no GET or HEAD of this class"
                );
            }
            State::HalfOpen { .. } => tracing::info!(class, "the circuit breaker is half-open: one call is a trial"),
            State::Closed => tracing::info!(class, "the circuit breaker closes: the sidecar sends calls again"),
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
fn permits(class: Class, in_flight: usize) -> usize {
    match class {
        Class::Session | Class::Read | Class::Money => in_flight,
        // Nobody needs many of these calls at a time, and each may keep its permit for minutes.
        Class::Report | Class::Webhooks => (in_flight / 8).max(1),
        Class::Credentials => 0,
    }
}

/// How many calls may wait for these permits. With calls of a second, a quarter becomes free within [`QUEUE_WAIT`].
fn queue_length(permits: usize) -> usize {
    (permits / 4).max(1)
}

/// How many calls of all classes may be under way at once: connections to Sezzle, if each call takes one.
pub fn all_permits(in_flight: usize) -> usize {
    let classes = [Class::Session, Class::Read, Class::Report, Class::Money, Class::Webhooks];
    classes.into_iter().fold(0, |sum, class| permits(class, in_flight).saturating_add(sum))
}

/// How many fetches of sessions there may be at once, under way or waiting for a permit.
pub fn fetches(in_flight: usize) -> usize {
    let permits = permits(Class::Session, in_flight);
    permits.saturating_add(queue_length(permits))
}

/// How long a call waits for a permit.
pub const QUEUE_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_permits_of_its_own() {
        for (in_flight, most, few, all, fetching) in
            [(512, (512, 128), (64, 16), 1664, 640), (1, (1, 1), (1, 1), 5, 2), (16, (16, 4), (2, 1), 52, 20)]
        {
            let sizes = |class| (permits(class, in_flight), queue_length(permits(class, in_flight)));
            for class in [Class::Session, Class::Read, Class::Money] {
                assert_eq!(sizes(class), most, "{class:?} of {in_flight}");
            }
            for class in [Class::Report, Class::Webhooks] {
                assert_eq!(sizes(class), few, "{class:?} of {in_flight}");
            }
            assert_eq!((all_permits(in_flight), fetches(in_flight)), (all, fetching));
        }
    }
}
