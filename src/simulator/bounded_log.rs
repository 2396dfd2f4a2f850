//! A record that keeps its newest entries only. Their number and the bytes of their bodies are bounded.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct BoundedLog<T> {
    /// Each entry, with the size of its body in bytes.
    entries: VecDeque<(T, usize)>,
    /// How many entries were forgotten, so that an entry keeps its number.
    forgotten: usize,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

impl<T> BoundedLog<T> {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), forgotten: 0, bytes: 0, max_entries, max_bytes }
    }

    /// The number of the next entry.
    pub(super) fn next(&self) -> usize {
        self.forgotten + self.entries.len()
    }

    /// Adds an entry with a body of `bytes` bytes, and returns its number.
    pub(super) fn push(&mut self, entry: T, bytes: usize) -> usize {
        let number = self.next();
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        self.trim();
        number
    }

    /// Changes an entry, whose body grows by `more` bytes. Nothing happens if the entry is forgotten.
    pub(super) fn change(&mut self, number: usize, more: usize, change: impl FnOnce(&mut T)) {
        let Some((entry, bytes)) =
            number.checked_sub(self.forgotten).and_then(|position| self.entries.get_mut(position))
        else {
            return;
        };
        change(entry);
        *bytes += more;
        self.bytes += more;
        self.trim();
    }

    pub(super) fn find(&self, number: usize) -> Option<&T> {
        self.entries.get(number.checked_sub(self.forgotten)?).map(|(entry, _)| entry)
    }

    /// All entries, the oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.entries.iter().map(|(entry, _)| entry)
    }

    /// The entries from this number on, with their numbers.
    pub(super) fn since(&self, number: usize) -> impl Iterator<Item = (usize, &T)> {
        // At most up to the end, because a number near the largest would overflow.
        let skipped = number.saturating_sub(self.forgotten).min(self.entries.len());
        (self.forgotten + skipped..).zip(self.iter().skip(skipped))
    }

    /// Forgets all entries. The numbers of later entries go on.
    pub(super) fn clear(&mut self) {
        self.forgotten = self.next();
        self.entries.clear();
        self.bytes = 0;
    }

    fn trim(&mut self) {
        while self.entries.len() > self.max_entries || self.bytes > self.max_bytes {
            let Some((_, bytes)) = self.entries.pop_front() else { return };
            self.forgotten += 1;
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_entries_go_first_and_numbers_stay_true() {
        let mut log = BoundedLog::new(3, 10);
        assert!((0..4).eq((0..4).map(|entry| log.push(entry, 1))));
        assert!(log.iter().eq(&[1, 2, 3]));
        log.change(0, 5, |entry| *entry = 50);
        log.change(3, 7, |entry| *entry = 30);
        assert_eq!((log.find(0), log.find(3), log.bytes), (None, Some(&30), 10));
        log.change(2, 1, |_| ());
        assert!(log.iter().eq(&[2, 30]));
        log.change(3, 10, |_| ());
        assert_eq!((log.iter().count(), log.bytes), (0, 0));
        assert_eq!(log.push(4, 0), 4);
        assert_eq!(log.push(5, 9), 5);
        assert!(log.since(5).eq([(5, &5)]) && log.since(0).eq([(4, &4), (5, &5)]));
        assert_eq!(log.since(usize::MAX).next(), None);
        log.clear();
        log.change(5, 1, |entry| *entry = 50);
        assert_eq!((log.iter().count(), log.bytes, log.push(6, 10)), (0, 0, 6));
        assert!(log.since(0).eq([(6, &6)]));
    }
}
