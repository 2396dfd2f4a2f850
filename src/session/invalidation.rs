//! What a write to an order or a token does to the sessions that relate to it.
//!
//! A stored session is indexed by its tags, read from its body. A purge of a tag removes what is stored under it and
//! is remembered, so that a fetch which began before the purge can neither be stored nor be handed to a caller who
//! arrived after it. After a write Sezzle's own answers may be behind for a while: what is fetched then lives shortly,
//! or is not stored at all. Only stores, purges and callers who joined a fetch take the lock; a hit does not come here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::freshness::{MAX_IDENTIFIER, Skip};
use crate::clock::Mono;
use crate::sezzle::session::SessionFacts;

/// Something a session relates to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The session itself.
    Session(Uuid),
    /// `order.uuid`.
    Order(Arc<str>),
    /// `tokenize.token`.
    Token(Arc<str>),
}

impl Tag {
    /// The tag of an order.
    pub fn order(uuid: &str) -> Self {
        Self::Order(canonical(uuid))
    }

    /// The tag of a tokenize token.
    pub fn token(token: &str) -> Self {
        Self::Token(canonical(token))
    }

    /// Every tag of a session's body.
    pub fn of(asked: Uuid, facts: &SessionFacts) -> Box<[Self]> {
        let orders = facts.order.iter().map(|uuid| Self::order(uuid));
        let tokens = facts.tokens.iter().map(|token| Self::token(token));
        std::iter::once(Self::Session(asked)).chain(orders).chain(tokens).collect()
    }

    /// Bytes of the identifier.
    pub fn size(&self) -> usize {
        match self {
            Self::Session(_) => size_of::<Uuid>(),
            Self::Order(text) | Self::Token(text) => text.len(),
        }
    }
}

// Identifiers are opaque. Should Sezzle not mind their case, `ABC` in a URL and `abc` in a body are one order;
// should it mind, purging both costs one fetch.
fn canonical(identifier: &str) -> Arc<str> {
    identifier.to_ascii_lowercase().into()
}

/// A point in the order of purges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Why a tag is purged, which decides what becomes of answers that are fetched after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A write begins, or somebody says that something changed: what is fetched from now on is as good as any.
    Changed,
    /// A write has ended and was answered: for [`SETTLING`], an answer lives for [`SETTLING_TTL`] at most.
    Answered,
    /// A write has ended and may yet take effect: for as long as an entry may live, nothing is stored.
    Unknown,
}

/// How long after a write Sezzle's own answers may be behind it.
pub const SETTLING: Duration = Duration::from_secs(10);

/// The longest life of what is fetched meanwhile.
pub const SETTLING_TTL: Duration = Duration::from_secs(2);

/// A tag as the index knows it. There may be a million sessions, and two tags that happen to have the same number cost no
/// more than a fetch: what is stored under one is purged with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagId(pub u64);

/// The purges that were, and which stored session relates to what.
#[derive(Debug)]
pub struct Invalidation {
    ids: RandomState,
    latest: AtomicU64,
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    /// What was purged, by tag.
    log: HashMap<Tag, Trace>,
    /// Holds for every tag: what is left of those the log had no room for.
    floor: Trace,
    /// The longest life of an entry.
    max_ttl: Duration,
    /// What is stored under each tag, but for sessions: their tag is the key.
    index: HashMap<TagId, Related>,
}

/// The bodies that relate to a tag: one, nearly always.
#[derive(Debug)]
enum Related {
    One(Stored),
    Many(Vec<Stored>),
}

/// What is remembered of the purges of a tag, or of several.
///
/// The times are on the monotonic clock alone: it never runs ahead of real time, so what it says has passed has. The
/// wall clock can be stepped forward, which would end them too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trace {
    /// The last one.
    last: Moment,
    /// Until then what is fetched lives for [`SETTLING_TTL`] at most.
    settling: Mono,
    /// Until then what is fetched is not stored.
    unsettled: Mono,
}

/// One stored body: the key it is stored under, and which of the bodies stored there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The session.
    pub key: Uuid,
    /// Unique in the process.
    pub id: u64,
}

impl Invalidation {
    /// `capacity` is how many purged tags are remembered one by one, `max_ttl` the longest life of an entry.
    pub fn new(capacity: usize, max_ttl: Duration) -> Self {
        let state = Mutex::new(State { max_ttl, ..State::default() });
        Self { ids: RandomState::new(), latest: AtomicU64::new(0), state, capacity }
    }

    /// Entries live for this long at most from now on.
    pub fn set_max_ttl(&self, max_ttl: Duration) {
        self.lock().max_ttl = max_ttl;
    }

    /// The tags that a body with these is indexed under.
    pub fn indexed<'t>(&self, tags: &'t [Tag]) -> impl Iterator<Item = TagId> + use<'_, 't> {
        let indexed = tags.iter().filter(|tag| !matches!(tag, Tag::Session(_)));
        indexed.map(|tag| TagId(self.ids.hash_one(tag)))
    }

    /// The present moment. A purge that ends before this call is before it, one that begins after it is after it.
    pub fn now(&self) -> Moment {
        Moment(self.latest.load(Ordering::SeqCst))
    }

    /// Whether a body fetched from `began` on may be given to somebody who arrived at `arrived`.
    ///
    /// It may when no purge lies between the two, or none of its tags was purged since it began. A purge after the
    /// arrival refuses it too where it hides an earlier one: one more fetch, never an old body.
    ///
    /// Without tags it is not known what the body relates to, so that any purge may concern it.
    pub fn accepts(&self, tags: Option<&[Tag]>, began: Moment, arrived: Moment) -> bool {
        arrived <= began || tags.is_some_and(|tags| self.lock().trace(tags).last <= began)
    }

    /// Stores a body whose fetch began at `began`, which was `sent` by the clock: `insert` does it, is told the longest
    /// life the body may be given, and may still refuse. What it stored is indexed.
    ///
    /// # Errors
    /// When one of the tags was purged since, when a write to one of them is unsettled, or what `insert` says.
    pub fn store<T>(
        &self,
        tags: &[Tag],
        began: Moment,
        sent: Mono,
        stored: Stored,
        insert: impl FnOnce(Duration) -> Result<T, Skip>,
    ) -> Result<T, Skip> {
        let mut state = self.lock();
        let trace = state.trace(tags);
        if trace.last > began {
            return Err(Skip::Purged);
        }
        if sent < trace.unsettled {
            return Err(Skip::Unsettled);
        }
        let inserted = insert(if sent < trace.settling { SETTLING_TTL } else { Duration::MAX })?;
        for tag in self.indexed(tags) {
            match state.index.entry(tag) {
                Entry::Vacant(vacant) => _ = vacant.insert(Related::One(stored)),
                Entry::Occupied(mut occupied) => occupied.get_mut().push(stored),
            }
        }
        Ok(inserted)
    }

    /// Purges a tag: `remove` is called for each key stored under it.
    pub fn purge(&self, tag: &Tag, cause: Cause, now: Mono, mut remove: impl FnMut(Uuid)) {
        let mut state = self.lock();
        let moment = self.next();
        if tag.size() > MAX_IDENTIFIER {
            // Nothing is stored under it, and the log must not grow with what a caller makes up.
            state.floor.last = moment;
        } else {
            let trace = Trace::of(moment, cause, now, state.max_ttl);
            state.remember(tag, trace, now, self.capacity);
        }
        if let Tag::Session(key) = tag {
            remove(*key);
        }
        for tag in self.indexed(std::slice::from_ref(tag)) {
            for stored in state.index.get(&tag).into_iter().flat_map(Related::all) {
                remove(stored.key);
            }
        }
        // Published under the lock: whoever sees the new moment, and then takes the lock, sees the log entry too.
        self.latest.store(moment.0, Ordering::SeqCst);
    }

    /// Purges every tag: `remove` is to remove all that is stored.
    pub fn purge_all(&self, remove: impl FnOnce()) {
        let mut state = self.lock();
        let moment = self.next();
        state.floor.last = moment;
        remove();
        self.latest.store(moment.0, Ordering::SeqCst);
    }

    /// The moment after the latest, for who holds the lock.
    fn next(&self) -> Moment {
        // Not wrapping: at one purge per nanosecond it lasts for centuries.
        Moment(self.latest.load(Ordering::SeqCst).saturating_add(1))
    }

    /// Forgets a body that left the cache, for whatever cause.
    pub fn forget(&self, tags: impl IntoIterator<Item = TagId>, stored: Stored) {
        let mut state = self.lock();
        for tag in tags {
            if state.index.get_mut(&tag).is_some_and(|related| related.remove(stored)) {
                state.index.remove(&tag);
            }
        }
    }

    // No code under the lock can leave the state half changed, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Related {
    fn all(&self) -> &[Stored] {
        match self {
            Self::One(stored) => std::slice::from_ref(stored),
            Self::Many(all) => all,
        }
    }

    fn push(&mut self, stored: Stored) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, stored]),
            Self::Many(all) => all.push(stored),
        }
    }

    /// Whether nothing is left without it.
    fn remove(&mut self, stored: Stored) -> bool {
        match self {
            Self::One(only) => *only == stored,
            Self::Many(all) => {
                all.retain(|other| *other != stored);
                all.is_empty()
            }
        }
    }
}

impl State {
    /// What is remembered of the purges that concern any of these.
    fn trace(&self, tags: &[Tag]) -> Trace {
        tags.iter().filter_map(|tag| self.log.get(tag)).fold(self.floor, |sum, trace| sum.and(trace))
    }

    fn remember(&mut self, tag: &Tag, trace: Trace, now: Mono, capacity: usize) {
        if let Some(known) = self.log.get_mut(tag) {
            *known = known.and(&trace);
            return;
        }
        if self.log.len() >= capacity {
            self.make_room(trace.last, now, capacity);
        }
        self.log.insert(tag.clone(), trace);
    }

    /// Gives up what the log knows of single tags. What still matters of it holds for every tag from now on: a full
    /// log forgets nothing, it gets more cautious.
    fn make_room(&mut self, moment: Moment, now: Mono, capacity: usize) {
        // Matters to the fetches under way only: the price is that none of them is stored.
        self.floor.last = moment;
        self.log.retain(|_, trace| trace.settling > now || trace.unsettled > now);
        // Too little gained, and the next purge would have to look again.
        if self.log.len() > capacity / 2 {
            self.floor = self.log.drain().fold(self.floor, |sum, (_, trace)| sum.and(&trace));
        }
    }
}

impl Trace {
    /// What is remembered of one purge.
    fn of(last: Moment, cause: Cause, now: Mono, max_ttl: Duration) -> Self {
        let trace = Self { last, ..Self::default() };
        match cause {
            Cause::Changed => trace,
            Cause::Answered => Self { settling: now.plus(SETTLING), ..trace },
            Cause::Unknown => Self { settling: now.plus(SETTLING), unsettled: now.plus(max_ttl), ..trace },
        }
    }

    /// Both.
    fn and(&self, other: &Self) -> Self {
        Self {
            last: self.last.max(other.last),
            settling: self.settling.max(other.settling),
            unsettled: self.unsettled.max(other.unsettled),
        }
    }
}

#[cfg(test)]
mod tests;
