//! The threads that serve connections. Each has a runtime of its own, and a connection stays on its thread with all the
//! work for it: no request has to wake another thread.
//!
//! The kernel could distribute connections by itself (`SO_REUSEPORT`), but by a hash of their addresses: of the few
//! connections that a sidecar has, most may fall to one thread. So one thread accepts, and gives each connection to the
//! worker that has the fewest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::socket::{Stream, attach, detach};
use crate::worker::set_current_worker;

/// The worker threads of one process.
#[derive(Clone, Debug)]
pub struct Workers {
    all: Arc<[Worker]>,
    stop: CancellationToken,
    threads: TaskTracker,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Makes no threads: connections are served by the runtime that accepts them.
    pub fn none() -> Self {
        Self { all: [].into(), stop: CancellationToken::new(), threads: TaskTracker::new() }
    }

    pub fn start(count: usize) -> io::Result<Self> {
        let (stop, threads) = (CancellationToken::new(), TaskTracker::new());
        let worker = |number| {
            let runtime = Owned(Some(Builder::new_current_thread().enable_all().build()?));
            let handle = runtime.handle()?;
            let (stop, running) = (stop.clone(), threads.token());
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                set_current_worker(number);
                runtime.block_on(stop.cancelled());
                // Dropping the runtime drops its remaining tasks.
                drop(runtime);
                drop(running);
            })?;
            Ok(Worker { runtime: handle, connections: Arc::default() })
        };
        let all = (1..=count).map(worker).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { all: all.into(), stop, threads })
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Ends the workers and cuts their remaining connections. On return the cut requests have been recorded, unless
    /// that took longer than 500 ms.
    pub async fn end(&self) {
        self.stop.cancel();
        self.threads.close();
        let _ = timeout(END_TIMEOUT, self.threads.wait()).await;
    }

    /// Waits until every worker has run a new task: for ever, while one of them hangs.
    pub async fn respond(&self) {
        for worker in self.all.iter() {
            // Fails only when the runtime is shut down, and then there is no worker to wait for.
            let _ = worker.runtime.spawn(async {}).await;
        }
    }

    /// Serves a connection in a task of its own, on the worker that has the fewest connections.
    pub(super) fn spawn<F>(&self, tasks: &TaskTracker, stream: Stream, serve: impl FnOnce(Stream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed)) else {
            tasks.spawn(serve(stream));
            return;
        };
        // A connection that cannot be moved between runtimes is closed, as if its caller had broken off.
        let Ok(detached) = detach(stream) else { return };
        let count = ConnectionCount::begin(&worker.connections);
        let served = async move {
            let _count = count;
            if let Ok(stream) = attach(detached) {
                serve(stream).await;
            }
        };
        tasks.spawn_on(served, &worker.runtime);
    }
}

/// The runtime of a worker, which may be dropped inside another runtime: this happens if the worker's thread cannot be
/// started, and a plain `Runtime` would panic there.
struct Owned(Option<Runtime>);

impl Owned {
    fn handle(&self) -> io::Result<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone()).ok_or_else(|| io::Error::other("no runtime"))
    }

    fn block_on(&self, work: impl Future<Output = ()>) {
        if let Some(runtime) = &self.0 {
            runtime.block_on(work);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

// A hanging worker must not delay the end of the process.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Counts a connection of a worker for as long as it is open.
struct ConnectionCount(Arc<AtomicUsize>);

impl ConnectionCount {
    fn begin(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;
    use tokio::sync::{mpsc, oneshot};
    use tokio_util::either::Either;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_worker_that_hangs_does_not_respond() {
        let workers = Workers::start(2).expect("starts");
        timeout(SOON, workers.respond()).await.expect("both respond");
        let (release, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        let hung = workers.all[1].runtime.spawn(async move { hangs.recv() });
        assert!(timeout(Duration::from_millis(200), workers.respond()).await.is_err());
        release.send(()).expect("it waits");
        hung.await.expect("no panic").expect("released");
        timeout(SOON, workers.respond()).await.expect("both respond");
    }

    #[tokio::test]
    async fn a_connection_goes_to_whoever_has_the_fewest() {
        let (workers, tasks) = (Workers::start(2).expect("starts"), TaskTracker::new());
        let (tell, mut told) = mpsc::channel(8);
        let mut open = Vec::new();
        let spawn = || {
            let (stream, _peer) = UnixStream::pair().expect("a pair");
            let ((end, ended), tell) = (oneshot::channel::<()>(), tell.clone());
            workers.spawn(&tasks, Either::Right(stream), |_stream| async move {
                let _ = tell.try_send(thread::current().name().map(str::to_owned));
                let _ = ended.await;
            });
            end
        };
        let mut served_by = async || timeout(SOON, told.recv()).await.expect("in time").flatten().expect("a name");
        for expected in ["worker-1", "worker-2", "worker-1", "worker-2"] {
            open.push(spawn());
            assert_eq!(served_by().await, expected);
        }
        // The second worker loses both of its connections.
        open.remove(3);
        open.remove(1);
        while workers.all.iter().map(|worker| worker.connections.load(Ordering::SeqCst)).sum::<usize>() > 2 {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            open.push(spawn());
            assert_eq!(served_by().await, "worker-2");
        }
        open.clear();
        tasks.close();
        timeout(SOON, tasks.wait()).await.expect("all have ended");
    }
    #[tokio::test]
    async fn a_worker_that_hangs_does_not_respond_and_one_that_ended_is_gone() {
        let (workers, tasks) = (Workers::start(1).expect("starts"), TaskTracker::new());
        let (stream, _peer) = UnixStream::pair().expect("a pair");
        let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
        let (begun, hangs) = oneshot::channel();
        workers.spawn(&tasks, Either::Right(stream), |_stream| async move {
            let _ = begun.send(());
            let _ = released.recv_timeout(SOON);
            std::future::pending().await
        });
        hangs.await.expect("it began");
        assert!(timeout(Duration::from_millis(50), workers.respond()).await.is_err());
        release.send(()).expect("it waits");
        timeout(SOON, workers.respond()).await.expect("it responds again");
        workers.end().await;
        assert_eq!(tasks.len(), 0, "what it still did was cut");
    }
}
