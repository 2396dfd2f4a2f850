//! Finds the keys that differ between two configurations, and whether a change needs a restart: pure.

use super::source::SECRETS;
use super::{AppliedBy, Effective, Settings, reference};

/// The keys that differ, in the order of the sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A reload applies these.
    pub applied: Vec<&'static str>,
    /// These stay as they were when the process started.
    pub need_restart: Vec<&'static str>,
}

/// Compares a new configuration with the one in force. Keys that need a restart are compared with `started`; all others
/// with `reloaded`, the configuration of the last reload or else of the start.
pub fn diff(started: &Settings, reloaded: &Settings, new: &Settings) -> Changes {
    let mut changes = Changes::default();
    for (key, applied_by) in rules() {
        let (in_force, list) = match applied_by {
            AppliedBy::Reload => (reloaded, &mut changes.applied),
            AppliedBy::Restart => (started, &mut changes.need_restart),
        };
        if key != WITHOUT_EFFECT && in_force.values.get(key) != new.values.get(key) {
            list.push(key);
        }
    }
    changes
}

/// The keys that wait for a restart, because a reload has changed their values without effect.
pub fn waiting(started: &Settings, reloaded: &Settings) -> Vec<&'static str> {
    diff(started, reloaded, reloaded).need_restart
}

/// Every key with the value in force: that of the start for keys that need a restart, and otherwise that of `reloaded`.
pub fn in_force(started: &Settings, reloaded: &Settings) -> Vec<Effective> {
    let restart: Vec<_> =
        rules().filter(|(_, applied_by)| *applied_by == AppliedBy::Restart).map(|(key, _)| key).collect();
    let needs_restart = |entry: &&Effective| restart.contains(&entry.key);
    // The keys of a section stay together, in the order of the configuration that was read last.
    let mut in_force: Vec<_> = reloaded
        .effective
        .iter()
        .filter_map(|entry| match needs_restart(&entry) {
            true => started.effective.iter().find(|old| old.key == entry.key),
            false => Some(entry),
        })
        .cloned()
        .collect();
    // A secret that came by a variable at the start has no entry of its own in a configuration that names a file.
    let gone = started.effective.iter().filter(needs_restart);
    let gone: Vec<_> = gone.filter(|entry| !in_force.iter().any(|known| known.key == entry.key)).cloned().collect();
    in_force.extend(gone);
    in_force
}

/// Every key, and how a change of it takes effect.
pub fn rules() -> impl Iterator<Item = (&'static str, AppliedBy)> {
    let secrets = SECRETS.into_iter().map(|key| (key, AppliedBy::Restart));
    reference().into_iter().map(|doc| (doc.key, doc.applied_by)).chain(secrets)
}

/// A key that only decides whether `proxy.listen` is a mistake. Every read of the configuration decides that anew, so a
/// change of the key has no further effect.
const WITHOUT_EFFECT: &str = "proxy.allow_remote";

#[cfg(test)]
mod tests;
