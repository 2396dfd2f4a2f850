//! The settings that the proxy obeys.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::caller::Hosts;
use crate::callers::table::Table;

#[derive(Clone, Debug)]
pub struct Options {
    pub hosts: Hosts,
    pub limits: Limits,
    /// Whether an idempotency key under another name counts.
    pub normalise_request_id: bool,
    pub forwarded: Forwarded,
    /// One of this many hits is logged.
    pub sample_hits: u64,
    /// The callers that may call. `None` if everybody who reaches the listener may do everything.
    pub callers: Option<Arc<ArcSwap<Table>>>,
}

/// The calls that are passed on only if the configuration says so.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded {
    /// `GET /v2/session/card/token/{token}`.
    pub card_data: bool,
    /// Every call below `/v1/`, except for an exchange of keys.
    pub version_1: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Permits of a class of calls to Sezzle, and as many for bodies being received; see [`super::pressure`].
    pub in_flight: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Until the head of the answer to a safe call.
    pub read: Duration,
    /// Until the head of the answer to a write.
    pub write: Duration,
    /// Until the head of a report.
    pub report: Duration,
}
