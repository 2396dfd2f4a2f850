use std::sync::mpsc::sync_channel;
use std::thread;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::clock::ClockShift;

const KEY: Uuid = Uuid::from_u128(7);

pub(super) type Sessions = Arc<SessionCache<()>>;

/// An empty cache and its clock.
pub(super) fn sessions() -> (Sessions, Arc<ClockShift>) {
    let second = Duration::from_secs(1);
    let policy = Policy {
        max_ttl: 60 * second,
        untokenized_ttl: 30 * second,
        expiration_margin: 5 * second,
        honor_origin: true,
        stale_if_error: Duration::ZERO,
    };
    let options = Options {
        max_bytes: 1024 * 1024,
        policy,
        max_flights: 8,
        patience: 10 * second,
        own_headers: OwnHeaders::default(),
    };
    let (clock, shift) = Clock::shifted();
    let metrics = Arc::new(Metrics::new().expect("valid metrics"));
    (SessionCache::new(options, TaskTracker::new(), clock, metrics), shift)
}

/// Fetches the session, whose order is `o`.
pub(super) async fn fetch(sessions: &Sessions) -> Result<Life, Skip> {
    let fetched = |_| async {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let body = Bytes::from(format!(r#"{{"uuid":"{KEY}","order":{{"uuid":"o"}}}}"#));
        Fetched::<(), ()>::Whole(Answer {
            status: StatusCode::OK,
            fwd_status: StatusCode::OK,
            headers,
            etag: None,
            body,
        })
    };
    match sessions.fetch(KEY, &Wishes::default(), fetched).await {
        (Outcome::Answer(_, stored), _) => stored,
        (other, _) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hit_waits_for_no_purge_and_no_flight() {
    let (sessions, _) = sessions();
    fetch(&sessions).await.expect("stored");
    let _flights = sessions.flights.lock();
    let mut purged = 0;
    // What is removed is removed under the lock that stores and purges share: it is held for as long as this takes.
    sessions.store.invalidation().purge(&Tag::order("o"), Cause::Changed, sessions.clock.now().mono, |_| {
        let (give, found) = sync_channel(1);
        let reader = Arc::clone(&sessions);
        thread::spawn(move || {
            give.send(matches!(reader.find(KEY, &Wishes::default(), Clock::system().now()), Found::Fresh(_)))
        });
        assert_eq!(found.recv_timeout(Duration::from_secs(10)), Ok(true));
        purged += 1;
    });
    assert_eq!(purged, 1);
}
