//! One stored session and what it weighs.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::freshness::Life;
use super::invalidation::{Stored, Tag};
use super::revalidation::Conditions;
use crate::clock::{Deadline, Now};

/// An answer received whole, with the headers a caller gets.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Sezzle's own status: 304 where it said that what was stored is still right.
    pub fwd_status: StatusCode,
    /// Cleaned of what does not belong to the caller.
    pub headers: HeaderMap,
    /// Sezzle's own `ETag`, where the one in the headers is of other bytes.
    pub etag: Option<HeaderValue>,
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
    since: Now,
    age: Duration,
    dead: Deadline,
    /// When it may not even be served because Sezzle fails.
    useless: Deadline,
    /// When the session itself is over.
    over: Deadline,
}

impl Entry {
    /// Stores `answer` at `now` with the life it was given.
    pub fn new(answer: Answer, stored: Stored, tags: Box<[Tag]>, life: Life, now: Now) -> Self {
        let after = |life| Deadline::after(now, life);
        Self {
            answer,
            stored,
            tags,
            since: now,
            age: life.age,
            dead: after(life.ttl),
            useless: after(life.ttl.saturating_add(life.stale)),
            over: after(life.session),
        }
    }

    /// Age (RFC 9111, 4.2.3).
    pub fn age(&self, now: Now) -> Duration {
        self.age.saturating_add(now.since(self.since))
    }

    /// Life left; zero when it is dead by either clock.
    pub fn ttl(&self, now: Now) -> Duration {
        self.dead.remaining(now)
    }

    /// How long it has been dead, while it may still be served because Sezzle fails.
    pub fn stale(&self, now: Now) -> Option<Duration> {
        (!self.useless.passed(now)).then(|| self.dead.overdue(now))
    }

    /// For how long it is of any use on an error.
    pub fn useful(&self, now: Now) -> Duration {
        self.useless.remaining(now)
    }

    /// What to ask Sezzle whether it is still right; `None` when it cannot be asked, or the session is over.
    pub fn conditions(&self, now: Now) -> Option<Conditions> {
        if self.over.passed(now) { None } else { Conditions::of(&self.answer) }
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
        let etag = self.answer.etag.as_ref().map_or(0, HeaderValue::len);
        let headers = headers.saturating_add(etag);
        let total = self.answer.body.len().saturating_add(headers).saturating_add(tags).saturating_add(PER_ENTRY);
        u32::try_from(total).unwrap_or(u32::MAX)
    }
}

// The cache's own node, the allocation of the entry and of its body: about 690 bytes were measured for the cache's
// part alone.
const PER_ENTRY: usize = 900;
const PER_HEADER: usize = 64;
const PER_TAG: usize = 64;
