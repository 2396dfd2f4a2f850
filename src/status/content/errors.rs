//! The sections about recent errors, one event each.

use std::time::Duration;

use super::block::{Block, Event, Section};
use crate::clock::Wall;
use crate::status::snapshot::Snapshot;
use crate::status::words::{ago, count, duration, time};
use crate::telemetry::recent_errors::RecentError;
use crate::telemetry::unknown_writes::UnknownWrite;

/// The section about the latest writes with an unknown outcome; `None` without such a write.
pub(super) fn unknown_writes(s: &Snapshot) -> Option<Section> {
    if s.unknown_writes.is_empty() {
        return None;
    }
    let mut blocks = vec![Block::Events(s.unknown_writes.iter().map(|write| unknown_write(write, s)).collect())];
    if !s.has_identifiers {
        blocks.push(Block::Text(
            "This listener leaves out identifiers. The control listener and the log have them.".to_owned(),
        ));
    }
    blocks.push(Block::Text(
        "The latest first. Find out what became of each before anybody repeats it under another key: docs/alerts.md, \
         SezzleSidecarOutcomeUnknown."
            .to_owned(),
    ));
    Some(Section { id: "unknown-writes", title: "Writes with an unknown outcome", blocks })
}

fn unknown_write(write: &UnknownWrite, s: &Snapshot) -> Event {
    let mut identifiers = Vec::new();
    if s.has_identifiers {
        identifiers.extend(write.order.clone().map(|order| ("order", order)));
        identifiers.push(("request", write.request_id.clone()));
        identifiers.push(("Sezzle-Request-Id", write.sezzle_request_id.clone().unwrap_or_else(|| "none".to_owned())));
    }
    Event {
        subject: format!("{} {}", write.method, write.route),
        what: "outcome unknown",
        cause: None,
        when: when(write.at, s.now),
        identifiers,
    }
}

/// Recent errors, one event for each kind.
pub(super) fn recent(s: &Snapshot) -> Section {
    let blocks = match s.recent_errors.is_empty() {
        true => vec![Block::Text("None since the start.".to_owned())],
        false => vec![
            Block::Events(s.recent_errors.iter().map(|error| recent_error(error, s.now)).collect()),
            Block::Text("One line for each kind, the latest first. The log has every request by its id.".to_owned()),
        ],
    };
    Section { id: "errors", title: "Recent errors", blocks }
}

fn recent_error(recent: &RecentError, now: Wall) -> Event {
    let kind = &recent.kind;
    let method = if kind.method.is_empty() { String::new() } else { format!("{} ", kind.method) };
    let code = kind.code.map_or_else(String::new, |code| format!(" {code}"));
    let last = when(recent.last, now);
    let when = match recent.times {
        1 => format!("Once, {last}"),
        times => {
            let length = duration(recent.last.since(recent.first).max(Duration::from_secs(1)));
            format!("{} times in {length}, last {last}", count(times))
        }
    };
    Event {
        subject: format!("{method}{}:{code}", kind.about),
        what: kind.what,
        cause: kind.cause,
        when,
        identifiers: recent.request_id.clone().map(|id| ("request", id)).into_iter().collect(),
    }
}

fn when(at: Wall, now: Wall) -> String {
    format!("{} ({})", ago(at, now), time(at, now))
}
