//! Exchanges with Sezzle about a session, and their effect on what is stored: one fetch per session, however many
//! callers wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::SessionCache;
use super::entry::Entry;
use super::flight::{Flight, FlightResult};
use super::freshness::{self, Freshness, NotStored, RequestDirectives};
use super::invalidation::{FetchId, PurgeEpoch, Refused};
use super::results::{Fetched, Found, FromFleet, Hit, LookupResult};
use super::revalidation::{Conditions, freshen, with_date};
use super::take::{self, Asked};
use crate::sezzle::error::is_error;
use crate::sezzle::session::SessionFacts;

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Compares Sezzle's answer to a HEAD with the stored one (RFC 9111, 4.3.5), which is outdated if they differ.
    pub fn head_seen(&self, asked: FetchId, status: StatusCode, headers: &HeaderMap) {
        let differs =
            |entry: &Entry| status != StatusCode::OK || !Conditions::is_same_representation(&entry.answer(), headers);
        // Without a body, the media type tells whether a 404 or 410 is Sezzle's own.
        if is_verdict(status, || freshness::is_json(headers))
            && self.store.get(asked.key).is_some_and(|entry| differs(&entry))
        {
            self.outdate(asked);
        }
    }

    /// Numbers an exchange about a session that begins now, in the order of all exchanges.
    pub fn begin(&self, key: Uuid) -> FetchId {
        self.store.begin_fetch(key)
    }

    /// The number of exchanges about sessions so far.
    pub fn fetches(&self) -> u64 {
        self.store.fetches()
    }

    /// Fetches a session, or waits for the fetch in progress. `fetch` receives the conditions to revalidate a stored
    /// answer, if it can be revalidated. The second value is `true` if the answer came from another caller's fetch.
    ///
    /// A caller that goes away does not end a shared fetch: such a fetch runs in a task of its own.
    pub async fn fetch<S, F>(
        self: &Arc<Self>,
        key: Uuid,
        directives: &RequestDirectives,
        fetch: impl Fn(Option<Conditions>) -> F,
    ) -> (LookupResult<S, E>, bool)
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        // Before the epoch, for the same reason as in `find`.
        let may_join = self.outlook().is_none_or(|outlook| outlook.may_join(self.clock.now()));
        let arrived = self.invalidation.epoch();
        // One deadline for all of the waits below.
        let until = Instant::now().checked_add(self.rules.load().lookup_timeout).unwrap_or_else(Instant::now);
        let alone = directives.no_store || directives.no_cache || !may_join || self.unshared.contains_key(&key);
        // The first round accepts any flight. If a write came between the flight's beginning and this caller's arrival,
        // the second round needs a flight that began after the arrival. That one is hardly ever refused, and then this
        // caller fetches alone.
        for not_before in [None, Some(arrived)] {
            if alone {
                break;
            }
            match self.join_or_lead(key, directives, not_before, &fetch) {
                Role::Stored(hit) => return (LookupResult::Stored(hit), true),
                Role::Leader(own) => {
                    let result = timeout_at(until, own).await;
                    return (result.ok().and_then(Result::ok).unwrap_or(LookupResult::Lost), false);
                }
                Role::Follower(flight) => match timeout_at(until, flight.answer()).await {
                    Ok(FlightResult::Answer { answer, tags, stored, is_taken }) => {
                        let accepts = |freshness: Freshness| directives.accept(freshness.age, freshness.ttl);
                        if is_taken && !stored.is_ok_and(accepts) {
                            break;
                        }
                        let now = self.clock.mono();
                        match self.invalidation.accepts(tags.as_deref(), flight.began, arrived, now) {
                            Ok(()) => {
                                let fleet = if is_taken { FromFleet::Hit } else { FromFleet::NotAsked };
                                return (LookupResult::Answer(answer, stored, fleet), true);
                            }
                            Err(Refused::Purged) => {}
                            Err(Refused::Open) => break,
                        }
                    }
                    // A fetch that began before a purge and failed says nothing about the state after it.
                    Ok(FlightResult::Failed(_)) if arrived > flight.began && not_before.is_none() => {}
                    Ok(FlightResult::Failed(error)) => return (LookupResult::Failed(error), true),
                    Ok(FlightResult::Released) => break,
                    Ok(FlightResult::Lost) | Err(_) => return (LookupResult::Lost, true),
                },
                Role::Alone => break,
            }
        }
        let began = self.invalidation.epoch();
        // Boxed: hardly any lookup needs this future's room.
        let alone = Box::pin(self.settle(key, began, !directives.no_store, None, FromFleet::NotAsked, fetch(None)));
        (timeout_at(until, alone).await.map_or(LookupResult::Lost, |(result, _)| result), false)
    }

    /// Joins the fetch in progress, or begins one.
    fn join_or_lead<S, F>(
        self: &Arc<Self>,
        key: Uuid,
        directives: &RequestDirectives,
        not_before: Option<PurgeEpoch>,
        fetch: impl Fn(Option<Conditions>) -> F,
    ) -> Role<S, E>
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key)
            && not_before.is_none_or(|epoch| flight.began >= epoch)
        {
            return Role::Follower(Arc::clone(flight));
        }
        // A flight leaves the list only after its answer was stored: a caller that finds neither the flight nor the
        // answer is really the first.
        if let Found::Fresh(hit) = self.find(key, directives, self.clock.now()) {
            return Role::Stored(hit);
        }
        if flights.len() >= self.max_flights {
            return Role::Alone;
        }
        let (give, own) = oneshot::channel();
        let began = self.invalidation.epoch();
        let (guard, share) = self.flights.begin(&mut flights, key, began);
        drop(flights);

        let (cache, directives) = (Arc::clone(self), *directives);
        // Read after `began`: a purge from now on counts as one after the fetch began.
        let now = self.clock.now();
        let (basis, conditions) =
            self.store.get(key).and_then(|entry| entry.conditions(now).map(|asked| (entry, asked))).unzip();
        // Boxed: a task is moved several times before it runs.
        let fetch = Box::pin(fetch(conditions));
        // The flight's callers and the drain wait for this task, which ends by itself: every fetch has a deadline.
        self.tasks.spawn(async move {
            let (result, shared) = cache.take_or_settle(key, began, &directives, basis, fetch).await;
            if matches!(shared, FlightResult::Released) {
                cache.unshared.insert(key, ());
            }
            // The flight leaves the list only now that the answer is stored: new callers must find that answer, and
            // must not wait for a flight that is over.
            drop(guard);
            share.send_replace(Some(shared));
            let _ = give.send(result);
        });
        Role::Leader(own)
    }

    /// Takes the answer from the fleet, or else runs a fetch, as [`SessionCache::settle`] does.
    async fn take_or_settle<S>(
        &self,
        key: Uuid,
        began: PurgeEpoch,
        directives: &RequestDirectives,
        basis: Option<Entry>,
        fetch: impl Future<Output = Fetched<S, E>>,
    ) -> (LookupResult<S, E>, FlightResult<E>) {
        match self.take(key, directives).await {
            Asked::No => self.settle(key, began, true, basis, FromFleet::NotAsked, fetch).await,
            Asked::Missed(awaited) => {
                // The log that was read meanwhile may have purged what is fetched only now.
                let (began, missed) = (self.invalidation.epoch(), FromFleet::Miss { stored: false });
                let settled = self.settle(key, began, true, basis, missed, fetch).await;
                let is_shared = matches!(settled.0, LookupResult::Answer(_, _, FromFleet::Miss { stored: true }));
                if let Some(awaited) = awaited.filter(|_| is_shared) {
                    awaited.shared();
                }
                settled
            }
            Asked::Taken { answer, tags, freshness } => {
                let (shared, stored) = (Arc::clone(&answer), Ok(freshness));
                let shared = FlightResult::Answer { answer: shared, tags: Some(tags), stored, is_taken: true };
                (LookupResult::Answer(answer, stored, FromFleet::Hit), shared)
            }
        }
    }

    /// Runs a fetch and stores the answer if allowed. Returns the result for the caller who asked for the fetch, and
    /// the result for those who waited.
    ///
    /// A 304, which says that `basis` is unchanged, counts like any other answer: Sezzle gave it after the fetch began,
    /// so the answer is stored and shared as if the same body had been sent again.
    async fn settle<S>(
        &self,
        key: Uuid,
        began: PurgeEpoch,
        may_store: bool,
        basis: Option<Entry>,
        asked: FromFleet,
        fetch: impl Future<Output = Fetched<S, E>>,
    ) -> (LookupResult<S, E>, FlightResult<E>) {
        let (sent, fetch_id) = (self.clock.now(), self.store.begin_fetch(key));
        let fetched = fetch.await;
        let now = self.clock.now();
        let answer = match fetched {
            Fetched::Whole(answer) => answer,
            Fetched::Unchanged(headers) => match basis {
                Some(basis) => freshen(&basis.answer(), &headers),
                None => return (LookupResult::Lost, FlightResult::Lost),
            },
            Fetched::Streaming(stream, status) => {
                self.count_not_stored(NotStored::TooLarge);
                if status == StatusCode::OK {
                    self.outdate(fetch_id);
                }
                return (LookupResult::Streaming(stream), FlightResult::Released);
            }
            Fetched::Failed(error) => return (LookupResult::Failed(error.clone()), FlightResult::Failed(error)),
        };
        let facts = SessionFacts::read(&answer.body);
        let tags = facts.as_ref().map(|facts| self.invalidation.tags(key, facts));
        let elapsed = now.since(sent);
        let rules = self.rules.load();
        let decided =
            freshness::decide(&rules.policy, key, answer.status, &answer.headers, facts.as_ref(), elapsed, now);
        self.note_date(&answer, now);
        let answer = with_date(answer, now.wall);
        // Before the answer is checked: a purge that the offer does not include must end the answer for others too.
        let offer = if decided.is_ok() && may_store { self.offer(key) } else { None };
        let stored = match (decided, &tags) {
            (Ok(_), _) if !may_store => Err(NotStored::Request),
            (Ok(freshness), Some(tags)) => self.store.insert(fetch_id, began, sent, &answer, tags, freshness, now),
            (Ok(_), None) => Err(NotStored::Unreadable),
            (Err(reason), _) => Err(reason),
        };
        if (decided.is_err() || !may_store) && is_verdict(answer.status, || is_error(&answer.body)) {
            self.outdate(fetch_id);
        }
        match &stored {
            Ok(freshness) => self.metrics.cache_ttl.observe(freshness.ttl.as_secs_f64()),
            Err(reason) => self.count_not_stored(*reason),
        }
        let answer = Arc::new(answer);
        let is_shared = match (&stored, &facts, &tags) {
            (Ok(freshness), Some(facts), Some(tags)) => {
                self.share(offer, key, || take::stored(&answer, tags, facts, *freshness, now))
            }
            _ => false,
        };
        let fleet = match asked {
            FromFleet::Miss { .. } => FromFleet::Miss { stored: is_shared },
            FromFleet::NotAsked | FromFleet::Hit => asked,
        };
        let shared = match stored {
            Err(reason) if reason.forbids_sharing() => FlightResult::Released,
            Ok(_) | Err(_) => FlightResult::Answer { answer: Arc::clone(&answer), tags, stored, is_taken: false },
        };
        (LookupResult::Answer(answer, stored, fleet), shared)
    }

    fn count_not_stored(&self, reason: NotStored) {
        if reason == NotStored::NoStore && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Sezzle marks sessions no-store, so the sidecar does not store them; to store them all the same, \
                 set cache.origin_cache_control = \"ignore\" (logged once)"
            );
        }
        self.metrics.cache_store_skipped.with_label_values(&[reason.as_str()]).inc();
    }
}

/// Whether an answer states the session's fate, not only that this request failed: it then outdates the stored one.
fn is_verdict(status: StatusCode, is_of_sezzle: impl FnOnce() -> bool) -> bool {
    let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    status == StatusCode::OK || is_gone && is_of_sezzle()
}

enum Role<S, E> {
    /// The session was stored in the meantime.
    Stored(Hit),
    /// This caller is the first: a task fetches the session, and the answer comes through this channel.
    Leader(oneshot::Receiver<LookupResult<S, E>>),
    /// Another caller was first.
    Follower(Arc<Flight<E>>),
    /// There are too many flights already, so this caller fetches alone.
    Alone,
}
