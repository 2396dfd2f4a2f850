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

    /// How many bodies there are, each once for each of its tags.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.further.values().map(Vec::len).sum::<usize>()
    }
}
