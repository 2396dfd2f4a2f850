//! The stored bodies by tag. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use uuid::Uuid;

use super::tag_id::TagPrefix;

/// One fetch: its session, and its number among all fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchId {
    /// The UUID of the session.
    pub key: Uuid,
    /// Unique in the process, and larger for a fetch that begins later.
    pub id: u64,
}

/// The bodies stored under each tag. Nearly always there is one, so only further ones take a list.
#[derive(Debug, Default)]
pub(super) struct Index {
    first: HashMap<TagPrefix, FetchId>,
    further: HashMap<TagPrefix, Vec<FetchId>>,
}

impl Index {
    pub(super) fn add(&mut self, tags: impl Iterator<Item = TagPrefix>, fetch_id: FetchId) {
        for tag in tags {
            match self.first.entry(tag) {
                Entry::Vacant(vacant) => _ = vacant.insert(fetch_id),
                Entry::Occupied(_) => self.further.entry(tag).or_default().push(fetch_id),
            }
        }
    }

    pub(super) fn remove(&mut self, tag: TagPrefix, fetch_id: FetchId) {
        let Some(first) = self.first.get_mut(&tag) else { return };
        let further = self.further.get_mut(&tag);
        if *first != fetch_id {
            further.into_iter().for_each(|further| further.retain(|other| *other != fetch_id));
        } else if let Some(next) = further.and_then(Vec::pop) {
            *first = next;
        } else {
            self.first.remove(&tag);
        }
        if self.further.get(&tag).is_some_and(Vec::is_empty) {
            self.further.remove(&tag);
        }
    }

    /// The sessions whose bodies are stored under a tag.
    pub(super) fn sessions(&self, tag: TagPrefix) -> impl Iterator<Item = Uuid> {
        let further = self.further.get(&tag).into_iter().flatten();
        self.first.get(&tag).into_iter().chain(further).map(|fetch_id| fetch_id.key)
    }

    /// How many bodies there are, each once for each of its tags. No tag keeps an empty list, or a list without a first.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert!(self.further.iter().all(|(tag, further)| !further.is_empty() && self.first.contains_key(tag)));
        self.first.len() + self.further.values().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::invalidation::tag_id::TagId;

    #[test]
    fn tags_with_one_prefix_are_purged_together_and_leave_one_by_one() {
        let mut index = Index::default();
        let (one, mut other) = ([7; 16], [7; 16]);
        other[8] = 8;
        let [one, other] = [one, other].map(|id| TagId(id).prefix());
        let bodies = [1, 2, 3].map(|id| FetchId { key: Uuid::from_u128(id.into()), id });
        index.add([one].into_iter(), bodies[0]);
        index.add([other, other].into_iter(), bodies[1]);
        index.add([other].into_iter(), bodies[2]);
        let keys = |index: &Index, tag| {
            let mut keys: Vec<u128> = index.sessions(tag).map(|key| key.as_u128()).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!((keys(&index, one), keys(&index, other), index.len()), (vec![1, 2, 2, 3], vec![1, 2, 2, 3], 4));
        index.remove(one, bodies[0]);
        assert_eq!((keys(&index, one), index.len()), (vec![2, 2, 3], 3));
        // This body has one tag twice.
        index.remove(other, bodies[1]);
        index.remove(other, bodies[1]);
        assert_eq!((keys(&index, one), index.len()), (vec![3], 1));
        index.remove(other, bodies[0]);
        index.remove(other, bodies[2]);
        assert_eq!((keys(&index, one), index.len()), (vec![], 0));
    }
}
