//! Sockets to requests: addresses, the accept loop, connection limits, drain.
//!
//! Read next: [`connection`] for what one connection may do and for how long.

pub mod connection;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Timeouts, serve_connection};
use crate::telemetry::log::new_request_id;
use crate::telemetry::metrics::{Counted, Metrics};

/// Answers requests. `local` is the address the caller connected to.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        local: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// One kind of listener: what it allows, when it stops, and what it shares over all its addresses.
#[derive(Clone)]
pub struct Listener {
    /// Its name in metrics, logs and the configuration.
    pub name: &'static str,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// How long a connection may take for what.
    pub timeouts: Timeouts,
    /// One for each connection that may be open.
    pub places: Arc<Semaphore>,
    /// When it stops.
    pub stop: Stop,
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

/// A socket could not be opened for listening.
#[derive(Debug, thiserror::Error)]
#[error("{listener}.listen: cannot listen on {address}: {cause}")]
pub struct BindError {
    listener: &'static str,
    address: SocketAddr,
    cause: io::Error,
}

/// Opens every address. One of a family that this machine lacks is skipped with a warning, as long as another is left.
///
/// # Errors
/// When an address is in use or may not be used, or none is left.
pub fn bind(listener: &'static str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    let mut skipped = None;
    for &address in addresses {
        match open(address) {
            Ok(socket) => listeners.push(socket),
            Err(cause) if family_is_missing(&cause, address.ip()) => {
                tracing::warn!(listener, %address, %cause, "this machine lacks the address family; skipped");
                skipped = Some(BindError { listener, address, cause });
            }
            Err(cause) => return Err(BindError { listener, address, cause }),
        }
    }
    match skipped {
        Some(error) if listeners.is_empty() => Err(error),
        Some(_) | None => Ok(listeners),
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be listened on.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections to time out. On Linux a second listener is refused all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 1024;

fn family_is_missing(error: &io::Error, address: IpAddr) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT)
        || (address.is_ipv6() && address.is_loopback() && error.kind() == io::ErrorKind::AddrNotAvailable)
}

impl Listener {
    /// Accepts connections until told to stop, and serves each in a task of its own.
    pub async fn serve<H: Handler>(self, socket: TcpListener, handler: H) {
        let farewells = Arc::new(Semaphore::new(FAREWELLS));
        let refused = |reason| self.metrics.connections_refused.with_label_values(&[self.name, reason]);
        loop {
            let accepted = tokio::select! {
                () = self.stop.accepting.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be closed.
                    tracing::warn!(listener = self.name, %error, "cannot accept connections");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                refused("limit").inc();
                // Beyond these it is closed without a word: a full house must not take memory either.
                if let Ok(place) = Arc::clone(&farewells).try_acquire_owned() {
                    self.connections.spawn(async move {
                        let _ = timeout(FAREWELL, turn_away(stream)).await;
                        drop(place);
                    });
                }
                continue;
            };
            let (handler, listener) = (handler.clone(), self.clone());
            self.connections.spawn(async move {
                let _open = Counted::begin(listener.metrics.connections.with_label_values(&[listener.name]));
                if let Err(cut) = serve_connection(stream, handler, &listener).await {
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

// Connections over the limit that are told so at the same time, and how long that may take.
const FAREWELLS: usize = 64;
const FAREWELL: Duration = Duration::from_secs(1);

/// Answers a connection for which there is no place, whatever it asks for.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    // Nobody reads the request, so its id is a new one, and no line of the log has it.
    let id = new_request_id();
    let body = format!(
        r#"[{{"code":"sidecar.overloaded","location":"","message":"too many connections; nothing was sent to Sezzle","debug_uuid":"{id}"}}]"#
    );
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\n\
         cache-control: no-store\r\nproxy-status: sezzle-sidecar; error=connection_limit_reached\r\n\
         x-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closed with something unread, the connection would be reset and the answer lost with it.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}
