//! Thins out warnings that a stranger can cause at will.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Mono;

/// Lets one line a minute through, and counts the cases in between.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_line: Option<Mono>,
    cases: u64,
}

impl Throttle {
    /// Counts a case at `now`. If a line is due, returns the number of cases since the last line, this one included.
    pub fn count(&self, now: Mono) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cases = state.cases.saturating_add(1);
        let due = state.last_line.is_none_or(|last| now.since(last) >= INTERVAL);
        *state = if due { State { last_line: Some(now), cases: 0 } } else { State { cases, ..*state } };
        due.then_some(cases)
    }
}

const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_counts_the_cases_since_the_last() {
        let throttle = Throttle::default();
        for (seconds, line) in [
            (100, Some(1)),
            (100, None),
            (159, None),
            (160, Some(3)),
            (161, None),
            (100, None),
            (1000, Some(3)),
            (1060, Some(1)),
        ] {
            assert_eq!(throttle.count(Mono(Duration::from_secs(seconds))), line, "at {seconds} s");
        }
    }
}
