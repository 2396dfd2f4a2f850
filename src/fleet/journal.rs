//! Decides which changes of the link get a line in the sidecar's log. Pure.

use std::time::Duration;

use super::failure::Failure;
use crate::clock::Mono;

/// The situation of the link, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// The log is read in time.
    Synced {
        at: String,
    },
    Failing(Failure),
}

/// The last line that was logged.
#[derive(Debug, Default)]
pub struct Journal {
    said: Option<(Situation, Mono)>,
}

impl Journal {
    /// Whether to log the situation. Yes if the situation differs from the one that was logged last, at most once a
    /// second. The link asks again and again.
    pub fn is_news(&mut self, situation: &Situation, now: Mono) -> bool {
        let is_news = match &self.said {
            None => true,
            Some((said, at)) => !is_like(said, situation) && now.since(*at) >= PAUSE,
        };
        if is_news {
            self.said = Some((situation.clone(), now));
        }
        is_news
    }
}

fn is_like(one: &Situation, other: &Situation) -> bool {
    match (one, other) {
        (Situation::Failing(one), Situation::Failing(other)) => one.is_like(other),
        (Situation::Synced { .. }, Situation::Synced { .. }) => true,
        _ => false,
    }
}

const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once_and_at_most_one_a_second() {
        let synced = || Situation::Synced { at: "cache:6379".to_owned() };
        let late = || Situation::Failing(Failure::Late(PAUSE));
        let lost = |why: &str| Situation::Failing(Failure::lost(why));
        let rows = [
            (0, synced(), true),
            (5_000, synced(), false),
            (5_100, late(), true),
            (5_200, late(), false),
            (5_300, lost("reset"), false),
            (6_099, lost("reset"), false),
            (6_100, lost("reset"), true),
            (9_000, lost("closed"), false),
            (9_100, synced(), true),
            (9_200, late(), false),
            (9_300, synced(), false),
            (20_000, synced(), false),
        ];
        let mut journal = Journal::default();
        for (ms, situation, expected) in rows {
            assert_eq!(journal.is_news(&situation, Mono(Duration::from_millis(ms))), expected, "{ms}: {situation:?}");
        }
    }
}
