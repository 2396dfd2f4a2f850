//! The way out: one gateway, a pool of connections to it, a deadline for every wait.
//!
//! This module sends what it is given and says how that went. It adds no credential and repeats nothing by itself;
//! only hyper-util's client does, when a pooled connection had closed before a byte was written.

pub mod body;
pub mod breaker;
pub mod certificate;
pub mod connector;
pub mod egress;
pub mod error;
pub mod probe;
pub mod quiet;
pub mod retry;
pub mod retry_after;
pub mod tls;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus::{IntCounter, IntGauge};
use tokio::time::timeout;

use self::body::GatewayBody;
use self::connector::{Connector, Life};
use self::error::{ErrorKind, UpstreamError};
use crate::clock::Clock;
use crate::telemetry::metrics::{Counted, Metrics, code_label, method_label};
use crate::worker::PerWorker;

/// The one gateway requests are sent to.
#[derive(Clone)]
pub struct Upstream {
    /// A pool is of one worker: another's connection would have to be woken on another thread.
    clients: Arc<PerWorker<Client<Connector, Full<Bytes>>>>,
    scheme: Scheme,
    authority: Authority,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Every request counts in the first, and may in the second.
    active: IntGauge,
    broken_off: IntCounter,
}

/// A request to the gateway. The body is whole, so that it can be sent again where that is allowed.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: PathAndQuery,
    /// The headers, without `Host`, which follows from the gateway's address.
    pub headers: HeaderMap,
    /// The content.
    pub body: Bytes,
    /// How long it may take.
    pub deadlines: Deadlines,
    /// For metrics: the route's template and class.
    pub route: &'static str,
    /// For metrics.
    pub class: &'static str,
}

/// Whether an answer came over a connection that was open before its request. Found in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Reused(pub bool);

/// What the sidecar calls itself in `User-Agent`.
pub const PRODUCT: &str = concat!("sezzle-sidecar/", env!("CARGO_PKG_VERSION"));

/// The headers of a request that is the sidecar's own and no caller's.
pub fn own_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (USER_AGENT, HeaderValue::from_static(PRODUCT)),
    ])
}

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Until the head of the answer.
    pub head: Duration,
    /// All waits for the answer's body together.
    pub body: Duration,
}

/// The gateway's address is not usable.
#[derive(Debug, thiserror::Error)]
#[error("{0}: not a gateway address")]
pub struct AddressError(pub String);

impl Upstream {
    /// `url` is a scheme and an authority. Each of the `workers` has a pool of its own.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(
        url: &str,
        connector: Connector,
        workers: usize,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AddressError> {
        let refused = || AddressError(url.to_owned());
        let parts = url.parse::<Uri>().map_err(|_| refused())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refused()) };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_MAX_IDLE / workers.max(1))
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_buf_size(MAX_ANSWER_HEAD)
            .http2_max_header_list_size(HTTP2_HEADER_LIST)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT);
        let clients = Arc::new(PerWorker::new(workers, || builder.build(connector.clone())));
        let active = metrics.upstream_connections.with_label_values(&["active"]);
        let broken_off = metrics.upstream_errors.with_label_values(&[ErrorKind::Body.as_str()]);
        Ok(Self { clients, scheme, authority, clock, metrics, active, broken_off })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When there was none, with what is known of why and of whether anything was sent.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Response<GatewayBody>, UpstreamError> {
        let Outgoing { method, target, headers, body, deadlines, route, class } = outgoing;
        let method_name = method_label(&method);
        let active = Counted::begin(self.active.clone());
        let began = self.clock.mono();

        let sent_bytes = body.len();
        let mut request = self.request(method, target, headers, body)?;
        let connection = capture_connection(&mut request);
        let sent = timeout(deadlines.head, self.clients.own().request(request)).await;
        let answer = match sent {
            // Nobody asked for another protocol, and it is no answer to the request.
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(UpstreamError {
                kind: ErrorKind::Protocol,
                sent: error::Sent::Maybe,
                detail: "101 without an upgrade".to_owned(),
            }),
            // Nor did anybody ask for a coding, which the rest of the way would drop from the headers and not from the body.
            Ok(Ok(response)) if is_coded(response.headers()) => Err(UpstreamError {
                kind: ErrorKind::Protocol,
                sent: error::Sent::Maybe,
                detail: "a transfer coding other than chunked".to_owned(),
            }),
            Ok(Ok(response)) => Ok(response),
            // A request that was never given to a connection was not sent, whatever the error says.
            Ok(Err(error)) if connection.connection_metadata().is_none() => {
                Err(UpstreamError { sent: error::Sent::No, ..UpstreamError::from_client(&error) })
            }
            Ok(Err(error)) => Err(UpstreamError::from_client(&error)),
            Err(_) if connection.connection_metadata().is_none() => Err(UpstreamError {
                kind: ErrorKind::ConnectTimeout,
                sent: error::Sent::No,
                detail: format!("no connection within {:?}", deadlines.head),
            }),
            Err(_) => Err(UpstreamError::timeout(format!("no answer within {:?}", deadlines.head))),
        };
        let now = self.clock.mono();
        self.metrics.upstream_duration.with_label_values(&[class]).observe(now.since(began).as_secs_f64());
        let mut response = answer.inspect_err(|error| {
            self.metrics.upstream_errors.with_label_values(&[error.kind.as_str()]).inc();
            // Over HTTP/2 it stays open for the other calls; if it is dead, no further one must wait for it.
            if error.kind == ErrorKind::Timeout {
                retire(&connection);
            }
        })?;

        let code = code_label(response.status());
        self.metrics.upstream_requests.with_label_values(&[route, method_name, code]).inc();
        // Of two framings the chunks count; the length must go no further, and neither the connection (RFC 9112, 6.3).
        let in_doubt = response.headers().contains_key(TRANSFER_ENCODING)
            && response.headers_mut().remove(CONTENT_LENGTH).is_some();
        // An answer that came before the request had been read: what is left of it may never be.
        let early = sent_bytes > UNREAD && !response.status().is_success();
        // It may be idle for so long before its next request, which must not find it too old.
        let life = response.extensions().get::<Life>().copied();
        let old = life.is_some_and(|life| now.plus(POOL_IDLE) >= life.retire);
        if in_doubt || early || old {
            retire(&connection);
        }
        if let Some(life) = life {
            response.extensions_mut().insert(Reused(life.made < began));
        }
        Ok(response.map(|body| GatewayBody::new(body, BODY_SILENCE, deadlines.body, self.broken_off.clone(), active)))
    }

    fn request(
        &self,
        method: Method,
        target: PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|error| UpstreamError {
                kind: ErrorKind::Protocol,
                sent: error::Sent::No,
                detail: error.to_string(),
            })?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn is_coded(headers: &HeaderMap) -> bool {
    headers.get_all(TRANSFER_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// Keeps a connection from being given another request. Those it has go on.
fn retire(connection: &CaptureConnection) {
    if let Some(connected) = &*connection.connection_metadata() {
        connected.poison();
    }
}

// Shorter than the keep-alive of any load balancer in front of a gateway, so that this side closes first.
const POOL_IDLE: Duration = Duration::from_secs(15);
// As many as `limits.in_flight` lets one class of calls have under way, if nobody changed it: a connection that finds no
// place is closed after its answer, and the next call opens another. Idle ones were all in use [`POOL_IDLE`] ago, and what
// is in use has files set aside for it.
const POOL_MAX_IDLE: usize = 512; // Of all workers together.
const MAX_ANSWER_HEAD: usize = 64 * 1024;
const HTTP2_HEADER_LIST: u32 = 64 * 1024;
// What one answer, and all of them together, may leave in memory when callers read slowly. The second is many times the
// first, or a few slow callers would hold up all others.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
// Only while answers are waited for: a gateway may take pings on an idle connection for an attack.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(10);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);
// What a connection surely holds of a request that nobody reads.
const UNREAD: usize = 64 * 1024;
// A report may take minutes; a gateway that sends nothing for this long has stopped.
const BODY_SILENCE: Duration = Duration::from_secs(30);
