//! How long a connection may take, and what it is cut for.

use std::time::Duration;

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To send the head of a request, from its first byte.
    pub head: Duration,
    /// Between two requests, and before the first.
    pub idle: Duration,
    /// To take the next bytes of an answer.
    pub write: Duration,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The head of a request took too long.
    Head,
    /// Nothing was asked for too long.
    Idle,
    /// The caller did not take its answer.
    Write,
    /// The listener closes, and half a head was all there was.
    Drain,
    /// What came is no head of a request, or too large a one.
    Malformed,
}

impl Cut {
    /// The word for it in metrics.
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
