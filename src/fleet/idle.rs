//! Measures the time since the last lookup. Pure.

use std::time::Duration;

use crate::clock::Mono;

/// Watches the number of fetches. A lookup that memory answers need not be seen, because its entry was fetched within
/// the longest life of an entry.
#[derive(Debug)]
pub struct Idle {
    fetches: u64,
    since: Mono,
}

impl Idle {
    pub fn new(fetches: u64, now: Mono) -> Self {
        Self { fetches, since: now }
    }

    /// The time since the number changed.
    pub fn time(&mut self, fetches: u64, now: Mono) -> Duration {
        if self.fetches != fetches {
            *self = Self::new(fetches, now);
        }
        now.since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_ends_the_pause() {
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let mut idle = Idle::new(7, at(100));
        let times =
            [(7, 130), (8, 140), (8, 141), (8, 150)].map(|(fetches, now)| idle.time(fetches, at(now)).as_secs());
        assert_eq!(times, [30, 0, 1, 10]);
    }
}
