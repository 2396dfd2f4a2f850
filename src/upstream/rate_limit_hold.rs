//! How long calls are held back after Sezzle answered 429. Pure.

use std::time::Duration;

use crate::clock::{Deadline, Now, Wall};

/// A period in which no calls are sent, if there is one.
#[derive(Clone, Debug, Default)]
pub struct RateLimitHold(Option<Deadline>);

impl RateLimitHold {
    /// Records a 429 with its `Retry-After`, if it had a valid one. The period never becomes shorter than an earlier
    /// answer demanded. Returns whether a period begins now.
    pub fn extend(&mut self, retry_after: Option<Duration>, now: Now) -> bool {
        let wait = retry_after.unwrap_or(DEFAULT_WAIT).min(LONGEST);
        let left = self.left(now);
        if wait > left.unwrap_or_default() {
            self.0 = Some(Deadline::after(now, wait));
        }
        left.is_none() && !wait.is_zero()
    }

    /// The time left; `None` if calls may be sent.
    pub fn left(&self, now: Now) -> Option<Duration> {
        self.0.map(|until| until.remaining(now)).filter(|left| !left.is_zero())
    }

    /// The end of the latest period on the wall clock; `None` if there never was one.
    pub fn until(&self) -> Option<Wall> {
        self.0.map(|until| until.wall())
    }
}

// The wait for an answer without `Retry-After`.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
// The longest wait: a mistake of Sezzle's must not hold calls back for a day.
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Mono;

    fn at(millis: u64) -> Now {
        let wall = Wall(1_600_000_000_000).plus(Duration::from_millis(millis));
        Now { mono: Mono(Duration::from_millis(millis)), wall }
    }

    #[test]
    fn it_lasts_as_long_as_was_asked_for_within_bounds() {
        for (asked, millis) in [
            (Some(0), None),
            (Some(5), Some(5000)),
            (Some(60), Some(60_000)),
            (Some(86_400), Some(60_000)),
            (Some(u64::MAX), Some(60_000)),
            (None, Some(1000)),
        ] {
            let mut hold = RateLimitHold::default();
            assert_eq!((hold.left(at(7)), hold.until()), (None, None));
            assert_eq!(hold.extend(asked.map(Duration::from_secs), at(7)), millis.is_some());
            assert_eq!(hold.left(at(7)), millis.map(Duration::from_millis), "{asked:?}");
            let end = 7 + millis.unwrap_or(0);
            assert_eq!(hold.left(at(end)), None, "{asked:?}");
            assert_eq!(hold.left(at(end.saturating_sub(1))).is_some(), millis.is_some());
            assert_eq!(hold.until(), millis.map(|_| at(end).wall));
        }
    }

    #[test]
    fn a_later_answer_never_shortens_it() {
        let mut hold = RateLimitHold::default();
        assert!(hold.extend(Some(Duration::from_secs(30)), at(0)), "it begins");
        assert!(!hold.extend(None, at(10_000)), "it goes on");
        assert_eq!(hold.left(at(10_000)), Some(Duration::from_secs(20)));
        assert!(!hold.extend(Some(Duration::from_secs(25)), at(10_000)));
        assert_eq!(hold.left(at(10_000)), Some(Duration::from_secs(25)));
        assert!(hold.extend(None, at(35_000)), "it was over");
    }

    #[test]
    fn a_stepped_clock_ends_it_and_never_makes_it_longer() {
        let mut hold = RateLimitHold::default();
        hold.extend(Some(Duration::from_secs(30)), at(0));
        let stepped = |by: i64| Now { wall: Wall(at(1000).wall.0 + by), ..at(1000) };
        assert_eq!(hold.left(stepped(-86_400_000)), Some(Duration::from_secs(29)));
        assert_eq!(hold.left(stepped(86_400_000)), None);
    }

    proptest! {
        #[test]
        fn it_is_the_latest_end_that_was_asked_for(
            steps in prop::collection::vec((0_u64..20_000, prop::option::of(0_u64..200)), 1..40),
        ) {
            let (mut hold, mut now, mut end) = (RateLimitHold::default(), 0, 0);
            for (step, asked) in steps {
                now += step;
                hold.extend(asked.map(Duration::from_secs), at(now));
                end = end.max(now + asked.unwrap_or(1).min(60) * 1000);
                let left = hold.left(at(now)).unwrap_or_default();
                prop_assert_eq!(left, Duration::from_millis(end - now));
                prop_assert!(left <= LONGEST);
            }
        }
    }
}
