//! Applies the effects of the log to memory.

use super::log::Effect;
use crate::session::SessionCache;

/// Applies effects to memory, in the order of the log. The caller holds the lock of the log.
pub fn apply<E: Clone + Send + Sync + 'static>(sessions: &SessionCache<E>, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Begin { tag, write, overdue } => sessions.begin_elsewhere(tag, write.0, overdue),
            Effect::End { tag, write, cause } => sessions.end_elsewhere(tag, write.0, cause),
            Effect::Changed(tag) => sessions.changed_elsewhere(tag),
            Effect::All { doubt } => sessions.all_changed_elsewhere(doubt),
            Effect::Rejoined { cause, doubt } => sessions.rejoined(cause, doubt),
        }
    }
}
