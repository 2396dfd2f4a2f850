//! Sezzle's clock, as it was last seen: a local clock may be wrong, and so may that of another sidecar.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::{Now, Wall};

/// The last `Date` that Sezzle sent to this sidecar, and the local time of its arrival.
#[derive(Debug, Default)]
pub struct SezzleClock(ArcSwap<Option<(Wall, Now)>>);

impl SezzleClock {
    /// `None` before the first `Date`.
    pub fn last(&self) -> Option<(Wall, Now)> {
        **self.0.load()
    }

    pub fn note(&self, date: Wall, now: Now) {
        self.0.store(Arc::new(Some((date, now))));
    }
}
