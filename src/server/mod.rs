//! From sockets to requests: the accept loop, connection limits, drain.
//!
//! Read next: [`socket`] opens the listening sockets, [`connection`] serves one connection under deadlines.

mod caller_certificate;
pub mod connection;
pub mod cut;
pub mod files;
mod handshake;
mod listener;
mod phase;
mod protocol;
mod pumped;
pub mod refusal;
pub mod socket;
pub mod tls;
mod wake_flag;
mod watch;
pub mod workers;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::either::Either;

use self::connection::serve_connection;
use self::cut::Cut;
pub use self::listener::{Handler, Listener, Request, Stop};
use self::socket::{Socket, Stream};
use crate::telemetry::metrics::Counted;

impl Listener {
    /// Accepts connections until `stop.accepting` is cancelled, and serves each in a task of its own.
    pub async fn serve<H: Handler>(self, socket: Arc<Socket>, handler: H) {
        let refusals = Arc::new(Semaphore::new(files::room_beside(MAX_REFUSALS)));
        let mut silent_until = None;
        let mut late = 0_u32;
        loop {
            // Callers that had connected before the stop are still served.
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
                    // The process has probably run out of file descriptors: wait for some to be closed.
                    if silent_until.is_none_or(|until| until <= Instant::now()) {
                        tracing::warn!(listener = self.name, %error, "the listener cannot accept connections");
                        silent_until = Instant::now().checked_add(LOG_INTERVAL);
                    }
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                self.refuse(stream, &refusals);
                continue;
            };
            let (handler, listener) = (handler.clone(), self.clone());
            self.workers.spawn(&self.connections, stream, move |stream| async move {
                let _open = Counted::begin(listener.metrics.connections.with_label_values(&[listener.name]));
                if let Err(cut) = serve_connection(stream, caller, handler, &listener).await {
                    listener.count_refused(cut);
                }
                drop(permit);
            });
        }
    }

    /// Answers a connection over the limit in a task of its own. Without a permit for such an answer, closes the
    /// connection without one: an overload must not use up memory either.
    fn refuse(&self, stream: Stream, refusals: &Arc<Semaphore>) {
        self.count_refused(Cut::Limit);
        if let Ok(permit) = Arc::clone(refusals).try_acquire_owned() {
            let listener = self.clone();
            self.connections.spawn(async move {
                let _ = timeout(REFUSAL_TIMEOUT, listener.turn_away(stream)).await;
                drop(permit);
            });
        }
    }

    /// Answers a connection over the limit, over TLS if its caller speaks TLS.
    async fn turn_away(&self, stream: Stream) -> io::Result<()> {
        match (&self.tls, stream) {
            (Some(tls), Either::Left(stream)) => match Box::pin(handshake::accept_to_refuse(tls, stream, self)).await {
                Ok(Some(connection)) => refusal::turn_away(connection).await,
                Ok(None) | Err(_) => Ok(()),
            },
            (_, stream) => refusal::turn_away(Either::Left(stream)).await,
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

// The length of the socket's accept queue.
const LATE: u32 = 1024;

// Time between two log lines about failing accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

// Connections over the limit that are answered at the same time, and the time for such an answer.
const MAX_REFUSALS: usize = 64;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
