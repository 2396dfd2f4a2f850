//! One stored session and what it weighs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use triomphe::ThinArc;

use super::freshness::Life;
use super::invalidation::{Stored, TagId};
use super::revalidation::Conditions;
use crate::clock::{Deadline, Mono, Now, Wall};
use crate::telemetry::log::millis;

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

/// A stored answer, with status 200. A clone is the same one.
///
/// There may be a million of them: each lies in one allocation of its size, and not in the buffers that it was read into.
#[derive(Clone, Debug)]
pub struct Entry(ThinArc<Facts, u8>);

/// What is known of a stored answer. Behind it lie the tags that it is indexed under, Sezzle's own `ETag` and the values
/// of the headers, each after its length, and the body.
#[derive(Debug)]
struct Facts {
    stored: Stored,
    shape: Arc<Shape>,
    /// When it was stored: nanoseconds by the monotonic clock, milliseconds by the other. All below are in milliseconds.
    since: (u64, Wall),
    age: u64,
    /// After this time it is dead.
    life: u64,
    /// After this one it may not even be served because Sezzle fails.
    useful: u64,
    /// After this one the session itself is over.
    session: u64,
    tags: u32,
    body: u32,
}

/// The headers that a caller gets beside those that are stored.
#[derive(Clone, Debug, Default)]
pub struct OwnHeaders {
    /// With another value in each answer. A stored `Age` is among what they replace.
    pub names: Vec<HeaderName>,
    /// With the same value in all.
    pub fixed: HeaderMap,
    /// Where nothing is stored under their names.
    pub defaults: HeaderMap,
}

impl OwnHeaders {
    fn add(&self, headers: &mut HeaderMap, values: impl IntoIterator<Item = HeaderValue>) {
        for (name, value) in self.names.iter().zip(values) {
            headers.append(name, value);
        }
        for (name, value) in &self.fixed {
            headers.append(name, value.clone());
        }
        for (name, value) in &self.defaults {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

/// The headers of answers from memory, without the values that are another's in each: the same for nearly all entries,
/// and so they are shared. A map is copied from it in a fraction of the time that it takes to look for the place of each
/// header.
#[derive(Debug, Default)]
pub struct Shape {
    own: Arc<OwnHeaders>,
    /// Those that are stored.
    stored: Vec<HeaderName>,
    /// All of them, those that are stored first and the [`OwnHeaders::names`] next; `None` where a name stands there
    /// twice, so that the values would be in another order.
    all: Option<HeaderMap>,
}

impl Shape {
    /// The one of no entry yet.
    pub fn new(own: OwnHeaders) -> Self {
        Self::of(std::iter::empty(), &Arc::new(own))
    }

    fn of<'n>(names: impl Iterator<Item = &'n HeaderName>, own: &Arc<OwnHeaders>) -> Self {
        let stored: Vec<HeaderName> = names.cloned().collect();
        let count = stored.len().saturating_add(own.names.len()).saturating_add(own.fixed.len());
        let mut all = HeaderMap::with_capacity(count.saturating_add(own.defaults.len()));
        for name in &stored {
            all.append(name.clone(), EMPTY);
        }
        own.add(&mut all, std::iter::repeat(EMPTY));
        let all = Some(all).filter(|all| all.keys_len() == all.len());
        Self { own: Arc::clone(own), stored, all }
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

impl Entry {
    /// Stores `answer` at `now` with the life it was given. It shares the shape of another one if it can. `None` if it is
    /// too large for that.
    pub fn new(
        answer: &Answer,
        stored: Stored,
        tags: impl Iterator<Item = TagId>,
        life: Life,
        now: Now,
        like: &Arc<Shape>,
    ) -> Option<Self> {
        let names = || stored_headers(answer).map(|(name, _)| name);
        let shared = names().eq(&like.stored);
        let shape = if shared { Arc::clone(like) } else { Arc::new(Shape::of(names(), &like.own)) };
        let tags: Vec<u8> = tags.flat_map(|TagId(id)| id.to_le_bytes()).collect();
        let (block, body) = packed(&tags, answer)?;
        let facts = Facts {
            stored,
            shape,
            since: (u64::try_from(now.mono.0.as_nanos()).ok()?, now.wall),
            age: millis(life.age),
            life: millis(life.ttl),
            useful: millis(life.ttl.saturating_add(life.stale)),
            session: millis(life.session),
            tags: u32::try_from(tags.len()).ok()?,
            body: u32::try_from(body).ok()?,
        };
        Some(Self(ThinArc::from_header_and_slice(facts, &block)))
    }

    /// Which body this is, and of which session.
    pub fn stored(&self) -> Stored {
        self.facts().stored
    }

    /// What it is indexed under.
    pub fn tags(&self) -> impl Iterator<Item = TagId> {
        self.split(self.facts().tags).0.as_chunks().0.iter().map(|id| TagId(u64::from_le_bytes(*id)))
    }

    /// Its shape, to store another one like it.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.facts().shape
    }

    fn facts(&self) -> &Facts {
        &self.0.header.header
    }

    /// What lies behind the facts, before and after this place.
    fn split(&self, at: u32) -> (&[u8], &[u8]) {
        // Every place was one of this block when it was packed.
        usize::try_from(at).ok().and_then(|at| self.0.slice.split_at_checked(at)).unwrap_or_default()
    }

    /// The headers that a caller gets, with these values of the [`OwnHeaders::names`].
    pub fn headers<const N: usize>(&self, own: [HeaderValue; N]) -> HeaderMap {
        let shape = self.shape();
        let Some(all) = &shape.all else {
            let mut headers = self.stored_headers();
            shape.own.add(&mut headers, own);
            return headers;
        };
        let mut headers = all.clone();
        for (slot, value) in headers.values_mut().zip(self.values().chain(own)) {
            *slot = value;
        }
        headers
    }

    fn stored_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.shape().stored.len());
        for (name, value) in self.shape().stored.iter().zip(self.values()) {
            headers.append(name.clone(), value);
        }
        headers
    }

    fn etag(&self) -> (&[u8], &[u8]) {
        first(self.split(self.facts().tags).1)
    }

    fn values(&self) -> impl Iterator<Item = HeaderValue> {
        let (_, mut rest) = self.etag();
        self.shape().stored.iter().map(move |_| {
            let (value, after) = first(rest);
            rest = after;
            // What was a header's value is one.
            HeaderValue::from_bytes(value).unwrap_or(EMPTY)
        })
    }

    /// The body, which keeps the entry.
    pub fn body(&self) -> Bytes {
        Bytes::from_owner(Body(self.clone()))
    }

    /// What was stored.
    pub fn answer(&self) -> Answer {
        let (etag, _) = self.etag();
        let etag = if etag.is_empty() { None } else { HeaderValue::from_bytes(etag).ok() };
        let status = StatusCode::OK;
        Answer { status, fwd_status: status, headers: self.stored_headers(), etag, body: self.body() }
    }

    fn since(&self) -> Now {
        let (mono, wall) = self.facts().since;
        Now { mono: Mono(Duration::from_nanos(mono)), wall }
    }

    fn after(&self, millis: u64) -> Deadline {
        Deadline::after(self.since(), Duration::from_millis(millis))
    }

    /// Age (RFC 9111, 4.2.3).
    pub fn age(&self, now: Now) -> Duration {
        Duration::from_millis(self.facts().age).saturating_add(now.since(self.since()))
    }

    /// Life left; zero when it is dead by either clock.
    pub fn ttl(&self, now: Now) -> Duration {
        self.after(self.facts().life).remaining(now)
    }

    /// How long it has been dead, while it may still be served because Sezzle fails.
    pub fn stale(&self, now: Now) -> Option<Duration> {
        let Facts { life, useful, .. } = self.facts();
        (!self.after(*useful).passed(now)).then(|| self.after(*life).overdue(now))
    }

    /// For how long it is of any use on an error.
    pub fn useful(&self, now: Now) -> Duration {
        self.after(self.facts().useful).remaining(now)
    }

    /// What to ask Sezzle whether it is still right; `None` when it cannot be asked, or the session is over.
    pub fn conditions(&self, now: Now) -> Option<Conditions> {
        if self.after(self.facts().session).passed(now) { None } else { Conditions::of(&self.answer()) }
    }

    /// Bytes this entry takes, an estimate that leans to too many.
    pub fn weight(&self) -> u32 {
        let tags = self.tags().count().saturating_mul(PER_TAG);
        u32::try_from(self.0.slice.len().saturating_add(tags).saturating_add(PER_ENTRY)).unwrap_or(u32::MAX)
    }
}

// The cache's own node and what lies before the block: `benches/compare` measures all of it together.
const PER_ENTRY: usize = 800;
// In the index.
const PER_TAG: usize = 100;

/// The headers that are stored: the age is told anew in each answer.
fn stored_headers(answer: &Answer) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    answer.headers.iter().filter(|(name, _)| **name != AGE)
}

/// Puts an answer into one block, and tells where its body begins. `None` if a value is longer than a head may be.
fn packed(tags: &[u8], answer: &Answer) -> Option<(Vec<u8>, usize)> {
    let etag = answer.etag.as_ref().map_or(&[][..], HeaderValue::as_bytes);
    let mut block = tags.to_vec();
    for value in std::iter::once(etag).chain(stored_headers(answer).map(|(_, value)| value.as_bytes())) {
        block.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
        block.extend_from_slice(value);
    }
    let body = block.len();
    block.extend_from_slice(&answer.body);
    Some((block, body))
}

/// The first value of a block, and what follows it.
fn first(block: &[u8]) -> (&[u8], &[u8]) {
    // No block that was packed ends before its body.
    let value = block.split_first_chunk();
    value.and_then(|(length, rest)| rest.split_at_checked(u16::from_le_bytes(*length).into())).unwrap_or_default()
}

/// The body of an entry, at the end of its block.
struct Body(Entry);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.split(self.0.facts().body).1
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VIA};

    use super::*;
    use crate::clock::Clock;

    fn stored(answer: &Answer, like: &Arc<Shape>) -> Option<Entry> {
        let second = Duration::from_secs(1);
        let life = Life { ttl: second, age: second, stale: second, session: second };
        let stored = Stored { key: uuid::Uuid::nil(), id: 1 };
        Entry::new(answer, stored, [TagId(7), TagId(9)].into_iter(), life, Clock::system().now(), like)
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
            (&[(CONTENT_TYPE, b"caf\xe9"), (custom, &[b'x'; 60_000])], None, "{\"a\": 1}"),
        ];
        for (headers, etag, body) in rows {
            let answer = answer(headers, etag, body);
            let found = stored(&answer, &Arc::default()).expect("it fits").answer();
            assert_eq!((found.headers, found.etag, found.body), (answer.headers, answer.etag, answer.body));
        }
    }

    #[test]
    fn what_is_indexed_is_found_and_what_no_head_may_hold_is_not_stored() {
        let fits = answer(&[(ETAG, b"a")], Some("b"), "{}");
        assert_eq!(stored(&fits, &Arc::default()).expect("it fits").tags().collect::<Vec<_>>(), [TagId(7), TagId(9)]);
        assert!(stored(&answer(&[(ETAG, &[b'x'; 70_000])], None, ""), &Arc::default()).is_none());
    }

    #[test]
    fn a_shape_is_shared_with_an_entry_like_it() {
        let first = stored(&answer(&[(ETAG, b"a"), (CONTENT_TYPE, b"b")], None, ""), &Arc::default()).expect("it fits");
        let same = stored(&answer(&[(ETAG, b"c"), (CONTENT_TYPE, b"d")], None, ""), first.shape()).expect("it fits");
        assert!(Arc::ptr_eq(first.shape(), same.shape()));
        let other = stored(&answer(&[(CONTENT_TYPE, b"d")], None, ""), first.shape()).expect("it fits");
        assert!(!Arc::ptr_eq(first.shape(), other.shape()));
    }

    #[test]
    fn a_caller_gets_what_is_stored_and_our_own() {
        let value = HeaderValue::from_static;
        let own = OwnHeaders {
            names: vec![AGE, VIA],
            fixed: HeaderMap::from_iter([(VIA, value("us"))]),
            defaults: HeaderMap::from_iter([(CACHE_CONTROL, value("default"))]),
        };
        let like = Arc::new(Shape::new(OwnHeaders { names: vec![AGE], ..own.clone() }));
        let twice = Arc::new(Shape::new(own));
        let plain = HeaderMap::from_iter([(ETAG, value("a")), (AGE, value("5")), (CACHE_CONTROL, value("no-cache"))]);
        let bare = HeaderMap::from_iter([(ETAG, value("a"))]);
        let mut repeated = bare.clone();
        repeated.append(ETAG, value("b"));
        for (headers, cache_control) in [(plain, "no-cache"), (bare, "default"), (repeated, "default")] {
            let answer = Answer { headers: headers.clone(), ..answer(&[], None, "") };
            let found = stored(&answer, &like).expect("it fits").headers([value("7")]);
            let again = stored(&answer, &twice).expect("it fits").headers([value("7"), value("mine")]);
            for (map, via) in [(found, &["us"][..]), (again, &["mine", "us"][..])] {
                let all =
                    |name| map.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
                assert_eq!(
                    map.get_all(ETAG).iter().collect::<Vec<_>>(),
                    headers.get_all(ETAG).iter().collect::<Vec<_>>()
                );
                assert_eq!((all(AGE), all(VIA), all(CACHE_CONTROL)), (vec!["7"], via.to_vec(), vec![cache_control]));
            }
        }
    }

    #[test]
    fn what_is_stored_does_not_hold_on_to_the_buffers_it_was_read_into() {
        let read = Bytes::from(vec![b'x'; 8192]);
        let value = || HeaderValue::from_maybe_shared(read.slice(0..10)).expect("a value");
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, value());
        let (status, body) = (StatusCode::OK, read.slice(100..200));
        let answer = Answer { status, fwd_status: status, headers, etag: Some(value()), body };
        let entry = stored(&answer, &Arc::default()).expect("it fits");
        assert_eq!(entry.body(), answer.body);
        drop(answer);
        assert!(read.is_unique());
    }
}
