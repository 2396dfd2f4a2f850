//! Connections to the gateway: name resolution, TCP and TLS under one deadline, and an end to their life.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::egress::{EgressProxy, Way};
use super::error::{ConnectTimeout, DnsError};
use crate::clock::{Clock, Mono};
use crate::telemetry::metrics::{Counted, Metrics};

/// Makes connections for hyper-util's client.
#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<Way<HttpConnector<Resolver>>>,
    limit: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Connector {
    /// `tcp` bounds TCP alone; with TLS, and a tunnel before it, it may take 3 s more, and never more than 5 s in all.
    pub fn new(
        tls: rustls::ClientConfig,
        tcp: Duration,
        egress: Option<EgressProxy>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let limit = tcp.saturating_add(TLS_LIMIT).min(CONNECT_LIMIT);
        let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        http.enforce_http(false);
        http.set_connect_timeout(Some(tcp));
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let inner = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Way::new(http, egress, limit));
        Self { inner, limit, clock, metrics }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = GatewayConnection;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<GatewayConnection, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, gateway: Uri) -> Self::Future {
        let Self { mut inner, limit, clock, metrics } = self.clone();
        Box::pin(async move {
            let connect = async move {
                poll_fn(|context| inner.poll_ready(context)).await?;
                inner.call(gateway).await
            };
            let io = timeout(limit, connect).await.map_err(|_| ConnectTimeout(limit))??;
            metrics.upstream_connections_opened.inc();
            let open = Counted::begin(metrics.upstream_connections.with_label_values(&["open"]));
            // Spread, so that connections opened together are not replaced together.
            let life = MAX_AGE.mul_f64(0.8 + 0.4 * fastrand::f64());
            Ok(GatewayConnection { io, retire: RetireAt(clock.now().mono.plus(life)), _open: open })
        })
    }
}

// Fails fast and is safe to try again: nothing was sent yet.
const TLS_LIMIT: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
// Finds a peer that vanished behind a NAT before the next request does.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
// A pooled connection pins the address that was resolved for it; retired, the next one follows the name.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// When a connection is to carry no further request. Found in the extensions of each answer it carried.
#[derive(Clone, Copy, Debug)]
pub struct RetireAt(pub Mono);

/// A connection to the gateway, counted while it is open.
pub struct GatewayConnection {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    retire: RetireAt,
    _open: Counted,
}

impl Connection for GatewayConnection {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.retire)
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
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }
}

/// The system's resolver, with an error that can be told from others.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, DnsError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        self.0.poll_ready(context).map_err(DnsError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.0.call(name);
        Box::pin(async move { resolving.await.map_err(DnsError) })
    }
}
