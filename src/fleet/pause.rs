//! A pause in the questions of lookups. Pure.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::clock::{Mono, Now};

/// After a late reply, no lookup asks until the server has answered a poll that was sent later. So a server that hangs
/// delays a few lookups, and not every one.
#[derive(Debug, Default)]
pub struct Pause(Mutex<Option<Mono>>);

impl Pause {
    /// Notes that a question, sent at this time, was not answered in time.
    pub fn begin(&self, sent: Now) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = Some(since.map_or(sent.mono, |since| since.max(sent.mono)));
    }

    /// Whether lookups pause. `synced` is the time at which the last answered poll was sent.
    pub fn holds(&self, synced: Option<Now>) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| synced.is_none_or(|synced| synced.mono <= since))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_poll_that_was_sent_later_ends_the_pause() {
        let at = |seconds| Now { mono: Mono(Duration::from_secs(seconds)), ..Now::default() };
        let pause = Pause::default();
        assert!(!pause.holds(None) && !pause.holds(Some(at(1))));
        pause.begin(at(5));
        pause.begin(at(4));
        assert!(pause.holds(None) && pause.holds(Some(at(4))) && pause.holds(Some(at(5))));
        assert!(!pause.holds(Some(at(6))));
    }
}
