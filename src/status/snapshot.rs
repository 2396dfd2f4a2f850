//! All that the page tells, at one moment.

use std::time::Duration;

use super::history::Hour;
use crate::clock::Wall;
use crate::telemetry::troubles::Trouble;

/// All that the page tells.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub now: Wall,
    /// How long the process has been up.
    pub uptime: Duration,
    /// What does not change while it runs.
    pub about: About,
    /// Whom the keys belong to, once known.
    pub merchant: Option<String>,
    /// Why it is not ready; `None` if it is.
    pub unready: Option<&'static str>,
    /// Whether it is about to end.
    pub draining: bool,
    /// The bearer token.
    pub token: TokenLife,
    /// What is held back from Sezzle, by class of calls.
    pub brakes: Vec<Brake>,
    /// Sessions in memory.
    pub sessions: u64,
    /// Bytes they take.
    pub session_bytes: u64,
    /// Requests being served.
    pub in_flight: u64,
    /// What was counted in the last hour.
    pub hour: Hour,
    /// What went wrong, the latest first.
    pub troubles: Vec<Trouble>,
}

/// What does not change while the process runs.
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
}

/// The life of the bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLife {
    /// What is left of it, and when it ends; `None` without a live one.
    pub left: Option<(Duration, Wall)>,
    /// How the last exchange of the keys failed; `None` if it did not.
    pub trouble: Option<&'static str>,
}

/// What is held back from Sezzle of one class of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The class.
    pub class: &'static str,
    /// Its circuit breaker.
    pub breaker: Breaker,
    /// Until when Sezzle asked for fewer calls, if that is not over.
    pub quiet_until: Option<Wall>,
}

/// A circuit breaker, as its metric tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Calls are sent.
    Closed,
    /// They are not.
    Open,
    /// One is, to try.
    HalfOpen,
}
