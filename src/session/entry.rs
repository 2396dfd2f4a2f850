//! One stored session and what it weighs.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::freshness::Life;
use super::invalidation::{Stored, Tag};
use crate::clock::{Deadline, Mono, Now};

/// An answer received whole, with the headers a caller gets.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Sezzle's status.
    pub status: StatusCode,
    /// Cleaned of what does not belong to the caller.
    pub headers: HeaderMap,
    /// The content, links rewritten.
    pub body: Bytes,
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    /// What is served.
    pub answer: Answer,
    /// Which body this is, and of which session.
    pub stored: Stored,
    /// What it relates to.
    pub tags: Box<[Tag]>,
    since: Mono,
    age: Duration,
    dead: Deadline,
}

impl Entry {
    /// Stores `answer` at `now` with the life it was given.
    pub fn new(answer: Answer, stored: Stored, tags: Box<[Tag]>, life: Life, now: Now) -> Self {
        Self { answer, stored, tags, since: now.mono, age: life.age, dead: Deadline::after(now, life.ttl) }
    }

    /// Age (RFC 9111, 4.2.3).
    pub fn age(&self, now: Now) -> Duration {
        self.age.saturating_add(now.mono.since(self.since))
    }

    /// Life left; zero when it is dead by either clock.
    pub fn ttl(&self, now: Now) -> Duration {
        self.dead.remaining(now)
    }

    /// Bytes this entry takes, an estimate that leans to too many.
    pub fn weight(&self) -> u32 {
        let headers: usize = self
            .answer
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len().saturating_add(value.len()).saturating_add(PER_HEADER))
            .sum();
        // Each tag stands here and in the index.
        let tags: usize = self.tags.iter().map(|tag| tag.size().saturating_add(PER_TAG).saturating_mul(2)).sum();
        let total = self.answer.body.len().saturating_add(headers).saturating_add(tags).saturating_add(PER_ENTRY);
        u32::try_from(total).unwrap_or(u32::MAX)
    }
}

// The cache's own node, the allocation of the entry and of its body: about 690 bytes were measured for the cache's
// part alone.
const PER_ENTRY: usize = 900;
const PER_HEADER: usize = 64;
const PER_TAG: usize = 64;
