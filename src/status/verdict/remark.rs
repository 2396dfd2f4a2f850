//! One line of "What needs attention".

use super::condition::Condition;
use crate::telemetry::metrics::words;

words! {
    /// How urgent a state is.
    #[derive(PartialOrd, Ord)]
    pub enum Level {
        Well = "well",
        /// Worth a look.
        Notice = "notice",
        /// The operator or Sezzle has to act.
        Trouble = "trouble",
    }
}

/// A remark on the state, in one or two sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub condition: Condition,
    pub level: Level,
    pub text: String,
}

impl Remark {
    pub(super) fn notice(condition: Condition, text: impl Into<String>) -> Self {
        Self { condition, level: Level::Notice, text: text.into() }
    }

    pub(super) fn trouble(condition: Condition, text: impl Into<String>) -> Self {
        Self { condition, level: Level::Trouble, text: text.into() }
    }
}
