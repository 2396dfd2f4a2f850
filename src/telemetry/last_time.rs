//! The last time of a kind of event.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, Wall};

/// The last time of a kind of event, by the wall clock.
#[derive(Debug)]
pub struct LastTime {
    clock: Clock,
    /// Milliseconds since the epoch; [`NEVER`] before the first time.
    at: AtomicI64,
}

const NEVER: i64 = i64::MIN;

impl LastTime {
    pub fn new(clock: Clock) -> Self {
        Self { clock, at: AtomicI64::new(NEVER) }
    }

    /// Notes that the event happens now.
    pub fn note(&self) {
        self.at.store(self.clock.now().wall.0, Ordering::Relaxed);
    }

    /// The last time; `None` if the event has never happened.
    pub fn get(&self) -> Option<Wall> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at != NEVER).map(Wall)
    }
}
