//! The orderly end of a sidecar: the drain, from the signal until the process may end.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::App;
use crate::config::settings::DrainSettings;
use crate::telemetry::log::millis;

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// Every connection, write, shared fetch and webhook has ended.
    Whole,
    /// `drain.timeout` was over first.
    CutByDeadline,
    /// The caller of the drain stopped it, as a second signal does.
    CutBySignal,
}

impl App {
    /// The longest time that [`Self::drain`] may take.
    pub fn drain_timeout(&self) -> Duration {
        self.reloaded.drain.timeout
    }

    /// Drains and stops. The sidecar is unready at once, and accepts no new connections after the grace period. The
    /// drain ends with the last response and the last write, or at the deadline.
    pub async fn drain(self) {
        self.drain_until(pending()).await;
    }

    /// Like [`Self::drain`], but is cut at once when `stop` completes.
    pub async fn drain_until(self, stop: impl Future<Output = ()>) -> DrainEnd {
        let DrainSettings { grace, timeout: limit } = self.reloaded.drain;
        let began = Instant::now();
        let deadline = began.checked_add(limit).unwrap_or(began);
        self.ops.drain();
        self.proxy.load().drain();
        tracing::info!(grace_ms = millis(grace), timeout_ms = millis(limit), "draining");
        let end = tokio::select! {
            served = timeout_at(deadline, self.serve_the_rest(grace)) => match served {
                Ok(()) => DrainEnd::Whole,
                Err(_) => DrainEnd::CutByDeadline,
            },
            () = stop => DrainEnd::CutBySignal,
        };
        match end {
            DrainEnd::Whole => tracing::info!(took_ms = millis(began.elapsed()), "drained"),
            DrainEnd::CutByDeadline | DrainEnd::CutBySignal => self.cut_writes().await,
        }
        self.end_background().await;
        // Blocks this thread until the audit has written its lines, for a second at most.
        if let Some(audit) = &self.audit {
            audit.close();
        }
        end
    }

    /// Accepts connections for `grace` more, and then waits for all that is under way.
    async fn serve_the_rest(&self, grace: Duration) {
        sleep(grace).await;
        self.stop_serving();
        self.connections.wait().await;
        self.writes.close_and_wait().await;
        self.work.wait().await;
    }

    /// Ends the remaining writes. Shared fetches and webhooks are not cut: they end with the runtimes.
    async fn cut_writes(&self) {
        let (connections, writes) = (self.connections.len(), self.writes.under_way());
        tracing::warn!(
            connections,
            writes,
            "the drain is cut short: the sidecar ends the remaining connections and writes"
        );
        self.stop_serving();
        self.writes.cut().await;
        // Callers that still listen get the answer that their writes were cut.
        let _ = timeout(LAST_ANSWER_TIMEOUT, self.connections.wait()).await;
    }

    /// Ends the background tasks and the listeners of operators, which stop once they notice. A hanging scrape must not
    /// delay the end.
    async fn end_background(&self) {
        self.background_stop.cancel();
        self.side_stop.accepting.cancel();
        self.side_stop.closing.cancel();
        self.background.close();
        let _ = timeout(BACKGROUND_TIMEOUT, self.background.wait()).await;
    }

    /// Accepts no more connections, and closes idle ones.
    fn stop_serving(&self) {
        self.stop.accepting.cancel();
        self.stop.closing.cancel();
        self.connections.close();
        self.work.close();
    }
}

const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(1);
