//! The last purge of each tag in the log, by position. Pure.
//!
//! A shared body carries the position up to which its pod had read. Positions, not times, decide whether the body may
//! be used: a pod may take any body that no later entry concerns.

use std::collections::BTreeMap;

use crate::fleet::entry::Position;
use crate::session::invalidation::tag_id::TagId;

/// The last purge of each tag, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Purged {
    at: BTreeMap<TagId, Position>,
    /// This pod does not know the purges before this position, so bodies from before it may not be used.
    floor: Position,
}

impl Purged {
    /// A log that is read from `oldest` on, without any purge so far.
    pub fn since(oldest: Position) -> Self {
        Self { at: BTreeMap::new(), floor: oldest }
    }

    /// Notes that an entry at `at` purges a tag. Entries are noted in their order.
    pub fn note(&mut self, tag: TagId, at: Position, capacity: usize) {
        if self.at.len() >= capacity && !self.at.contains_key(&tag) {
            self.make_room();
        }
        self.at.insert(tag, at);
    }

    /// Notes that an entry at `at` purges everything.
    pub fn note_all(&mut self, at: Position) {
        self.at.clear();
        self.floor = self.floor.max(at);
    }

    /// Whether no entry after `position` purges one of these tags, as far as the log is known.
    pub fn is_clean(&self, tags: &[TagId], position: Position) -> bool {
        position >= self.floor && tags.iter().all(|tag| self.at.get(tag).is_none_or(|at| *at <= position))
    }

    /// Forgets the older half.
    fn make_room(&mut self) {
        let mut positions: Vec<Position> = self.at.values().copied().collect();
        positions.sort_unstable();
        let Some(middle) = positions.get(positions.len() / 2) else { return };
        self.floor = self.floor.max(*middle);
        let floor = self.floor;
        self.at.retain(|_, at| *at > floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TagId = TagId([1; 16]);
    const B: TagId = TagId([2; 16]);

    fn at(ms: u64) -> Position {
        Position { ms, seq: 0 }
    }

    #[test]
    fn a_body_is_clean_from_the_last_purge_of_its_tags_on() {
        let mut purged = Purged::since(at(10));
        purged.note(A, at(20), 9);
        purged.note(B, at(30), 9);
        purged.note(A, at(25), 9);
        let rows = [
            (&[A][..], 24, false),
            (&[A], 25, true),
            (&[A, B], 25, false),
            (&[A, B], 30, true),
            (&[], 10, true),
            (&[], 9, false),
            (&[TagId([3; 16])], 9, false),
        ];
        for (tags, position, expected) in rows {
            assert_eq!(purged.is_clean(tags, at(position)), expected, "{tags:?} at {position}");
        }
        purged.note_all(at(40));
        assert!(!purged.is_clean(&[], at(39)) && purged.is_clean(&[A, B], at(40)));
    }

    #[test]
    fn what_is_forgotten_is_not_clean() {
        let mut purged = Purged::since(at(1));
        for tag in 0..100 {
            let tags = [TagId([tag; 16])];
            purged.note(tags[0], at(10 + u64::from(tag)), 10);
            assert!(!purged.is_clean(&tags, at(9 + u64::from(tag))));
            assert!(purged.at.len() <= 10);
            for earlier in 0..=tag {
                assert!(!purged.is_clean(&[TagId([earlier; 16])], at(9 + u64::from(earlier))));
            }
        }
        assert!(purged.is_clean(&[], at(109)));
    }
}
