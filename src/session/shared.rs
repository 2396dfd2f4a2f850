//! Shares answers among the sidecars of a fleet, in both directions. The cache gets [`SharedBodies`] if its fleet has
//! keys.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use uuid::Uuid;

use super::freshness::Freshness;
use super::invalidation::PurgeEpoch;
use super::invalidation::tag_id::TagId;
use super::response::SessionResponse;
use crate::clock::{Now, Wall};
use crate::sezzle::clock::SezzleClock;
use crate::telemetry::metrics::fleet::BodyResult;

/// Gives and takes the answers that the sidecars of a fleet share.
pub trait SharedBodies: fmt::Debug + Send + Sync {
    /// Looks for a session's answer that another sidecar shared, and reads the fleet's log with it. On return, every
    /// purge of the log is done here. Fails if the fleet has no answer that may be used.
    fn take<'a>(&'a self, session: TagId, terms: Terms) -> Taking<'a>;

    /// Notes how far the log is read. The offer may share an answer that is checked and stored after this call. `None`
    /// if no answer can be shared now.
    fn offer(&self, session: TagId) -> Option<Box<dyn Offer>>;
}

pub type Taking<'a> = Pin<Box<dyn Future<Output = Result<Taken, Missed>> + Send + 'a>>;

/// Why no answer of another sidecar may be used.
#[derive(Debug)]
pub struct Missed {
    pub reason: BodyResult,
    /// `Some` if other sidecars wait for this sidecar's fetch.
    pub awaited: Option<Box<dyn Awaited>>,
}

/// A fetch of this sidecar for which other sidecars wait. `Drop` tells them that its answer is not shared.
pub trait Awaited: fmt::Debug + Send {
    /// Takes note that the answer is on its way to them.
    fn shared(self: Box<Self>);
}

/// The right to share one answer.
pub trait Offer: fmt::Debug + Send {
    /// Shares an answer that was stored after this offer was made. Does not wait. Returns whether the answer is on its
    /// way.
    fn share(self: Box<Self>, stored: Stored) -> bool;
}

/// The conditions under which a sidecar takes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long before `tokenize.expiration` an entry becomes stale.
    pub margin: Duration,
    /// Longest lifetime of any entry.
    pub max_ttl: Duration,
    /// The last `Date` that Sezzle sent to this sidecar, and the local time of its arrival.
    pub sezzle: Option<(Wall, Now)>,
}

/// An answer that another sidecar shared, and that no purge forbids.
#[derive(Debug)]
pub struct Taken {
    pub answer: SessionResponse,
    /// The tags by which the log was searched for purges.
    pub tags: Vec<TagId>,
    /// Up to this epoch, no purge of the log forbids the answer.
    pub epoch: PurgeEpoch,
    /// When the request for the answer was sent.
    pub sent: Now,
    /// How long from now the answer may be served.
    pub ttl: Duration,
    /// The answer's age now (RFC 9111, 4.2.3).
    pub age: Duration,
    /// How long from now until the session itself is over; `None` if that is not known.
    pub session_left: Option<Duration>,
}

/// A stored answer, as other sidecars get it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub answer: Arc<SessionResponse>,
    pub tags: Arc<[TagId]>,
    /// The `Date` of the answer.
    pub date: Option<Wall>,
    /// `tokenize.expiration`, if the session has one.
    pub expiration: Option<Wall>,
    pub freshness: Freshness,
    /// When the answer was stored.
    pub at: Now,
}

/// The cache's side of sharing.
#[derive(Debug)]
pub(super) struct Sharing {
    pub(super) bodies: Arc<dyn SharedBodies>,
    pub(super) sezzle: Arc<SezzleClock>,
    /// Sessions of which this sidecar has seen a newer answer that it did not store: it must not go back to an older
    /// one, which others may have shared.
    outdated: Cache<Uuid, ()>,
}

impl Sharing {
    pub(super) fn new(bodies: Arc<dyn SharedBodies>, sezzle: Arc<SezzleClock>) -> Self {
        let outdated = Cache::builder().max_capacity(MAX_OUTDATED).time_to_live(OUTDATED_FOR).build();
        Self { bodies, sezzle, outdated }
    }

    pub(super) fn outdate(&self, session: Uuid) {
        self.outdated.insert(session, ());
    }

    /// Notes that an answer of Sezzle is stored, which is newer than all answers before.
    pub(super) fn renew(&self, session: Uuid) {
        self.outdated.invalidate(&session);
    }

    pub(super) fn is_outdated(&self, session: Uuid) -> bool {
        self.outdated.contains_key(&session)
    }
}

// No shared answer lives longer.
const OUTDATED_FOR: Duration = Duration::from_secs(600);
const MAX_OUTDATED: u64 = 10_000;
