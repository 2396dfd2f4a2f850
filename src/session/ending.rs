//! How a write ended, for the sessions that it may have changed.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Provably the write was not done, so nothing changed.
    NotSent,
    /// Sezzle answered and has finished the write.
    Answered,
    /// The write may have taken effect, or may still do so.
    Unknown,
}
