//! Decides whether a further signal ends a drain at once: pure.

use std::time::Duration;

use crate::clock::Mono;

/// Whether a signal at `now` ends the drain that a signal at `first` began. Wrappers such as GNU `timeout` signal their
/// child and then its process group, so two signals within a second count as one.
pub(super) fn ends_at_once(first: Mono, now: Mono) -> bool {
    now.since(first) >= PAIR
}

// Wrappers send a pair within milliseconds. A person needs about a second to see that the process still runs.
const PAIR: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_as_a_second_one_from_a_second_on() {
        for (first, now, expected) in [
            (0, 0, false),
            (0, 2, false),
            (5_000, 5_999, false),
            (5_000, 6_000, true),
            (5_000, 60_000, true),
            (5_000, 4_000, false),
        ] {
            let at = |millis| Mono(Duration::from_millis(millis));
            assert_eq!(ends_at_once(at(first), at(now)), expected, "{first} {now}");
        }
    }
}
