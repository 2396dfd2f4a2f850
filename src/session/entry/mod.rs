//! A stored session and its estimated size.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, IterMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use triomphe::ThinArc;

use super::freshness::Freshness;
use super::invalidation::tag_id::TagPrefix;
use super::response::SessionResponse;
use super::revalidation::Conditions;
use crate::clock::{Deadline, Mono, Now, Wall};
use crate::telemetry::log::millis;

/// A stored response, with status 200. Clones share it.
///
/// There may be a million entries, so each takes one allocation of exactly its size, and keeps none of the buffers into
/// which it was read.
#[derive(Clone, Debug)]
pub struct Entry(ThinArc<EntryMeta, u8>);

/// The fixed part of an entry. Behind it in the allocation lie the tags that index the entry, then Sezzle's own `ETag`
/// and the values of the headers, each after its length, then the body.
#[derive(Debug)]
struct EntryMeta {
    /// The number of the fetch among all fetches.
    fetch: u64,
    template: Arc<HeaderTemplate>,
    /// When the entry was stored: nanoseconds on the monotonic clock, and the wall clock. Below: milliseconds.
    since: (u64, Wall),
    age: u64,
    /// How long before `since` the fetch was sent.
    took: u32,
    /// How long the entry stays fresh, counted from `since`.
    ttl: u32,
    /// How long the entry may be served when Sezzle fails, counted from `since`.
    servable: u32,
    /// How long until the session itself is over, counted from `since`.
    session_left: u32,
    tags: u32,
    body: u32,
}

/// The header names of responses from the cache. Nearly all entries have the same names, so they share one template.
#[derive(Debug, Default)]
pub struct HeaderTemplate {
    /// The names of the stored headers.
    stored: Vec<HeaderName>,
    /// All headers of a response, without their values: first the stored ones, then those that the first reader added.
    /// Copying a map takes a fraction of the time of inserting each header. `None` if a name occurs twice, because the
    /// values would be in another order.
    all: OnceLock<Option<HeaderMap>>,
}

impl HeaderTemplate {
    fn of<'n>(names: impl Iterator<Item = &'n HeaderName>) -> Self {
        Self { stored: names.cloned().collect(), all: OnceLock::new() }
    }

    fn all(&self, add: impl Fn(&mut HeaderWriter<'_>)) -> Option<HeaderMap> {
        let mut all = HeaderMap::with_capacity(self.stored.len());
        for name in &self.stored {
            all.append(name.clone(), EMPTY);
        }
        add(&mut HeaderWriter::Map(&mut all));
        all.values_mut().for_each(|value| *value = EMPTY);
        Some(all).filter(|all| all.keys_len() == all.len())
    }
}

/// Adds headers to an answer: to a map, or to the slots for them in a copy of `HeaderTemplate::all`.
#[derive(Debug)]
pub enum HeaderWriter<'m> {
    Map(&'m mut HeaderMap),
    /// The slots behind those of the stored headers.
    Slots {
        /// The slots that are still empty.
        slots: IterMut<'m, HeaderValue>,
        /// Whether each header so far found the slot with its name.
        fits: bool,
    },
}

impl HeaderWriter<'_> {
    /// Adds a header behind others of its name.
    #[inline]
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        match self {
            Self::Map(headers) => _ = headers.append(name, value),
            Self::Slots { slots, fits } => *fits &= fill(slots, &name, value) == Some(true),
        }
    }

    /// Adds a header in place of others of its name.
    #[inline]
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        match self {
            Self::Map(headers) => _ = headers.insert(name, value),
            Self::Slots { slots, fits } => *fits &= fill(slots, &name, value) == Some(true),
        }
    }

    /// Adds a header unless the answer has one of its name. Call this after all other additions: if no slot is left, the
    /// stored headers have this name already.
    #[inline]
    pub fn set_missing(&mut self, name: HeaderName, value: HeaderValue) {
        match self {
            Self::Map(headers) => _ = headers.entry(name).or_insert(value),
            Self::Slots { slots, fits } => *fits &= fill(slots, &name, value) != Some(false),
        }
    }
}

/// Fills the next slot. `None` if none is left, `Some(false)` if the slot is for another header.
#[inline]
fn fill(slots: &mut IterMut<'_, HeaderValue>, name: &HeaderName, value: HeaderValue) -> Option<bool> {
    let (expected, slot) = slots.next()?;
    *slot = value;
    Some(expected == name)
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

impl Entry {
    /// Makes an entry at `now` of `answer`, with this freshness. `fetch` is the number of the fetch among all fetches,
    /// and `sent` the time at which it was sent. The entry shares the template `like` if the header names are the same.
    /// `None` if the answer is too large for an entry.
    pub fn new(
        answer: &SessionResponse,
        fetch: u64,
        tags: impl Iterator<Item = TagPrefix>,
        freshness: Freshness,
        sent: Now,
        now: Now,
        like: &Arc<HeaderTemplate>,
    ) -> Option<Self> {
        let names = || stored_headers(answer).map(|(name, _)| name);
        let shared = names().eq(&like.stored);
        let template = if shared { Arc::clone(like) } else { Arc::new(HeaderTemplate::of(names())) };
        let tags: Vec<u8> = tags.flat_map(|TagPrefix(prefix)| prefix).collect();
        let indexed = tags.len();
        let (block, body) = packed(tags, answer)?;
        let meta = EntryMeta {
            fetch,
            template,
            since: (u64::try_from(now.mono.0.as_nanos()).ok()?, now.wall),
            age: millis(freshness.age),
            // Rounded up: an entry may count as older than it is.
            took: millis_u32(now.since(sent)).saturating_add(1),
            ttl: millis_u32(freshness.ttl),
            servable: millis_u32(freshness.ttl.saturating_add(freshness.stale)),
            session_left: millis_u32(freshness.session_left),
            tags: u32::try_from(indexed).ok()?,
            body: u32::try_from(body).ok()?,
        };
        Some(Self(ThinArc::from_header_and_slice(meta, &block)))
    }

    /// The number of the fetch that brought this body.
    pub fn fetch(&self) -> u64 {
        self.meta().fetch
    }

    pub fn tags(&self) -> impl Iterator<Item = TagPrefix> {
        self.split(self.meta().tags).0.as_chunks().0.iter().map(|prefix| TagPrefix(*prefix))
    }

    /// The template, for the next entry to share.
    pub fn template(&self) -> &Arc<HeaderTemplate> {
        &self.meta().template
    }

    fn meta(&self) -> &EntryMeta {
        &self.0.header.header
    }

    /// The block behind the metadata, split at this position.
    fn split(&self, at: u32) -> (&[u8], &[u8]) {
        // All positions were computed when this block was packed.
        usize::try_from(at).ok().and_then(|at| self.0.slice.split_at_checked(at)).unwrap_or_default()
    }

    /// The headers for a caller: the stored ones, then those that `add` writes. If `add` writes other names than the
    /// first reader of this template did, the headers are inserted one by one.
    pub fn headers(&self, add: impl Fn(&mut HeaderWriter<'_>)) -> HeaderMap {
        let template = self.template();
        if let Some(all) = template.all.get_or_init(|| template.all(&add)) {
            let mut headers = all.clone();
            let mut slots = headers.iter_mut();
            for (value, (_, slot)) in self.values().zip(slots.by_ref()) {
                *slot = value;
            }
            let mut writer = HeaderWriter::Slots { slots, fits: true };
            add(&mut writer);
            if let HeaderWriter::Slots { mut slots, fits: true } = writer
                && slots.next().is_none()
            {
                return headers;
            }
        }
        let mut headers = self.stored_headers();
        add(&mut HeaderWriter::Map(&mut headers));
        headers
    }

    fn stored_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.template().stored.len());
        for (name, value) in self.template().stored.iter().zip(self.values()) {
            headers.append(name.clone(), value);
        }
        headers
    }

    fn etag(&self) -> (&[u8], &[u8]) {
        first(self.split(self.meta().tags).1)
    }

    fn values(&self) -> impl Iterator<Item = HeaderValue> {
        let (_, mut rest) = self.etag();
        self.template().stored.iter().map(move |_| {
            let (value, after) = first(rest);
            rest = after;
            // These bytes came from a valid header value.
            HeaderValue::from_bytes(value).unwrap_or(EMPTY)
        })
    }

    /// The body, which keeps the whole entry in memory.
    pub fn body(&self) -> Bytes {
        Bytes::from_owner(Body(self.clone()))
    }

    pub fn answer(&self) -> SessionResponse {
        let (etag, _) = self.etag();
        let etag = if etag.is_empty() { None } else { HeaderValue::from_bytes(etag).ok() };
        let status = StatusCode::OK;
        SessionResponse { status, fwd_status: status, headers: self.stored_headers(), etag, body: self.body() }
    }

    fn since(&self) -> Now {
        let (mono, wall) = self.meta().since;
        Now { mono: Mono(Duration::from_nanos(mono)), wall }
    }

    /// When the fetch was sent, or up to a millisecond or two before: by each clock as it is read now.
    pub fn began(&self) -> Now {
        let (since, took) = (self.since(), Duration::from_millis(self.meta().took.into()));
        Now { mono: since.mono.minus(took), wall: since.wall.minus(took) }
    }

    fn after(&self, millis: u32) -> Deadline {
        Deadline::after(self.since(), Duration::from_millis(millis.into()))
    }

    /// The current age (RFC 9111, 4.2.3).
    pub fn age(&self, now: Now) -> Duration {
        Duration::from_millis(self.meta().age).saturating_add(now.since(self.since()))
    }

    /// The rest of the lifetime; zero once either clock says that the entry is stale.
    pub fn ttl(&self, now: Now) -> Duration {
        self.after(self.meta().ttl).remaining(now)
    }

    /// How long the entry has been stale; `None` once it may no longer be served even when Sezzle fails.
    pub fn stale_for(&self, now: Now) -> Option<Duration> {
        let EntryMeta { ttl, servable, .. } = self.meta();
        (!self.after(*servable).passed(now)).then(|| self.after(*ttl).overdue(now))
    }

    /// How long the entry may still be served when Sezzle fails.
    pub fn servable(&self, now: Now) -> Duration {
        self.after(self.meta().servable).remaining(now)
    }

    /// The conditions for revalidating the entry; `None` if there is no usable validator or the session is over.
    pub fn conditions(&self, now: Now) -> Option<Conditions> {
        if self.after(self.meta().session_left).passed(now) { None } else { Conditions::of(&self.answer()) }
    }

    /// Bytes that this entry takes, estimated.
    pub fn weight(&self) -> u32 {
        let tags = self.tags().count().saturating_mul(PER_TAG);
        let block = self.0.slice.len();
        let block = block.saturating_add(block / ROUNDED_UP);
        u32::try_from(block.saturating_add(tags).saturating_add(PER_ENTRY)).unwrap_or(u32::MAX)
    }
}

/// A time in milliseconds, of seven weeks at most. An entry lives for a day at most, and a session that lasts longer than
/// seven weeks is only revalidated for a shorter time.
fn millis_u32(time: Duration) -> u32 {
    u32::try_from(millis(time)).unwrap_or(u32::MAX)
}

// The cache's own node, the metadata before the block, and what lies unused between blocks of many sizes that come and go.
// `benches/cache.rs` measures the total.
const PER_ENTRY: usize = 800;
// The allocator rounds a block up, by an eighth on average.
const ROUNDED_UP: usize = 8;
// Bytes per tag in the index, just after its table has grown.
const PER_TAG: usize = 75;

/// The headers to store: all but `Age`, which is computed for each response.
fn stored_headers(answer: &SessionResponse) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    answer.headers.iter().filter(|(name, _)| **name != AGE)
}

/// Packs an answer into one block, and returns the position of its body. `None` if a value is longer than 65,535 bytes.
fn packed(tags: Vec<u8>, answer: &SessionResponse) -> Option<(Vec<u8>, usize)> {
    let etag = answer.etag.as_ref().map_or(&[][..], HeaderValue::as_bytes);
    let mut block = tags;
    for value in std::iter::once(etag).chain(stored_headers(answer).map(|(_, value)| value.as_bytes())) {
        block.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
        block.extend_from_slice(value);
    }
    let body = block.len();
    block.extend_from_slice(&answer.body);
    Some((block, body))
}

/// The first value of a block, and the rest of the block.
fn first(block: &[u8]) -> (&[u8], &[u8]) {
    // No packed block ends before its body.
    let value = block.split_first_chunk();
    value.and_then(|(length, rest)| rest.split_at_checked(u16::from_le_bytes(*length).into())).unwrap_or_default()
}

/// The body of an entry, at the end of its block.
struct Body(Entry);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.split(self.0.meta().body).1
    }
}

#[cfg(test)]
mod tests;
