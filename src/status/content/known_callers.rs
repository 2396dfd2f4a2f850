//! The section about the callers of the configuration.

use super::block::{Block, Section, Table};
use crate::status::snapshot::Snapshot;
use crate::status::words::count;

/// The section; `None` without `[[callers]]`, when everybody who reaches the listener may call.
pub(super) fn known_callers(s: &Snapshot) -> Option<Section> {
    if s.known_callers.is_empty() {
        return None;
    }
    let rows = s.known_callers.iter().map(|caller| {
        let amount = caller.max_amount.clone().unwrap_or_else(|| "any".to_owned());
        let counts = [caller.not_allowed, caller.over_limit].map(count);
        let texts = [caller.name.clone(), caller.told_by.clone(), caller.allow.clone(), amount];
        texts.into_iter().chain(counts).collect()
    });
    let table = Table {
        caption: "Callers, and their calls that were refused since the start".to_owned(),
        texts: &["Caller", "Marks", "May", "Amount of one call"],
        numbers: &["Not allowed", "Over limit"],
        is_of_words: false,
        rows: rows.collect(),
    };
    let unknown = count(s.hour.total.unknown_callers.into());
    let facts = vec![("Requests of unknown callers in the last hour", unknown)];
    Some(Section { id: "known-callers", title: "Who may call", blocks: vec![Block::Facts(facts), Block::Table(table)] })
}
