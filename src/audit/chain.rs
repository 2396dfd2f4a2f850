//! Knows which line the next one follows, across files and failed writes. Pure.

use super::line::{Fields, Hash, Tip};

/// The chain of one process.
#[derive(Debug)]
pub struct Chain {
    /// The last line that was written.
    tip: Tip,
    /// The lines of failed writes. Some of them may be in the file.
    attempted: Vec<Hash>,
    /// See [`Self::lost`].
    lost: Option<Hash>,
}

impl Chain {
    /// A chain without a line.
    pub const EMPTY: Self = Self { tip: Tip::NONE, attempted: Vec::new(), lost: None };

    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The hash of a written line that was missing when a file was opened, until a line of the file states the loss.
    pub fn lost(&self) -> Option<Hash> {
        self.lost
    }

    /// Goes on in a file whose last line is `found`. Returns whether the file lacks lines that were written.
    pub fn adopt(&mut self, found: Option<Tip>) -> bool {
        let is_known = |found: Tip| self.tip == Tip::NONE || self.tip == found || self.attempted.contains(&found.hash);
        let lacks = !found.is_none_or(is_known);
        if lacks {
            self.lost.get_or_insert(self.tip.hash);
        }
        self.tip = found.unwrap_or(self.tip);
        self.attempted.clear();
        lacks
    }

    /// Begins a write: returns the text of the lines, each with its line break, and the last line.
    pub fn attempt(&mut self, lines: impl IntoIterator<Item = Fields>) -> (String, Tip) {
        let (mut text, mut tip) = (String::new(), self.tip);
        for fields in lines {
            let (line, next) = tip.extend(fields);
            text.push_str(&line);
            text.push('\n');
            self.attempted.push(next.hash);
            tip = next;
        }
        (text, tip)
    }

    /// Takes note that the lines of the last attempt are in the file, up to `tip`.
    pub fn written(&mut self, tip: Tip) {
        *self = Self { tip, ..Self::EMPTY };
    }

    /// Takes note that the last attempt failed, and that the last line in the file is `found`, if that is known. The
    /// chain goes on from the lines that did get into the file.
    pub fn failed(&mut self, found: Option<Tip>) {
        self.tip = found.filter(|found| self.attempted.contains(&found.hash)).unwrap_or(self.tip);
        self.attempted.truncate(MOST_ATTEMPTED);
    }
}

// Each failed write adds the hashes of its lines. The earliest are kept, since later lines cannot be in the file
// without them.
const MOST_ATTEMPTED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<Fields> {
        vec![Fields::of_event("begin"); count]
    }

    #[test]
    fn a_file_that_lacks_lines_is_noticed_until_it_says_so() {
        let mut chain = Chain::EMPTY;
        let (_, first) = chain.attempt(lines(1));
        chain.written(first);
        let (_, second) = chain.attempt(lines(1));
        chain.written(second);
        assert!(!chain.adopt(Some(second)) && !chain.adopt(None), "the same file, and an empty one");
        assert_eq!((chain.adopt(Some(first)), chain.tip(), chain.lost()), (true, first, Some(second.hash)));
        // The line that is missed longest is named, also after a failed write.
        chain.attempt(lines(1));
        chain.failed(None);
        assert_eq!((chain.adopt(Some(first)), chain.lost()), (false, Some(second.hash)));
        let (_, tip) = chain.attempt(lines(1));
        chain.written(tip);
        assert_eq!((chain.tip(), chain.lost()), (tip, None));
    }

    #[test]
    fn a_failed_write_may_have_left_some_of_its_lines() {
        let mut chain = Chain::EMPTY;
        let (_, first) = chain.attempt(lines(1));
        chain.written(first);
        let (_, second) = first.extend(Fields::of_event("begin"));
        chain.attempt(lines(3));
        chain.failed(Some(second));
        assert_eq!(chain.tip(), second);
        let (_, stranger) = Tip::NONE.extend(Fields::of_event("other"));
        chain.failed(Some(stranger));
        assert_eq!(chain.tip(), second, "a line of somebody else's is none of the chain");
        assert!(!chain.adopt(Some(second)));
    }

    #[test]
    fn failed_writes_leave_a_bounded_memory() {
        let mut chain = Chain::EMPTY;
        for _ in 0..3 {
            chain.attempt(lines(MOST_ATTEMPTED));
            chain.failed(None);
        }
        assert_eq!(chain.attempted.len(), MOST_ATTEMPTED);
    }
}
