//! The intervals of the link: between polls, and between attempts to connect. Pure.

use std::time::Duration;

/// The time from one poll to the next. `idle` is the time since the last lookup.
///
/// The slow interval is longer than the lease. So slow polls begin only when every entry in memory has expired, and the
/// first lookup after the pause has to ask Sezzle in any case.
pub fn between_polls(poll: Duration, idle: Duration, max_ttl: Duration) -> Duration {
    if idle >= IDLE.max(max_ttl) { poll.max(SLOW) } else { poll }
}

/// How long a poll may take before its connection counts as lost.
pub fn patience(poll: Duration) -> Duration {
    poll.max(LEAST_PATIENCE)
}

/// The time before the next attempt to connect, after `failed` attempts in a row. `chance` is a random number up to
/// [`CHANCES`].
pub fn back_off(failed: u32, chance: u32) -> Duration {
    let whole = FIRST.saturating_mul(1_u32.checked_shl(failed.min(DOUBLINGS)).unwrap_or(1)).min(LAST);
    // Half to one and a half of the time, because pods that lost the same server must not come back together.
    whole.saturating_mul(chance.min(CHANCES).saturating_add(CHANCES / 2)) / CHANCES
}

/// The largest random number for [`back_off`].
pub const CHANCES: u32 = 1000;

const IDLE: Duration = Duration::from_secs(30);
const SLOW: Duration = Duration::from_secs(1);
const LEAST_PATIENCE: Duration = Duration::from_millis(50);
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(2);
// 50 ms doubled six times is more than the longest.
const DOUBLINGS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_pod_polls_slowly_once_its_memory_is_empty() {
        let rows = [
            (ms(100), ms(0), ms(100)),
            (ms(100), ms(59_999), ms(100)),
            (ms(100), ms(60_000), ms(1000)),
            (ms(1000), ms(60_000), ms(1000)),
        ];
        for (poll, idle, expected) in rows {
            assert_eq!(between_polls(poll, idle, ms(60_000)), expected, "{poll:?}, idle for {idle:?}");
        }
        assert_eq!(between_polls(ms(100), ms(29_999), ms(1)), ms(100));
        assert_eq!((patience(ms(20)), patience(ms(100))), (ms(50), ms(100)));
    }

    #[test]
    fn attempts_slow_down_and_never_end() {
        let waits: Vec<_> = (0..9).map(|failed| back_off(failed, 500).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert_eq!((back_off(u32::MAX, 0), back_off(u32::MAX, 1000)), (ms(1000), ms(3000)));
        assert_eq!(back_off(0, u32::MAX), ms(75));
    }
}
