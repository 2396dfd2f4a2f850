//! The section about the running configuration.

use super::block::{Block, Section};
use crate::status::snapshot::{ConfigKey, Snapshot};
use crate::status::words::{ago, time};
use crate::telemetry::metrics::ConfigReload;

pub(super) fn configuration(s: &Snapshot) -> Section {
    let reload = match s.configuration.last {
        None => "none since the start".to_owned(),
        Some((when, how)) => {
            let how = match how {
                ConfigReload::Success => "everything is in force",
                ConfigReload::NeedsRestart => "in force, except for keys that wait for a restart",
                ConfigReload::Failed => "failed; the log has every mistake",
            };
            format!("{} ({}): {how}", ago(when, s.now), time(when, s.now))
        }
    };
    let waiting = match s.configuration.waiting.as_slice() {
        [] => "none".to_owned(),
        keys => keys.join(", "),
    };
    let facts =
        vec![("Last reload", reload), ("Waiting for a restart", waiting), ("Log level", s.log_level.to_owned())];
    let lines = s.configuration.keys.iter().map(line).collect();
    let keys = Block::Folded("In force, without secrets", Box::new(Block::Lines(lines)));
    Section { id: "configuration", title: "Configuration", blocks: vec![Block::Facts(facts), keys] }
}

/// A key as `check` prints it.
fn line(entry: &ConfigKey) -> String {
    match &entry.value {
        Some(value) => format!("{} = {value} # {}", entry.key, entry.source),
        None => format!("# {} is not set", entry.key),
    }
}
