//! Makes connections to the gateway: name resolution, TCP and TLS under one deadline, and a limited life.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::certificate::Certificate;
use super::egress::{EgressProxy, MaybeTunnel};
use super::error::{ConnectTimeout, ErrorKind, UpstreamError};
use crate::clock::{Clock, Mono};
use crate::names::Resolver;
use crate::telemetry::metrics::{Counted, Metrics};

#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<MaybeTunnel<HttpConnector<Resolver>>>,
    limit: Duration,
    /// Learns of failed connections, so that names are resolved anew.
    resolver: Resolver,
    pub(super) http2: bool,
    /// An ignored environment variable that names trusted certificates. Taken when the warning about it is logged.
    unfollowed: Arc<Mutex<Option<&'static str>>>,
    certificate: SeenCertificate,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The certificate that a peer, such as the gateway in the last handshake, has shown. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SeenCertificate(Arc<ArcSwapOption<Certificate>>);

impl SeenCertificate {
    /// `None` before the first handshake, and without TLS.
    pub fn get(&self) -> Option<Arc<Certificate>> {
        self.0.load_full()
    }

    fn note(&self, connection: &GatewayConnection) {
        let shown = connection.tls().and_then(|tls| tls.peer_certificates()?.first());
        if let Some(certificate) = shown.and_then(|der| Certificate::read(der)) {
            self.set(certificate);
        }
    }

    pub fn set(&self, certificate: Certificate) {
        self.0.store(Some(Arc::new(certificate)));
    }
}

pub struct Options {
    pub tls: rustls::ClientConfig,
    /// An environment variable that names trusted certificates, if one is set. Such variables are ignored, and a
    /// warning says so when a certificate is not trusted.
    pub unfollowed: Option<&'static str>,
    /// Resolves the gateway's name, or the proxy's.
    pub resolver: Resolver,
    /// Time limit for TCP alone, for each address family separately. With TLS, and with a tunnel before it, a
    /// connection may take 3 s more, but never more than 5 s in all.
    pub tcp: Duration,
    pub egress: Option<EgressProxy>,
    /// Whether HTTP/2 is offered; the gateway chooses the protocol.
    pub http2: bool,
}

impl Connector {
    pub fn new(options: Options, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let Options { tls, unfollowed, resolver, tcp, egress, http2 } = options;
        let limit = tcp.saturating_add(TLS_TIMEOUT).min(CONNECT_TIMEOUT);
        let tunnel = MaybeTunnel::new(sockets(resolver.clone(), tcp), egress, limit);
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let inner = if http2 { https.enable_http2().wrap_connector(tunnel) } else { https.wrap_connector(tunnel) };
        Self {
            inner,
            limit,
            resolver,
            http2,
            unfollowed: Arc::new(Mutex::new(unfollowed)),
            certificate: SeenCertificate::default(),
            clock,
            metrics,
        }
    }

    /// Connects to the gateway, given by its scheme and authority.
    /// [`super::error::UpstreamError::from_connecting`] reads the error.
    pub async fn connect(&self, gateway: Uri) -> Result<GatewayConnection, BoxError> {
        let mut inner = self.inner.clone();
        let connect = async {
            poll_fn(|context| inner.poll_ready(context)).await?;
            inner.call(gateway).await
        };
        let made = timeout(self.limit, connect).await.unwrap_or_else(|_| Err(ConnectTimeout(self.limit).into()));
        let io = made.inspect_err(|error| self.note_failure(error.as_ref()))?;
        self.metrics.upstream_connections_opened.inc();
        let open = Counted::begin(self.metrics.upstream_connections.with_label_values(&["open"]));
        // Randomised, so that connections that were opened together are not replaced together.
        let lifetime = MAX_AGE.mul_f64(0.8 + 0.4 * fastrand::f64());
        let made = self.clock.mono();
        let lifetime = ConnectionLifetime { made, retire: made.plus(lifetime) };
        let connection = GatewayConnection { io, lifetime, _open: open };
        self.certificate.note(&connection);
        Ok(connection)
    }

    /// The certificate that the gateway showed in the last handshake.
    pub fn certificate(&self) -> SeenCertificate {
        self.certificate.clone()
    }

    /// Lets the name be resolved anew, as its addresses may be wrong. If an ignored environment variable may explain an
    /// untrusted certificate, warns of that once.
    fn note_failure(&self, error: &(dyn std::error::Error + 'static)) {
        let kind = UpstreamError::from_connecting(error).kind;
        if kind != ErrorKind::Dns {
            self.resolver.note_failure();
        }
        if kind == ErrorKind::TlsCertificate
            && let Some(variable) = self.unfollowed.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            tracing::warn!(
                "the sidecar does not trust a certificate, and ignores {variable}, which is set: use gateway.ca_file"
            );
        }
    }
}

/// Makes TCP connections. Both address families are tried, and each address gets a share of its family's time. An
/// address that does not answer delays the other family only by the head start.
fn sockets<R>(resolver: R, limit: Duration) -> HttpConnector<R> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_connect_timeout(Some(limit));
    http.set_happy_eyeballs_timeout(Some(HEAD_START));
    http.set_nodelay(true);
    http.set_keepalive(Some(TCP_KEEPALIVE));
    http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    http
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

// A short limit, since a failed attempt is safe to repeat: nothing was sent yet.
const TLS_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
// The head start of the address family that the resolver prefers, as RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);
// Detects a peer that vanished behind a NAT before the next request does.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
// A pooled connection stays with the address that was resolved for it. Once it is retired, the next one follows the
// name.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// The beginning and the end of a connection's use.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLifetime {
    pub made: Mono,
    /// The time from which the connection carries no further request.
    pub retire: Mono,
}

/// A connection to the gateway, counted while it is open.
#[derive(Debug)]
pub struct GatewayConnection {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    pub(super) lifetime: ConnectionLifetime,
    _open: Counted,
}

impl GatewayConnection {
    /// The TLS session; `None` for a connection without TLS.
    pub(super) fn tls(&self) -> Option<&rustls::ClientConnection> {
        match &self.io {
            MaybeHttpsStream::Http(_) => None,
            MaybeHttpsStream::Https(stream) => Some(stream.inner().get_ref().1),
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.tls().is_some_and(|tls| tls.alpn_protocol() == Some(b"h2"))
    }
}

impl Read for GatewayConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for GatewayConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bytes {
            // A request without a body is a head alone, which the kernel takes faster in a plain write.
            [head] => Pin::new(&mut self.io).poll_write(context, head),
            _ => Pin::new(&mut self.io).poll_write_vectored(context, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper_util::client::legacy::connect::dns::Name;
    use tokio::time::Instant;

    use super::*;

    /// A resolver that returns these lists of addresses, one after the other.
    #[derive(Clone)]
    struct Names {
        answers: Arc<Vec<Vec<SocketAddr>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Service<Name> for Names {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let answer = self.answers.get(self.asked.fetch_add(1, Ordering::SeqCst)).cloned().unwrap_or_default();
            std::future::ready(Ok(answer.into_iter()))
        }
    }

    /// Connects once for each list of addresses. The name has no port, so the addresses' own ports count.
    async fn reached(limit: Duration, answers: &[&[SocketAddr]]) -> Vec<io::Result<SocketAddr>> {
        let asked = Arc::new(AtomicUsize::new(0));
        let all = Arc::new(answers.iter().map(|answer| answer.to_vec()).collect());
        let mut sockets = sockets(Names { answers: all, asked: Arc::clone(&asked) }, limit);
        let mut reached = Vec::new();
        for _ in answers {
            let connected = sockets.call(Uri::from_static("https://gateway.test")).await;
            reached.push(match connected {
                Ok(stream) => stream.into_inner().peer_addr(),
                Err(error) => Err(io::Error::other(error)),
            });
        }
        assert_eq!(asked.load(Ordering::SeqCst), answers.len(), "the name is resolved for each connection");
        reached
    }

    fn listener(address: &str) -> Option<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind((address, 0)).ok()?;
        let address = listener.local_addr().ok()?;
        Some((listener, address))
    }

    /// A port that nobody listens on.
    fn closed(address: &str) -> Option<SocketAddr> {
        listener(address).map(|(_, address)| address)
    }

    /// A port that does not answer, because its queue is full. The second value keeps the queue full.
    fn silent(address: &str) -> Option<(SocketAddr, impl Sized)> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(format!("{address}:0").parse().ok()?),
            socket2::Type::STREAM,
            None,
        )
        .ok()?;
        socket.bind(&format!("{address}:0").parse::<SocketAddr>().ok()?.into()).ok()?;
        socket.listen(0).ok()?;
        let address = socket.local_addr().ok()?.as_socket()?;
        let mut queue = Vec::new();
        for _ in 0..16 {
            match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Some((address, (socket, queue))),
                Err(_) => return None,
            }
        }
        None
    }

    #[tokio::test]
    async fn each_connection_follows_the_name() {
        let ((_a, a), (_b, b)) = (listener("127.0.0.1").expect("v4"), listener("127.0.0.1").expect("v4"));
        let reached = reached(Duration::from_secs(2), &[&[a], &[b], &[]]).await;
        assert_eq!(
            reached.iter().map(|address| address.as_ref().ok().copied()).collect::<Vec<_>>(),
            [Some(a), Some(b), None]
        );
    }

    #[tokio::test]
    #[expect(clippy::print_stderr, reason = "what was not tried must not look as if it had been")]
    async fn an_address_that_refuses_or_hangs_does_not_keep_from_the_next() {
        let (_v4, v4) = listener("127.0.0.1").expect("v4");
        let closed_v4 = closed("127.0.0.1").expect("v4");
        let mut lists = vec![vec![closed_v4, v4]];
        let v6 = listener("::1").zip(closed("::1"));
        match &v6 {
            Some(((_, v6), closed_v6)) => {
                lists.extend([vec![*closed_v6, v4], vec![closed_v4, *v6], vec![*closed_v6, closed_v4, v4]]);
            }
            None => eprintln!("not tried: ::1, which this machine does not have"),
        }
        let hanging = [silent("127.0.0.1"), silent("[::1]")];
        for found in &hanging {
            match found {
                Some((address, _)) => lists.push(vec![*address, v4]),
                None => eprintln!("not tried: an address that hangs, which cannot be made here"),
            }
        }
        for list in &lists {
            let began = Instant::now();
            let reached = reached(Duration::from_secs(2), &[list]).await;
            let last = list.last().copied();
            assert_eq!(reached.first().and_then(|reached| reached.as_ref().ok()).copied(), last, "{list:?}");
            assert!(began.elapsed() < Duration::from_millis(1900), "{list:?}: {:?}", began.elapsed());
        }
    }
}
