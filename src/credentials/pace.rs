//! How many exchanges for shops may go to Sezzle. Pure.
//!
//! Callers make up shops as they like, and Sezzle counts each exchange as the merchant's, also against the exchanges by
//! which the sidecar renews its own token.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Mono;

/// How much of each rate is used up.
#[derive(Debug, Default)]
pub struct Pace {
    all: Bucket,
    /// The buckets that are not full, by the caller's name.
    of_callers: HashMap<String, Bucket>,
}

impl Pace {
    /// Takes one exchange of the rates; `caller` is `None` without `[[callers]]`. The error is the wait until an
    /// exchange may be taken.
    pub fn take(&mut self, caller: Option<&str>, now: Mono) -> Result<(), Duration> {
        let own = caller.map(|name| (name, self.of_callers.get(name).copied().unwrap_or_default()));
        let wait = self.all.wait(&ALL, now).max(own.map_or(Duration::ZERO, |(_, own)| own.wait(&OF_CALLER, now)));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.all = self.all.after_one(&ALL, now);
        if let Some((name, own)) = own {
            // A bucket is full again after a short time, so the map stays small, whatever names a reload brings.
            self.of_callers.retain(|_, bucket| bucket.full_at > now);
            self.of_callers.insert(name.to_owned(), own.after_one(&OF_CALLER, now));
        }
        Ok(())
    }
}

/// A rate with the number that may come at once.
struct Rate {
    burst: u32,
    interval: Duration,
}

/// 60 a minute: enough for a client in each second that starts with a new shop.
const ALL: Rate = Rate { burst: 20, interval: Duration::from_secs(1) };
/// Half of [`ALL`], so that no caller keeps the others from asking.
const OF_CALLER: Rate = Rate { burst: 10, interval: Duration::from_secs(2) };

/// A token bucket, by the time at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Mono,
}

impl Bucket {
    /// The wait until one exchange may be taken.
    fn wait(self, rate: &Rate, now: Mono) -> Duration {
        let others = rate.interval.saturating_mul(rate.burst.saturating_sub(1));
        self.full_at.since(now).saturating_sub(others)
    }

    fn after_one(self, rate: &Rate, now: Mono) -> Self {
        Self { full_at: self.full_at.max(now).plus(rate.interval) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn taken(pace: &mut Pace, caller: Option<&str>, ms: u64) -> usize {
        (0..1000).take_while(|_| pace.take(caller, at(ms)).is_ok()).count()
    }

    #[test]
    fn twenty_at_once_and_then_one_a_second() {
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, None, 5000), 20);
        assert_eq!(pace.take(None, at(5000)), Err(Duration::from_secs(1)));
        assert_eq!(pace.take(None, at(5999)), Err(Duration::from_millis(1)));
        assert_eq!(taken(&mut pace, None, 6000), 1);
        assert_eq!(taken(&mut pace, None, 16_000), 10);
        assert_eq!(taken(&mut pace, None, 1_000_000), 20, "no more are saved up");
        let in_a_minute: usize = (0..600).map(|tenth| taken(&mut pace, None, 2_000_000 + tenth * 100)).sum();
        assert_eq!(in_a_minute, 20 + 59);
    }

    #[test]
    fn no_caller_keeps_the_others_from_asking() {
        let mut pace = Pace::default();
        let (mut greedy, mut modest) = (0, 0);
        for second in 0..600 {
            greedy += taken(&mut pace, Some("greedy"), second * 1000);
            modest += usize::from(second % 2 == 0 && pace.take(Some("modest"), at(second * 1000)).is_ok());
        }
        assert_eq!((greedy, modest), (10 + 299, 300));
    }

    #[test]
    fn names_that_come_and_go_are_forgotten() {
        let mut pace = Pace::default();
        for number in 0..10_000 {
            let _ = pace.take(Some(&format!("caller-{number}")), at(number * 10));
            assert!(pace.of_callers.len() <= 22, "{}", pace.of_callers.len());
        }
    }
}
