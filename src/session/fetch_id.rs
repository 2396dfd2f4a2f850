//! The number of a fetch. Pure.

use uuid::Uuid;

/// One fetch: its session, and its number among all fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchId {
    /// The UUID of the session.
    pub key: Uuid,
    /// Unique in the process, and larger for a fetch that begins later.
    pub id: u64,
}
