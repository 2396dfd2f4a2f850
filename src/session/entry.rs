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

impl Answer {
    /// The same in allocations of its own and of its size. As it was received, each part holds on to the whole buffer
    /// that it was read into.
    fn compacted(&self) -> Self {
        let own = |value: &HeaderValue| {
            let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
            copy.set_sensitive(value.is_sensitive());
            copy
        };
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name.clone(), own(value));
        }
        let body = Bytes::from(Box::<[u8]>::from(self.body.as_ref()));
        Self { headers, etag: self.etag.as_ref().map(own), body, ..*self }
    }
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
    pub fn new(answer: &Answer, stored: Stored, tags: Box<[Tag]>, life: Life, now: Now) -> Self {
        let after = |life| Deadline::after(now, life);
        Self {
            answer: answer.compacted(),
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

#[cfg(test)]
mod tests {
    use http::header::ETAG;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn what_is_stored_does_not_hold_on_to_the_buffers_it_was_read_into() {
        let read = Bytes::from(vec![b'x'; 8192]);
        let value = || HeaderValue::from_maybe_shared(read.slice(0..10)).expect("a value");
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, value());
        let (status, body) = (StatusCode::OK, read.slice(100..200));
        let answer = Answer { status, fwd_status: status, headers, etag: Some(value()), body };
        let second = Duration::from_secs(1);
        let life = Life { ttl: second, age: second, stale: second, session: second };
        let now = Clock::system().now();
        let stored = Stored { key: uuid::Uuid::nil(), id: 1 };
        let entry = Entry::new(&answer, stored, Box::default(), life, now);
        assert_eq!(entry.answer.body, answer.body);
        assert_eq!(entry.answer.headers, answer.headers);
        drop(answer);
        assert!(read.is_unique());
    }
}
