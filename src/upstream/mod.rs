//! The way out: one gateway, a pool of connections to it, a deadline for every wait.
//!
//! This module sends what it is given and says how that went. It adds no credential, and repeats nothing but what a
//! connection that had been idle gave back unsent.

pub mod body;
pub mod breaker;
pub mod ca_file;
pub mod certificate;
pub mod channel;
pub mod connector;
pub mod egress;
pub mod error;
pub mod http1;
pub mod http2;
pub mod pool;
pub mod probe;
pub mod quiet;
pub mod retry;
pub mod retry_after;
pub mod tls;
pub mod window;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;

use self::body::{Arrival, GatewayBody, Incoming};
use self::channel::Channel;
use self::connector::Connector;
use self::error::{ErrorKind, Sent, Unanswered, UpstreamError};
use self::pool::{POOL_IDLE, Pool};
use self::retry::reserve;
use crate::clock::{Clock, Mono};
use crate::telemetry::metrics::{Counted, Metrics, Said, UpstreamSeries, method_label};
use crate::worker::PerWorker;

/// The one gateway requests are sent to.
#[derive(Clone)]
pub struct Upstream {
    /// A pool is of one worker: another's connection would have to be woken on another thread.
    own: Arc<PerWorker<Own>>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Every request counts in the first, and may in the second.
    active: IntGauge,
    broken_off: IntCounter,
}

/// What one worker has.
struct Own {
    pool: Pool,
    /// Where HTTP/2 is offered, calls that are answered with reports have connections of their own: a gateway and callers
    /// who read slowly can make h2 end a connection, and that must not be one that carries a capture.
    reports: Option<Pool>,
    series: UpstreamSeries,
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
    /// For metrics: the route's template.
    pub route: Said,
    /// For metrics.
    pub class: Said,
}

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
    /// How much of `head` must be left when the request is sent.
    pub reserve: Duration,
}

impl Deadlines {
    /// For a call that begins now.
    pub fn new(head: Duration, body: Duration) -> Self {
        Self { head, body, reserve: reserve(head) }
    }
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
        let gateway = url.parse::<Uri>().map_err(|_| refused())?;
        let host = host(&gateway).ok_or_else(refused)?;
        let max_idle = POOL_MAX_IDLE / workers.max(1);
        let own = Arc::new(PerWorker::new(workers, || {
            let (gateway, waiting) = (gateway.clone(), metrics.upstream_waiting.clone());
            let pool = || Pool::new(connector.clone(), gateway.clone(), max_idle, clock.clone(), waiting.clone());
            let reports = connector.offers_http2().then(pool);
            Own { pool: pool(), reports, series: UpstreamSeries::new(Arc::clone(&metrics)) }
        }));
        let parts = gateway.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refused()) };
        let active = metrics.upstream_connections.with_label_values(&["active"]);
        let broken_off = metrics.upstream_errors.with_label_values(&[ErrorKind::Body.as_str()]);
        Ok(Self { own, scheme, authority, host, clock, metrics, active, broken_off })
    }

    /// Sends a request and waits for the head of its answer. What is sent is left, to be sent again.
    ///
    /// # Errors
    /// When there was none, with what is known of why and of whether anything was sent.
    pub async fn send(&self, outgoing: &mut Outgoing) -> Result<Response<GatewayBody>, UpstreamError> {
        self.send_at(self.clock.mono(), outgoing).await
    }

    /// The same, where the time is known.
    ///
    /// # Errors
    /// The same.
    pub async fn send_at(&self, began: Mono, outgoing: &mut Outgoing) -> Result<Response<GatewayBody>, UpstreamError> {
        let active = Counted::begin(self.active.clone());
        let Own { pool, reports, series } = self.own.own();
        let pool = reports.as_ref().filter(|_| outgoing.class.word() == REPORT).unwrap_or(pool);
        let sent = self.exchange(pool, outgoing, began).await;
        let now = self.clock.mono();
        series.took(outgoing.class, now.since(began).as_secs_f64());
        let (mut response, channel) = sent.map_err(|error| self.failed(error))?;

        // Nobody asked for another protocol, and it is no answer to the request.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed(unasked("101 without an upgrade")));
        }
        let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter().peekable();
        let is_chunked = codings.peek().is_some();
        // Nor did anybody ask for a coding, which the rest of the way would drop from the headers and not from the body.
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(self.failed(unasked("a transfer coding other than chunked")));
        }
        series.answered(outgoing.route, method_label(&outgoing.method), response.status());
        // Of two framings the chunks count; the length must go no further, and neither the connection (RFC 9112, 6.3).
        let in_doubt = is_chunked && response.headers_mut().remove(CONTENT_LENGTH).is_some();
        // An answer that came before the request had been read: what is left of it may never be.
        let early = outgoing.body.len() > UNREAD && !response.status().is_success();
        let arrival = Arrival { at: now, reused: channel.life.made < began };
        // It may be idle for so long before its next request, which must not find it too old.
        let old = now.plus(POOL_IDLE) >= channel.life.retire;
        if in_doubt || early || old {
            pool.retire(&channel);
        } else {
            pool.give_back(channel, now);
        }
        let (total, broken_off) = (outgoing.deadlines.body, self.broken_off.clone());
        Ok(response.map(|body| GatewayBody::new(body, total, broken_off, arrival, active)))
    }

    fn failed(&self, error: UpstreamError) -> UpstreamError {
        self.metrics.upstream_errors.with_label_values(&[error.kind.as_str()]).inc();
        error
    }

    /// Sends it over a connection of the pool.
    async fn exchange(
        &self,
        pool: &Pool,
        outgoing: &mut Outgoing,
        began: Mono,
    ) -> Result<(Response<Incoming>, Channel), UpstreamError> {
        let deadline = Instant::now() + outgoing.deadlines.head;
        let latest = deadline - outgoing.deadlines.reserve.min(outgoing.deadlines.head);
        loop {
            let mut channel = pool.channel(began, latest).await?;
            if channel.is_over_limit() {
                continue;
            }
            let request = self.request(outgoing, &channel)?;
            match channel.send(request, &outgoing.body, deadline).await {
                Some(Ok(response)) => return Ok((response, channel)),
                // A connection that was kept may have been closed meanwhile; a new one that was closed is a failure.
                Some(Err(Unanswered { untouched: true, .. })) if channel.kept && Instant::now() < latest => {}
                Some(Err(Unanswered { error, .. })) => return Err(error),
                None => {
                    // Over HTTP/2 it stays open for the other calls; if it is dead, no further one must wait for it.
                    pool.retire(&channel);
                    return Err(UpstreamError::timeout("no answer in time".to_owned()));
                }
            }
        }
    }

    /// Names the gateway as the protocol of the connection asks for: HTTP/1.1 in `Host` (RFC 9112, 3.2), HTTP/2 in
    /// `:authority` (RFC 9113, 8.3.1).
    fn request(&self, outgoing: &mut Outgoing, channel: &Channel) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let spare = outgoing.headers.clone();
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        // The original goes: it has room for what is still to come, and the copy has none.
        *request.headers_mut() = mem::replace(&mut outgoing.headers, spare);
        // RFC 9110, 8.6: a method that gives content a meaning states a length even where there is none. Servers answer 411.
        let has_length =
            !outgoing.body.is_empty() || matches!(outgoing.method, Method::POST | Method::PUT | Method::PATCH);
        if has_length {
            request.headers_mut().insert(CONTENT_LENGTH, outgoing.body.len().into());
        }
        let target = outgoing.target.clone();
        *request.uri_mut() = if channel.is_http2() {
            let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
            let uri = uri.path_and_query(target).build();
            uri.map_err(|error| UpstreamError::unsent(ErrorKind::Protocol, error.to_string()))?
        } else {
            request.headers_mut().insert(HOST, self.host.clone());
            Uri::from(target)
        };
        Ok(request)
    }
}

/// What `Host` says of a gateway: its port only where it is not the scheme's own.
fn host(gateway: &Uri) -> Option<HeaderValue> {
    let own = if gateway.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let host = gateway.host()?;
    let port = gateway.port_u16().filter(|port| *port != own);
    HeaderValue::try_from(port.map_or(host.to_owned(), |port| format!("{host}:{port}"))).ok()
}

/// What came is not what may come.
fn unasked(what: &str) -> UpstreamError {
    UpstreamError::new(ErrorKind::Protocol, Sent::Maybe, what)
}

// As many as `limits.in_flight` lets one class of calls have under way, if nobody changed it: a connection that finds no
// place is closed after its answer, and the next call opens another. Idle ones were all in use [`POOL_IDLE`] ago, and what
// is in use has files set aside for it.
const POOL_MAX_IDLE: usize = 512; // Of all workers together.
const REPORT: &str = "report";
// What a connection surely holds of a request that nobody reads.
const UNREAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_has_a_port_where_it_is_not_the_usual_one() {
        for (gateway, expected) in [
            ("https://gateway.test", "gateway.test"),
            ("https://gateway.test:443", "gateway.test"),
            ("http://gateway.test:80", "gateway.test"),
            ("http://gateway.test:443", "gateway.test:443"),
            ("https://gateway.test:8443", "gateway.test:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(host(&gateway.parse().expect("a URI")).expect("a host"), expected, "{gateway}");
        }
    }
}
