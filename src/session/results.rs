//! The results of lookups and fetches.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::entry::Entry;
use super::freshness::{Freshness, NotStored};
use super::response::SessionResponse;
use crate::telemetry::metrics::words;

words! {
    /// How a lookup was answered, for metrics, logs and headers.
    pub enum CacheResult {
        /// Answered from the cache.
        Hit = "hit",
        /// Fetched, because nothing was stored.
        Miss = "miss",
        /// Answered by the fetch of another caller, which was already in progress.
        Collapsed = "collapsed",
        /// Fetched, because the stored answer was stale.
        Expired = "expired",
        /// Answered from the cache after Sezzle confirmed the stored answer.
        Revalidated = "revalidated",
        /// Answered from the cache with a stale answer, because Sezzle failed.
        Stale = "stale",
        /// Fetched without consulting the cache.
        Bypass = "bypass",
        /// There was no answer.
        Error = "error",
    }
}

/// A stored answer that may be served.
#[derive(Debug)]
pub struct Hit {
    pub entry: Entry,
    pub age: Duration,
    /// The rest of the answer's lifetime.
    pub ttl: Duration,
}

/// A stale answer that may be served because Sezzle failed.
#[derive(Debug)]
pub struct StaleHit {
    pub entry: Entry,
    pub age: Duration,
    /// How long the answer has been stale.
    pub overdue: Duration,
}

#[derive(Debug)]
pub enum Found {
    /// A fresh answer that the caller accepts.
    Fresh(Hit),
    /// A fresh answer that this caller's directives exclude.
    Unwanted,
    Stale,
    Absent,
}

/// The result of a fetch: `S` is an answer too large to be held in memory, `E` a failure.
#[derive(Debug)]
pub enum Fetched<S, E> {
    /// A complete answer.
    Whole(SessionResponse),
    /// The stored answer behind the conditions is confirmed. These are the headers of the 304.
    Unchanged(HeaderMap),
    /// An answer that has to be streamed and can therefore go to one caller only, with its status.
    Streaming(S, StatusCode),
    Failed(E),
}

/// The part of the fleet in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromFleet {
    NotAsked,
    /// Another sidecar had fetched and shared the answer.
    Hit,
    /// No other sidecar had shared a usable answer, so this sidecar asked Sezzle.
    Miss {
        /// Whether the answer is shared now.
        stored: bool,
    },
}

/// How a lookup ended for one caller after it needed a fetch.
#[derive(Debug)]
pub enum LookupResult<S, E> {
    /// Another caller's fetch was stored a moment ago.
    Stored(Hit),
    /// An answer, its freshness if it is stored now, and the part of the fleet in it.
    Answer(Arc<SessionResponse>, Result<Freshness, NotStored>, FromFleet),
    /// An answer that has to be streamed, and why it is not stored.
    Streaming(S, NotStored),
    Failed(E),
    /// No answer in the time that a caller waits, or the task of the fetch ended without one.
    Lost,
}
