//! Writes in progress at other pods.
//!
//! From the beginning of a write until its end, Sezzle may show the state before or after it. So an answer to a request
//! that was sent in that time is not stored, and is not handed to a caller who waited for it. Pure.

use std::collections::BTreeMap;

use super::tag_id::TagId;
use crate::clock::Mono;

/// The open writes of other pods, by the tag that each changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenWrites {
    writes: BTreeMap<(TagId, u64), Mono>,
    /// The time at which the open writes without room in the list are overdue. Applies to every tag.
    floor: Option<Mono>,
}

impl OpenWrites {
    /// Opens a write under a tag. At `overdue` its outcome becomes unknown, because its pod has died or cannot publish.
    pub fn open(&mut self, tag: TagId, write: u64, overdue: Mono, capacity: usize) {
        if self.writes.len() >= capacity && !self.writes.contains_key(&(tag, write)) {
            // A full list forgets nothing but gets more cautious: no write has to be found again to be obeyed.
            self.floor = self.last_overdue();
            self.writes.clear();
        }
        let known = self.writes.entry((tag, write)).or_insert(overdue);
        *known = overdue.max(*known);
    }

    /// Closes one write, and no other of the same tag.
    pub fn close(&mut self, tag: TagId, write: u64) {
        self.writes.remove(&(tag, write));
    }

    /// The time at which all writes that are open under any of these tags are overdue. From then on they count as
    /// [`super::Cause::Unknown`]. `None` if no such write is open: the usual case takes no search.
    pub fn overdue(&self, tags: &[TagId]) -> Option<Mono> {
        if self.writes.is_empty() {
            return self.floor;
        }
        let of = |tag: &TagId| self.writes.range((*tag, 0)..=(*tag, u64::MAX)).map(|(_, overdue)| *overdue);
        tags.iter().flat_map(of).chain(self.floor).max()
    }

    /// The time at which all open writes are overdue.
    pub fn last_overdue(&self) -> Option<Mono> {
        self.writes.values().copied().chain(self.floor).max()
    }

    /// The time at which the first of all open writes is overdue.
    pub fn first_overdue(&self) -> Option<Mono> {
        self.writes.values().copied().chain(self.floor).min()
    }

    /// Forgets the writes that were overdue before `before`.
    pub fn forget(&mut self, before: Mono) {
        self.writes.retain(|_, overdue| *overdue >= before);
        self.floor = self.floor.filter(|overdue| *overdue >= before);
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.floor.is_none()
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: TagId = TagId([1; 16]);
    const B: TagId = TagId([2; 16]);

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn an_end_closes_its_own_write_only() {
        let mut open = OpenWrites::default();
        open.open(A, 1, at(45), 10);
        open.open(A, 2, at(50), 10);
        open.open(A, 2, at(40), 10);
        assert_eq!(open.overdue(&[B, A]), Some(at(50)), "the later time counts, also of one write announced twice");
        open.close(A, 2);
        assert_eq!((open.overdue(&[A]), open.overdue(&[B]), open.overdue(&[])), (Some(at(45)), None, None));
        open.open(B, 3, at(30), 10);
        assert_eq!((open.first_overdue(), open.last_overdue()), (Some(at(30)), Some(at(45))));
        open.close(B, 3);
        open.close(B, 1);
        assert_eq!(open.overdue(&[A]), Some(at(45)), "an end under another tag is another write's");
        open.close(A, 1);
        assert!(open.is_empty());
    }

    #[test]
    fn an_overdue_write_is_forgotten_when_nothing_fetched_before_it_can_be_alive() {
        let mut open = OpenWrites::default();
        open.open(A, 1, at(45), 10);
        open.forget(at(45));
        assert_eq!(open.overdue(&[A]), Some(at(45)));
        open.forget(at(46));
        assert_eq!(open.overdue(&[A]), None);
    }

    #[test]
    fn a_full_list_applies_to_every_tag() {
        let mut open = OpenWrites::default();
        for write in 0..10 {
            open.open(A, write, at(40 + write), 10);
        }
        open.open(A, 9, at(60), 10);
        assert_eq!((open.overdue(&[B]), open.len()), (None, 10), "the same write again needs no room");
        open.open(A, 10, at(50), 10);
        assert_eq!((open.overdue(&[B]), open.overdue(&[A]), open.len()), (Some(at(60)), Some(at(60)), 1));
        open.close(A, 9);
        assert_eq!(open.overdue(&[B]), Some(at(60)), "nobody can close a write that is no longer told apart");
        open.forget(at(61));
        assert!(open.is_empty());
    }
}
