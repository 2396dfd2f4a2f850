//! The stored bodies by tag. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use uuid::Uuid;

use super::tag_id::TagId;

/// One fetch: its session, and its number among all fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchId {
    /// The UUID of the session.
    pub key: Uuid,
    /// Unique in the process, and larger for a fetch that begins later.
    pub id: u64,
}

/// The bodies stored under each tag.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<TagId, Related>);

/// The bodies that relate to a tag. Nearly always there is one.
#[derive(Debug)]
enum Related {
    One(FetchId),
    Many(Vec<FetchId>),
}

impl Index {
    pub(super) fn add(&mut self, tags: &[TagId], fetch_id: FetchId) {
        for tag in tags {
            match self.0.entry(*tag) {
                Entry::Vacant(vacant) => _ = vacant.insert(Related::One(fetch_id)),
                Entry::Occupied(mut occupied) => occupied.get_mut().push(fetch_id),
            }
        }
    }

    pub(super) fn remove(&mut self, tag: TagId, fetch_id: FetchId) {
        if self.0.get_mut(&tag).is_some_and(|related| related.remove(fetch_id)) {
            self.0.remove(&tag);
        }
    }

    /// The sessions whose bodies are stored under a tag.
    pub(super) fn sessions(&self, tag: TagId) -> impl Iterator<Item = Uuid> {
        self.0.get(&tag).into_iter().flat_map(Related::all).map(|fetch_id| fetch_id.key)
    }

    /// How many bodies there are, each once for each of its tags.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|related| related.all().len()).sum()
    }
}

impl Related {
    fn all(&self) -> &[FetchId] {
        match self {
            Self::One(fetch_id) => std::slice::from_ref(fetch_id),
            Self::Many(all) => all,
        }
    }

    fn push(&mut self, fetch_id: FetchId) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, fetch_id]),
            Self::Many(all) => all.push(fetch_id),
        }
    }

    /// Removes a body, and returns whether no other is left.
    fn remove(&mut self, fetch_id: FetchId) -> bool {
        match self {
            Self::One(only) => *only == fetch_id,
            Self::Many(all) => {
                all.retain(|other| *other != fetch_id);
                all.is_empty()
            }
        }
    }
}
