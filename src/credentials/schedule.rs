//! When to exchange, when to wait and when to give up: pure functions of their arguments.

use std::time::Duration;

use crate::clock::{Mono, Wall};
use crate::sezzle::time::DATE_RESOLUTION;

/// How long a token lives, by the response to the exchange. `None` if the token has expired already.
///
/// The reference is the gateway's own `Date`, so that a skewed local clock does not matter. The local clock serves if
/// there is no `Date`, or if the token would have expired by it: a proxy may have put in a wrong one. A token that
/// names no expiry gets the longest life that Sezzle allows; if it expires sooner, a 401 says so.
pub fn life(expiration: Option<Wall>, date: Option<Wall>, local: Wall) -> Option<Duration> {
    let stated = expiration.map_or(LONGEST_LIFE, |expiration| {
        // A `Date` has whole seconds, so its real time may be almost a second later.
        let by_date = date.map(|date| expiration.since(date).saturating_sub(DATE_RESOLUTION));
        by_date.filter(|life| !life.is_zero()).unwrap_or_else(|| expiration.since(local))
    });
    // An expired token must never be sent, so the token counts as expired a little early.
    let life = stated.min(LONGEST_LIFE).saturating_sub(MARGIN.min(stated / 20));
    (!life.is_zero()).then_some(life)
}

/// The wait from one exchange to the next: about three quarters of the token's life.
///
/// `jitter` is between 0 and 1 and spreads a fleet of sidecars over ± 10 %.
pub fn refresh_after(life: Duration, jitter: f64) -> Duration {
    life.mul_f64(0.75 + 0.075 * (2.0 * jitter.clamp(0.0, 1.0) - 1.0)).max(SHORTEST_INTERVAL.min(life / 2))
}

/// The wait after the `failures`-th failure in a row: exponential from 1 s with full jitter. While a token is left, up
/// to 60 s and not past its expiry (`token_left`); without one, up to 5 s. If Sezzle `asked` for a longer wait, that
/// and up to a tenth more, 60 s at most.
pub fn back_off(failures: u32, token_left: Option<Duration>, asked: Option<Duration>, jitter: f64) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    let cap = token_left.map_or(Duration::from_secs(5), |left| left.min(LONGEST_BACK_OFF));
    let step = Duration::from_secs(1u64 << failures.saturating_sub(1).min(6)).min(cap);
    let asked =
        asked.map_or(Duration::ZERO, |asked| asked.min(LONGEST_BACK_OFF.div_f64(1.1)).mul_f64(1.0 + 0.1 * jitter));
    step.mul_f64(jitter).max(SHORTEST_BACK_OFF).max(asked)
}

/// The state of exchanges when a request finds no live token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeState {
    /// The last exchange succeeded, or there was none yet.
    Working,
    /// No exchange has succeeded yet, and the last one got no usable response.
    Starting,
    Failing,
}

/// The behaviour of a request without a live token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNoToken {
    /// Asks for an exchange and waits for its end.
    Ask,
    /// Waits for the exchange under way, for a bounded time.
    Wait,
    /// Fails at once.
    Refuse,
}

/// Decides on a request that finds no live token, in a process that is `age` old.
pub fn on_no_token(state: ExchangeState, refreshing: bool, age: Duration) -> OnNoToken {
    match (state, refreshing) {
        // The token has just expired, perhaps because the machine was suspended.
        (ExchangeState::Working, false) => OnNoToken::Ask,
        // A short wait at the start saves every caller a retry. Later it would only slow every caller down.
        (ExchangeState::Starting, _) if age >= FIRST_WAIT => OnNoToken::Refuse,
        (ExchangeState::Working, true) | (ExchangeState::Starting, _) => OnNoToken::Wait,
        // Holds during a new attempt too: an exchange that hangs would delay every caller for seconds.
        (ExchangeState::Failing, _) => OnNoToken::Refuse,
    }
}

/// The reaction to a 401 from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnauthorized {
    /// A newer token exists: send the request again with it.
    Replay,
    /// An exchange is needed or under way: wait for it, then send the request again.
    Refresh,
    /// The caller gets the 401.
    GiveUp,
}

/// Decides on a 401 to a request that was sent with the token of generation `sent`. `too_early` means that Sezzle asked
/// to wait before the next exchange.
pub fn on_unauthorized(
    sent: u64,
    current: u64,
    refreshing: bool,
    last_forced: Option<Mono>,
    too_early: bool,
    now: Mono,
) -> OnUnauthorized {
    if sent < current {
        OnUnauthorized::Replay
    } else if refreshing {
        OnUnauthorized::Refresh
    } else if too_early || last_forced.is_some_and(|last| now.since(last) < FORCED_INTERVAL) {
        // Sezzle refuses no token so young for its age, and a route that always answers 401 must not cause a storm.
        OnUnauthorized::GiveUp
    } else {
        OnUnauthorized::Refresh
    }
}

/// Whether the clocks of the gateway and this machine differ too much now, if that is news after `skewed`.
/// `skew_millis` is the gateway's time less the local time.
pub fn skew_changed(skewed: bool, skew_millis: i64) -> Option<bool> {
    let now = skew_millis.unsigned_abs() > MAX_SKEW_MILLIS;
    (now != skewed).then_some(now)
}

/// The alert SezzleSidecarClockSkew has the same threshold.
pub const MAX_SKEW_MILLIS: u64 = 30_000;

/// How long a request waits for a token: one exchange and a little more.
pub const FIRST_WAIT: Duration = Duration::from_secs(7);

// Sezzle requires a new token within 120 minutes.
const LONGEST_LIFE: Duration = Duration::from_secs(110 * 60);
const MARGIN: Duration = Duration::from_secs(5);
// Tokens that expire at once must not turn the exchange into a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
const SHORTEST_BACK_OFF: Duration = Duration::from_millis(100);
const FORCED_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn life_is_measured_on_the_gateways_clock() {
        let minutes = |life: Option<Duration>| life.map(|life| life.as_secs() / 60);
        let noon = Wall(1_800_000_000_000);
        let later = |minutes: i64| Some(Wall(noon.0 + minutes * MINUTE));
        let at = |minutes: i64| Wall(noon.0 + minutes * MINUTE);
        assert_eq!(minutes(life(later(120), Some(noon), noon)), Some(109), "capped, with the margin");
        assert_eq!(minutes(life(later(60), Some(noon), at(600))), Some(59), "a fast local clock does not matter");
        assert_eq!(minutes(life(later(60), Some(noon), at(-600))), Some(59), "nor does a slow one");
        assert_eq!(minutes(life(later(60), None, noon)), Some(59));
        assert_eq!(life(later(-1), Some(noon), noon), None);
        assert_eq!(life(Some(Wall(-62_135_596_800_000)), Some(noon), noon), None, "Go's zero date");
        assert_eq!(minutes(life(later(60), Some(at(1440)), noon)), Some(59), "a `Date` a day ahead is not believed");
        assert_eq!(minutes(life(later(60), Some(at(-1440)), noon)), Some(109), "one a day behind, up to the cap");
        assert_eq!(minutes(life(None, Some(noon), noon)), Some(109), "no end is named");
        let short = life(Some(Wall(noon.0 + 2_000)), Some(noon), noon);
        assert_eq!(short, Some(Duration::from_millis(950)), "a short life keeps most of itself");
    }

    #[test]
    fn refresh_is_early_and_spread() {
        let hour = Duration::from_secs(3600);
        assert_eq!(refresh_after(hour, 0.5).as_secs(), 2700);
        assert_eq!(refresh_after(hour, 0.0).as_secs(), 2430);
        assert_eq!(refresh_after(hour, 1.0).as_secs(), 2970);
    }

    #[test]
    fn a_skewed_clock_is_news_once() {
        for (skewed, millis, news) in [
            (false, 0, None),
            (false, 30_000, None),
            (false, 30_001, Some(true)),
            (false, -30_001, Some(true)),
            (false, i64::MIN, Some(true)),
            (true, 300_000, None),
            (true, -300_000, None),
            (true, 30_000, Some(false)),
            (true, -900, Some(false)),
        ] {
            assert_eq!(skew_changed(skewed, millis), news, "{skewed} {millis}");
        }
    }

    #[test]
    fn back_off_grows_to_its_cap() {
        let seconds =
            |failures, left: Option<u64>| back_off(failures, left.map(Duration::from_secs), None, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 7, 40].map(|failures| seconds(failures, Some(900))), [1, 2, 4, 8, 60, 60]);
        assert_eq!([1, 3, 4, 40].map(|failures| seconds(failures, None)), [1, 4, 5, 5]);
        assert_eq!(seconds(7, Some(3)), 3, "no longer than the token that is left");
        assert_eq!(back_off(9, None, None, 0.0), SHORTEST_BACK_OFF);
        let asked = |seconds, failures, jitter| {
            back_off(failures, None, Some(Duration::from_secs(seconds)), jitter).as_millis()
        };
        assert_eq!(
            [asked(0, 1, 0.0), asked(1, 1, 0.0), asked(30, 1, 0.0), asked(30, 1, 1.0)],
            [100, 1000, 30_000, 33_000]
        );
        assert_eq!(asked(1, 9, 1.0), 5000, "the longer wait counts");
        let longest = [asked(3600, 1, 0.0), asked(3600, 1, 1.0), asked(u64::MAX, 1, 1.0)];
        assert!(longest.iter().all(|wait| (54_000..=60_000).contains(wait)), "{longest:?}");
    }

    #[test]
    fn a_401_refreshes_once_and_never_storms() {
        let at = |seconds| Mono(Duration::from_secs(seconds));
        for (sent, current, refreshing, last_forced, expected) in [
            (1, 2, false, Some(at(99)), OnUnauthorized::Replay),
            (1, 2, true, None, OnUnauthorized::Replay),
            (2, 2, true, Some(at(99)), OnUnauthorized::Refresh),
            (2, 2, false, None, OnUnauthorized::Refresh),
            (2, 2, false, Some(at(90)), OnUnauthorized::Refresh),
            (2, 2, false, Some(at(91)), OnUnauthorized::GiveUp),
        ] {
            let decided = on_unauthorized(sent, current, refreshing, last_forced, false, at(100));
            assert_eq!(decided, expected, "{sent} {current} {refreshing} {last_forced:?}");
        }
        assert_eq!(on_unauthorized(2, 2, false, None, true, at(100)), OnUnauthorized::GiveUp, "Sezzle asked to wait");
        assert_eq!(on_unauthorized(1, 2, false, None, true, at(100)), OnUnauthorized::Replay, "this asks for no token");
    }

    #[test]
    fn callers_wait_only_for_what_may_well_succeed() {
        for (state, refreshing, early, late) in [
            (ExchangeState::Working, false, OnNoToken::Ask, OnNoToken::Ask),
            (ExchangeState::Working, true, OnNoToken::Wait, OnNoToken::Wait),
            (ExchangeState::Starting, false, OnNoToken::Wait, OnNoToken::Refuse),
            (ExchangeState::Starting, true, OnNoToken::Wait, OnNoToken::Refuse),
            (ExchangeState::Failing, false, OnNoToken::Refuse, OnNoToken::Refuse),
            (ExchangeState::Failing, true, OnNoToken::Refuse, OnNoToken::Refuse),
        ] {
            let young = FIRST_WAIT - Duration::from_millis(1);
            for (age, expected) in [(Duration::ZERO, early), (young, early), (FIRST_WAIT, late), (LONGEST_LIFE, late)] {
                assert_eq!(on_no_token(state, refreshing, age), expected, "{state:?} {refreshing} {age:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_refresh_is_within_life(
            expiration: Option<i64>, date: Option<i64>, local: i64, jitter in 0.0..1.0f64, failures: u32, left: Option<u32>,
        ) {
            if let Some(life) = life(expiration.map(Wall), date.map(Wall), Wall(local)) {
                prop_assert!(life <= LONGEST_LIFE);
                prop_assert!(refresh_after(life, jitter) < life);
            }
            let left = left.map(|left| Duration::from_secs(left.into()));
            let _ = back_off(failures, left, left, jitter);
        }
    }
}
