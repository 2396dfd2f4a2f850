//! What a lookup finds, and what a fetch brings.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::entry::{Answer, Entry};
use crate::telemetry::metrics::label;

/// How a lookup was answered: one word for metrics, logs and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// From the cache.
    Hit,
    /// Fetched: nothing was stored.
    Miss,
    /// Fetched by somebody else, who was asked first.
    Collapsed,
    /// Fetched: what was stored was dead.
    Expired,
    /// Sezzle was asked, and said that what was stored is still right.
    Revalidated,
    /// From the cache though it was dead, because Sezzle failed.
    Stale,
    /// The cache was not asked.
    Bypass,
    /// No answer could be had.
    Error,
}

impl CacheResult {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Expired => "expired",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }
}

label!(CacheResult, CacheResult::Error, as_str);

/// Something stored that may be served.
#[derive(Debug)]
pub struct Hit {
    /// What to serve.
    pub entry: Entry,
    /// Its age.
    pub age: Duration,
    /// Its life left.
    pub ttl: Duration,
}

/// Something dead that may be served because Sezzle failed.
#[derive(Debug)]
pub struct Stale {
    /// What to serve.
    pub entry: Entry,
    /// Its age.
    pub age: Duration,
    /// How long it has been dead.
    pub overdue: Duration,
}

/// What is stored for a session.
#[derive(Debug)]
pub enum Found {
    /// Something the caller will take.
    Fresh(Hit),
    /// Something that is alive, and not what this caller will take.
    Unwanted,
    /// Something that is dead.
    Dead,
    /// Nothing.
    Absent,
}

/// What a fetch brought: `S` is an answer too large to be held, `E` why there is none.
#[derive(Debug)]
pub enum Fetched<S, E> {
    /// An answer received whole.
    Whole(Answer),
    /// What the conditions came from is still right. These are the headers that say so.
    Unchanged(HeaderMap),
    /// An answer that has to be streamed, and so can go to one caller only, with its status.
    Streaming(S, StatusCode),
    /// No answer.
    Failed(E),
}
