//! Arithmetic with counts that wrap around, so that the difference of two is right even after an overflow.

/// Counts that are added and subtracted one by one.
pub(super) trait OneByOne {
    fn with(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self;
}

impl OneByOne for u32 {
    fn with(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
        each(*self, *other)
    }
}

impl<T: OneByOne + Copy, const N: usize> OneByOne for [T; N] {
    fn with(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
        let mut others = other.iter();
        self.map(|one| others.next().map_or(one, |other| one.with(other, each)))
    }
}

/// The lower half of a count.
#[expect(clippy::cast_possible_truncation, reason = "to wrap around is what it is for")]
pub(super) fn wrapped(count: u64) -> u32 {
    count as u32
}
