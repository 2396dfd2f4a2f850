//! The state that the tasks of a simulator share.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Gates;
use super::delivery::Deliveries;
use super::gateway::Gateway;
use super::journal::Journal;
use super::options::Options;
use super::rule::Rules;

/// The state that the tasks of a simulator share. No task holds a lock while it waits, nor two locks at once.
#[derive(Debug)]
pub(super) struct Core {
    /// Whether the gateway speaks HTTP/2, too.
    pub(super) http2: bool,
    pub(super) addr: SocketAddr,
    pub(super) scheme: &'static str,
    /// The options at the start, which a reset puts in force again.
    pub(super) options: Options,
    pub(super) gateway: Mutex<Gateway>,
    pub(super) journal: Mutex<Journal>,
    pub(super) rules: Mutex<Rules>,
    pub(super) gates: Mutex<Gates>,
    pub(super) connections: AtomicUsize,
    pub(super) deliveries: Deliveries,
    pub(super) stopping: CancellationToken,
    /// The runtime of the tasks that a handle starts, even if the handle is used outside a runtime.
    pub(super) runtime: Handle,
    pub(super) tasks: TaskTracker,
}

impl Core {
    pub(super) fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a connection may be idle.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        self.gateway().options.idle_timeout
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
