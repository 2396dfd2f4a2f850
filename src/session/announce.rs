//! Tells other sidecars of the changes through this one. The cache gets an [`Announce`] if its sidecar is in a fleet.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::ending::Ending;
use super::horizon::SharedHorizon;
use super::invalidation::tag_id::{TagId, TagIds};

/// A change of which other sidecars must know before an answer is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Announced {
    /// The end of a write, by the number that [`Announce::begin`] gave it.
    Write(u64),
    /// The last purge of a tag.
    Purge(TagId),
    /// The last purge of everything.
    All,
}

/// Tells other sidecars of changes made through this one. Only [`Announce::known`] waits.
pub trait Announce: fmt::Debug + Send + Sync {
    /// A write to `tag` is about to be sent. Returns the write's number.
    fn begin(&self, tag: TagId) -> u64;

    /// A write has ended, and has had its effect on this sidecar's memory.
    fn end(&self, write: u64, tag: TagId, ending: Ending);

    /// A webhook or an operator reports a change.
    fn purge(&self, tag: TagId);

    /// Everything may have changed.
    fn purge_all(&self);

    /// Waits until all other sidecars know of these changes, or for the configured longest time.
    fn known<'a>(&'a self, changes: &'a [Announced]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// The parts of the fleet that the cache of a pod uses.
#[derive(Clone, Debug)]
pub struct InFleet {
    pub ids: TagIds,
    pub announce: Arc<dyn Announce>,
    pub horizon: Arc<SharedHorizon>,
}
