//! The section about limits, and how much of each is in use.

use super::block::{Block, Section, Table};
use crate::status::snapshot::Snapshot;
use crate::status::words::count;

pub(super) fn limits(s: &Snapshot) -> Section {
    let of = |(taken, limit): (u64, u64)| format!("{} of {}", count(taken), count(limit));
    let classes = s.classes.iter().map(|state| vec![state.class.to_owned(), of(state.permits), of(state.queue)]);
    let classes = Table {
        caption: "Calls to Sezzle now: under way, and waiting for a permit".to_owned(),
        texts: &["Class"],
        numbers: &["Under way", "Waiting"],
        is_of_words: false,
        rows: classes.collect(),
    };
    let listeners = s.listeners.iter().map(|one| vec![one.name.to_owned(), of((one.connections, one.limit))]);
    let listeners = Table {
        caption: "Connections of callers now".to_owned(),
        texts: &["Listener"],
        numbers: &["Open"],
        is_of_words: false,
        rows: listeners.collect(),
    };
    let [open, active, waiting] = [s.upstream.open, s.upstream.active, s.upstream.waiting].map(count);
    let upstream =
        format!("Connections to Sezzle: {open} open, {active} calls on them, {waiting} calls waiting for one.");
    let blocks = vec![Block::Table(classes), Block::Table(listeners), Block::Text(upstream)];
    Section { id: "limits", title: "Permits, queues and connections", blocks }
}
