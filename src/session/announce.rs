//! Telling other sidecars what changed through this one. The cache is given an [`Announce`] if it is in a fleet.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::ending::Ending;
use super::horizon::SharedHorizon;
use super::invalidation::tag_id::{TagId, TagIds};

/// A change that other sidecars must know of before an answer is passed on.
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

    /// A write has ended, with its effect on the own memory done.
    fn end(&self, write: u64, tag: TagId, ending: Ending);

    /// A webhook or an operator reports a change.
    fn purge(&self, tag: TagId);

    /// Everything may have changed.
    fn purge_all(&self);

    /// Waits until all other sidecars know, or for the configured longest time.
    fn known<'a>(&'a self, what: &'a [Announced]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// The parts of a fleet that a cache in it is given.
#[derive(Clone, Debug)]
pub struct InFleet {
    pub ids: TagIds,
    pub announce: Arc<dyn Announce>,
    pub horizon: Arc<SharedHorizon>,
}
