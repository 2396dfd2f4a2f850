//! When something last happened.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, Wall};

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

    /// Notes that it happens now.
    pub fn note(&self) {
        self.at.store(self.clock.now().wall.0, Ordering::Relaxed);
    }

    /// The last time; `None` if it has never happened.
    pub fn get(&self) -> Option<Wall> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at != NEVER).map(Wall)
    }
}
