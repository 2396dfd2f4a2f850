mod fleet;
mod shared;

use std::sync::mpsc::sync_channel;
use std::thread;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::freshness::Freshness;
use super::invalidation::{Cause, Tag};
use super::response::SessionResponse;
use super::*;
use crate::clock::ClockShift;

const KEY: Uuid = Uuid::from_u128(7);

pub(super) type Sessions = Arc<SessionCache<()>>;

fn rules() -> Rules {
    let second = Duration::from_secs(1);
    let policy = Policy {
        max_ttl: 60 * second,
        untokenized_ttl: 30 * second,
        expiration_margin: 5 * second,
        honor_origin: true,
        stale_if_error: Duration::ZERO,
    };
    Rules { policy, lookup_timeout: 10 * second }
}

/// An empty cache and its clock.
pub(super) fn sessions() -> (Sessions, Arc<ClockShift>) {
    sessions_in(None)
}

fn sessions_in(fleet: Option<InFleet>) -> (Sessions, Arc<ClockShift>) {
    let options = Options { max_bytes: 1024 * 1024, max_flights: 8, rules: rules(), fleet };
    let (clock, shift) = Clock::shifted();
    let metrics = Arc::new(Metrics::new().expect("valid metrics"));
    (SessionCache::new(options, TaskTracker::new(), clock, metrics), shift)
}

/// Fetches the session, whose order is `o`.
pub(super) async fn fetch(sessions: &Sessions) -> Result<Freshness, NotStored> {
    fetch_meanwhile(sessions, || ()).await
}

/// Fetches the session, and calls `meanwhile` during the fetch.
async fn fetch_meanwhile(
    sessions: &Sessions,
    meanwhile: impl Fn() + Clone + Send + 'static,
) -> Result<Freshness, NotStored> {
    let fetched = |_| {
        let meanwhile = meanwhile.clone();
        async move {
            meanwhile();
            Fetched::<(), ()>::Whole(answer())
        }
    };
    match sessions.fetch(KEY, &RequestDirectives::default(), fetched).await {
        (LookupResult::Answer(_, stored, _), _) => stored,
        (other, _) => panic!("{other:?}"),
    }
}

/// Sezzle's answer: the session, whose order is `o`.
fn answer() -> SessionResponse {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let body = Bytes::from(format!(r#"{{"uuid":"{KEY}","order":{{"uuid":"o"}}}}"#));
    SessionResponse { status: StatusCode::OK, fwd_status: StatusCode::OK, headers, etag: None, body }
}

#[tokio::test]
async fn a_hit_waits_for_no_purge_and_no_flight() {
    let (sessions, _) = sessions();
    fetch(&sessions).await.expect("stored");
    let _flights = sessions.flights.lock();
    let mut purged = 0;
    // `remove` runs under the lock that stores and purges share, so that lock is held during this closure.
    sessions.invalidation.purge(&Tag::order("o"), Cause::Changed, sessions.clock.mono(), |_| {
        let (give, found) = sync_channel(1);
        let reader = Arc::clone(&sessions);
        thread::spawn(move || {
            give.send(matches!(reader.find(KEY, &RequestDirectives::default(), Clock::system().now()), Found::Fresh(_)))
        });
        assert_eq!(found.recv_timeout(Duration::from_secs(10)), Ok(true));
        purged += 1;
    });
    assert_eq!(purged, 1);
}

#[tokio::test]
async fn nothing_outlives_the_rules_it_was_stored_by() {
    let (sessions, _) = sessions();
    let stored = |sessions: &Sessions| {
        matches!(sessions.find(KEY, &RequestDirectives::default(), sessions.clock.now()), Found::Fresh(_))
    };
    let mut others = rules();
    others.lookup_timeout = Duration::from_secs(1);
    fetch(&sessions).await.expect("stored");
    sessions.change(others.clone());
    assert!(stored(&sessions), "how long callers wait is nothing to what is stored");
    assert_eq!(sessions.metrics.cache_invalidations.with_label_values(&["reload"]).get(), 0);

    others.policy.untokenized_ttl = Duration::from_secs(20);
    sessions.change(others.clone());
    assert!(!stored(&sessions));
    assert_eq!(sessions.metrics.cache_invalidations.with_label_values(&["reload"]).get(), 1);
    assert_eq!(fetch(&sessions).await.map(|freshness| freshness.ttl), Ok(Duration::from_secs(20)));

    sessions.purge_all().await;
    others.policy.untokenized_ttl = Duration::from_secs(10);
    let (changing, others) = (Arc::clone(&sessions), others);
    let late = fetch_meanwhile(&sessions, move || changing.change(others.clone())).await;
    assert_eq!(late, Err(NotStored::Purged), "it was asked for under the rules before");
    assert_eq!(fetch(&sessions).await.map(|freshness| freshness.ttl), Ok(Duration::from_secs(10)));
}

#[tokio::test]
async fn after_an_unknown_outcome_nothing_is_stored_for_the_longest_lifetime_of_that_time() {
    let (sessions, shift) = sessions();
    let mut others = rules();
    others.policy.max_ttl = Duration::from_secs(600);
    sessions.change(others);
    sessions.begin_write(Some(Tag::order("o"))).end(ending::Ending::Unknown).await;
    shift.advance(Duration::from_secs(599));
    assert_eq!(fetch(&sessions).await, Err(NotStored::Unsettled));
    shift.advance(Duration::from_secs(1));
    assert!(fetch(&sessions).await.is_ok());
}
