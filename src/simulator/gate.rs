//! A gate holds requests at one point of their way until a test lets them go, so that no test needs to sleep.

use tokio::sync::watch;

/// A handle to one gate, which clones share. Once released, a gate stays open.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    passage: watch::Sender<Passage>,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits, without a time limit, until `requests` requests in all have come to this gate.
    pub async fn arrived(&self, requests: usize) {
        // The wait fails only once every sender is gone, and this handle is one.
        let _ = self.passage.subscribe().wait_for(|passage| passage.arrived >= requests).await;
    }

    /// Opens the gate for every waiting and every later request.
    pub fn release(&self) {
        self.passage.send_modify(|passage| passage.open = true);
    }

    pub(super) fn arrivals(&self) -> usize {
        self.passage.borrow().arrived
    }

    pub(super) fn is_open(&self) -> bool {
        self.passage.borrow().open
    }

    /// Makes the calling request wait until the release.
    pub(super) async fn pass(&self) {
        self.passage.send_modify(|passage| passage.arrived += 1);
        let _ = self.passage.subscribe().wait_for(|passage| passage.open).await;
    }
}

#[derive(Debug, Default)]
struct Passage {
    arrived: usize,
    open: bool,
}
