//! One kind of listener, and the handler that answers its requests.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cut::{Cut, Timeouts};
use super::tls::Tls;
use super::workers::Workers;
use crate::caller::Caller;
use crate::telemetry::metrics::Metrics;

pub type Request = http::Request<Incoming>;

pub trait Handler: Clone + Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static;

    /// Answers one request. `Unpin` makes implementations put large futures into a box, so that an idle connection does
    /// not reserve space for them.
    fn handle(&self, request: Request, caller: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin;
}

/// One kind of listener: its limits, its stop signals, and the parts that all its addresses share.
#[derive(Clone)]
pub struct Listener {
    /// The name in metrics, logs and the configuration.
    pub name: &'static str,
    /// Whether callers may speak HTTP/2 by beginning with its preface (RFC 9113, 3.3).
    pub http2: bool,
    /// TLS at the TCP addresses; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// The largest request head, in bytes.
    pub max_head: usize,
    pub timeouts: Timeouts,
    /// One permit for each connection that may be open.
    pub permits: Arc<Semaphore>,
    pub stop: Stop,
    pub workers: Workers,
    /// The tasks of the connections, for the drain to wait for.
    pub connections: TaskTracker,
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Counts a connection that is refused, or cut for this reason.
    pub(super) fn count_refused(&self, cut: Cut) {
        self.metrics.connections_refused.with_label_values(&[self.name, cut.as_str()]).inc();
    }
}

/// The two steps in which a listener stops.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Cancelled when no further connections are accepted.
    pub accepting: CancellationToken,
    /// Cancelled when connections are to end as soon as they are idle.
    pub closing: CancellationToken,
}
