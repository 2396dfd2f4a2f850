//! No clock lets a shared session outlive its end: not those of the pods, and not the server's, wherever they are set
//! and to wherever they are moved.

use std::time::Duration;

use futures_util::future::join_all;
use sezzle_sidecar::simulator::Options;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::fleet::{Pod, Shop, key_file, sharing};
use crate::support::process::Folder;
use crate::support::redis::Redis;
use crate::support::{Harness, Session};

/// How long the gateway says that a session is valid.
const LIFE: Duration = Duration::from_secs(6);
const HOUR: i64 = 3_600_000;

/// Clocks in milliseconds ahead of the machine's.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    sharing: i64,
    taking: i64,
    /// The server's, when the session is shared.
    server: i64,
    /// The server's, from the middle of the session's life.
    moved: i64,
}

const RIGHT: Clocks = Clocks { sharing: 0, taking: 0, server: 0, moved: 0 };

/// Looks sessions up through two pods until long after their end, and returns how many sessions that the first had
/// fetched the second took.
async fn outlives_nothing(clocks: Clocks) -> usize {
    let (redis, folder) = (Redis::with_clock(clocks.server).await, Folder::new());
    let key_file = key_file(&folder);
    let shop = Shop::with(Options { tokenize_life: LIFE, ..Options::default() }).await;
    // The machine may be busy, so replies may take long.
    let patient = [("FLEET__TIMEOUT", "50ms"), ("FLEET__POLL", "300ms"), ("FLEET__LEASE", "1s")];
    let settings = [&sharing(&key_file)[..], &patient, &[("CACHE__EXPIRATION_MARGIN", "1s")]].concat();
    let harnesses = [shop.pod(Some(&redis.url()), &settings).await, shop.pod(Some(&redis.url()), &settings).await];
    harnesses[0].clock.step_wall(clocks.sharing);
    harnesses[1].clock.step_wall(clocks.taking);
    let pods = harnesses.each_ref().map(Pod::from);
    for pod in pods {
        // Sezzle's clock is right, and each pod has seen it with its token.
        shop.link_is(pod, "synced").await;
    }
    let begun = Instant::now();
    let mut taken = 0;
    let sessions: Vec<Session> = (0..10).map(|_| Session::tokenize(&shop.gateway)).collect();
    // The sessions were created before this.
    let end = Instant::now() + LIFE;
    for (number, session) in (0..).zip(&sessions) {
        // Each is taken at another time of its life.
        sleep_until(begun + Duration::from_millis(250) * number).await;
        shop.lookup(pods[0], session).await;
        sleep(Duration::from_millis(100)).await;
        let answer = shop.lookup(pods[1], session).await;
        taken += usize::from(answer.header("cache-status").starts_with("sezzle-fleet; hit"));
        if number == 5 {
            redis.set_clock(clocks.moved);
        }
    }
    while Instant::now() < end + Duration::from_secs(1) {
        let asked = Instant::now();
        for session in &sessions {
            for pod in pods {
                let answer = shop.lookup(pod, session).await;
                let status = answer.header("cache-status");
                let is_stored = status.starts_with("sezzle-fleet; hit") || answer.cache().starts_with("hit");
                assert!(!is_stored || asked < end, "{:?} after the end: {status}, {clocks:?}", asked - end);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    join_all(harnesses.into_iter().map(Harness::stop_alone)).await;
    shop.gateway.stop().await;
    taken
}

#[tokio::test]
#[ignore = "needs valkey-server and libfaketime: tests/run"]
async fn no_clock_lets_a_shared_session_outlive_its_end() {
    let taken = join_all(
        [
            RIGHT,
            Clocks { sharing: -600_000, taking: 600_000, ..RIGHT },
            Clocks { sharing: 600_000, taking: -600_000, ..RIGHT },
            Clocks { server: HOUR, moved: HOUR, ..RIGHT },
            Clocks { server: -HOUR, moved: -HOUR, ..RIGHT },
            Clocks { moved: -HOUR, ..RIGHT },
            Clocks { moved: HOUR, ..RIGHT },
            Clocks { sharing: -600_000, taking: -600_000, server: 0, moved: -HOUR },
        ]
        .map(outlives_nothing),
    )
    .await;
    assert!(taken[0] > 0, "with right clocks sessions are taken: {taken:?}");
    // A server whose clock is wrong, and stays so, is no reason to share nothing.
    assert!(taken[3] > 0 && taken[4] > 0, "{taken:?}");
}
