//! Time limits of a connection, and the reasons for cutting it.

use std::time::Duration;

/// Time limits of a connection's phases.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Between two requests, and before the first one.
    pub idle: Duration,
    /// For the caller to accept the next bytes of a response.
    pub write: Duration,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The head of a request took too long.
    Head,
    /// No request came for too long.
    Idle,
    /// The caller did not accept its response in time.
    Write,
    /// The listener closed while the head of a request was incomplete.
    Drain,
    /// The bytes are not the head of a request, or the head is too large.
    Malformed,
}

impl Cut {
    /// The reason's value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head_timeout",
            Self::Idle => "idle_timeout",
            Self::Write => "write_timeout",
            Self::Drain => "drain",
            Self::Malformed => "malformed",
        }
    }
}
