//! The names of keys in Redis. Pure.
//!
//! All keys of one fleet have the same hash tag, so that a cluster keeps them on one node and one pipeline may name
//! several.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::entry::LogId;
use crate::session::invalidation::tag_id::TagId;

/// The start of all keys of one fleet: pods with the same environment, merchant and name.
pub fn space(environment: &str, merchant: &str, name: &str) -> String {
    let parts = [VERSION, environment, &merchant.to_ascii_lowercase(), name].join("\0");
    let hash = hex::encode(digest(&SHA256, parts.as_bytes()));
    format!("{VERSION}:{{{}}}", hash.get(..IN_SPACE).unwrap_or(&hash))
}

/// The keys of one fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    space: String,
}

impl Names {
    /// The keys that begin with a [`space`].
    pub fn new(space: impl Into<String>) -> Self {
        Self { space: space.into() }
    }

    /// The key of the stream of entries.
    pub fn log(&self) -> String {
        format!("{}:log", self.space)
    }

    /// The key of the name of the log in force.
    pub fn id(&self) -> String {
        format!("{}:id", self.space)
    }

    /// A key that never exists.
    pub fn nothing(&self) -> String {
        format!("{}:nothing", self.space)
    }

    /// The key of a sealed body. The key names the server, the history of its data and the log, so that a body from an
    /// earlier process, another history or an earlier log is not found.
    pub fn body(&self, server: &Server, log: LogId, session: TagId) -> String {
        format!("{}:b:{}:{}:{}", self.space, server.key(), hex::encode(log.0), hex::encode(session.0))
    }

    /// The key of the mark that a pod fetches a session for all pods.
    pub fn flight(&self, server: &Server, log: LogId, session: TagId) -> String {
        format!("{}:f:{}:{}:{}", self.space, server.key(), hex::encode(log.0), hex::encode(session.0))
    }
}

/// A server process, and the history of its data. Acknowledged entries can get lost only if one of the two changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// `run_id`, which changes when the process starts again.
    pub run: Run,
    /// `master_replid`, which changes when the process becomes primary again after it was a replica.
    pub history: Run,
}

impl Server {
    /// The first 64 bits of both, which tell the servers of one fleet apart. Longer keys would take more memory.
    fn key(&self) -> String {
        [&self.run, &self.history].map(|run| run.0.get(..IN_KEY).unwrap_or(&run.0)).join(".")
    }
}

/// A random name that a server gives itself or its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run(Arc<str>);

impl Run {
    /// Takes a name that a server gave. `None` if the text has characters that must not get into keys, or is too long.
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = text.len() <= LONGEST_RUN && !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        is_plain.then(|| Self(text.into()))
    }
}

// The version of the protocol. Pods of two versions that do not understand each other have different keys.
const VERSION: &str = "szs1";
const IN_SPACE: usize = 20;
const IN_KEY: usize = 16;

// Redis and Valkey name 40 hexadecimal digits.
const LONGEST_RUN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_one_environment_merchant_and_name() {
        // `printf 'szs1\0sandbox\0a-b\0default' | sha256sum`, because the name is a contract between versions.
        assert_eq!(space("sandbox", "A-B", "default"), "szs1:{7c657913ab17f94b05a5}");
        let others = [("production", "a-b", "default"), ("sandbox", "a-c", "default"), ("sandbox", "a-b", "other")];
        for (environment, merchant, name) in others {
            assert_ne!(space(environment, merchant, name), space("sandbox", "a-b", "default"));
        }
        assert_ne!(space("sandbox", "", "default"), space("sandbox", "default", ""));
    }

    #[test]
    fn every_key_is_in_the_slot_of_its_fleet() {
        let names = Names::new("szs1:{00ff}");
        let run = Run::new("0123456789abcdef0123456789abcdef01234567").expect("a run id");
        let history = Run::new("fedcba98").expect("a history");
        let (server, log, session) = (Server { run, history }, LogId([0xab; 16]), TagId([0x0c; 16]));
        assert_eq!(names.log(), "szs1:{00ff}:log");
        assert_eq!(names.id(), "szs1:{00ff}:id");
        let rest = "0123456789abcdef.fedcba98:abababababababababababababababab:0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c";
        assert_eq!(names.body(&server, log, session), format!("szs1:{{00ff}}:b:{rest}"));
        assert_eq!(names.flight(&server, log, session), format!("szs1:{{00ff}}:f:{rest}"));
    }

    #[test]
    fn a_run_id_is_letters_and_digits() {
        assert!(Run::new("a1B2").is_some() && Run::new(&"f".repeat(64)).is_some());
        for text in ["", "a b", "a:b", "a}b", "a\r\nb", "é", &"f".repeat(65)] {
            assert_eq!(Run::new(text), None, "{text:?}");
        }
    }
}
