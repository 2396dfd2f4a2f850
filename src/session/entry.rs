//! One stored session and what it weighs.

use std::sync::Arc;
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

/// A stored answer, with status 200.
///
/// There may be a million of them: what one holds lies in one allocation of its size, and not in the buffers that it
/// was read into.
#[derive(Debug)]
pub struct Entry {
    /// Which body this is, and of which session.
    pub stored: Stored,
    /// What it relates to.
    pub tags: Box<[Tag]>,
    shape: Arc<Shape>,
    /// Sezzle's own `ETag` and the values of the headers, each after its length, and then the body.
    block: Box<[u8]>,
    since: Now,
    age: Duration,
    dead: Deadline,
    /// When it may not even be served because Sezzle fails.
    useless: Deadline,
    /// When the session itself is over.
    over: Deadline,
}

/// The headers of an entry without their values: the same for nearly all, and so they are shared. A map is copied from
/// it in a fraction of the time that it takes to look for the place of each header.
#[derive(Debug, Default)]
pub struct Shape(HeaderMap);

impl Shape {
    /// The one of these headers.
    fn of(headers: &HeaderMap) -> Self {
        let mut names = HeaderMap::with_capacity(headers.len().saturating_add(ROOM));
        for (name, _) in headers {
            names.append(name.clone(), HeaderValue::from_static(""));
        }
        Self(names)
    }

    fn is_of(&self, headers: &HeaderMap) -> bool {
        let names = |(name, _)| name;
        self.0.iter().map(names).eq(headers.iter().map(names))
    }
}

// For those that are added to an answer from memory: `Age`, `Via`, `X-Request-Id`, `Cache-Status`, `Cache-Control`.
const ROOM: usize = 5;

impl Entry {
    /// Stores `answer` at `now` with the life it was given. It shares the shape of another one if it can.
    pub fn new(answer: &Answer, stored: Stored, tags: Box<[Tag]>, life: Life, now: Now, like: &Arc<Shape>) -> Self {
        let shared = like.is_of(&answer.headers);
        let shape = if shared { Arc::clone(like) } else { Arc::new(Shape::of(&answer.headers)) };
        let after = |life| Deadline::after(now, life);
        Self {
            stored,
            tags,
            shape,
            block: packed(answer),
            since: now,
            age: life.age,
            dead: after(life.ttl),
            useless: after(life.ttl.saturating_add(life.stale)),
            over: after(life.session),
        }
    }

    /// Its shape, to store another one like it.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The headers, in a map with room for some more.
    pub fn headers(&self) -> HeaderMap {
        let Shape(names) = &*self.shape;
        let mut headers = names.clone();
        headers.reserve(ROOM);
        let (_, mut rest) = split(&self.block);
        for slot in headers.values_mut() {
            let (value, after) = split(rest);
            rest = after;
            // What was a header's value is one.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                *slot = value;
            }
        }
        headers
    }

    /// The body, which keeps the entry.
    pub fn body(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Body(Arc::clone(self)))
    }

    /// What was stored.
    pub fn answer(self: &Arc<Self>) -> Answer {
        let (etag, _) = split(&self.block);
        let etag = if etag.is_empty() { None } else { HeaderValue::from_bytes(etag).ok() };
        let status = StatusCode::OK;
        Answer { status, fwd_status: status, headers: self.headers(), etag, body: self.body() }
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
    pub fn conditions(self: &Arc<Self>, now: Now) -> Option<Conditions> {
        if self.over.passed(now) { None } else { Conditions::of(&self.answer()) }
    }

    /// Bytes this entry takes, an estimate that leans to too many.
    pub fn weight(&self) -> u32 {
        // Each tag stands here and in the index.
        let tags: usize = self.tags.iter().map(|tag| tag.size().saturating_add(PER_TAG).saturating_mul(2)).sum();
        u32::try_from(self.block.len().saturating_add(tags).saturating_add(PER_ENTRY)).unwrap_or(u32::MAX)
    }
}

// The cache's own node, the allocation of the entry and of its body: about 690 bytes were measured for the cache's
// part alone.
const PER_ENTRY: usize = 900;
const PER_TAG: usize = 64;

/// Puts an answer into one block.
fn packed(answer: &Answer) -> Box<[u8]> {
    let etag = answer.etag.as_ref().map_or(&[][..], HeaderValue::as_bytes);
    let values = || std::iter::once(etag).chain(answer.headers.values().map(HeaderValue::as_bytes));
    let size = values().fold(answer.body.len(), |sum, value| sum.saturating_add(LENGTH).saturating_add(value.len()));
    let mut block = Vec::with_capacity(size);
    for value in values() {
        // A head is far shorter than what four bytes can say.
        let value = value.get(..u32::MAX as usize).unwrap_or(value);
        block.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        block.extend_from_slice(value);
    }
    block.extend_from_slice(&answer.body);
    block.into_boxed_slice()
}

/// The first value of a block, and what follows it.
fn split(block: &[u8]) -> (&[u8], &[u8]) {
    let found = block.split_first_chunk::<LENGTH>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rest.split_at_checked(length)
    });
    // No block that was packed ends before its body.
    found.unwrap_or_default()
}

const LENGTH: usize = size_of::<u32>();

/// The body of an entry, at the end of its block.
struct Body(Arc<Entry>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        let Self(entry) = self;
        (0..=entry.shape.0.len()).fold(&*entry.block, |rest, _| split(rest).1)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http::header::{CONTENT_TYPE, ETAG};

    use super::*;
    use crate::clock::Clock;

    fn stored(answer: &Answer, like: &Arc<Shape>) -> Arc<Entry> {
        let second = Duration::from_secs(1);
        let life = Life { ttl: second, age: second, stale: second, session: second };
        let stored = Stored { key: uuid::Uuid::nil(), id: 1 };
        Arc::new(Entry::new(answer, stored, Box::default(), life, Clock::system().now(), like))
    }

    fn answer(headers: &[(HeaderName, &[u8])], etag: Option<&'static str>, body: &'static str) -> Answer {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).expect("valid")));
        let status = StatusCode::OK;
        let etag = etag.map(HeaderValue::from_static);
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| _ = map.append(name, value));
        Answer { status, fwd_status: status, headers: map, etag, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn what_is_stored_is_what_was_received() {
        let custom = HeaderName::from_static("x-custom");
        type Headers<'h> = &'h [(HeaderName, &'h [u8])];
        let rows: [(Headers<'_>, _, _); 4] = [
            (&[], None, ""),
            (&[], Some("\"a\""), "{}"),
            (&[(ETAG, b"\"b\""), (custom.clone(), b"1"), (custom.clone(), b"")], Some("W/\"a\""), ""),
            (&[(CONTENT_TYPE, b"caf\xe9"), (custom, &[b'x'; 70_000])], None, "{\"a\": 1}"),
        ];
        for (headers, etag, body) in rows {
            let answer = answer(headers, etag, body);
            let found = stored(&answer, &Arc::default()).answer();
            assert_eq!((found.headers, found.etag, found.body), (answer.headers, answer.etag, answer.body));
        }
    }

    #[test]
    fn a_shape_is_shared_with_an_entry_like_it() {
        let first = stored(&answer(&[(ETAG, b"a"), (CONTENT_TYPE, b"b")], None, ""), &Arc::default());
        let same = stored(&answer(&[(ETAG, b"c"), (CONTENT_TYPE, b"d")], None, ""), first.shape());
        assert!(Arc::ptr_eq(first.shape(), same.shape()));
        let other = stored(&answer(&[(CONTENT_TYPE, b"d")], None, ""), first.shape());
        assert!(!Arc::ptr_eq(first.shape(), other.shape()) && other.shape().is_of(&other.headers()));
    }

    #[test]
    fn what_is_stored_does_not_hold_on_to_the_buffers_it_was_read_into() {
        let read = Bytes::from(vec![b'x'; 8192]);
        let value = || HeaderValue::from_maybe_shared(read.slice(0..10)).expect("a value");
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, value());
        let (status, body) = (StatusCode::OK, read.slice(100..200));
        let answer = Answer { status, fwd_status: status, headers, etag: Some(value()), body };
        let entry = stored(&answer, &Arc::default());
        assert_eq!(entry.body(), answer.body);
        drop(answer);
        assert!(read.is_unique());
    }
}
