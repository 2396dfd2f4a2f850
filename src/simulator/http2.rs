//! HTTP/2 on the simulator's connections: by ALPN over TLS, and by prior knowledge without TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::select;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::exchange;
use super::idle::Load;
use super::payload::ConnectionEnd;
use super::shared::Core;
use super::socket::{HANDSHAKE_TIMEOUT, Socket};

/// The configuration of TLS, which offers HTTP/2 before HTTP/1.1 if `http2` is set.
pub(super) fn offer(mut tls: Arc<ServerConfig>, http2: bool) -> Arc<ServerConfig> {
    if http2 {
        Arc::make_mut(&mut tls).alpn_protocols = vec![PROTOCOL.to_vec(), b"http/1.1".to_vec()];
    }
    tls
}

/// Whether the peer of a plain connection begins with the preface of HTTP/2. A silent peer counts as one of HTTP/1.1.
pub(super) async fn announced(stream: &TcpStream) -> bool {
    let look = async {
        let mut begin = [0; PREFACE.len()];
        loop {
            let seen = stream.peek(&mut begin).await.unwrap_or(0);
            let seen = begin.get(..seen).unwrap_or_default();
            if seen.is_empty() || seen.len() == PREFACE.len() || !PREFACE.starts_with(seen) {
                return seen == PREFACE;
            }
            // The first bytes stay readable, so only waiting can show whether more have come.
            sleep(PEEK_PAUSE).await;
        }
    };
    timeout(HANDSHAKE_TIMEOUT, look).await.unwrap_or(false)
}

/// Serves until the peer is done or a rule closes the connection. A rule's reset ends only its stream.
pub(super) async fn serve<S: Socket>(core: Arc<Core>, number: usize, stream: S) {
    let (requests, load) = (AtomicUsize::new(0), Load::default());
    let closing = CancellationToken::new();
    let service = service_fn(|request| {
        let reused = requests.fetch_add(1, Ordering::SeqCst) > 0;
        let (core, closing, busy) = (core.clone(), closing.clone(), load.begin());
        async move {
            let result = exchange::run(core, number, reused, busy, request).await;
            if matches!(result, Err(ConnectionEnd::Close | ConnectionEnd::Raw(_))) {
                closing.cancel();
            }
            result
        }
    });
    let connection = http2::Builder::new(Tracked(core.clone()))
        .timer(TokioTimer::new())
        // The gateway's own clock goes into `Date`.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    select! {
        // The peer or a rule has caused the error.
        _ = connection => {}
        () = closing.cancelled() => {}
        () = load.idle_too_long(|| core.idle_timeout()) => {}
    }
}

/// Spawns hyper's tasks where `stop` finds them.
#[derive(Clone)]
struct Tracked(Arc<Core>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, task: F) {
        let stopping = self.0.stopping.clone();
        self.0.tasks.spawn(async move { stopping.run_until_cancelled(task).await.is_some() });
    }
}

/// The name of HTTP/2 in ALPN.
pub(super) const PROTOCOL: &[u8] = b"h2";
/// The beginning of the preface, with which no request of HTTP/1.1 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
const PEEK_PAUSE: Duration = Duration::from_millis(1);
