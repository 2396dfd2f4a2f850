//! Exchanges with Sezzle about a session, and their effect on what is stored: one fetch per session, however many
//! callers wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::SessionCache;
use super::entry::Entry;
use super::exchanges::is_verdict;
use super::flight::{Flight, FlightResult, LedFlight};
use super::freshness::{Freshness, NotStored, RequestDirectives, decide};
use super::invalidation::{PurgeEpoch, Refused};
use super::response::SessionResponse;
use super::results::{Fetched, Found, FromFleet, Hit, LookupResult};
use super::revalidation::{Conditions, freshen, with_date};
use super::store::FetchStart;
use super::take::{self, Asked};
use crate::boxed::boxed_future;
use crate::clock::Now;
use crate::sezzle::error::is_error;
use crate::sezzle::session::SessionFacts;

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Fetches a session, or waits for the fetch in progress. `ask_sezzle` receives the conditions to revalidate a
    /// stored answer, if it can be revalidated. The second value is `true` if the answer came from another caller's
    /// fetch.
    ///
    /// A caller that goes away does not end a shared fetch: such a fetch runs in a task of its own.
    pub async fn fetch<S, F>(
        self: &Arc<Self>,
        key: Uuid,
        directives: &RequestDirectives,
        ask_sezzle: impl Fn(Option<Conditions>) -> F,
    ) -> (LookupResult<S, E>, bool)
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        // The outlook is loaded before the epoch, so the epoch counts every purge that the outlook knows of.
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
            match self.join_or_lead(key, directives, not_before, &ask_sezzle) {
                Role::Stored(hit) => return (LookupResult::Stored(hit), true),
                Role::Leader(own) => {
                    let result = timeout_at(until, own).await;
                    return (result.ok().and_then(Result::ok).unwrap_or(LookupResult::Lost), false);
                }
                Role::Follower(flight) => {
                    let landed = timeout_at(until, flight.answer()).await.unwrap_or(FlightResult::Lost);
                    let follower = Follower { directives, arrived, takes_any: not_before.is_none() };
                    match self.follow(&follower, flight.epoch, landed) {
                        Followed::Done(result) => return (result, true),
                        Followed::TryNewer => {}
                        Followed::Alone => break,
                    }
                }
                Role::Alone => break,
            }
        }
        let (epoch, may_store) = (self.invalidation.epoch(), !directives.no_store);
        let plan = FetchPlan { key, epoch, may_store, basis: None, from_fleet: FromFleet::NotAsked };
        // Boxed: hardly any lookup needs this future's room.
        let alone = Box::pin(self.settle(plan, ask_sezzle(None)));
        (timeout_at(until, alone).await.map_or(LookupResult::Lost, |(result, _)| result), false)
    }

    /// Decides what a follower does with the result of a flight that began at `began`.
    fn follow<S>(&self, follower: &Follower<'_>, began: PurgeEpoch, landed: FlightResult<E>) -> Followed<S, E> {
        let Follower { directives, arrived, takes_any } = *follower;
        match landed {
            FlightResult::Answer { answer, tags, stored, is_taken } => {
                let accepts = |freshness: Freshness| directives.accept(freshness.age, freshness.ttl);
                if is_taken && !stored.is_ok_and(accepts) {
                    return Followed::Alone;
                }
                match self.invalidation.accepts(tags.as_deref(), began, arrived, self.clock.mono()) {
                    Ok(()) => {
                        let from_fleet = if is_taken { FromFleet::Hit } else { FromFleet::NotAsked };
                        Followed::Done(LookupResult::Answer(answer, stored, from_fleet))
                    }
                    Err(Refused::Purged) => Followed::TryNewer,
                    Err(Refused::Open) => Followed::Alone,
                }
            }
            // A fetch that began before a purge and failed says nothing about the state after it.
            FlightResult::Failed(_) if arrived > began && takes_any => Followed::TryNewer,
            FlightResult::Failed(error) => Followed::Done(LookupResult::Failed(error)),
            FlightResult::Released => Followed::Alone,
            FlightResult::Lost => Followed::Done(LookupResult::Lost),
        }
    }

    /// Joins the fetch in progress, or begins one.
    fn join_or_lead<S, F>(
        self: &Arc<Self>,
        key: Uuid,
        directives: &RequestDirectives,
        not_before: Option<PurgeEpoch>,
        ask_sezzle: impl Fn(Option<Conditions>) -> F,
    ) -> Role<S, E>
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key)
            && not_before.is_none_or(|epoch| flight.epoch >= epoch)
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
        let flight = self.flights.begin(&mut flights, key, self.invalidation.epoch());
        drop(flights);
        Role::Leader(self.lead(flight, directives, ask_sezzle))
    }

    /// Starts the task of a flight. The result for the caller who leads it comes through the channel.
    fn lead<S, F>(
        self: &Arc<Self>,
        flight: LedFlight<E>,
        directives: &RequestDirectives,
        ask_sezzle: impl Fn(Option<Conditions>) -> F,
    ) -> oneshot::Receiver<LookupResult<S, E>>
    where
        S: Send + 'static,
        F: Future<Output = Fetched<S, E>> + Send + 'static,
    {
        let (give, own) = oneshot::channel();
        let (key, epoch) = (flight.key(), flight.epoch());
        // The stored answer is read after the epoch: a purge from now on counts as one after the fetch began.
        let now = self.clock.now();
        let stored = self.store.get(key).and_then(|entry| entry.conditions(now).map(|conditions| (entry, conditions)));
        let (basis, conditions) = stored.unzip();
        let plan = FetchPlan { key, epoch, may_store: true, basis, from_fleet: FromFleet::NotAsked };
        let (cache, directives) = (Arc::clone(self), *directives);
        // Boxed: a task is moved several times before it runs.
        let fetch = boxed_future(|| ask_sezzle(conditions));
        // The flight's callers and the drain wait for this task. It ends by itself, because every fetch has a deadline.
        self.tasks.spawn(async move {
            let (result, shared) = cache.take_or_settle(plan, &directives, fetch).await;
            if matches!(shared, FlightResult::Released) {
                cache.unshared.insert(key, ());
            }
            // The flight lands only now that its answer is stored: new callers must find that answer, and must not wait
            // for a flight that is over.
            flight.land(shared);
            let _ = give.send(result);
        });
        own
    }

    /// Takes the answer from the fleet, or else runs a fetch, as [`SessionCache::settle`] does.
    async fn take_or_settle<S>(
        &self,
        plan: FetchPlan,
        directives: &RequestDirectives,
        fetch: impl Future<Output = Fetched<S, E>>,
    ) -> Settled<S, E> {
        match self.take(plan.key, directives).await {
            Asked::No => self.settle(plan, fetch).await,
            Asked::Missed(awaited) => {
                // Purges by the log that was read meanwhile come before this fetch, which begins only now.
                let (epoch, from_fleet) = (self.invalidation.epoch(), FromFleet::Miss { stored: false });
                let settled = self.settle(FetchPlan { epoch, from_fleet, ..plan }, fetch).await;
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

    /// Runs a fetch and stores the answer if allowed.
    async fn settle<S>(&self, plan: FetchPlan, fetch: impl Future<Output = Fetched<S, E>>) -> Settled<S, E> {
        let (sent, id) = (self.clock.now(), self.store.begin_fetch(plan.key));
        let start = FetchStart { id, epoch: plan.epoch, sent };
        let fetched = fetch.await;
        self.settle_fetched(&plan, start, fetched)
    }

    /// Stores the result of a fetch if allowed.
    ///
    /// A 304, which says that `basis` is unchanged, counts like any other answer: Sezzle gave it after the fetch began,
    /// so the answer is stored and shared as if the same body had been sent again.
    fn settle_fetched<S>(&self, plan: &FetchPlan, start: FetchStart, fetched: Fetched<S, E>) -> Settled<S, E> {
        match fetched {
            Fetched::Whole(answer) => self.settle_answer(plan, start, answer),
            Fetched::Unchanged(headers) => match &plan.basis {
                Some(basis) => self.settle_answer(plan, start, freshen(&basis.answer(), &headers)),
                None => (LookupResult::Lost, FlightResult::Lost),
            },
            Fetched::Streaming(stream, status) => {
                let reason = NotStored::TooLarge;
                self.count_not_stored(reason);
                if status == StatusCode::OK {
                    self.outdate(start.id);
                }
                (LookupResult::Streaming(stream, reason), FlightResult::Released)
            }
            Fetched::Failed(error) => (LookupResult::Failed(error.clone()), FlightResult::Failed(error)),
        }
    }

    fn settle_answer<S>(&self, plan: &FetchPlan, start: FetchStart, answer: SessionResponse) -> Settled<S, E> {
        let (key, now) = (plan.key, self.clock.now());
        let facts = SessionFacts::read(&answer.body);
        let tags = facts.as_ref().map(|facts| self.invalidation.tags(key, facts));
        let allowed = self.allows(plan, start, &answer, facts.as_ref(), now);
        self.note_date(&answer, now);
        let answer = with_date(answer, now.wall);
        // The offer comes before the check, so a purge after the offer also ends the answer for the other sidecars.
        let offer = if allowed.is_ok() { self.offer(key) } else { None };
        let stored = match (allowed, &tags) {
            (Ok(freshness), Some(tags)) => self.store.insert(start, &answer, tags, freshness, now),
            (Ok(_), None) => Err(NotStored::Unreadable),
            (Err(reason), _) => Err(reason),
        };
        if allowed.is_err() && is_verdict(answer.status, || is_error(&answer.body)) {
            self.outdate(start.id);
        }
        match stored {
            Ok(freshness) => self.metrics.cache_ttl.observe(freshness.ttl.as_secs_f64()),
            Err(reason) => self.count_not_stored(reason),
        }
        let answer = Arc::new(answer);
        let is_shared = match (stored, &facts, &tags) {
            (Ok(freshness), Some(facts), Some(tags)) => {
                self.share(offer, key, || take::stored(&answer, tags, facts, freshness, now))
            }
            _ => false,
        };
        let from_fleet = match plan.from_fleet {
            FromFleet::Miss { .. } => FromFleet::Miss { stored: is_shared },
            FromFleet::NotAsked | FromFleet::Hit => plan.from_fleet,
        };
        let shared = match stored {
            Err(reason) if reason.forbids_sharing() => FlightResult::Released,
            Ok(_) | Err(_) => FlightResult::Answer { answer: Arc::clone(&answer), tags, stored, is_taken: false },
        };
        (LookupResult::Answer(answer, stored, from_fleet), shared)
    }

    /// Whether the rules and the caller allow an answer to be stored, and for how long.
    fn allows(
        &self,
        plan: &FetchPlan,
        start: FetchStart,
        answer: &SessionResponse,
        facts: Option<&SessionFacts>,
        now: Now,
    ) -> Result<Freshness, NotStored> {
        let (rules, elapsed) = (self.rules.load(), now.since(start.sent));
        let freshness = decide(&rules.policy, plan.key, answer.status, &answer.headers, facts, elapsed, now)?;
        if plan.may_store { Ok(freshness) } else { Err(NotStored::Request) }
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

/// The facts about a fetch before it is sent.
struct FetchPlan {
    key: Uuid,
    /// The epoch of purges at which the fetch begins.
    epoch: PurgeEpoch,
    /// Whether the caller allows its answer to be stored.
    may_store: bool,
    /// The stored answer that a 304 would confirm.
    basis: Option<Entry>,
    /// The part of the fleet so far.
    from_fleet: FromFleet,
}

/// The result for the caller who asked for a fetch, and the result for those who waited.
type Settled<S, E> = (LookupResult<S, E>, FlightResult<E>);

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

/// A caller who has waited for a flight.
struct Follower<'d> {
    directives: &'d RequestDirectives,
    /// The epoch of purges when the caller arrived.
    arrived: PurgeEpoch,
    /// Whether the caller joined a flight of any age, and can still ask for a newer one.
    takes_any: bool,
}

/// The next step of a caller who has waited for a flight.
enum Followed<S, E> {
    Done(LookupResult<S, E>),
    /// Join or lead a flight that began after the arrival.
    TryNewer,
    /// Fetch alone.
    Alone,
}
