//! The effects of the log on memory.

use super::log::Effect;
use crate::session::SessionCache;

/// Does to memory what the log says, in its order. The caller holds the lock of the log.
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
