//! The composition root: the only module that knows every part.

pub mod callers;
mod certificate_keeper;
mod check_online;
mod drain;
mod error;
mod fleet;
mod fleet_files;
mod fleet_link;
mod from_settings;
mod handlers;
mod initial;
mod listeners;
mod looks;
mod materials;
pub mod reload;
mod sezzle;
mod sockets;
mod start;
mod tls_files;
pub mod warnings;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::callers::CallersInForce;
pub use self::check_online::online_check;
pub use self::drain::DrainEnd;
pub use self::error::StartError;
pub use self::from_settings::{BUILD, forwarded, policy};
pub use self::materials::{Blocking, Materials, check_proxy_tls, open_audit};
pub use self::sockets::Addresses;
pub use self::tls_files::Mistake;
use crate::audit::{Audit, OpenFile};
use crate::caller::Hosts;
use crate::callers::table::Rules;
use crate::clock::Clock;
use crate::config::Settings;
use crate::credentials::TokenManager;
use crate::credentials::keys::KeyFiles;
use crate::fleet::pod::Pod;
use crate::ops::{Ops, Unready};
use crate::proxy::{Proxy, Sessions, Writes};
use crate::server::Stop;
use crate::server::workers::Workers;
use crate::status::Status;
use crate::supervisor::Supervisor;
use crate::systemd::sockets::PassedSockets;
use crate::telemetry::metrics::Metrics;

/// A running sidecar.
pub struct App {
    proxy: Arc<ArcSwap<Proxy>>,
    sessions: Arc<Sessions>,
    tokens: Arc<TokenManager>,
    ops: Ops,
    status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub addresses: Addresses,
    /// The configuration of the start, whose values hold for keys that need a restart. Boxed, because the app is moved.
    started: Box<Settings>,
    /// The configuration of the last reload.
    reloaded: Box<Settings>,
    /// The names under which the ops listener serves the status page.
    page_hosts: Arc<ArcSwap<Hosts>>,
    /// The callers in force. A new value makes the task that reads the secrets of callers read the files of that value.
    callers: watch::Sender<CallersInForce>,
    caller_rules: Rules,
    clock: Clock,
    /// The key files in force. A new value, even an equal one, makes the refresher read them.
    key_files: watch::Sender<KeyFiles>,
    stop: Stop,
    side_stop: Stop,
    connections: TaskTracker,
    writes: Writes,
    /// `None` if no file is configured.
    audit: Option<Arc<Audit>>,
    /// Fetches that continue without their callers, and webhooks that are being forwarded.
    work: TaskTracker,
    background: TaskTracker,
    background_stop: CancellationToken,
    pub supervisor: Supervisor,
    blocking: Blocking,
    /// `None` for a sidecar that is in no fleet.
    pod: Option<Arc<Pod>>,
}

/// The parts that exist before an app starts, besides its settings.
#[derive(Debug)]
pub struct Parts {
    pub workers: Workers,
    /// Sockets that a service manager passed. Each is used for its address, which is then not opened.
    pub passed: PassedSockets,
    pub blocking: Blocking,
    pub materials: Materials,
    /// The file of `audit.file`.
    pub audit: Option<OpenFile>,
}

impl App {
    /// Opens `audit.file` anew and writes to the file that has this name now, so that the file can be rotated.
    pub fn reopen_audit(&self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// Why the sidecar is not ready; `None` if it is.
    pub fn unready(&self) -> Option<Unready> {
        self.ops.unready()
    }

    /// Waits for the first token, which is the last condition of readiness.
    pub async fn first_token(&self) {
        self.tokens.first_token().await;
    }
}
