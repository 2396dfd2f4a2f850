//! Measures how long a condition has lasted, by observations. Pure.

use std::time::Duration;

use crate::clock::Mono;

/// The time of the first observation in a row that has found the condition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lasting(Option<Mono>);

impl Lasting {
    /// Notes whether this observation finds the condition. Returns the time since the first observation in a row that
    /// found it; zero if this one does not.
    pub fn observe(&mut self, found: bool, now: Mono) -> Duration {
        match (found, self.0) {
            (false, _) => self.0 = None,
            (true, None) => self.0 = Some(now),
            (true, Some(_)) => {}
        }
        self.0.map_or(Duration::ZERO, |since| now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_observation_finds_lasts() {
        let mut lasting = Lasting::default();
        for (second, found, length) in [
            (10, false, 0),
            (20, true, 0),
            (50, true, 30),
            (90, true, 70),
            (95, false, 0),
            (99, true, 0),
            (100, true, 1),
        ] {
            let now = Mono(Duration::from_secs(second));
            assert_eq!(lasting.observe(found, now), Duration::from_secs(length), "{second}");
        }
    }
}
