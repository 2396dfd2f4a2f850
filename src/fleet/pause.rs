//! A pause in what lookups ask. Pure.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::clock::{Mono, Now};

/// After a reply that was late nobody asks, until the server has answered a poll that was sent later. So a server that
/// hangs makes a few lookups wait, and not each.
#[derive(Debug, Default)]
pub struct Pause(Mutex<Option<Mono>>);

impl Pause {
    /// A question that was sent then was not answered in time.
    pub fn begin(&self, sent: Now) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = Some(since.map_or(sent.mono, |since| since.max(sent.mono)));
    }

    /// Whether nobody asks. `synced` is when the last poll was sent that was answered.
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
