//! Sockets: accepts connections, serves HTTP/1.1 on them and ends them as a rule asks. HTTP/2 is in `http2`.
//!
//! One task accepts connections, each connection has a task, and each request has one. All tasks are tracked and end
//! when `stopping` is cancelled. Nothing waits for their results.

use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::idle::Load;
use super::payload::ConnectionEnd;
use super::shared::Core;
use super::socket::{HANDSHAKE_TIMEOUT, Socket};
use super::{exchange, http2};

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
            // Usually the process has no file descriptors left. Some may be closed after a pause.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(core: Arc<Core>, number: usize, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // With Nagle's algorithm, small answers would wait for the peer's acknowledgement.
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

async fn serve<S: Socket>(core: Arc<Core>, number: usize, stream: S) {
    let (requests, load) = (AtomicUsize::new(0), Load::default());
    let service = service_fn(|request| {
        let reused = requests.fetch_add(1, Ordering::SeqCst) > 0;
        Box::pin(exchange::run(core.clone(), number, reused, load.begin(), request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The gateway's own clock goes into `Date`.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let result = select! {
        result = poll_fn(|context| connection.poll_without_shutdown(context)) => result,
        () = load.idle_too_long(|| core.idle_timeout()) => Ok(()),
    };
    let stream = connection.into_parts().io.into_inner();
    let connection_end = result.as_ref().err().and_then(|error| error.source()?.downcast_ref::<ConnectionEnd>());
    match connection_end {
        Some(ConnectionEnd::Reset) => stream.reset(),
        Some(ConnectionEnd::Raw(pieces)) => stream.send(pieces).await,
        Some(ConnectionEnd::Close) | None => stream.close().await,
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
