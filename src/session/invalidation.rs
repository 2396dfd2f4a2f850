//! What a write to an order or a token does to the sessions that relate to it.
//!
//! A stored session is indexed by its tags, read from its body. A purge of a tag removes what is stored under it and
//! is remembered, so that a fetch which began before the purge can neither be stored nor be handed to a caller who
//! arrived after it. Only stores and purges take the lock; a hit does not come here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::freshness::MAX_IDENTIFIER;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// The purges that were, and which stored session relates to what.
#[derive(Debug)]
pub struct Invalidation {
    latest: AtomicU64,
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The last purge of each tag.
    log: HashMap<Tag, Moment>,
    /// Every purge up to here counts as one of every tag: what is left of a log that was full.
    floor: Option<Moment>,
    index: HashMap<Tag, Vec<Stored>>,
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
    /// `capacity` is how many purged tags are remembered one by one.
    pub fn new(capacity: usize) -> Self {
        Self { latest: AtomicU64::new(0), state: Mutex::default(), capacity }
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
        arrived <= began || tags.is_some_and(|tags| !self.lock().purged_since(tags, began))
    }

    /// Runs `insert`, unless one of the tags was purged since `began`, and indexes what it stored, if it did.
    pub fn store(&self, tags: &[Tag], began: Moment, stored: Stored, insert: impl FnOnce() -> bool) {
        let mut state = self.lock();
        if state.purged_since(tags, began) || !insert() {
            return;
        }
        for tag in tags {
            state.index.entry(tag.clone()).or_default().push(stored);
        }
    }

    /// Purges a tag: `remove` is called for each key stored under it.
    pub fn purge(&self, tag: &Tag, mut remove: impl FnMut(Uuid)) {
        let mut state = self.lock();
        let moment = self.next();
        if tag.size() > MAX_IDENTIFIER {
            // Nothing is stored under it, and the log must not grow with what a caller makes up.
            state.floor = Some(moment);
        } else {
            if state.log.len() >= self.capacity && !state.log.contains_key(tag) {
                state.log.clear();
                state.floor = Some(moment);
            }
            state.log.insert(tag.clone(), moment);
        }
        for stored in state.index.get(tag).into_iter().flatten() {
            remove(stored.key);
        }
        // Published under the lock: whoever sees the new moment, and then takes the lock, sees the log entry too.
        self.latest.store(moment.0, Ordering::SeqCst);
    }

    /// Purges every tag: `remove` is called for each key stored, more than once for one that has several tags.
    pub fn purge_all(&self, mut remove: impl FnMut(Uuid)) {
        let mut state = self.lock();
        let moment = self.next();
        state.log.clear();
        state.floor = Some(moment);
        for stored in state.index.values().flatten() {
            remove(stored.key);
        }
        self.latest.store(moment.0, Ordering::SeqCst);
    }

    /// The moment after the latest, for who holds the lock.
    fn next(&self) -> Moment {
        // Not wrapping: at one purge per nanosecond it lasts for centuries.
        Moment(self.latest.load(Ordering::SeqCst).saturating_add(1))
    }

    /// Forgets a body that left the cache, for whatever cause.
    pub fn forget(&self, tags: &[Tag], stored: Stored) {
        let mut state = self.lock();
        for tag in tags {
            if let Some(list) = state.index.get_mut(tag) {
                list.retain(|other| *other != stored);
                if list.is_empty() {
                    state.index.remove(tag);
                }
            }
        }
    }

    // No code under the lock can leave the state half changed, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn purged_since(&self, tags: &[Tag], began: Moment) -> bool {
        self.floor.is_some_and(|floor| floor > began)
            || tags.iter().any(|tag| self.log.get(tag).is_some_and(|purge| *purge > began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(7);

    fn removed(invalidation: &Invalidation, tag: &Tag) -> Vec<Uuid> {
        let mut removed = Vec::new();
        invalidation.purge(tag, |key| removed.push(key));
        removed
    }

    #[test]
    fn a_purge_finds_what_is_stored_under_the_tag_in_any_case() {
        let invalidation = Invalidation::new(8);
        let tags = [Tag::order("12a-G"), Tag::token("T")];
        invalidation.store(&tags, invalidation.now(), Stored { key: KEY, id: 1 }, || true);
        assert_eq!(removed(&invalidation, &Tag::order("12A-g")), [KEY]);
        assert_eq!(removed(&invalidation, &Tag::token("t")), [KEY]);
        assert_eq!(removed(&invalidation, &Tag::order("t")), Vec::<Uuid>::new(), "an order is not a token");
    }

    #[test]
    fn a_fetch_that_began_before_a_purge_is_neither_stored_nor_handed_to_later_callers() {
        let invalidation = Invalidation::new(8);
        let tags = [Tag::order("o")];
        let early = invalidation.now();
        invalidation.purge(&Tag::order("o"), |_| ());
        let late = invalidation.now();

        invalidation.store(&tags, early, Stored { key: KEY, id: 1 }, || panic!("must not run"));
        assert!(invalidation.accepts(Some(&tags), early, early), "it joined before the purge");
        assert!(!invalidation.accepts(Some(&tags), early, late));
        assert!(invalidation.accepts(Some(&[Tag::order("p")]), early, late), "another order's purge does not matter");
        assert!(!invalidation.accepts(None, early, late), "it may relate to anything");
        assert!(invalidation.accepts(Some(&tags), late, late));
        assert!(invalidation.accepts(None, late, late));
        let mut stored = false;
        invalidation.store(&tags, late, Stored { key: KEY, id: 2 }, || {
            stored = true;
            stored
        });
        assert!(stored);
    }

    #[test]
    fn a_full_log_forgets_nothing_but_gets_more_cautious() {
        let invalidation = Invalidation::new(2);
        let early = invalidation.now();
        for order in ["a", "b", "c"] {
            invalidation.purge(&Tag::order(order), |_| ());
        }
        let late = invalidation.now();
        for order in ["a", "b", "c", "never-purged"] {
            assert!(!invalidation.accepts(Some(&[Tag::order(order)]), early, late), "{order}");
        }
        assert!(invalidation.accepts(Some(&[Tag::order("a")]), late, late));
        assert!(invalidation.lock().log.len() <= 2);
    }

    #[test]
    fn an_identifier_too_long_to_be_stored_does_not_fill_the_log() {
        let invalidation = Invalidation::new(8);
        let early = invalidation.now();
        invalidation.purge(&Tag::order(&"o".repeat(4000)), |_| ());
        assert!(invalidation.lock().log.is_empty());
        assert!(!invalidation.accepts(Some(&[Tag::order("p")]), early, invalidation.now()), "cautious instead");
    }

    #[test]
    fn what_left_the_cache_leaves_the_index() {
        let invalidation = Invalidation::new(8);
        let tags = [Tag::order("o")];
        let (old, new) = (Stored { key: KEY, id: 1 }, Stored { key: KEY, id: 2 });
        for stored in [old, new] {
            invalidation.store(&tags, invalidation.now(), stored, || true);
        }
        invalidation.forget(&tags, old);
        assert_eq!(removed(&invalidation, &Tag::order("o")), [KEY], "the overwriting body is still there");
        invalidation.forget(&tags, new);
        assert!(invalidation.lock().index.is_empty());
    }
}
