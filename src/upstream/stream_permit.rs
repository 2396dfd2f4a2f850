//! A stream of an HTTP/2 connection that is counted for one call.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The pool that is told when a stream becomes free. A trait, because the pool's connections hold such streams.
pub(super) trait Streams: Debug + Send + Sync + 'static {
    /// A stream of this connection has become free.
    fn freed(self: Arc<Self>, connection: u64);
}

/// A stream that is counted for one call. `Drop` frees the stream.
#[derive(Debug)]
pub struct StreamPermit {
    /// `None` once the stream is free.
    pool: Option<Arc<dyn Streams>>,
    calls: Arc<AtomicUsize>,
    connection: u64,
}

impl StreamPermit {
    pub(super) fn new(pool: Arc<dyn Streams>, calls: &Arc<AtomicUsize>, connection: u64) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        Self { pool: Some(pool), calls: Arc::clone(calls), connection }
    }

    /// Frees the stream while the pool's state is locked already.
    pub(super) fn give_up(mut self) {
        self.pool = None;
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        self.calls.fetch_sub(1, Ordering::Relaxed);
        pool.freed(self.connection);
    }
}
