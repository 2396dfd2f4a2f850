//! The cache in a fleet: what it tells, what it obeys, and what it serves by the horizon.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::poll_immediate;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::*;
use crate::clock::Mono;
use crate::session::announce::{Announce, Announced};
use crate::session::ending::Ending;
use crate::session::freshness::MAX_IDENTIFIER;
use crate::session::horizon::{Horizon, SharedHorizon, Trust};
use crate::session::invalidation::Cause;
use crate::session::invalidation::tag_id::{TagId, TagIds};
use crate::session::store::FetchStart;

/// Something that the cache told the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Begin(TagId),
    End(u64, TagId, Ending),
    Purge(TagId),
    All,
    /// The cache waits until this is known.
    Waits(Vec<Announced>),
}

/// A fleet that notes what the cache announces, and knows of a change as soon as the test says so.
#[derive(Debug)]
struct Fleet {
    said: Mutex<Vec<Said>>,
    writes: AtomicU64,
    known: Semaphore,
}

impl Fleet {
    fn note(&self, said: Said) {
        self.said.lock().unwrap().push(said);
    }

    fn said(&self) -> Vec<Said> {
        std::mem::take(&mut *self.said.lock().unwrap())
    }
}

impl Announce for Fleet {
    fn begin(&self, tag: TagId) -> u64 {
        self.note(Said::Begin(tag));
        self.writes.fetch_add(1, Ordering::SeqCst)
    }

    fn end(&self, write: u64, tag: TagId, ending: Ending) {
        self.note(Said::End(write, tag, ending));
    }

    fn purge(&self, tag: TagId) {
        self.note(Said::Purge(tag));
    }

    fn purge_all(&self) {
        self.note(Said::All);
    }

    fn known<'a>(&'a self, what: &'a [Announced]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.note(Said::Waits(what.to_vec()));
        Box::pin(async { self.known.acquire().await.expect("open").forget() })
    }
}

/// A pod with its own cache. Unless a test says otherwise, it has joined the log and has read it a moment ago.
struct Pod {
    sessions: Sessions,
    clock: Arc<ClockShift>,
    fleet: Arc<Fleet>,
    horizon: Arc<SharedHorizon>,
}

const DEFAULT: Trust = Trust { lease: Duration::from_millis(300), alone_ttl: Duration::from_secs(60) };
const STRICT: Trust = Trust { alone_ttl: Duration::ZERO, ..DEFAULT };

fn pod(trust: Trust) -> Pod {
    let fleet = Arc::new(Fleet { said: Mutex::default(), writes: AtomicU64::new(7), known: Semaphore::new(0) });
    let horizon = Arc::new(SharedHorizon::new(trust));
    let announce: Arc<dyn Announce> = Arc::clone(&fleet) as _;
    let (sessions, clock) =
        sessions_in(Some(InFleet { ids: TagIds::new("space"), announce, horizon: Arc::clone(&horizon) }));
    let pod = Pod { sessions, clock, fleet, horizon };
    pod.poll();
    pod
}

impl Pod {
    /// Reads the log now, which goes on.
    fn poll(&self) {
        let mut horizon = self.horizon.load().horizon;
        horizon.sync(self.sessions.clock.now());
        self.horizon.publish(horizon);
    }

    /// The result of a lookup from memory, and how many were served unconfirmed so far.
    fn find(&self) -> (&'static str, u64) {
        let found = match self.sessions.find(KEY, &RequestDirectives::default(), self.sessions.clock.now()) {
            Found::Fresh(_) => "fresh",
            Found::Stale => "stale",
            Found::Unwanted => "unwanted",
            Found::Absent => "absent",
        };
        (found, self.sessions.metrics.fleet_unconfirmed_served.with_label_values::<&str>(&[]).get())
    }

    async fn fetch(&self) -> Result<u64, NotStored> {
        fetch(&self.sessions).await.map(|freshness| freshness.ttl.as_secs())
    }

    /// Looks the session up in a task. Each fetch counts, and ends when the test opens `gate`.
    fn look_up(&self, fetches: &Arc<AtomicU64>, gate: &Arc<Notify>) -> JoinHandle<bool> {
        let (sessions, fetches, gate) = (Arc::clone(&self.sessions), Arc::clone(fetches), Arc::clone(gate));
        tokio::spawn(async move {
            let fetch = |_| {
                let gate = Arc::clone(&gate);
                fetches.fetch_add(1, Ordering::SeqCst);
                async move {
                    gate.notified().await;
                    Fetched::<(), ()>::Whole(super::answer())
                }
            };
            match sessions.fetch(KEY, &RequestDirectives::default(), fetch).await {
                (LookupResult::Answer(..), collapsed) => collapsed,
                (other, _) => panic!("{other:?}"),
            }
        })
    }

    /// Waits until a flight is under way that so many callers wait for.
    async fn joined_by(&self, callers: usize) {
        until(|| self.waiting().is_some_and(|waiting| waiting >= callers)).await;
    }

    /// How many callers wait for a flight, if there is one.
    fn waiting(&self) -> Option<usize> {
        // The list and the flight's own guard hold it too.
        self.sessions.flights.lock().get(&KEY).map(|flight| Arc::strong_count(flight) - 2)
    }
}

/// Lets all fetches end, and returns whether the second caller got the answer of a fetch that it did not begin.
async fn collapsed(first: JoinHandle<bool>, second: JoinHandle<bool>, gate: &Notify) -> bool {
    until(|| {
        gate.notify_waiters();
        first.is_finished() && second.is_finished()
    })
    .await;
    second.await.expect("no panic")
}

/// Lets the other tasks run until something holds. The limit is for a rule that is broken.
async fn until(mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), waits).await.expect("this holds at last");
}

fn id(tag: &Tag) -> TagId {
    TagIds::new("space").id(tag)
}

fn order() -> Tag {
    Tag::order("o")
}

fn at(pod: &Pod, seconds: u64) -> Mono {
    pod.sessions.clock.mono().plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_write_is_told_before_it_is_sent_and_known_before_its_answer() {
    for (ending, stored) in [(Ending::Answered, 0), (Ending::Unknown, 0), (Ending::NotSent, 1)] {
        let pod = pod(DEFAULT);
        let writing = pod.sessions.begin_write(Some(order()));
        assert_eq!(pod.fleet.said(), [Said::Begin(id(&order()))]);
        pod.fetch().await.expect("stored");
        let mut end = Box::pin(writing.end(ending));
        assert_eq!(poll_immediate(&mut end).await, None, "{ending:?}: nobody knows yet");
        let expected = [Said::End(7, id(&order()), ending), Said::Waits(vec![Announced::Write(7)])];
        assert_eq!(pod.fleet.said(), expected);
        assert_eq!(pod.sessions.store.purge(&order(), Cause::Changed, at(&pod, 0)), stored, "{ending:?}: here at once");
        pod.fleet.known.add_permits(1);
        end.await;
        assert_eq!(pod.fleet.said(), []);
    }
}

#[tokio::test]
async fn a_write_whose_task_dies_is_told_as_unknown_and_nobody_waits() {
    let pod = pod(DEFAULT);
    drop(pod.sessions.begin_write(Some(order())));
    assert_eq!(pod.fleet.said(), [Said::Begin(id(&order())), Said::End(7, id(&order()), Ending::Unknown)]);
    let mut end = Box::pin(pod.sessions.begin_write(Some(order())).end(Ending::Answered));
    assert_eq!(poll_immediate(&mut end).await, None);
    drop(end);
    let ends = pod.fleet.said().into_iter().filter(|said| matches!(said, Said::End(..)));
    assert_eq!(ends.collect::<Vec<_>>(), [Said::End(8, id(&order()), Ending::Answered)], "cut while it was held");
}

#[tokio::test]
async fn a_write_that_concerns_nothing_stored_is_not_told() {
    let pod = pod(DEFAULT);
    for tag in [None, Some(Tag::order(&"o".repeat(MAX_IDENTIFIER + 1)))] {
        pod.sessions.begin_write(tag).end(Ending::Answered).await;
    }
    assert_eq!(pod.fleet.said(), []);
}

#[tokio::test]
async fn a_purge_is_known_before_it_returns() {
    let pod = pod(DEFAULT);
    pod.fetch().await.expect("stored");
    let (session, long) = (Tag::Session(KEY), Tag::order(&"o".repeat(MAX_IDENTIFIER + 1)));
    let purged = [session.clone(), order(), long.clone()];
    let mut purge = Box::pin(pod.sessions.purge(&purged));
    assert_eq!(poll_immediate(&mut purge).await, None);
    assert_eq!(pod.find(), ("absent", 0));
    let [session, order] = [id(&session), id(&order())];
    let known = Said::Waits(vec![Announced::Purge(session), Announced::Purge(order)]);
    assert_eq!(pod.fleet.said(), [Said::Purge(session), Said::Purge(order), known]);
    pod.fleet.known.add_permits(1);
    assert_eq!(purge.await, 1);

    pod.fetch().await.expect("stored");
    let mut purge = Box::pin(pod.sessions.purge_all());
    assert_eq!(poll_immediate(&mut purge).await, None);
    assert_eq!((pod.find(), pod.fleet.said()), (("absent", 0), vec![Said::All, Said::Waits(vec![Announced::All])]));
    pod.fleet.known.add_permits(1);
    assert_eq!(purge.await, 1);

    assert_eq!(pod.sessions.purge(&[long]).await, 0);
    let mut others = rules();
    others.policy.untokenized_ttl = Duration::from_secs(20);
    pod.sessions.change(others);
    assert_eq!(pod.fleet.said(), [], "neither concerns others");
}

#[tokio::test]
async fn memory_is_served_as_far_as_the_horizon_allows() {
    let stale_if_error = Duration::from_secs(600);
    for (trust, within, beyond) in [(DEFAULT, ("fresh", 1), "fresh"), (STRICT, ("stale", 0), "stale")] {
        let pod = pod(trust);
        let mut patient = rules();
        patient.policy.stale_if_error = stale_if_error;
        pod.sessions.change(patient);
        pod.clock.advance(Duration::from_secs(1));
        pod.fetch().await.expect("stored");
        pod.poll();
        assert_eq!(pod.find(), ("fresh", 0), "confirmed");
        pod.clock.advance(Duration::from_millis(301));
        assert_eq!(pod.find(), within, "{trust:?}: the lease is over");
        pod.poll();
        assert_eq!(pod.find(), ("fresh", within.1), "{trust:?}: confirmed again");
        let mut horizon = pod.horizon.load().horizon;
        horizon.rejoin(at(&pod, 0));
        pod.horizon.publish(horizon);
        pod.poll();
        assert_eq!(pod.find().0, beyond, "{trust:?}: from before the epoch");
        // The session itself is stale now.
        pod.clock.advance(Duration::from_secs(31));
        let stale = || pod.sessions.find_stale(KEY, &RequestDirectives::default()).is_some();
        assert_eq!(stale(), beyond == "fresh", "{trust:?}");
        pod.clock.advance(Duration::from_secs(30));
        assert!(!stale(), "{trust:?}: alone for too long");
    }
}

#[tokio::test]
async fn alone_a_pod_counts_from_when_the_fetch_was_sent() {
    let pod = pod(DEFAULT);
    let mut patient = rules();
    (patient.policy.max_ttl, patient.policy.untokenized_ttl) = (Duration::from_secs(600), Duration::from_secs(600));
    pod.sessions.change(patient);
    pod.horizon.publish(Horizon::default());
    let clock = Arc::clone(&pod.clock);
    let fetched = fetch_meanwhile(&pod.sessions, move || clock.advance(Duration::from_secs(20)));
    fetched.await.expect("stored");
    pod.clock.advance(Duration::from_secs(39));
    assert_eq!(pod.find(), ("fresh", 1));
    pod.clock.advance(Duration::from_secs(1));
    assert_eq!(pod.find(), ("stale", 1));
}

#[tokio::test]
async fn a_pod_that_may_not_trust_its_memory_shares_no_fetches() {
    for (trust, shared) in [(DEFAULT, true), (STRICT, false)] {
        let (pod, fetches, gate) = (pod(trust), Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let first = pod.look_up(&fetches, &gate);
        pod.joined_by(0).await;
        pod.clock.advance(Duration::from_millis(301));
        let second = pod.look_up(&fetches, &gate);
        until(|| fetches.load(Ordering::SeqCst) == 2 || pod.waiting() == Some(1)).await;
        let expected = if shared { 1 } else { 2 };
        assert_eq!(collapsed(first, second, &gate).await, shared, "{trust:?}");
        assert_eq!(fetches.load(Ordering::SeqCst), expected, "{trust:?}");
    }
}

#[tokio::test]
async fn while_another_pod_writes_nothing_is_stored_or_handed_on() {
    let pod = pod(DEFAULT);
    pod.fetch().await.expect("stored");
    pod.sessions.begin_elsewhere(id(&order()), 1, at(&pod, 45));
    assert_eq!(pod.find(), ("absent", 0));
    assert_eq!(pod.fetch().await, Err(NotStored::Unsettled));

    let (fetches, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let first = pod.look_up(&fetches, &gate);
    pod.joined_by(0).await;
    let second = pod.look_up(&fetches, &gate);
    pod.joined_by(1).await;
    assert!(!collapsed(first, second, &gate).await, "the second caller fetched alone");
    assert_eq!(fetches.load(Ordering::SeqCst), 2);

    pod.sessions.end_elsewhere(id(&order()), 2, Some((Cause::Answered, at(&pod, 0))));
    assert_eq!(pod.fetch().await, Err(NotStored::Unsettled), "the end of another write");
    pod.sessions.end_elsewhere(id(&order()), 1, None);
    assert_eq!(pod.fetch().await, Ok(2), "the other write settles");
}

#[tokio::test]
async fn a_caller_who_came_before_an_end_was_read_gets_nothing_that_was_asked_for_before_it() {
    let (pod, fetches, gate) = (pod(DEFAULT), Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    pod.sessions.begin_elsewhere(id(&order()), 1, at(&pod, 45));
    let first = pod.look_up(&fetches, &gate);
    pod.joined_by(0).await;
    // The write takes effect now and is answered. This pod reads so only after the next lookup has begun.
    let second = pod.look_up(&fetches, &gate);
    pod.joined_by(1).await;
    pod.sessions.end_elsewhere(id(&order()), 1, Some((Cause::Answered, at(&pod, 0))));
    assert!(!collapsed(first, second, &gate).await);
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_write_whose_end_never_comes_is_one_of_unknown_outcome() {
    let pod = pod(DEFAULT);
    pod.sessions.begin_elsewhere(id(&order()), 1, at(&pod, 45));
    pod.clock.advance(Duration::from_secs(45 + 59));
    pod.sessions.forget_overdue();
    assert_eq!(pod.fetch().await, Err(NotStored::Unsettled));
    pod.clock.advance(Duration::from_secs(2));
    assert_eq!(pod.fetch().await, Ok(30));
    pod.sessions.begin_elsewhere(id(&order()), 2, at(&pod, 0));
    pod.clock.advance(Duration::from_secs(61));
    let late = fetch_meanwhile(&pod.sessions, {
        let sessions = Arc::clone(&pod.sessions);
        move || sessions.forget_overdue()
    });
    assert_eq!(late.await, Err(NotStored::Purged), "sent while the write might have mattered");
    assert_eq!(pod.fetch().await, Ok(30));
}

#[tokio::test]
async fn a_purge_elsewhere_finds_what_is_stored_by_any_of_its_tags() {
    let pod = pod(DEFAULT);
    for tag in [order(), Tag::Session(KEY)] {
        pod.fetch().await.expect("stored");
        pod.sessions.changed_elsewhere(id(&Tag::order("p")));
        assert_eq!(pod.find().0, "fresh");
        pod.sessions.changed_elsewhere(id(&tag));
        assert_eq!(pod.find().0, "absent", "{tag:?}");
    }
    pod.fetch().await.expect("stored");
    pod.sessions.all_changed_elsewhere(None);
    assert_eq!((pod.find().0, pod.fetch().await), ("absent", Ok(2)), "as after a write");
    pod.sessions.all_changed_elsewhere(Some(at(&pod, 20)));
    pod.clock.advance(Duration::from_secs(19));
    assert_eq!(pod.fetch().await, Err(NotStored::Unsettled));
    pod.clock.advance(Duration::from_secs(1));
    assert_eq!(pod.fetch().await, Ok(30));
    assert_eq!(pod.fleet.said(), [], "nothing that is read is told again");
}

#[tokio::test]
async fn a_rejoin_keeps_memory_and_ends_fetches() {
    let pod = pod(DEFAULT);
    pod.fetch().await.expect("stored");
    pod.sessions.rejoined(Cause::Answered, None);
    assert_eq!(pod.find().0, "fresh");
    pod.sessions.invalidation.purge_all(|| pod.sessions.store.hide_all());
    let rejoining = Arc::clone(&pod.sessions);
    let late = fetch_meanwhile(&pod.sessions, move || {
        rejoining.rejoined(Cause::Answered, Some(rejoining.clock.mono()));
    })
    .await;
    assert_eq!(late, Err(NotStored::Purged));
    assert_eq!(pod.fetch().await, Ok(2));
    pod.clock.advance(Duration::from_secs(10));
    assert_eq!(pod.fetch().await, Ok(30));
    pod.sessions.invalidation.purge_all(|| pod.sessions.store.hide_all());
    pod.sessions.rejoined(Cause::Changed, None);
    assert_eq!(pod.fetch().await, Ok(30), "after the first join");
    pod.sessions.invalidation.purge_all(|| pod.sessions.store.hide_all());
    pod.sessions.rejoined(Cause::Changed, Some(at(&pod, 20)));
    assert_eq!(pod.fetch().await, Err(NotStored::Unsettled));

    let (fetches, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let first = pod.look_up(&fetches, &gate);
    pod.joined_by(0).await;
    pod.sessions.rejoined(Cause::Answered, None);
    let second = pod.look_up(&fetches, &gate);
    pod.joined_by(1).await;
    assert!(!collapsed(first, second, &gate).await, "the flight began before");
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
}

/// One thread answers writes while this pod has no lease, then purges and gets the lease again. Others look up.
#[test]
fn a_lookup_never_takes_from_before_a_poll_what_the_poll_confirms() {
    // A machine that is busy with other tests needs many for the three threads to meet.
    const WRITES: u64 = 30_000;
    let pod = pod(STRICT);
    let now = pod.sessions.clock.now();
    pod.horizon.change(Trust { lease: Duration::from_secs(3600), ..STRICT });
    let (truth, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let (sessions, horizon) = (&pod.sessions, &pod.horizon);
    let tags = [Tag::Session(KEY), order()].map(|tag| id(&tag));
    let store = || {
        let (epoch, sent, id) = (sessions.invalidation.epoch(), sessions.clock.now(), sessions.store.begin_fetch(KEY));
        let answer = SessionResponse { body: Bytes::from(truth.load(Ordering::SeqCst).to_string()), ..super::answer() };
        let life = Duration::from_secs(60);
        let freshness = Freshness { ttl: life, age: Duration::ZERO, stale: Duration::ZERO, session_left: life };
        let _ = sessions.store.insert(FetchStart { id, epoch, sent }, &answer, &tags, freshness, sent);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=WRITES {
                horizon.publish(Horizon::default());
                truth.store(version, Ordering::SeqCst);
                answered.store(version, Ordering::SeqCst);
                sessions.changed_elsewhere(tags[1]);
                horizon.publish(Horizon { synced: Some(now), ..Horizon::default() });
                store();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let known = answered.load(Ordering::SeqCst);
                    if let Found::Fresh(hit) = sessions.find(KEY, &RequestDirectives::default(), now) {
                        let version: u64 = std::str::from_utf8(&hit.entry.body()).unwrap().parse().unwrap();
                        assert!(version >= known, "{version} was found after {known} was answered");
                    }
                    if known == WRITES {
                        break;
                    }
                }
            });
        }
    });
    assert_eq!(pod.find().0, "fresh");
}
