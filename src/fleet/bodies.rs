//! Shared bodies: a pod writes the bodies that it has fetched to the server, and reads there the bodies of other pods.
//!
//! A lookup reads a body *and then the log* in one pipeline, and obeys the log before it looks at the body. Neither a
//! clock nor a lease is involved: the body is used if the log says nothing against it since its position.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Semaphore;

use super::body::{Answer, Facts, SharedBody};
use super::commands;
use super::conversation::ask;
use super::failure::Failure;
use super::life::{Reader, ServerClock, left};
use super::pause::Pause;
use super::seal::unseal;
use super::slots::{FetchMark, Slot, SlotOffer, Slots};
use crate::clock::{Mono, Now};
use crate::session::SessionCache;
use crate::session::invalidation::tag_id::TagId;
use crate::session::response::SessionResponse;
use crate::session::shared::{Awaited, Missed, Offer, SharedBodies, Taken, Taking, Terms};
use crate::telemetry::metrics::fleet::{BodyResult, CommandResult, FleetCommand};

/// Takes the bodies of other pods, and shares those of this pod.
#[derive(Debug)]
pub struct Bodies<E: Clone + Send + Sync + 'static> {
    slots: Arc<Slots>,
    /// Weak, because the cache holds this value.
    sessions: Weak<SessionCache<E>>,
    /// Permits for questions under way.
    asking: Semaphore,
    pause: Pause,
}

/// Why a question brought no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Miss {
    /// The server has no body. `fetched` says whether some pod fetches the session.
    Absent { fetched: bool },
    /// No body can be used, and a wait would not help.
    Other(BodyResult),
}

impl<E: Clone + Send + Sync + 'static> Bodies<E> {
    pub fn new(slots: Slots, sessions: &Arc<SessionCache<E>>) -> Self {
        let asking = Semaphore::new(MOST_ASKED);
        Self { slots: Arc::new(slots), sessions: Arc::downgrade(sessions), asking, pause: Pause::default() }
    }

    /// Looks for a usable body, if necessary by a wait for the pod that fetches it.
    async fn look(&self, session: TagId, terms: Terms) -> Result<Taken, Missed> {
        let Slots { pod, clock, .. } = &*self.slots;
        let (began, wait) = (clock.mono(), pod.times().flight_wait);
        let found = match self.find(session, terms).await {
            Ok(taken) => Ok(taken),
            Err(Miss::Other(reason)) => Err(Missed { reason, awaited: None }),
            Err(Miss::Absent { .. }) if wait.is_zero() => Err(ABSENT),
            Err(Miss::Absent { .. }) => self.wait(session, terms, began.plus(wait)).await,
        };
        if !matches!(found, Err(Missed { reason: BodyResult::Skipped, .. })) {
            pod.series.read_took(clock.mono().since(began));
        }
        found
    }

    /// Marks that this pod fetches the session for all pods. If another pod has done so, waits for the body of that
    /// pod.
    async fn wait(&self, session: TagId, terms: Terms, until: Mono) -> Result<Taken, Missed> {
        let clock = &self.slots.clock;
        if let Some(mark) = self.mark(session).await {
            return Err(Missed { awaited: Some(mark), ..ABSENT });
        }
        loop {
            let left = until.since(clock.mono());
            if left.is_zero() {
                return Err(ABSENT);
            }
            clock.sleep(left.min(BETWEEN)).await;
            match self.find(session, terms).await {
                Ok(taken) => return Ok(taken),
                Err(Miss::Absent { fetched: true }) => {}
                Err(Miss::Absent { fetched: false }) => return Err(ABSENT),
                Err(Miss::Other(reason)) => return Err(Missed { reason, awaited: None }),
            }
        }
    }

    /// Marks that this pod fetches a session. `None` if another pod fetches it, or if the server did not answer.
    async fn mark(&self, session: TagId) -> Option<Box<dyn Awaited>> {
        let Slots { pod, clock, .. } = &*self.slots;
        let slot = self.slots.slot(session, clock.now())?;
        let _permit = self.asking.try_acquire().ok()?;
        let (line, pipeline) = (&slot.lent.line, commands::mark(slot.flight.as_ref()?));
        let limit = pod.times().timeout;
        let asked = ask(line, &pod.series, FleetCommand::Read, &pipeline, limit, commands::marked).await;
        // Without an answer the mark may stand in the server all the same. The next pod then waits for a moment in
        // vain.
        asked.ok().filter(|is_set| *is_set)?;
        Some(Box::new(FetchMark::new(Arc::clone(&self.slots), slot)))
    }

    /// Asks for a body and for the log, and obeys the log.
    async fn find(&self, session: TagId, terms: Terms) -> Result<Taken, Miss> {
        let Slots { pod, clock, keys, .. } = &*self.slots;
        let sent = clock.now();
        let slot = self.slots.slot(session, sent).filter(|slot| !self.pause.holds(slot.synced));
        let (Some(slot), Some(sessions), Ok(_permit)) = (slot, self.sessions.upgrade(), self.asking.try_acquire())
        else {
            pod.series.asked(FleetCommand::Read, CommandResult::Skipped);
            return Err(Miss::Other(BodyResult::Skipped));
        };
        let Slot { lent, body, flight, ticket, .. } = &slot;
        let pipeline = commands::take(&lent.names, body, flight.as_deref(), ticket.from());
        let limit = pod.times().timeout;
        let taken = |replies| commands::taken(replies, flight.is_some());
        let asked = ask(&lent.line, &pod.series, FleetCommand::Read, &pipeline, limit, taken).await;
        let received = clock.now();
        let (sealed, fetched, read) = asked.map_err(|failure| Miss::Other(self.unread(&failure, sent)))?;
        // Opening takes some microseconds, so it comes before the lock is taken.
        let opened = sealed.as_ref().map(|sealed| unseal(sealed, &keys.keys(), body));
        let page = read.page();
        // If the log does not go on, the link joins anew at its next poll.
        let goes_on = pod.obey(&sessions, &page, |log, now| log.advance(ticket, &page, now)).is_ok();
        let SharedBody { facts: Facts { position, times, tags }, answer } = match opened {
            Some(Ok(body)) => body,
            None => return Err(Miss::Absent { fetched }),
            // An empty body says that the pod which fetched for all has nothing to share.
            Some(Err(_)) if sealed.is_some_and(|sealed| sealed.is_empty()) => return other(BodyResult::Absent),
            Some(Err(_)) => return other(BodyResult::Unopened),
        };
        let epoch = {
            // The epoch is read under the lock, so every later purge, by the log or by this pod, counts as one since
            // then.
            let log = pod.lock();
            (goes_on && log.may_take(ticket, &page, &tags, position)).then(|| sessions.epoch())
        };
        let Some(epoch) = epoch else { return other(BodyResult::Purged) };
        let Terms { margin, max_ttl, sezzle } = terms;
        let reader = Reader { server: ServerClock::new(read.time, sent, received), sezzle, margin, max_ttl };
        let Some(left) = left(&times, &reader, clock.now()) else { return other(BodyResult::Expired) };
        let Answer { etag, headers, body } = answer;
        let (status, fwd_status) = (StatusCode::OK, StatusCode::OK);
        let answer = SessionResponse { status, fwd_status, headers, etag, body };
        Ok(Taken { answer, tags, epoch, sent, ttl: left.ttl, age: left.age, session_left: left.session })
    }

    /// The result of a question that failed. After a late reply, lookups pause.
    fn unread(&self, failure: &Failure, sent: Now) -> BodyResult {
        match failure {
            Failure::Late(_) => {
                self.pause.begin(sent);
                BodyResult::Timeout
            }
            _ => BodyResult::Skipped,
        }
    }
}

impl<E: fmt::Debug + Clone + Send + Sync + 'static> SharedBodies for Bodies<E> {
    fn take<'a>(&'a self, session: TagId, terms: Terms) -> Taking<'a> {
        Box::pin(self.look(session, terms))
    }

    fn offer(&self, session: TagId) -> Option<Box<dyn Offer>> {
        let slots = Arc::clone(&self.slots);
        let slot = slots.slot(session, slots.clock.now())?;
        Some(Box::new(SlotOffer { slots, slot }))
    }
}

fn other<T>(reason: BodyResult) -> Result<T, Miss> {
    Err(Miss::Other(reason))
}

const ABSENT: Missed = Missed { reason: BodyResult::Absent, awaited: None };

// The interval at which a lookup asks while it waits for the fetch of another pod.
const BETWEEN: Duration = Duration::from_millis(20);

// The most questions under way, which is more than a fast server leaves unanswered. Each body takes up to 256 KiB.
const MOST_ASKED: usize = 64;
