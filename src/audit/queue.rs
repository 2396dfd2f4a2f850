//! The lines that wait for the thread that writes them. The queue has a bound, and nobody waits to put a line in.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::line::Fields;
use crate::clock::monotonic_micros;

/// A line to write. `told` learns whether that succeeded.
#[derive(Debug)]
pub struct Job {
    pub fields: Fields,
    pub until: Until,
    pub told: oneshot::Sender<bool>,
}

/// How far a line must have come before its call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Written: a crash of the process does not lose it.
    Written,
    /// On the disk, with all lines before it: a crash of the machine does not lose it.
    OnDisk,
}

/// The lines on their way from the calls to the thread, and the state of that thread.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Wakes the thread for work, and [`Self::close`] at the thread's end.
    wake: Condvar,
    /// When the thread began the write that it is in, in microseconds of the monotonic clock; 0 between writes.
    busy_since: AtomicU64,
    /// How many lines are missing from the file, and are not yet stated as missing there.
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    reopen: bool,
    closing: bool,
    ended: bool,
}

/// The next thing that the thread has to do.
#[derive(Debug)]
pub struct Work {
    /// The lines to write, at most [`BATCH`].
    pub jobs: Vec<Job>,
    /// Whether the file is to be opened anew, after these lines.
    pub reopen: bool,
}

impl Queue {
    /// Puts a line in. Returns whether there was room.
    pub fn push(&self, job: Job) -> bool {
        let mut state = self.lock();
        if state.jobs.len() >= CAPACITY || state.closing {
            drop(state);
            self.missed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.jobs.push_back(job);
        drop(state);
        self.wake.notify_all();
        true
    }

    /// Waits for work. `None` when the queue is closed and empty. With work, the thread is busy until [`Self::done`].
    pub fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        while state.jobs.is_empty() && !state.reopen {
            if state.closing {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let batch = state.jobs.len().min(BATCH);
        let jobs = state.jobs.drain(..batch).collect();
        let reopen = state.jobs.is_empty() && mem::take(&mut state.reopen);
        drop(state);
        self.busy();
        Some(Work { jobs, reopen })
    }

    /// Takes note that the thread begins a write.
    pub fn busy(&self) {
        self.busy_since.store(monotonic_micros().max(1), Ordering::Relaxed);
    }

    /// Takes note that the thread is between writes.
    pub fn done(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// Whether the thread has been in one write for longer than this.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => false,
            since => u128::from(monotonic_micros().saturating_sub(since)) > limit.as_micros(),
        }
    }

    /// Counts lines that were not written.
    pub fn add_missed(&self, lines: usize) {
        self.missed.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Takes note that the file states how many lines are missing.
    pub fn note_stated(&self, missed: u64) {
        self.missed.fetch_sub(missed, Ordering::Relaxed);
    }

    /// Makes the thread open the file anew.
    pub fn reopen(&self) {
        self.lock().reopen = true;
        self.wake.notify_all();
    }

    /// Takes no more lines, and waits until the thread has ended or the time is over.
    pub fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.closing = true;
        self.wake.notify_all();
        let ended = self.wake.wait_timeout_while(state, limit, |state| !state.ended);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes note that the thread ends.
    pub fn ended(&self) {
        self.lock().ended = true;
        self.wake.notify_all();
    }

    // No code under the lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Two lines for each call that may be under way with the usual limits.
const CAPACITY: usize = 1024;
// About 128 KiB. A larger write would make the first of its lines wait for the last.
const BATCH: usize = 256;
