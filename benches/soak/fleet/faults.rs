//! The faults of the Redis and of the ways to it while a fleet soaks.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::redis::Redis;
use super::redis_proxy::{RedisProxy, Way};

/// Milliseconds from the end of one fault to the beginning of the next. Most links are back after three seconds.
const QUIET: Range<u64> = 1_000..12_000;
/// Milliseconds that a fault lasts.
const LASTS: Range<u64> = 100..5_000;

const ALL: [Fault; 11] = [
    Fault::Paused,
    Fault::Killed,
    Fault::KilledWithData,
    Fault::RolledBack,
    Fault::Slow,
    Fault::Cut,
    Fault::CutInReply,
    Fault::Refused,
    Fault::Forgotten,
    Fault::Stalled(Way::ToServer),
    Fault::Stalled(Way::ToCaller),
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The Redis is stopped, and keeps its connections.
    Paused,
    /// The Redis is gone, and comes back without data.
    Killed,
    /// The Redis is gone, and comes back with all its data.
    KilledWithData,
    /// The Redis is gone, and comes back with its data from some time before.
    RolledBack,
    Slow,
    Cut,
    CutInReply,
    Refused,
    /// Connections are lost, and neither side notices.
    Forgotten,
    Stalled(Way),
}

/// Brings about all faults, again and again in another order, for one sidecar or for all, and returns how many there were.
pub async fn come_and_go(redis: &mut Redis, proxies: &[RedisProxy], until: Instant, mut rng: Rng) -> usize {
    let (mut rest, mut done) = (Vec::new(), 0);
    loop {
        sleep(Duration::from_millis(rng.u64(QUIET))).await;
        if Instant::now() >= until {
            return done;
        }
        if rest.is_empty() {
            rest = ALL.to_vec();
        }
        let fault = rest.swap_remove(rng.usize(..rest.len()));
        let one = rng.usize(..proxies.len());
        let proxies = if rng.bool() { proxies } else { &proxies[one..=one] };
        let lasts = Duration::from_millis(rng.u64(LASTS));
        bring_about(fault, redis, proxies, lasts, &mut rng).await;
        proxies.iter().for_each(RedisProxy::mend);
        done += 1;
    }
}

async fn bring_about(fault: Fault, redis: &mut Redis, proxies: &[RedisProxy], lasts: Duration, rng: &mut Rng) {
    match fault {
        Fault::Paused => redis.pause(),
        Fault::Killed => redis.kill(),
        Fault::KilledWithData => {
            redis.save().await;
            redis.kill();
        }
        Fault::RolledBack => redis.save().await,
        Fault::Slow => {
            let delay = Duration::from_millis(rng.u64(1..150));
            proxies.iter().for_each(|proxy| proxy.delay(delay));
        }
        Fault::Cut => proxies.iter().for_each(RedisProxy::cut),
        Fault::CutInReply => {
            let bytes = rng.usize(1..2_000);
            proxies.iter().for_each(|proxy| proxy.cut_after(bytes));
        }
        Fault::Refused => proxies.iter().for_each(RedisProxy::refuse),
        Fault::Forgotten => proxies.iter().for_each(RedisProxy::forget),
        Fault::Stalled(way) => proxies.iter().for_each(|proxy| proxy.stall(way)),
    }
    sleep(lasts).await;
    match fault {
        Fault::Paused => redis.go_on(),
        Fault::Killed | Fault::KilledWithData => redis.start_again().await,
        Fault::RolledBack => {
            redis.kill();
            redis.start_again().await;
        }
        Fault::Slow | Fault::Cut | Fault::CutInReply | Fault::Refused | Fault::Forgotten | Fault::Stalled(_) => {}
    }
}
