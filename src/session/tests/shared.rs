//! The cache with a fleet that shares answers: what it takes, and what it shares.

use std::pin::Pin;
use std::sync::Mutex;

use super::*;
use crate::clock::Wall;
use crate::session::announce::{Announce, Announced};
use crate::session::ending::Ending;
use crate::session::horizon::{SharedHorizon, Trust};
use crate::session::invalidation::tag_id::{TagId, TagIds};
use crate::session::shared::{Missed, Offer, SharedBodies, Stored, Taken, Taking, Terms};
use crate::telemetry::metrics::fleet::BodyResult;

/// A fleet in which no other sidecar does anything.
#[derive(Debug)]
struct Quiet;

impl Announce for Quiet {
    fn begin(&self, _: TagId) -> u64 {
        1
    }
    fn end(&self, _: u64, _: TagId, _: Ending) {}
    fn purge(&self, _: TagId) {}
    fn purge_all(&self) {}
    fn known<'a>(&'a self, _: &'a [Announced]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {})
    }
}

type Answers = dyn Fn(&Sessions) -> Result<Taken, BodyResult> + Send;
type Meanwhile = Box<dyn FnOnce(&Sessions) + Send>;

/// The answers that other sidecars share, and those that this one shares.
struct Bodies {
    sessions: Sessions,
    /// The result of the next `take`; `None` if no sidecar has shared an answer.
    next: Mutex<Option<Box<Answers>>>,
    asked: Mutex<Vec<Terms>>,
    shared: Mutex<Vec<Stored>>,
    /// Called when an offer is made.
    on_offer: Mutex<Option<Meanwhile>>,
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bodies")
    }
}

#[derive(Debug)]
struct Place(Arc<Bodies>);

impl Offer for Place {
    fn share(self: Box<Self>, stored: Stored) -> bool {
        self.0.shared.lock().unwrap().push(stored);
        true
    }
}

/// The handle that the cache has.
#[derive(Debug)]
struct Handle(Arc<Bodies>);

impl SharedBodies for Handle {
    fn take<'a>(&'a self, session: TagId, terms: Terms) -> Taking<'a> {
        assert_eq!(session, ids().id(&Tag::Session(KEY)));
        self.0.asked.lock().unwrap().push(terms);
        let next = self.0.next.lock().unwrap().take();
        Box::pin(async move {
            let reason = BodyResult::Absent;
            let found = next.map_or(Err(reason), |next| next(&self.0.sessions));
            found.map_err(|reason| Missed { reason, awaited: None })
        })
    }

    fn offer(&self, _: TagId) -> Option<Box<dyn Offer>> {
        if let Some(on_offer) = self.0.on_offer.lock().unwrap().take() {
            on_offer(&self.0.sessions);
        }
        Some(Box::new(Place(Arc::clone(&self.0))))
    }
}

fn ids() -> TagIds {
    TagIds::new("space")
}

fn pod() -> (Sessions, Arc<Bodies>, Arc<ClockShift>) {
    let trust = Trust { lease: Duration::from_millis(300), alone_ttl: Duration::from_secs(60) };
    let horizon = Arc::new(SharedHorizon::new(trust));
    let (sessions, clock) = sessions_in(Some(InFleet { ids: ids(), announce: Arc::new(Quiet), horizon }));
    let bodies = Arc::new(Bodies {
        sessions: Arc::clone(&sessions),
        next: Mutex::default(),
        asked: Mutex::default(),
        shared: Mutex::default(),
        on_offer: Mutex::default(),
    });
    sessions.share_with(Arc::new(Handle(Arc::clone(&bodies))), Arc::default());
    (sessions, bodies, clock)
}

impl Bodies {
    /// Shares an answer as another sidecar does.
    fn has(&self, taken: impl Fn(&Sessions) -> Result<Taken, BodyResult> + Send + 'static) {
        *self.next.lock().unwrap() = Some(Box::new(taken));
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn shared(&self) -> Vec<Stored> {
        std::mem::take(&mut *self.shared.lock().unwrap())
    }

    fn counted(&self, result: BodyResult) -> u64 {
        self.sessions.metrics.fleet_bodies.with_label_values(&[result.as_str()]).get()
    }
}

fn tags() -> Vec<TagId> {
    [Tag::Session(KEY), Tag::order("o")].iter().map(|tag| ids().id(tag)).collect()
}

/// The session as another sidecar fetched it 20 s ago, with 10 s left.
fn taken(sessions: &Sessions) -> Taken {
    let sent = sessions.clock.now();
    Taken {
        answer: answer(),
        tags: tags(),
        epoch: sessions.epoch(),
        sent,
        ttl: Duration::from_secs(10),
        age: Duration::from_secs(20),
        session_left: None,
    }
}

fn asks(header: &'static str) -> RequestDirectives {
    RequestDirectives::read(&HeaderMap::from_iter([(http::header::CACHE_CONTROL, HeaderValue::from_static(header))]))
}

/// Looks the session up: the part of the fleet in the answer, and the answer's age and lifetime if it is stored.
async fn look_up(sessions: &Sessions, directives: &RequestDirectives) -> (FromFleet, Option<(u64, u64)>) {
    if let Found::Fresh(hit) = sessions.find(KEY, directives, sessions.clock.now()) {
        return (FromFleet::Hit, Some((hit.age.as_secs(), hit.ttl.as_secs())));
    }
    let sezzle = |_| async { Fetched::<(), ()>::Whole(answer()) };
    match sessions.fetch(KEY, directives, sezzle).await {
        (LookupResult::Answer(_, stored, fleet), _) => {
            (fleet, stored.ok().map(|freshness| (freshness.age.as_secs(), freshness.ttl.as_secs())))
        }
        (other, _) => panic!("{other:?}"),
    }
}

const ANY: RequestDirectives =
    RequestDirectives { no_cache: false, no_store: false, max_age: None, min_fresh: None, only_if_cached: false };
const SHARED: FromFleet = FromFleet::Miss { stored: true };

#[tokio::test]
async fn what_another_sidecar_fetched_is_stored_and_not_fetched() {
    let (sessions, bodies, clock) = pod();
    bodies.has(|sessions| Ok(taken(sessions)));
    assert_eq!(look_up(&sessions, &ANY).await, (FromFleet::Hit, Some((20, 10))));
    assert_eq!(bodies.counted(BodyResult::Hit), 1);
    assert!(bodies.shared().is_empty(), "an answer is shared by the sidecar that fetched it");
    clock.advance(Duration::from_secs(4));
    let Found::Fresh(hit) = sessions.find(KEY, &ANY, sessions.clock.now()) else { panic!("not stored") };
    assert!((5..=6).contains(&hit.ttl.as_secs()) && (24..=25).contains(&hit.age.as_secs()), "{hit:?}");
    assert_eq!(sessions.purge([&Tag::order("o")]).await, 1, "it is found by its tags");
    assert_eq!(bodies.asked(), 1);
}

#[tokio::test]
async fn what_nobody_has_is_fetched_and_shared() {
    let (sessions, bodies, clock) = pod();
    assert_eq!(look_up(&sessions, &ANY).await, (SHARED, Some((0, 30))));
    let shared = bodies.shared();
    let [stored] = &shared[..] else { panic!("{shared:?}") };
    assert_eq!((&stored.answer.body, &*stored.tags), (&answer().body, &tags()[..]));
    assert_eq!((stored.expiration, stored.freshness.ttl), (None, Duration::from_secs(30)));
    assert!(stored.date.is_some_and(|date| sessions.clock.now().wall.millis_since(date) < 60_000));
    clock.advance(Duration::from_secs(31));
    look_up(&sessions, &ANY).await;
    let terms = *bodies.asked.lock().unwrap().last().expect("asked");
    assert_eq!((terms.margin, terms.max_ttl), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!(terms.sezzle, None, "Sezzle has sent no date");
}

#[tokio::test]
async fn sezzles_clock_is_remembered() {
    let (sessions, bodies, clock) = pod();
    let dated = |_| async {
        let mut answer = answer();
        answer.headers.insert(http::header::DATE, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        Fetched::<(), ()>::Whole(answer)
    };
    sessions.fetch(KEY, &ANY, dated).await;
    clock.advance(Duration::from_secs(100));
    sessions.fetch(KEY, &ANY, dated).await;
    let terms = bodies.asked.lock().unwrap()[1];
    assert_eq!(terms.sezzle.map(|(date, _)| date), Some(Wall(1_767_225_600_000)));
}

#[tokio::test]
async fn callers_who_want_sezzles_own_answer_take_none_from_the_fleet() {
    for (header, asked) in [("no-cache", 0), ("no-store", 0), ("max-age=19", 1), ("min-fresh=11", 1)] {
        let (sessions, bodies, _) = pod();
        bodies.has(|sessions| Ok(taken(sessions)));
        let (fleet, _) = look_up(&sessions, &asks(header)).await;
        assert_ne!(fleet, FromFleet::Hit, "{header}");
        assert_eq!(bodies.asked(), asked, "{header}");
        assert_eq!(bodies.shared().len(), usize::from(header != "no-store"), "{header}");
    }
    let (sessions, bodies, _) = pod();
    bodies.has(|sessions| Ok(taken(sessions)));
    assert_eq!(look_up(&sessions, &asks("max-age=21, min-fresh=9")).await.0, FromFleet::Hit);
}

#[tokio::test]
async fn who_joins_a_lookup_takes_what_its_own_directives_allow() {
    let (sessions, bodies, _) = pod();
    bodies.has(|sessions| Ok(taken(sessions)));
    let young = asks("max-age=5");
    let (first, strict, other) =
        tokio::join!(look_up(&sessions, &ANY), look_up(&sessions, &young), look_up(&sessions, &ANY));
    assert_eq!(first, (FromFleet::Hit, Some((20, 10))));
    assert_eq!(other.0, FromFleet::Hit);
    assert_eq!(strict, (FromFleet::NotAsked, Some((0, 30))));
    assert_eq!(bodies.asked(), 1);
}

#[tokio::test]
async fn nothing_is_taken_that_a_purge_or_these_rules_forbid() {
    type Bend = fn(&Sessions, &mut Taken);
    let rows: [(&str, Bend, BodyResult); 6] = [
        (
            "purged since the log was read",
            |sessions, _| {
                let now = sessions.clock.mono();
                sessions.store.purge(&Tag::order("o"), Cause::Changed, now);
            },
            BodyResult::Purged,
        ),
        (
            "a write of another sidecar is open",
            |sessions, taken| {
                let overdue = sessions.clock.mono().plus(Duration::from_secs(30));
                sessions.begin_elsewhere(ids().id(&Tag::order("o")), 7, overdue);
                taken.epoch = sessions.epoch();
            },
            BodyResult::Purged,
        ),
        ("searched by other tags", |_, taken| taken.tags.truncate(1), BodyResult::Unopened),
        ("no session", |_, taken| taken.answer.body = Bytes::from_static(b"[]"), BodyResult::Unopened),
        (
            "forbidden by Sezzle",
            |_, taken| {
                let no_store = HeaderValue::from_static("no-store");
                taken.answer.headers.insert(http::header::CACHE_CONTROL, no_store);
            },
            BodyResult::Expired,
        ),
        (
            "another session",
            |_, taken| {
                let other = Uuid::from_u128(8);
                taken.answer.body = Bytes::from(format!(r#"{{"uuid":"{other}","order":{{"uuid":"o"}}}}"#));
            },
            BodyResult::Expired,
        ),
    ];
    for (what, bend, expected) in rows {
        let (sessions, bodies, _) = pod();
        bodies.has(move |sessions| {
            let mut taken = taken(sessions);
            bend(sessions, &mut taken);
            Ok(taken)
        });
        assert_ne!(look_up(&sessions, &ANY).await.0, FromFleet::Hit, "{what}");
        assert_eq!((bodies.counted(expected), bodies.counted(BodyResult::Hit)), (1, 0), "{what}");
    }
}

#[tokio::test]
async fn a_purge_that_the_log_told_with_the_body_ends_no_fetch_that_follows() {
    let (sessions, bodies, _) = pod();
    bodies.has(|sessions| {
        sessions.changed_elsewhere(ids().id(&Tag::order("o")));
        Err(BodyResult::Purged)
    });
    assert_eq!(look_up(&sessions, &ANY).await, (SHARED, Some((0, 30))));
}

#[tokio::test]
async fn only_what_is_stored_is_shared() {
    let (sessions, bodies, _) = pod();
    *bodies.on_offer.lock().unwrap() = Some(Box::new(|sessions| {
        sessions.store.purge(&Tag::order("o"), Cause::Changed, sessions.clock.mono());
    }));
    assert_eq!(look_up(&sessions, &ANY).await, (FromFleet::Miss { stored: false }, None));
    assert!(bodies.shared().is_empty());
}

#[tokio::test]
async fn a_sidecar_does_not_go_back_to_an_answer_that_it_knows_to_be_outdated() {
    let (sessions, bodies, clock) = pod();
    look_up(&sessions, &asks("no-store")).await;
    bodies.has(|sessions| Ok(taken(sessions)));
    assert_eq!(look_up(&sessions, &ANY).await, (FromFleet::NotAsked, Some((0, 30))));
    assert_eq!((bodies.asked(), bodies.counted(BodyResult::Skipped)), (0, 1));
    clock.advance(Duration::from_secs(31));
    assert_eq!(look_up(&sessions, &ANY).await.0, FromFleet::Hit, "what it has stored since, others may have too");
}

#[tokio::test]
async fn a_fleet_that_is_not_asked_has_no_part_in_the_answer() {
    let (sessions, bodies, _) = pod();
    bodies.has(|_| Err(BodyResult::Skipped));
    assert_eq!(look_up(&sessions, &ANY).await.0, FromFleet::NotAsked);
}
