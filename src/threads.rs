//! Threads for jobs that block: files are read on them, and names are resolved.
//!
//! The first thread is started at once and stays. So the work goes on when the system can start no further thread,
//! where `spawn_blocking` would panic. More threads are started while all are busy, up to a bound, and end when they
//! have been idle for a while.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// A group of threads, which end when the last clone of the group is dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Threads(Arc<Owner>);

/// Why a job has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    #[error("too many jobs wait for a thread already")]
    Full,
    #[error("the job has panicked")]
    Panicked,
}

#[derive(Debug)]
struct Owner(Arc<Pool>);

struct Pool {
    name: &'static str,
    most: usize,
    state: Mutex<State>,
    /// Wakes threads for a new job, and for the end.
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce() + Send>;

impl Threads {
    /// Starts the first of at most `most` threads.
    pub fn start(name: &'static str, most: usize) -> io::Result<Self> {
        let state = Mutex::new(State { threads: 1, ..State::default() });
        let pool = Arc::new(Pool { name, most, state, wake: Condvar::new() });
        pool.add(None)?;
        Ok(Self(Arc::new(Owner(pool))))
    }

    /// Runs a job on one of the threads, unless its caller has stopped waiting before the job's turn comes.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, NotDone> {
        let (tell, told) = oneshot::channel();
        let job = move || {
            if !tell.is_closed() {
                // The caller may have stopped waiting since.
                let _ = tell.send(job());
            }
        };
        self.0.0.push(Box::new(job))?;
        told.await.map_err(|_| NotDone::Panicked)
    }
}

impl Pool {
    fn push(self: &Arc<Self>, job: Job) -> Result<(), NotDone> {
        let mut state = self.lock();
        if state.queue.len() >= LONGEST_QUEUE {
            return Err(NotDone::Full);
        }
        state.queue.push_back(job);
        // A thread that was woken and has not taken its job yet counts as idle, and its job stands in the queue.
        let add = state.queue.len() > state.idle && state.threads < self.most;
        if add {
            state.threads += 1;
        }
        drop(state);
        self.wake.notify_one();
        if add && self.add(Some(IDLE)).is_err() {
            // A running thread will take this job later.
            self.lock().threads -= 1;
        }
        Ok(())
    }

    /// Starts a thread, which ends when it has been idle for that long; `None` for a thread that stays.
    fn add(self: &Arc<Self>, idle: Option<Duration>) -> io::Result<()> {
        let pool = Arc::clone(self);
        thread::Builder::new().name(self.name.to_owned()).spawn(move || pool.work(idle)).map(drop)
    }

    fn work(&self, idle: Option<Duration>) {
        let mut state = self.lock();
        while !state.closed {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // The panic hook has logged the panic, and the dropped job wakes its caller with an error.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let late;
            (state, late) = self.wait(state, idle);
            state.idle -= 1;
            if late && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>, limit: Option<Duration>) -> (MutexGuard<'s, State>, bool) {
        match limit {
            None => (self.wake.wait(state).unwrap_or_else(PoisonError::into_inner), false),
            Some(limit) => {
                let (state, waited) = self.wake.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner);
                (state, waited.timed_out())
            }
        }
    }

    // No code under the lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        drop(queue);
        self.0.wake.notify_all();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.name)
    }
}

// More than there are calls to Sezzle at a time, with the usual limits.
const LONGEST_QUEUE: usize = 4096;
const IDLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    async fn name(threads: &Threads) -> Option<String> {
        threads.run(|| thread::current().name().map(str::to_owned)).await.expect("done")
    }

    #[tokio::test]
    async fn a_panic_ends_neither_the_thread_nor_the_caller() {
        let threads = Threads::start("one", 1).expect("starts");
        for _ in 0..3 {
            let panicked = threads
                .run(|| {
                    if name_is("one") {
                        panic!("on purpose")
                    }
                })
                .await;
            assert_eq!(panicked, Err(NotDone::Panicked));
        }
        assert_eq!(name(&threads).await.as_deref(), Some("one"));
    }

    fn name_is(name: &str) -> bool {
        thread::current().name() == Some(name)
    }

    #[tokio::test]
    async fn calls_that_hang_keep_no_other_from_a_thread_until_all_are_busy() {
        let threads = Threads::start("two", 2).expect("starts");
        let (release, hangs) = sync_channel::<()>(0);
        let hanging = tokio::spawn({
            let threads = threads.clone();
            async move { threads.run(move || hangs.recv_timeout(SOON)).await }
        });
        timeout(SOON, name(&threads)).await.expect("the second thread makes it");
        release.send(()).expect("it waits");
        assert_eq!(hanging.await.expect("no panic"), Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_is_left_out() {
        let threads = Threads::start("one", 1).expect("starts");
        let (release, hangs) = sync_channel::<()>(0);
        let (begun, began) = oneshot::channel();
        let (made, jobs) = sync_channel(8);
        let hanging = tokio::spawn({
            let threads = threads.clone();
            async move {
                let hang = move || {
                    let _ = begun.send(());
                    hangs.recv_timeout(SOON)
                };
                threads.run(hang).await
            }
        });
        began.await.expect("it has the only thread");
        let late = |name: &'static str| {
            let made = made.clone();
            threads.run(move || made.send(name))
        };
        assert!(timeout(Duration::from_millis(50), late("given up")).await.is_err());
        release.send(()).expect("it waits");
        late("waited for").await.expect("done").expect("room");
        assert_eq!(jobs.recv_timeout(SOON), Ok("waited for"));
        hanging.await.expect("no panic").expect("done").expect("released");
    }
}
