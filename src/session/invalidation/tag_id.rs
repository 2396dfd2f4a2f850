//! The id of a tag that several processes compute alike. Pure.

/// A tag, as the first 16 bytes of a hash that all pods of a fleet compute alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub [u8; 16]);
