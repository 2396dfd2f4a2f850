//! All facts on the page, at one moment.

use std::time::Duration;

use super::history::Hour;
use crate::clock::Wall;
use crate::telemetry::metrics::ConfigReload;
use crate::telemetry::recent_errors::RecentError;

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub now: Wall,
    /// Time since the process started.
    pub uptime: Duration,
    pub about: About,
    /// The merchant that the keys belong to, once known.
    pub merchant: Option<String>,
    /// Why the sidecar is not ready; `None` if it is.
    pub unready: Option<&'static str>,
    pub draining: bool,
    pub token: TokenState,
    /// Why the pair in the changed key files is not in use, as `secret_reloads_total` has it; `None` if it is.
    pub unused_keys: Option<&'static str>,
    /// Sezzle's clock less this machine's, in seconds.
    pub clock_skew: i64,
    pub classes: Vec<ClassState>,
    /// The listeners that are open.
    pub listeners: Vec<ListenerState>,
    pub sessions: u64,
    pub session_bytes: u64,
    pub in_flight: u64,
    pub hour: Hour,
    pub reload: ReloadState,
    /// `None` for a sidecar that is in no fleet.
    pub fleet: Option<FleetLink>,
    /// Recent errors, the latest first.
    pub recent_errors: Vec<RecentError>,
}

/// Facts that do not change while the process runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Version, commit and compiler.
    pub build: &'static str,
    /// `gateway.environment`.
    pub environment: &'static str,
    /// `gateway.url`.
    pub gateway: String,
    /// `cache.max_bytes`.
    pub cache_bytes: u64,
    /// The addresses of each open listener, by the words of `connections`.
    pub listeners: Vec<(&'static str, Vec<String>)>,
    /// The server of `fleet.url`, or the Sentinels that know it; `None` without a fleet.
    pub fleet: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Time left and time of expiry; `None` without a live token.
    pub left: Option<(Duration, Wall)>,
    /// How the last token exchange failed; `None` if it did not.
    pub failure: Option<&'static str>,
}

/// The last reload of the configuration, and the keys whose change needs a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadState {
    /// When the last reload was, and how it ended; `None` without a reload.
    pub last: Option<(Wall, ConfigReload)>,
    /// Keys that the files have changed and that keep their values until a restart.
    pub waiting: Vec<&'static str>,
}

/// A listener and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerState {
    pub name: &'static str,
    pub addresses: Vec<String>,
    pub connections: u64,
    /// Connections that may be open at once.
    pub limit: u64,
}

/// The link to the fleet's server. The counts are those since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetLink {
    pub server: String,
    pub state: &'static str,
    /// Time since the last poll that confirmed memory, or since the start without one.
    pub age: Duration,
    /// Entries that other sidecars may not know.
    pub unpublished: u64,
    /// Time for which there has been an entry that other sidecars may not know.
    pub unpublished_for: Duration,
    pub rejoins: u64,
    /// Lookups that were answered from memory that was not confirmed.
    pub unconfirmed: u64,
}

/// The limits of one class of calls, and whether its calls are held back from Sezzle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassState {
    pub class: &'static str,
    /// Calls to Sezzle under way, and how many may be.
    pub places: (u64, u64),
    /// Calls that wait for a place, and how many may.
    pub queue: (u64, u64),
    /// `None` for a class without a breaker, such as that of calls that move money.
    pub breaker: Option<Breaker>,
    /// The time until which Sezzle asked for fewer calls, if not over.
    pub held_until: Option<Wall>,
}

impl ClassState {
    /// Whether calls of the class are not sent, or only as a trial.
    pub fn is_broken(&self) -> bool {
        self.breaker.is_some_and(|breaker| breaker != Breaker::Closed)
    }
}

/// State of a circuit breaker, read from its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    Closed,
    Open,
    /// One call is sent as a trial.
    HalfOpen,
}
