//! The writes under way.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where writes run, so that a caller who hangs up does not stop them and a drain waits for them.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    pub(super) tasks: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl Writes {
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until every write has ended. No write may begin any more.
    pub async fn close_and_wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits for something, but not beyond the end of all writes.
    pub(super) async fn unless_cut<F: Future>(&self, future: F) -> Option<F::Output> {
        self.cut.run_until_cancelled(future).await
    }

    /// Ends the writes under way, each with an unknown outcome, even if one was not sent yet. Only a write that still
    /// waits for its line in the audit ends as one that was not sent.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.close_and_wait().await;
    }
}
