//! Arithmetic with counts that wrap around, so that the difference of two is right even after an overflow.

/// Counts that are combined with others element by element.
pub(super) trait Elementwise {
    /// Applies `each` to the counts of both at the same place.
    fn combine(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self;
}

impl Elementwise for u32 {
    fn combine(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
        each(*self, *other)
    }
}

impl<T: Elementwise + Copy, const N: usize> Elementwise for [T; N] {
    fn combine(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
        let mut others = other.iter();
        self.map(|one| others.next().map_or(one, |other| one.combine(other, each)))
    }
}

/// The lower half of a count.
#[expect(clippy::cast_possible_truncation, reason = "the count is to wrap around")]
pub(super) fn wrapped(count: u64) -> u32 {
    count as u32
}
