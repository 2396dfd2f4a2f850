//! The stored bodies by tag. Pure.

use std::collections::HashMap;
use std::num::NonZeroU64;

use uuid::Uuid;

use super::tag_id::TagId;
use crate::session::seed::Seed;
use crate::session::table::{Hashed, Table};

/// The sessions whose bodies are stored under each tag.
///
/// Each body adds its session once for each of its tags. So two bodies of one session, of which one is about to leave,
/// stand here twice, and the first that leaves takes one with it. Two tags whose hashes are the same count as one: a
/// purge of one then costs the other a fetch.
#[derive(Debug)]
pub(super) struct Index {
    seed: Seed,
    /// The tags with one body, as nearly all have.
    one: Table<Related>,
    /// The tags with more, apart: in one table they would crowd at one place.
    more: HashMap<NonZeroU64, Vec<Uuid>>,
}

/// A session, and the hash of a tag of its body.
#[derive(Clone, Copy, Debug)]
struct Related {
    tag: NonZeroU64,
    key: Uuid,
}

impl Hashed for Related {
    fn hash(&self) -> u32 {
        upper(self.tag)
    }
}

fn upper(tag: NonZeroU64) -> u32 {
    (tag.get() >> 32) as u32
}

impl Default for Index {
    fn default() -> Self {
        Self { seed: Seed::random(), one: Table::default(), more: HashMap::new() }
    }
}

impl Index {
    pub(super) fn add(&mut self, tags: &[TagId], key: Uuid) {
        for tag in tags {
            let tag = self.hash(*tag);
            if let Some(keys) = self.more.get_mut(&tag) {
                keys.push(key);
            } else if let Some(other) = self.one.remove(upper(tag), |other| other.tag == tag) {
                self.more.insert(tag, vec![other.key, key]);
            } else {
                self.one.insert(Related { tag, key });
            }
        }
    }

    /// Removes a session once from those of a tag.
    pub(super) fn remove(&mut self, tag: TagId, key: Uuid) {
        let tag = self.hash(tag);
        let Some(keys) = self.more.get_mut(&tag) else {
            self.one.remove(upper(tag), |other| other.tag == tag && other.key == key);
            return;
        };
        if let Some(at) = keys.iter().position(|other| *other == key) {
            keys.swap_remove(at);
        }
        if let [last] = *keys.as_slice() {
            self.more.remove(&tag);
            self.one.insert(Related { tag, key: last });
        }
    }

    /// The sessions whose bodies are stored under a tag.
    pub(super) fn under(&self, tag: TagId) -> impl Iterator<Item = Uuid> {
        let tag = self.hash(tag);
        let one = self.one.near(upper(tag)).filter(move |related| related.tag == tag).map(|related| related.key);
        one.chain(self.more.get(&tag).into_iter().flatten().copied())
    }

    fn hash(&self, tag: TagId) -> NonZeroU64 {
        NonZeroU64::new(self.seed.hash(tag.0)).unwrap_or(NonZeroU64::MIN)
    }

    /// How many bodies there are, each once for each of its tags.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.one.len() + self.more.values().map(Vec::len).sum::<usize>()
    }
}
