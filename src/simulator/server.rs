//! Sockets: accepts connections, serves HTTP/1.1 on them and ends them in the ways a rule asks for. HTTP/2 is in `http2`.
//!
//! One task accepts, one serves each connection and one runs each request. All of them are tracked and end when `stopping` is
//! cancelled; nothing waits for their results.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::simulator::idle::{Busy, Load};
use crate::simulator::payload::{Payload, Piece};
use crate::simulator::{Core, exchange, http2};

/// Accepts until the simulator stops.
pub(super) async fn accept(core: Arc<Core>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let Some(accepted) = core.stopping.run_until_cancelled(listener.accept()).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let number = core.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let connection = connection(core.clone(), number, stream, tls.clone());
                let stopping = core.stopping.clone();
                core.tasks.spawn(async move { stopping.run_until_cancelled(connection).await });
            }
            // Usually out of file descriptors: wait for some to be closed.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(core: Arc<Core>, number: usize, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // Without it small answers wait for the peer's acknowledgement.
    let _ = stream.set_nodelay(true);
    match tls {
        None if core.http2 && http2::announced(&stream).await => http2::serve(core, number, stream).await,
        None => serve(core, number, stream).await,
        Some(tls) => {
            let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else { return };
            match stream.get_ref().1.alpn_protocol() {
                Some(http2::PROTOCOL) => http2::serve(core, number, stream).await,
                _ => serve(core, number, stream).await,
            }
        }
    }
}

/// Runs a request in a task of its own, so that its effect at the gateway does not depend on its caller's patience.
pub(super) async fn run(
    core: Arc<Core>,
    number: usize,
    reused: bool,
    busy: Busy,
    request: Request<Incoming>,
) -> Result<Response<Payload>, ConnectionEnd> {
    let task = core.tasks.spawn({
        let core = core.clone();
        async move {
            let exchange = exchange::run(&core, number, reused, request);
            core.stopping.run_until_cancelled(exchange).await.unwrap_or(Err(ConnectionEnd::Close))
        }
    });
    let response = task.await.unwrap_or(Err(ConnectionEnd::Close))?;
    Ok(response.map(|payload| payload.busy(busy)))
}

async fn serve<S: Socket>(core: Arc<Core>, number: usize, stream: S) {
    let (requests, load) = (AtomicUsize::new(0), Load::default());
    let service = service_fn(|request| {
        let reused = requests.fetch_add(1, Ordering::SeqCst) > 0;
        Box::pin(run(core.clone(), number, reused, load.begin(), request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The gateway's own clock goes into `Date`.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let result = select! {
        result = poll_fn(|context| connection.poll_without_shutdown(context)) => result,
        () = load.idle_too_long(&core) => Ok(()),
    };
    let stream = connection.into_parts().io.into_inner();
    let connection_end = result.as_ref().err().and_then(|error| error.source()?.downcast_ref::<ConnectionEnd>());
    match connection_end {
        Some(ConnectionEnd::Reset) => stream.reset(),
        Some(ConnectionEnd::Raw(pieces)) => stream.send(pieces).await,
        Some(ConnectionEnd::Close) | None => stream.close().await,
    }
}

/// How a connection ends when a request gets no answer. Travels through hyper as the service's error.
#[derive(Clone, Debug)]
pub(super) enum ConnectionEnd {
    Close,
    Reset,
    /// Sends these pieces past HTTP, then closes.
    Raw(Vec<Piece>),
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule ends the connection")
    }
}

impl Error for ConnectionEnd {}

/// A plain or an encrypted stream, with the socket below it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    fn tcp(&self) -> &TcpStream;

    /// Throws away what is unsent and makes the peer see a reset.
    fn reset(self) {
        let _ = self.tcp().set_zero_linger();
    }

    async fn send(mut self, pieces: &[Piece]) {
        for piece in pieces {
            sleep(piece.wait).await;
            if self.write_all(&piece.bytes).await.is_err() {
                return;
            }
        }
        self.close().await;
    }

    async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.shutdown()).await;
    }
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Long enough for a busy machine, short enough that a silent peer does not hold its socket.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
