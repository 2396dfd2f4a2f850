//! Finds the keys that differ between two configurations, and whether a change needs a restart: pure.

use super::source::SECRETS;
use super::{Settings, Takes, reference};

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
    for (key, takes) in rules() {
        let (in_force, list) = match takes {
            Takes::Reload => (reloaded, &mut changes.applied),
            Takes::Restart => (started, &mut changes.need_restart),
        };
        if key != WITHOUT_EFFECT && in_force.understood.get(key) != new.understood.get(key) {
            list.push(key);
        }
    }
    changes
}

/// The keys that wait for a restart: those that the configuration of the last reload has changed without effect.
pub fn waiting(started: &Settings, reloaded: &Settings) -> Vec<&'static str> {
    diff(started, reloaded, reloaded).need_restart
}

/// Every key, and how a change of it takes effect.
pub fn rules() -> impl Iterator<Item = (&'static str, Takes)> {
    let secrets = SECRETS.into_iter().map(|key| (key, Takes::Restart));
    reference().into_iter().map(|doc| (doc.key, doc.takes)).chain(secrets)
}

/// Decides nothing but whether `proxy.listen` is a mistake, which it does whenever the configuration is read.
const WITHOUT_EFFECT: &str = "proxy.allow_remote";

#[cfg(test)]
mod tests;
