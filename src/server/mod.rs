//! Sockets to requests: the accept loop, connection limits, drain.
//!
//! Read next: [`socket`] for how an address becomes a socket, [`connection`] for what one connection may do and for
//! how long.

mod bell;
pub mod connection;
pub mod cut;
pub mod files;
mod protocol;
mod pumped;
pub mod refusal;
pub mod socket;
mod watch;
pub mod workers;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::serve_connection;
use self::cut::Timeouts;
use self::socket::Socket;
use self::workers::Workers;
use crate::caller::Caller;
use crate::telemetry::metrics::{Counted, Metrics};

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static;

    /// Answers one request. A connection keeps room for the future even while it is idle: that it can be moved says that
    /// it is small, and the rest of it in a box.
    fn handle(
        &self,
        request: Request<Incoming>,
        caller: Caller,
    ) -> impl Future<Output = Response<Self::Body>> + Send + Unpin;
}

/// One kind of listener: what it allows, when it stops, and what it shares over all its addresses.
#[derive(Clone)]
pub struct Listener {
    /// Its name in metrics, logs and the configuration.
    pub name: &'static str,
    /// Whether HTTP/2 is spoken with callers that begin with its preface (RFC 9113, 3.3).
    pub http2: bool,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// How long a connection may take for what.
    pub timeouts: Timeouts,
    /// One for each connection that may be open.
    pub places: Arc<Semaphore>,
    /// When it stops.
    pub stop: Stop,
    /// Who serves the connections.
    pub workers: Workers,
    /// The connections, for the drain to wait for.
    pub connections: TaskTracker,
    /// What is measured.
    pub metrics: Arc<Metrics>,
}

/// When a listener stops.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// No new connections.
    pub accepting: CancellationToken,
    /// Connections end as soon as they are idle.
    pub closing: CancellationToken,
}

impl Listener {
    /// Accepts connections until told to stop, and serves each in a task of its own.
    pub async fn serve<H: Handler>(self, socket: Arc<Socket>, handler: H) {
        let farewells = Arc::new(Semaphore::new(files::room_beside(FAREWELLS)));
        let mut silent_until = None;
        let mut late = 0_u32;
        let refused = |reason| self.metrics.connections_refused.with_label_values(&[self.name, reason]);
        loop {
            // Whoever had connected before it was told to stop is still served.
            let accepted = tokio::select! {
                biased;
                accepted = socket.accept(), if late < LATE => accepted,
                () = self.stop.accepting.cancelled() => return,
            };
            if self.stop.accepting.is_cancelled() {
                late = late.saturating_add(1);
            }
            let (stream, caller) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be closed.
                    if silent_until.is_none_or(|until| until <= Instant::now()) {
                        tracing::warn!(listener = self.name, %error, "cannot accept connections");
                        silent_until = Instant::now().checked_add(SILENCE);
                    }
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                refused("limit").inc();
                // Beyond these it is closed without a word: a full house must not take memory either.
                if let Ok(place) = Arc::clone(&farewells).try_acquire_owned() {
                    self.connections.spawn(async move {
                        let _ = timeout(FAREWELL, refusal::turn_away(stream)).await;
                        drop(place);
                    });
                }
                continue;
            };
            let (handler, listener) = (handler.clone(), self.clone());
            self.workers.spawn(&self.connections, stream, move |stream| async move {
                let _open = Counted::begin(listener.metrics.connections.with_label_values(&[listener.name]));
                if let Err(cut) = serve_connection(stream, caller, handler, &listener).await {
                    let labels = [listener.name, cut.as_str()];
                    listener.metrics.connections_refused.with_label_values(&labels).inc();
                }
                drop(place);
            });
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

// As many as may have been in the queue of the socket.
const LATE: u32 = 1024;

// Between two lines that say that connections cannot be accepted.
const SILENCE: Duration = Duration::from_secs(10);

// Connections over the limit that are told so at the same time, and how long that may take.
const FAREWELLS: usize = 64;
const FAREWELL: Duration = Duration::from_secs(1);
