//! Shared bodies: what other pods fetched is read from the server, and what this pod fetched is written there.
//!
//! A lookup reads a body *and then the log* in one pipeline, and obeys the log before it looks at the body. Neither a
//! clock nor a lease is involved: the body is used if the log says nothing against it since its position.

use std::fmt;
use std::sync::{Arc, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use http::StatusCode;
use http::header::AGE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::body::{Answer, Facts, SharedBody};
use super::commands;
use super::connect::STEP;
use super::conversation::label;
use super::entry::Position;
use super::failure::Failure;
use super::key_ring::KeyRing;
use super::keys::SALT;
use super::life::{Reader, ServerClock, Times, left};
use super::log::{State, Ticket};
use super::pause::Pause;
use super::pod::{Lent, Pod};
use super::seal::{SealError, seal, unseal};
use crate::clock::{Clock, Now, Wall};
use crate::session::SessionCache;
use crate::session::invalidation::tag_id::TagId;
use crate::session::response::SessionResponse;
use crate::session::shared::{Offer, SharedBodies, Stored, Taken, Taking, Terms};
use crate::telemetry::metrics::fleet::{BodyResult, CommandResult, FleetCommand};

/// The bodies that one pod takes and shares.
#[derive(Debug)]
pub struct Bodies<E: Clone + Send + Sync + 'static> {
    shelf: Arc<Shelf>,
    /// The cache holds this.
    sessions: Weak<SessionCache<E>>,
    asking: Semaphore,
    pause: Pause,
}

/// What reading and writing have in common.
#[derive(Debug)]
pub struct Shelf {
    pub pod: Arc<Pod>,
    pub keys: Arc<KeyRing>,
    /// The URL to which this pod points links; empty if it leaves them. Pods with another have bodies of their own.
    pub links: String,
    /// Bodies are written as these tasks.
    pub tasks: TaskTracker,
    pub clock: Clock,
    sharing: Arc<Semaphore>,
}

impl Shelf {
    pub fn new(pod: Arc<Pod>, keys: Arc<KeyRing>, links: String, tasks: TaskTracker, clock: Clock) -> Self {
        Self { pod, keys, links, tasks, clock, sharing: Arc::new(Semaphore::new(MOST_SHARED)) }
    }

    /// The place of a session's body, and the position in the log. `None` if the link is not synced, or if the server
    /// does not say who it is.
    fn place(&self, session: TagId, now: Now) -> Option<Place> {
        let lent = self.pod.lent()?;
        let log = self.pod.lock();
        let (position, server, id) = log.position().filter(|_| log.state() == State::Synced)?;
        let name = lent.names.body(server, id, self.in_form(session));
        Some(Place { ticket: log.ask(now)?, position, name, lent })
    }

    /// The id of a session whose links lead to this pod's URL.
    fn in_form(&self, session: TagId) -> TagId {
        let hash = digest(&SHA256, &[&session.0, self.links.as_bytes()].concat());
        // A digest of this kind has 32 bytes.
        TagId(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// A session's place in the server, as of a moment.
#[derive(Debug)]
struct Place {
    lent: Arc<Lent>,
    name: String,
    /// The log was read up to here.
    position: Position,
    ticket: Ticket,
}

impl<E: Clone + Send + Sync + 'static> Bodies<E> {
    pub fn new(shelf: Shelf, sessions: &Arc<SessionCache<E>>) -> Self {
        let asking = Semaphore::new(MOST_ASKED);
        Self { shelf: Arc::new(shelf), sessions: Arc::downgrade(sessions), asking, pause: Pause::default() }
    }

    async fn look(&self, session: TagId, terms: Terms) -> Result<Taken, BodyResult> {
        let Shelf { pod, clock, keys, .. } = &*self.shelf;
        let sent = clock.now();
        let is_paused = || self.pause.holds(pod.lock().horizon().synced);
        let place = self.shelf.place(session, sent).filter(|_| !is_paused());
        let (Some(place), Some(sessions), Ok(_permit)) = (place, self.sessions.upgrade(), self.asking.try_acquire())
        else {
            pod.series.asked(FleetCommand::Read, CommandResult::Skipped);
            return Err(BodyResult::Skipped);
        };
        let Place { lent, name, ticket, .. } = &place;
        let pipeline = commands::take(&lent.names, name, ticket.from());
        let asked = lent.line.ask(&pipeline, pod.times().timeout).await.and_then(commands::taken);
        let received = clock.now();
        pod.series.asked(FleetCommand::Read, label(asked.as_ref().err()));
        pod.series.read_took(received.mono.since(sent.mono));
        let (sealed, read) = asked.map_err(|failure| self.unread(&failure, sent))?;
        // Before the lock is taken, because it takes some microseconds.
        let opened = sealed.map(|sealed| unseal(&sealed, &keys.keys(), name));
        let page = read.page();
        // The link joins anew at its next poll.
        let goes_on = pod.read(&sessions, &page, |log, now| log.read(ticket, &page, now)).is_ok();
        let SharedBody { facts: Facts { position, times, tags }, answer } =
            opened.ok_or(BodyResult::Absent)?.map_err(|_| BodyResult::Unopened)?;
        let began = {
            // Whatever is purged from now on, by the log or by this pod, counts as purged since.
            let log = pod.lock();
            (goes_on && log.may_take(ticket, &page, &tags, position)).then(|| sessions.epoch())
        };
        let began = began.ok_or(BodyResult::Purged)?;
        let time = Wall(i64::try_from(read.time).unwrap_or(i64::MAX));
        let Terms { margin, max_ttl, sezzle } = terms;
        let reader = Reader { server: ServerClock { time, sent, received }, sezzle, margin, max_ttl };
        let left = left(&times, &reader, clock.now()).ok_or(BodyResult::Expired)?;
        let Answer { etag, headers, body } = answer;
        let (status, fwd_status) = (StatusCode::OK, StatusCode::OK);
        let answer = SessionResponse { status, fwd_status, headers, etag, body };
        Ok(Taken { answer, tags, began, sent, ttl: left.ttl, age: left.age, session_left: left.session })
    }

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
        let shelf = Arc::clone(&self.shelf);
        let place = shelf.place(session, shelf.clock.now())?;
        Some(Box::new(PlaceFor { shelf, place }))
    }
}

/// A place for a body that is about to be stored.
#[derive(Debug)]
struct PlaceFor {
    shelf: Arc<Shelf>,
    place: Place,
}

impl Offer for PlaceFor {
    fn share(self: Box<Self>, stored: Stored) -> bool {
        let shelf = Arc::clone(&self.shelf);
        let Shelf { pod, clock, sharing, tasks, .. } = &*shelf;
        let (now, server) = (clock.now(), pod.server_clock());
        let life = stored.freshness.ttl.saturating_sub(now.since(stored.at));
        let may_share = pod.lock().may_share(&stored.tags) && !life.is_zero();
        let permit = Arc::clone(sharing).try_acquire_owned().ok();
        let (Some(server), Some(permit)) = (server.filter(|_| may_share), permit) else {
            pod.series.asked(FleetCommand::Share, CommandResult::Skipped);
            return false;
        };
        let age = stored.freshness.age.saturating_add(now.since(stored.at));
        let times = Times::new(stored.date, stored.expiration, age, life, &server, now);
        tasks.spawn(self.write(stored, times, permit));
        true
    }
}

impl PlaceFor {
    async fn write(self: Box<Self>, stored: Stored, times: Times, _permit: OwnedSemaphorePermit) {
        let Place { lent, name, position, .. } = &self.place;
        let series = &self.shelf.pod.series;
        let mut headers = stored.answer.headers.clone();
        // The reader computes the age from the times.
        headers.remove(AGE);
        let answer = Answer { etag: stored.answer.etag.clone(), headers, body: stored.answer.body.clone() };
        let facts = Facts { position: *position, times, tags: stored.tags.to_vec() };
        let mut salt = [0; SALT];
        if rand::fill(&mut salt).is_err() {
            return;
        }
        let sealed = match seal(&SharedBody { facts, answer }, &self.shelf.keys.keys(), name, salt) {
            Ok(sealed) => sealed,
            Err(SealError::TooLarge) => return series.body(BodyResult::TooLarge),
            Err(SealError::Failed) => return,
        };
        let asked = lent.line.ask(&commands::share(name, &sealed, times.end), STEP).await.and_then(commands::shared);
        series.asked(FleetCommand::Share, label(asked.as_ref().err()));
        if asked.is_ok() {
            series.body(BodyResult::Stored);
        }
    }
}

// More at once than a fast server leaves unanswered. Each body takes up to a quarter of a MiB.
const MOST_ASKED: usize = 64;
const MOST_SHARED: usize = 64;
