//! Finds out when a connection has been idle for too long.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// The number of requests of one connection whose answers are not finished.
#[derive(Clone, Debug, Default)]
pub(super) struct Load(watch::Sender<usize>);

impl Load {
    /// Counts a request until its answer is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.0.send_modify(|requests| *requests += 1);
        Busy(self.0.clone())
    }

    /// Returns once the connection has been idle for `limit`. A connection is idle from its first moment on.
    pub(super) async fn idle_too_long(&self, limit: impl Fn() -> Option<Duration>) {
        let mut load = self.0.subscribe();
        loop {
            // Neither wait fails, because `self` has the sender.
            let _ = load.wait_for(|requests| *requests == 0).await;
            match limit() {
                None => _ = load.changed().await,
                Some(limit) if timeout(limit, load.changed()).await.is_err() => return,
                Some(_) => {}
            }
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(watch::Sender<usize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}
