//! Takes sessions that other sidecars shared, and shares sessions that this sidecar fetched.

use std::sync::Arc;

use http::StatusCode;
use http::header::DATE;
use uuid::Uuid;

use super::SessionCache;
use super::freshness::{self, Freshness, RequestDirectives};
use super::invalidation::tag_id::TagId;
use super::invalidation::{FetchId, PurgeEpoch, Tag};
use super::response::SessionResponse;
use super::revalidation::single;
use super::shared::{Awaited, Missed, Offer, SharedBodies, Sharing, Stored, Taken, Terms};
use super::store::FetchStart;
use crate::clock::{Now, Wall};
use crate::sezzle::clock::SezzleClock;
use crate::sezzle::session::{Expiration, SessionFacts};
use crate::sezzle::time::parse_http_date;
use crate::telemetry::metrics::fleet::BodyResult;

/// The result of asking the fleet for a session.
pub(super) enum Asked {
    /// The fleet was not asked.
    No,
    Missed(Option<Box<dyn Awaited>>),
    /// The answer is stored here now.
    Taken {
        answer: Arc<SessionResponse>,
        tags: Arc<[TagId]>,
        freshness: Freshness,
    },
}

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Shares answers with other sidecars from now on. Only the first call counts. `sezzle` learns each answer's
    /// `Date`.
    pub fn share_with(&self, bodies: Arc<dyn SharedBodies>, sezzle: Arc<SezzleClock>) {
        let _ = self.sharing.set(Sharing::new(bodies, sezzle));
    }

    /// The current epoch of purges. The fleet asks for it under the lock of its log.
    pub fn epoch(&self) -> PurgeEpoch {
        self.invalidation.epoch()
    }

    /// Asks the fleet for a session, and stores its answer if these rules and the caller's directives allow it.
    pub(super) async fn take(&self, key: Uuid, directives: &RequestDirectives) -> Asked {
        let (Some(sharing), Some(fleet)) = (self.sharing.get(), &self.fleet) else { return Asked::No };
        if sharing.is_outdated(key) {
            self.count_body(BodyResult::Skipped);
            return Asked::No;
        }
        let terms = {
            let policy = &self.rules.load().policy;
            Terms { margin: policy.expiration_margin, max_ttl: policy.max_ttl, sezzle: sharing.sezzle.last() }
        };
        // Numbered before the fleet is asked: an answer that Sezzle gives later is newer.
        let fetch_id = self.store.begin_fetch(key);
        let taken = match sharing.bodies.take(fleet.ids.id(&Tag::Session(key)), terms).await {
            Ok(taken) => {
                let stored = self.store_taken(fetch_id, taken, directives);
                stored.map_err(|reason| Missed { reason, awaited: None })
            }
            Err(missed) => Err(missed),
        };
        self.count_body(taken.as_ref().map_or_else(|missed| missed.reason, |_| BodyResult::Hit));
        match taken {
            Ok((answer, tags, freshness)) => Asked::Taken { answer: Arc::new(answer), tags, freshness },
            // The fleet was not asked, so `Cache-Status` does not name it.
            Err(Missed { reason: BodyResult::Skipped, .. }) => Asked::No,
            Err(Missed { awaited, .. }) => Asked::Missed(awaited),
        }
    }

    fn store_taken(
        &self,
        fetch_id: FetchId,
        taken: Taken,
        directives: &RequestDirectives,
    ) -> Result<(SessionResponse, Arc<[TagId]>, Freshness), BodyResult> {
        let Taken { answer, tags: searched, epoch, sent, ttl, age, session_left } = taken;
        let facts = SessionFacts::read(&answer.body).ok_or(BodyResult::Unopened)?;
        let tags = self.invalidation.tags(fetch_id.key, &facts);
        if *tags != *searched {
            // Another version of the sidecar reads other tags from this body, and has searched the log for them.
            return Err(BodyResult::Unopened);
        }
        let (rules, now) = (self.rules.load(), self.clock.now());
        let decided =
            freshness::decide(&rules.policy, fetch_id.key, StatusCode::OK, &answer.headers, Some(&facts), age, now);
        let decided = decided.map_err(|_| BodyResult::Expired)?;
        let freshness = Freshness {
            ttl: decided.ttl.min(ttl),
            age: decided.age.max(age),
            stale: decided.stale,
            session_left: decided.session_left.min(session_left.unwrap_or(decided.session_left)),
        };
        if !directives.accept(freshness.age, freshness.ttl) {
            return Err(BodyResult::Expired);
        }
        let start = FetchStart { id: fetch_id, epoch, sent };
        let stored = self.store.insert(start, &answer, &tags, freshness, now);
        let freshness = stored.map_err(|_| BodyResult::Purged)?;
        self.metrics.cache_ttl.observe(freshness.ttl.as_secs_f64());
        Ok((answer, tags, freshness))
    }

    /// Prepares to share an answer that is about to be checked and stored.
    pub(super) fn offer(&self, key: Uuid) -> Option<Box<dyn Offer>> {
        let (sharing, fleet) = (self.sharing.get()?, self.fleet.as_ref()?);
        sharing.bodies.offer(fleet.ids.id(&Tag::Session(key)))
    }

    /// Notes that an answer of Sezzle is stored, and shares that answer. Returns whether it is on its way to the fleet.
    pub(super) fn share(&self, offer: Option<Box<dyn Offer>>, key: Uuid, stored: impl FnOnce() -> Stored) -> bool {
        if let Some(sharing) = self.sharing.get() {
            sharing.renew(key);
        }
        offer.is_some_and(|offer| offer.share(stored()))
    }

    /// Notes the `Date` of Sezzle's answer.
    pub(super) fn note_date(&self, answer: &SessionResponse, now: Now) {
        if let (Some(sharing), Some(date)) = (self.sharing.get(), date(answer)) {
            sharing.sezzle.note(date, now);
        }
    }

    /// Removes the answer of an earlier fetch than this one, and does not take such an answer from others: Sezzle has
    /// given a different one since.
    pub(super) fn outdate(&self, fetch_id: FetchId) {
        self.store.outdate(fetch_id);
        if let Some(sharing) = self.sharing.get() {
            sharing.outdate(fetch_id.key);
        }
    }

    fn count_body(&self, result: BodyResult) {
        self.metrics.fleet_bodies.with_label_values(&[result.as_str()]).inc();
    }
}

/// A stored answer, as other sidecars get it.
pub(super) fn stored(
    answer: &Arc<SessionResponse>,
    tags: &Arc<[TagId]>,
    facts: &SessionFacts,
    freshness: Freshness,
    at: Now,
) -> Stored {
    let expiration = match facts.expiration {
        Expiration::At(at) => Some(at),
        // An answer with an expiration that cannot be read is not stored.
        Expiration::NotTokenized | Expiration::Unreadable => None,
    };
    let (answer, tags) = (Arc::clone(answer), Arc::clone(tags));
    Stored { date: date(&answer), answer, tags, expiration, freshness, at }
}

fn date(answer: &SessionResponse) -> Option<Wall> {
    parse_http_date(single(&answer.headers, &DATE)?.to_str().ok()?)
}
