//! A bounded map that forgets its oldest items, so that a long demonstration cannot fill the memory.

use std::collections::{HashMap, VecDeque};

#[derive(Debug)]
pub(super) struct BoundedMap<T> {
    items: HashMap<String, T>,
    /// The keys, the oldest first.
    order: VecDeque<String>,
}

impl<T> BoundedMap<T> {
    pub(super) fn put(&mut self, key: String, item: T) {
        if self.items.insert(key.clone(), item).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > CAPACITY {
            if let Some(oldest) = self.order.pop_front() {
                self.items.remove(&oldest);
            }
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<&T> {
        self.items.get(key)
    }

    pub(super) fn find_mut(&mut self, key: &str) -> Option<&mut T> {
        self.items.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &str) {
        if self.items.remove(key).is_some() {
            self.order.retain(|kept| kept != key);
        }
    }

    /// All items, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.order.iter().filter_map(|key| Some((key, self.items.get(key)?)))
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.order.clear();
    }
}

impl<T> Default for BoundedMap<T> {
    fn default() -> Self {
        Self { items: HashMap::new(), order: VecDeque::new() }
    }
}

/// The most items, which is more than any test looks back on.
const CAPACITY: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_item_is_forgotten_first() {
        let mut map = BoundedMap::default();
        for number in 0..=CAPACITY {
            map.put(number.to_string(), number);
        }
        assert_eq!(map.find("0"), None);
        assert_eq!(map.find("1"), Some(&1));
        assert_eq!(map.items.len(), CAPACITY);
    }
}
