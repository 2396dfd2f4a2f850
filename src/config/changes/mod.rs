//! Finds the keys that differ between two configurations, and whether a change needs a restart: pure.
//!
//! A change of a key takes a restart unless the key is in the list below.

use super::source::SECRETS;
use super::{Settings, reference};

/// How a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A reload of the running process.
    Reload,
    /// A restart.
    Restart,
}

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

/// Every key, and how a change of it takes effect.
pub fn rules() -> impl Iterator<Item = (&'static str, Takes)> {
    let keys = reference().into_iter().map(|doc| doc.key).chain(SECRETS);
    keys.map(|key| (key, if RELOADED.contains(&key) { Takes::Reload } else { Takes::Restart }))
}

// A key needs a restart if a part of the process is built from it at the start: listeners, the connections to Sezzle,
// limits, and the merchant. The keys in this list do not.
const RELOADED: [&str; 19] = [
    "gateway.read_timeout",
    "gateway.write_timeout",
    "gateway.report_timeout",
    "credentials.public_key_file",
    "credentials.private_key_file",
    "proxy.allow_remote",
    "proxy.hosts",
    "proxy.normalise_request_id",
    "proxy.card_data",
    "drain.grace",
    "drain.timeout",
    "limits.body",
    "cache.max_ttl",
    "cache.untokenized_ttl",
    "cache.expiration_margin",
    "cache.origin_cache_control",
    "cache.stale_if_error",
    "log.level",
    "log.sample_hits",
];

/// Decides nothing but whether `proxy.listen` is a mistake, which it does whenever the configuration is read.
const WITHOUT_EFFECT: &str = "proxy.allow_remote";

#[cfg(test)]
mod tests;
