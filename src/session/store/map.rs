//! The map of stored sessions: bounded in bytes, in parts that have a lock each.
//!
//! When there is no room, the session leaves that was not asked for since the last round (CLOCK). A session that is
//! looked up for a while and then never again, as most are, does not push out what callers ask for now, and a new one
//! is always stored.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Mono;
use crate::session::entry::Entry;
use crate::session::seed::Seed;
use crate::session::table::{Hashed, Table};
use crate::telemetry::metrics::words;

/// Entries by the UUID of their session. Their weight never exceeds a bound.
#[derive(Debug)]
pub(super) struct Map {
    seed: Seed,
    parts: Box<[RwLock<Part>]>,
    /// The weight of all entries, also of one that is about to be inserted.
    weight: AtomicU64,
    max_weight: u64,
    /// The part whose turn it is to make room.
    turn: AtomicUsize,
}

words! {
    /// `cause` of `cache_evictions_total`: why an entry left the map.
    pub enum Removal {
        Expired = "expired",
        Explicit = "explicit",
        Replaced = "replaced",
        Size = "size",
    }
}

/// An entry that left the map, and why.
pub(super) type Removed = (Entry, Removal);

#[derive(Debug, Default)]
struct Part {
    places: Table<Place>,
    slots: Vec<Slot>,
    /// The empty slots. The last one that became empty is the first to be filled.
    free: Vec<u32>,
    /// The next slot to look at for an entry that makes room.
    hand: usize,
    /// The next slot to look at for an entry to be freed.
    swept: usize,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The upper half of the hash of the key.
    hash: u32,
    /// The number of the slot, from 1.
    slot: NonZeroU32,
}

impl Hashed for Place {
    fn hash(&self) -> u32 {
        self.hash
    }
}

#[derive(Debug)]
struct Slot {
    entry: Option<Entry>,
    hash: u32,
    /// Until when the entry is kept, in seconds of the monotonic clock; and [`ASKED_FOR`].
    life: AtomicU32,
}

// Set by a look-up, cleared when the hand passes.
const ASKED_FOR: u32 = 1 << 31;
// A small part is locked, searched and made larger in microseconds.
const PARTS: usize = 64;
// How many slots an insertion looks at, to free those whose time is over.
const SWEEP: usize = 16;

impl Map {
    pub(super) fn new(max_weight: u64) -> Self {
        let parts = std::iter::repeat_with(RwLock::default).take(PARTS).collect();
        Self { seed: Seed::random(), parts, weight: AtomicU64::new(0), max_weight, turn: AtomicUsize::new(0) }
    }

    /// Waits only while an entry of the same part is inserted or removed.
    pub(super) fn get(&self, key: Uuid) -> Option<Entry> {
        let (part, hash) = self.locate(key)?;
        let part = read(part);
        let slot = part.slots.get(part.find(hash, key)?)?;
        // Written at the first look-up of a round only, or processors would take the line from each other.
        if slot.life.load(Ordering::Relaxed) & ASKED_FOR == 0 {
            slot.life.fetch_or(ASKED_FOR, Ordering::Relaxed);
        }
        slot.entry.clone()
    }

    /// Inserts an entry, which is kept for `keep` at least. Returns those that it replaced, that made room for it, and
    /// some whose time was over.
    pub(super) fn insert(&self, entry: Entry, keep: Duration, now: Mono) -> Vec<Removed> {
        let mut removed = Vec::new();
        let (key, weight) = (entry.fetch_id().key, u64::from(entry.weight()));
        let Some((part, hash)) = self.locate(key).filter(|_| weight <= self.max_weight) else {
            removed.extend(self.remove(key, |_| true));
            removed.push((entry, Removal::Size));
            return removed;
        };
        self.weight.fetch_add(weight, Ordering::Relaxed);
        self.make_room(part, now, &mut removed);
        let mut part = write(part);
        let life = seconds(now.plus(keep)).saturating_add(1);
        let replaced = part.put(hash, entry, life).map(|entry| (entry, Removal::Replaced));
        let freed = part.sweep(SWEEP, now).map(|entry| (entry, Removal::Expired));
        let others: Vec<Removed> = freed.chain(replaced).collect();
        drop(part);
        self.lighten(&others);
        removed.extend(others);
        removed
    }

    /// Removes the entry of a session if it passes a test.
    pub(super) fn remove(&self, key: Uuid, is: impl Fn(&Entry) -> bool) -> Option<Removed> {
        let (part, hash) = self.locate(key)?;
        let mut part = write(part);
        let slot = part.find(hash, key)?;
        part.slots.get(slot).and_then(|slot| slot.entry.as_ref()).filter(|entry| is(entry))?;
        let removed = part.take(slot).map(|entry| (entry, Removal::Explicit));
        drop(part);
        self.lighten(removed.as_slice());
        removed
    }

    pub(super) fn remove_all(&self) -> Vec<Removed> {
        let parts = self.parts.iter().map(|part| std::mem::take(&mut *write(part)));
        let entries = parts.flat_map(|part| part.slots).filter_map(|slot| slot.entry);
        let removed: Vec<Removed> = entries.map(|entry| (entry, Removal::Explicit)).collect();
        self.lighten(&removed);
        removed
    }

    /// Removes every entry whose time is over.
    pub(super) fn sweep(&self, now: Mono) -> Vec<Removed> {
        let mut removed = Vec::new();
        for part in &self.parts {
            let mut part = write(part);
            let all = part.slots.len();
            removed.extend(part.sweep(all, now).map(|entry| (entry, Removal::Expired)));
        }
        self.lighten(&removed);
        removed
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| read(part).places.len()).sum()
    }

    /// The weight of all entries.
    pub(super) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Removes entries until the rest weighs no more than it may. Each leaves the part that a new entry is for, or the
    /// part whose turn it is if that one has more: so all parts stay about as large.
    fn make_room(&self, own: &RwLock<Part>, now: Mono, removed: &mut Vec<Removed>) {
        let mut turns = 0;
        while self.weight() > self.max_weight && turns < PARTS {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let Some(other) = turn.checked_rem(self.parts.len()).and_then(|turn| self.parts.get(turn)) else { return };
            let part = if read(own).places.len() < read(other).places.len() { other } else { own };
            let evicted = write(part).evict(now);
            // A full turn without an entry: those that weigh too much are not inserted yet.
            turns = if evicted.is_some() { 0 } else { turns + 1 };
            self.lighten(evicted.as_slice());
            removed.extend(evicted);
        }
    }

    fn lighten(&self, removed: &[Removed]) {
        let weight = removed.iter().map(|(entry, _)| u64::from(entry.weight())).sum();
        self.weight.fetch_sub(weight, Ordering::Relaxed);
    }

    /// The part that a key belongs to, and its hash within.
    #[inline]
    fn locate(&self, key: Uuid) -> Option<(&RwLock<Part>, u32)> {
        let hash = self.seed.hash(key.into_bytes());
        Some((self.parts.get(hash as usize % PARTS)?, (hash >> 32) as u32))
    }
}

impl Part {
    /// The index of the slot with the entry of a session.
    #[inline]
    fn find(&self, hash: u32, key: Uuid) -> Option<usize> {
        let mut slots = self.places.near(hash).filter(|place| place.hash == hash).map(|place| index(place.slot));
        slots.find(|slot| self.slots.get(*slot).is_some_and(|slot| slot.holds(key)))
    }

    /// Fills a slot. Returns the entry of the same session that was replaced.
    fn put(&mut self, hash: u32, entry: Entry, life: u32) -> Option<Entry> {
        if let Some(slot) = self.find(hash, entry.fetch_id().key).and_then(|slot| self.slots.get_mut(slot)) {
            // Somebody asked for this session again.
            slot.life = AtomicU32::new(life | ASKED_FOR);
            return slot.entry.replace(entry);
        }
        let filled = Slot { entry: Some(entry), hash, life: AtomicU32::new(life) };
        let slot = self.free.pop().map_or(self.slots.len(), |slot| slot as usize);
        match self.slots.get_mut(slot) {
            Some(empty) => *empty = filled,
            None => self.slots.push(filled),
        }
        // A part never has four billion slots: each is of an entry of hundreds of bytes.
        let number = u32::try_from(slot).unwrap_or(u32::MAX).saturating_add(1);
        self.places.insert(Place { hash, slot: NonZeroU32::new(number)? });
        None
    }

    /// Empties a slot.
    fn take(&mut self, slot: usize) -> Option<Entry> {
        let emptied = self.slots.get_mut(slot)?;
        let entry = emptied.entry.take()?;
        let hash = emptied.hash;
        let place = self.places.remove(hash, |place| index(place.slot) == slot)?;
        self.free.push(place.slot.get() - 1);
        Some(entry)
    }

    /// Removes an entry that was not asked for since the hand passed last, or whose time is over.
    fn evict(&mut self, now: Mono) -> Option<Removed> {
        let now = seconds(now);
        // After one round no entry is marked.
        for _ in 0..self.slots.len().saturating_mul(2) {
            let at = self.hand.checked_rem(self.slots.len())?;
            self.hand = at.saturating_add(1);
            let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.entry.is_some()) else { continue };
            if slot.is_over(now) {
                return self.take(at).map(|entry| (entry, Removal::Expired));
            }
            let life = slot.life.get_mut();
            if *life & ASKED_FOR == 0 {
                return self.take(at).map(|entry| (entry, Removal::Size));
            }
            *life &= !ASKED_FOR;
        }
        None
    }

    /// Removes the entries whose time is over from so many slots.
    fn sweep(&mut self, slots: usize, now: Mono) -> impl Iterator<Item = Entry> {
        let now = seconds(now);
        (0..slots.min(self.slots.len())).filter_map(move |_| {
            let at = self.swept.checked_rem(self.slots.len())?;
            self.swept = at.saturating_add(1);
            self.slots.get(at).filter(|slot| slot.is_over(now))?;
            self.take(at)
        })
    }
}

impl Slot {
    #[inline]
    fn holds(&self, key: Uuid) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.fetch_id().key == key)
    }

    fn is_over(&self, now: u32) -> bool {
        self.entry.is_some() && self.life.load(Ordering::Relaxed) & !ASKED_FOR <= now
    }
}

fn index(slot: NonZeroU32) -> usize {
    slot.get() as usize - 1
}

/// Seconds of the monotonic clock, which last for 68 years.
fn seconds(time: Mono) -> u32 {
    u32::try_from(time.0.as_secs()).unwrap_or(u32::MAX).min(!ASKED_FOR - 1)
}

// A part is whole after each change, so a panic elsewhere does not make it unusable.
fn read(part: &RwLock<Part>) -> RwLockReadGuard<'_, Part> {
    part.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(part: &RwLock<Part>) -> RwLockWriteGuard<'_, Part> {
    part.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Now;
    use crate::session::fetch_id::FetchId;
    use crate::session::freshness::Freshness;
    use crate::session::response::SessionResponse;

    const KEEP: Duration = Duration::from_secs(60);
    const START: Mono = Mono(Duration::from_secs(1000));

    fn key(number: u32) -> Uuid {
        Uuid::from_u128(number.into())
    }

    fn entry(number: u32, id: u64, size: usize) -> Entry {
        let (status, body) = (StatusCode::OK, Bytes::from(vec![b'x'; size]));
        let answer = SessionResponse { status, fwd_status: status, headers: HeaderMap::new(), etag: None, body };
        let freshness = Freshness { ttl: KEEP, age: Duration::ZERO, stale: Duration::ZERO, session_left: KEEP };
        let fetch_id = FetchId { key: key(number), id };
        let now = Now::default();
        Entry::new(&answer, fetch_id, &[], freshness, now, now, &Arc::default()).expect("it fits")
    }

    /// The numbers of the sessions that left, and why.
    fn left(removed: &[Removed]) -> Vec<(u128, Removal)> {
        removed.iter().map(|(entry, why)| (entry.fetch_id().key.as_u128(), *why)).collect()
    }

    proptest! {
        #[test]
        fn a_map_with_room_holds_what_was_inserted_last(
            steps in proptest::collection::vec((0..4_u8, 0..300_u32), 0..600)
        ) {
            let (map, mut model) = (Map::new(u64::MAX), HashMap::new());
            for (id, (step, number)) in (0..).zip(steps) {
                match step {
                    0 | 1 => {
                        let removed = map.insert(entry(number, id, 10), KEEP, START);
                        let replaced = model.insert(number, id).map(|_| (number.into(), Removal::Replaced));
                        prop_assert_eq!(left(&removed), Vec::from_iter(replaced));
                    }
                    2 => {
                        let removed = map.remove(key(number), |entry| entry.fetch_id().id.is_multiple_of(2));
                        let known = model.get(&number).copied().filter(|id| id.is_multiple_of(2));
                        prop_assert_eq!(removed.map(|(entry, _)| entry.fetch_id().id), known);
                        known.inspect(|_| _ = model.remove(&number));
                    }
                    _ => {
                        let found = map.get(key(number)).map(|entry| entry.fetch_id());
                        prop_assert_eq!(found, model.get(&number).map(|id| FetchId { key: key(number), id: *id }));
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.weight(), model.len() as u64 * u64::from(entry(0, 0, 10).weight()));
            }
            prop_assert_eq!(map.remove_all().len(), model.len());
            prop_assert_eq!((map.len(), map.weight()), (0, 0));
        }
    }

    #[test]
    fn a_full_map_keeps_its_bound_and_stores_every_new_session() {
        let one = u64::from(entry(0, 0, 1000).weight());
        let map = Map::new(20 * one);
        let mut stored = 0;
        for number in 0..2000 {
            let size = if number % 3 == 0 { 5000 } else { 1000 };
            let removed = map.insert(entry(number, 1, size), KEEP, START);
            stored = stored + 1 - removed.len();
            assert!(removed.iter().all(|(_, why)| *why == Removal::Size));
            assert!(map.get(key(number)).is_some() && map.weight() <= 20 * one);
            assert_eq!(map.len(), stored);
        }
        assert!(stored >= 5);
        let weight: u64 = map.remove_all().iter().map(|(entry, _)| u64::from(entry.weight())).sum();
        assert!(weight <= 20 * one && map.weight() == 0);
    }

    #[test]
    fn parts_stay_about_as_large_however_long_sessions_make_room_for_others() {
        let map = Map::new(3200 * u64::from(entry(0, 0, 10).weight()));
        for number in 0..100_000 {
            map.insert(entry(number, 1, 10), KEEP, START);
        }
        let sizes: Vec<usize> = map.parts.iter().map(|part| read(part).places.len()).collect();
        assert!(sizes.iter().all(|size| (25..75).contains(size)), "{sizes:?}");
    }

    #[test]
    fn an_entry_larger_than_the_map_is_not_stored_and_leaves_nothing_older() {
        let map = Map::new(u64::from(entry(1, 1, 1000).weight()));
        map.insert(entry(1, 1, 1000), KEEP, START);
        let removed = map.insert(entry(1, 2, 10_000), KEEP, START);
        assert_eq!(left(&removed), [(1, Removal::Explicit), (1, Removal::Size)]);
        assert!(map.get(key(1)).is_none() && map.weight() == 0);
    }

    #[test]
    fn what_nobody_asks_for_makes_room_first() {
        const ROOM: u32 = 6400;
        let map = Map::new(u64::from(ROOM) * u64::from(entry(0, 0, 10).weight()));
        for number in 0..ROOM {
            map.insert(entry(number, 1, 10), KEEP, START);
        }
        let asked = || (0..ROOM).step_by(10);
        for round in 1..5 {
            asked().for_each(|number| _ = map.get(key(number)));
            // Each part makes room for about a quarter of its sessions.
            for number in 0..ROOM / 4 {
                map.insert(entry(round * ROOM + number, 1, 10), KEEP, START);
            }
            assert_eq!(asked().filter(|number| map.get(key(*number)).is_none()).count(), 0, "{round}");
        }
    }

    #[test]
    fn what_is_over_is_freed_and_nothing_before() {
        let map = Map::new(u64::MAX);
        let later = |millis| START.plus(Duration::from_millis(millis));
        for number in 0..1000 {
            map.insert(entry(number, 1, 10), KEEP, START);
        }
        map.insert(entry(1000, 1, 10), 2 * KEEP, START);
        assert_eq!(map.sweep(later(60_000)).len(), 0);
        // Each insertion looks at a few others.
        let freed = map.insert(entry(1001, 1, 10), KEEP, later(62_000));
        assert!((1..=SWEEP).contains(&freed.len()) && freed.iter().all(|(_, why)| *why == Removal::Expired));
        assert_eq!(map.sweep(later(62_000)).len() + freed.len(), 1000);
        assert_eq!(map.len(), 2);
        assert!(map.get(key(1000)).is_some() && map.get(key(1001)).is_some());
    }

    #[test]
    fn what_is_over_makes_room_though_it_was_asked_for() {
        let map = Map::new(64 * 40 * u64::from(entry(0, 0, 10).weight()));
        let fill = |from: u32, now| -> Vec<Removed> {
            (from..from + 64 * 40).flat_map(|number| map.insert(entry(number, 1, 10), KEEP, now)).collect()
        };
        fill(0, START);
        (0..64 * 40).for_each(|number| _ = map.get(key(number)));
        let removed = fill(10_000, START.plus(2 * KEEP));
        assert!(removed.iter().filter(|(_, why)| *why == Removal::Expired).count() >= 64 * 35);
    }
}
