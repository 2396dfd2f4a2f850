//! All facts on the page, at one moment.

use std::time::Duration;

use super::history::Hour;
use crate::clock::Wall;
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
    pub classes: Vec<ClassState>,
    pub sessions: u64,
    pub session_bytes: u64,
    pub in_flight: u64,
    pub hour: Hour,
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

/// The link to the fleet's server. The counts are those since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetLink {
    pub server: String,
    pub state: &'static str,
    /// Time since the last poll that confirmed memory, or since the start without one.
    pub age: Duration,
    /// Entries that other sidecars may not know.
    pub unpublished: u64,
    pub rejoins: u64,
    /// Lookups that were answered from memory that was not confirmed.
    pub unconfirmed: u64,
}

/// Whether calls of one class are held back from Sezzle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassState {
    pub class: &'static str,
    pub breaker: Breaker,
    /// The time until which Sezzle asked for fewer calls, if not over.
    pub held_until: Option<Wall>,
}

/// State of a circuit breaker, read from its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    Closed,
    Open,
    /// One call is sent as a trial.
    HalfOpen,
}
