//! Everything is restarted at once, the server included. Sezzle gets hardly more requests than without a fleet.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::support::fleet::{self, Pod, Shop, key_file};
use crate::support::process::Folder;
use crate::support::redis::Redis;
use crate::support::{Harness, Session};

const PODS: usize = 3;
const SESSIONS: usize = 20;
const ROUNDS: u32 = 12;
const ROUND: Duration = Duration::from_millis(500);

/// How often Sezzle was asked for sessions within a few seconds, in the middle of which everything was restarted.
async fn asked(server: Option<&mut Redis>, settings: &[(&str, &str)]) -> usize {
    let shop = Shop::open().await;
    let url = server.as_ref().map(|server| server.url());
    let start = async || {
        let harnesses = join_all((0..PODS).map(|_| shop.pod(url.as_deref(), settings))).await;
        if url.is_some() {
            // A session that is fetched while a pod joins is not stored.
            join_all(harnesses.iter().map(|harness| shop.link_is(Pod::from(harness), "synced"))).await;
        }
        harnesses
    };
    let sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::tokenize(&shop.gateway)).collect();
    let mut harnesses = start().await;
    let mut server = server;
    for half in 0..2 {
        let begun = Instant::now();
        for round in 0..ROUNDS / 2 {
            for harness in &harnesses {
                join_all(sessions.iter().map(|session| shop.lookup(Pod::from(harness), session))).await;
            }
            sleep_until(begun + ROUND * (round + 1)).await;
        }
        if half == 0 {
            if let Some(server) = &mut server {
                server.kill().await;
            }
            join_all(harnesses.drain(..).map(Harness::stop_alone)).await;
            if let Some(server) = &mut server {
                server.start_again().await;
            }
            harnesses = start().await;
        }
    }
    let asked = sessions.iter().map(|session| shop.gateway.count("GET", &session.path)).sum();
    join_all(harnesses.into_iter().map(Harness::stop_alone)).await;
    shop.gateway.stop().await;
    asked
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_restart_of_everything_asks_sezzle_no_more_than_without_a_fleet() {
    let (mut redis, mut sharing, folder) = (Redis::start().await, Redis::start().await, Folder::new());
    let key_file = key_file(&folder);
    // The machine may be busy, so replies may take long.
    let patient = [("FLEET__TIMEOUT", "50ms"), ("FLEET__POLL", "300ms"), ("FLEET__LEASE", "1s")];
    let share = [&fleet::sharing(&key_file)[..], &patient].concat();
    let (without, with, shared) =
        tokio::join!(asked(None, &[]), asked(Some(&mut redis), &[]), asked(Some(&mut sharing), &share));
    assert_eq!(without, 2 * PODS * SESSIONS);
    assert!(10 * with <= 11 * without, "{with} requests, without a fleet {without}");
    // On an idle machine a third, as many as there are pods.
    assert!(4 * shared <= 3 * without, "{shared} requests with shared sessions, without a fleet {without}");
}
