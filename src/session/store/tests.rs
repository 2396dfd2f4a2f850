use std::thread;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::session::invalidation::tag_id::TagIds;

const LIFE: Freshness =
    Freshness { ttl: Duration::from_secs(60), age: Duration::ZERO, stale: Duration::ZERO, session_left: Duration::MAX };

fn store(max_bytes: u64) -> Store {
    let metrics = Arc::new(Metrics::new().expect("valid metrics"));
    let invalidation = Arc::new(Invalidation::new(remembered_purges(max_bytes), LIFE.ttl, None));
    Store::new(max_bytes, invalidation, Clock::system(), metrics)
}

fn answer(text: &str) -> SessionResponse {
    let (ok, body) = (StatusCode::OK, Bytes::copy_from_slice(text.as_bytes()));
    SessionResponse { status: ok, fwd_status: ok, headers: HeaderMap::new(), etag: None, body }
}

fn tags(key: Uuid, order: &Tag) -> [TagId; 2] {
    [&Tag::Session(key), order].map(|tag| TagIds::alone().id(tag))
}

/// A fetch that begins now.
fn start(store: &Store, key: Uuid) -> FetchStart {
    FetchStart { epoch: store.invalidation.epoch(), sent: Clock::system().now(), id: store.begin_fetch(key) }
}

/// A complete fetch of a session that names one order.
fn fetched(store: &Store, key: Uuid, order: &Tag, text: &str) -> Result<Freshness, NotStored> {
    let start = start(store, key);
    store.insert(start, &answer(text), &tags(key, order), LIFE, start.sent)
}

fn key(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

#[test]
fn what_overwrites_is_found_by_a_purge_whatever_became_of_what_was_overwritten() {
    let store = store(1024 * 1024);
    let (old, new) = (Tag::order("old"), Tag::order("new"));
    fetched(&store, key(1), &old, "1").expect("stored");
    fetched(&store, key(1), &new, "2").expect("stored");
    fetched(&store, key(1), &new, "3").expect("stored");
    store.observe();
    assert_eq!(store.purge(&old, Cause::Changed, Mono::default()), 0, "the session is of another order now");
    assert!(store.get(key(1)).is_some());
    assert_eq!(store.purge(&new, Cause::Changed, Mono::default()), 1);
    assert!(store.get(key(1)).is_none());
}

#[test]
fn what_was_evicted_and_fetched_again_is_found_by_a_purge() {
    let store = store(64 * 1024);
    let text = "x".repeat(4000);
    for round in 0..20 {
        for number in 0..40 {
            fetched(&store, key(number), &Tag::order(&number.to_string()), &text).expect("stored");
        }
        store.observe();
        for number in 0..40 {
            let order = Tag::order(&number.to_string());
            // Not all entries fit: some were evicted, some came back, some were never admitted.
            let found = store.get(key(number)).is_some();
            assert_eq!(store.purge(&order, Cause::Changed, Mono::default()), usize::from(found), "{round} {number}");
            assert!(store.get(key(number)).is_none());
        }
    }
}

/// One thread changes Sezzle's answer and purges, others fetch, store and look up. The map is too small for all
/// sessions, so it evicts all the time.
fn nothing_from_before_is_found_after(purge: impl Fn(&Store, &Tag) + Sync) {
    const SESSIONS: u32 = 12;
    const CHANGES: u64 = 4000;
    let store = store(8 * 1024);
    let order = Tag::order("shared");
    let (truth, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=CHANGES {
                purge(&store, &order);
                truth.store(version, Ordering::SeqCst);
                purge(&store, &order);
                acknowledged.store(version, Ordering::SeqCst);
            }
        });
        for first in 0..3 {
            let (store, order, truth, acknowledged) = (&store, &order, &truth, &acknowledged);
            scope.spawn(move || {
                let mut number = first;
                loop {
                    number = (number + 1) % SESSIONS;
                    let known = acknowledged.load(Ordering::SeqCst);
                    if let Some(entry) = store.get(key(number)) {
                        let version: u64 = std::str::from_utf8(&entry.answer().body).unwrap().parse().unwrap();
                        assert!(version >= known, "{version} was found after {known} was acknowledged");
                    }
                    let start = start(store, key(number));
                    let answer = answer(&truth.load(Ordering::SeqCst).to_string());
                    let _ = store.insert(start, &answer, &tags(key(number), order), LIFE, start.sent);
                    if known == CHANGES {
                        break;
                    }
                }
            });
        }
    });
    assert!(store.get(key(0)).is_none_or(|entry| entry.answer().body == CHANGES.to_string()));
}

#[test]
fn nothing_from_before_a_purge_that_has_ended_is_found_whatever_races_it() {
    nothing_from_before_is_found_after(|store, order| {
        store.purge(order, Cause::Changed, Mono::default());
    });
}

#[test]
fn nothing_from_before_a_purge_of_everything_is_found_whatever_races_it() {
    nothing_from_before_is_found_after(|store, _| {
        store.invalidation.purge_all(|| store.hide_all());
        store.remove_hidden(store.entries.iter());
    });
}

#[tokio::test]
async fn a_purge_of_everything_takes_effect_before_an_entry_is_removed() {
    let store = store(1024 * 1024);
    let order = Tag::order("o");
    fetched(&store, key(1), &order, "1").expect("stored");
    let under_way = start(&store, key(2));
    store.invalidation.purge_all(|| store.hide_all());
    assert!(store.get(key(1)).is_none(), "hidden");
    assert!(store.entries.contains_key(&key(1)), "and not removed yet");
    let stored = store.insert(under_way, &answer("2"), &tags(key(2), &order), LIFE, under_way.sent);
    assert_eq!(stored.err(), Some(NotStored::Purged), "this fetch began before");
    fetched(&store, key(3), &order, "3").expect("this fetch began after the purge");
    let knowing = FetchStart { epoch: store.invalidation.epoch(), ..under_way };
    let stored = store.insert(knowing, &answer("2"), &tags(key(2), &order), LIFE, knowing.sent);
    assert_eq!(stored.err(), Some(NotStored::Purged), "this fetch has a number that is hidden");
    assert_eq!(store.remove_hidden(store.entries.iter()), 1);
    assert_eq!([1, 2, 3].map(|number| store.get(key(number)).is_some()), [false, false, true]);
    assert_eq!(store.purge(&order, Cause::Changed, Mono::default()), 1, "the index is right");
}

#[tokio::test]
async fn a_purge_of_everything_lets_other_tasks_run() {
    let store = store(1024 * 1024);
    for number in 0..300 {
        fetched(&store, key(number), &Tag::order(&number.to_string()), "1").expect("stored");
    }
    store.invalidation.purge_all(|| store.hide_all());
    let turns = AtomicU64::new(0);
    let others = async {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let removed = tokio::select! {
        biased;
        removed = store.remove_all_hidden() => removed,
        () = others => 0,
    };
    assert_eq!((removed, turns.into_inner() >= 300 / 64), (300, true));
}

#[test]
fn what_is_outdated_is_removed_and_nothing_newer() {
    let store = store(1024 * 1024);
    let older = store.begin_fetch(key(1));
    fetched(&store, key(1), &Tag::order("o"), "1").expect("stored");
    store.outdate(older);
    assert!(store.get(key(1)).is_some(), "a later fetch brought it");
    store.outdate(store.begin_fetch(key(1)));
    assert!(store.get(key(1)).is_none());
}

#[test]
fn a_new_session_finds_room_among_sessions_that_were_asked_for_often() {
    let store = store(64 * 1024);
    let text = "x".repeat(4000);
    let store_one = |number| fetched(&store, key(number), &Tag::order(&number.to_string()), &text).expect("stored");
    // More than fit, each looked up several times.
    for number in 0..40 {
        store_one(number);
        for _ in 0..6 {
            let _ = store.get(key(number));
        }
        store.observe();
    }
    for number in 100..110 {
        store_one(number);
        store.observe();
        assert!(store.get(key(number)).is_some(), "{number} is new, and was stored last");
    }
    assert!(store.get(key(0)).is_none(), "nobody has asked for the first for the longest time");
}
