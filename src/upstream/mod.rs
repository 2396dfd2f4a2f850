//! Requests to the gateway: one gateway, pools of connections to it, a deadline for every wait.
//!
//! This module sends a request and reports the result. Requests get no credential here, and are sent again only if a
//! connection that had been idle returned them unsent.

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
pub mod rate_limit_hold;
pub mod retry;
pub mod retry_after;
pub mod stream_permit;
pub mod tls;
pub mod window;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT, VIA};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;

use self::body::{Arrival, GatewayBody, Incoming};
use self::channel::Channel;
use self::connector::Connector;
use self::error::{ErrorKind, Sent, Unanswered, UpstreamError};
use self::pool::{IDLE_BEFORE_READ, IDLE_BEFORE_WRITE, Pool};
use self::retry::reserve;
use crate::clock::{Clock, Mono};
use crate::method::is_safe;
use crate::telemetry::metrics::{Counted, LabelValue, Metrics, UpstreamSeries, method_label};
use crate::worker::PerWorker;

/// The client of the one gateway.
#[derive(Clone)]
pub struct Upstream {
    /// One pool for each worker: using another worker's connection would mean waking another thread.
    workers: Arc<PerWorker<Own>>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Every request in progress.
    active: IntGauge,
    /// Every body that broke off.
    broken_off: IntCounter,
}

/// The pools and metrics of one worker.
struct Own {
    pool: Pool,
    /// If HTTP/2 is offered, reports have connections of their own. A gateway and slow callers can make h2 end a
    /// connection, and that connection must not be one that carries a capture.
    reports: Option<Pool>,
    series: UpstreamSeries,
}

/// A request to the gateway. The body is complete, so that the request can be sent again where that is allowed.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: PathAndQuery,
    /// The headers, without `Host`, which follows from the gateway's address.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub deadlines: Deadlines,
    /// The route's template, for metrics.
    pub route: LabelValue,
    /// The class of the call, for metrics.
    pub class: LabelValue,
}

/// The sidecar's name in `User-Agent`.
pub const PRODUCT: &str = concat!("sezzle-sidecar/", env!("CARGO_PKG_VERSION"));

/// The sidecar's name in `Via`, `Cache-Status` and `Proxy-Status`.
pub const PSEUDONYM: &str = "sezzle-sidecar";

/// The value of `Via` in both directions: the version of HTTP, then [`PSEUDONYM`]. A sidecar that gets it refuses the
/// request, since the way to Sezzle then leads in a circle.
pub const OWN_VIA: HeaderValue = HeaderValue::from_static("1.1 sezzle-sidecar");

/// The headers of a request that the sidecar makes for itself.
pub fn own_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (USER_AGENT, HeaderValue::from_static(PRODUCT)),
        (VIA, OWN_VIA),
    ])
}

/// Time limits of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Time until the head of the response is complete.
    pub head: Duration,
    /// Time for all waits for the response's body together.
    pub body: Duration,
    /// How much of `head` must be left when the request is sent.
    pub reserve: Duration,
}

impl Deadlines {
    pub fn new(head: Duration, body: Duration) -> Self {
        Self { head, body, reserve: reserve(head) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}: this is not the address of a gateway")]
pub struct AddressError(pub String);

impl Upstream {
    /// `url` is a scheme and an authority. Each worker gets a pool of its own. All pools together keep about `max_idle`
    /// idle connections. A connection that finds no room is closed after its response, and the next call opens another.
    pub fn new(
        url: &str,
        connector: Connector,
        worker_count: usize,
        max_idle: usize,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AddressError> {
        let refused = || AddressError(url.to_owned());
        let gateway = url.parse::<Uri>().map_err(|_| refused())?;
        let host = host(&gateway).ok_or_else(refused)?;
        let max_idle = max_idle.div_ceil(worker_count.max(1));
        let workers = Arc::new(PerWorker::new(worker_count, || {
            let (gateway, waiting) = (gateway.clone(), metrics.upstream_waiting.clone());
            let pool = || Pool::new(connector.clone(), gateway.clone(), max_idle, clock.clone(), waiting.clone());
            let reports = connector.http2.then(pool);
            Own { pool: pool(), reports, series: UpstreamSeries::new(Arc::clone(&metrics)) }
        }));
        let parts = gateway.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refused()) };
        let active = metrics.upstream_connections.with_label_values(&["active"]);
        let broken_off = metrics.upstream_errors.with_label_values(&[ErrorKind::Body.as_str()]);
        Ok(Self { workers, scheme, authority, host, clock, metrics, active, broken_off })
    }

    /// Sends a request and waits for the head of the response. `outgoing` keeps its content, to be sent again.
    pub async fn send(&self, outgoing: &mut Outgoing) -> Result<Response<GatewayBody>, UpstreamError> {
        self.send_at(self.clock.mono(), outgoing).await
    }

    /// As [`Self::send`], with the current time given as `began`.
    pub async fn send_at(&self, began: Mono, outgoing: &mut Outgoing) -> Result<Response<GatewayBody>, UpstreamError> {
        let active = Counted::begin(self.active.clone());
        let Own { pool, reports, series } = self.workers.own();
        let pool = reports.as_ref().filter(|_| outgoing.class.word() == REPORT).unwrap_or(pool);
        let sent = self.send_over(pool, outgoing, began).await;
        let now = self.clock.mono();
        series.took(outgoing.class, now.since(began).as_secs_f64());
        let (mut response, channel) = sent.map_err(|error| self.failed(error))?;

        // The request asked for no other protocol, so a 101 is not a response to it.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed(unasked("Sezzle answered 101, which the sidecar did not ask for")));
        }
        let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter().peekable();
        let is_chunked = codings.peek().is_some();
        // Nor did the request ask for another coding. Later steps would remove the coding from the headers but not from
        // the body.
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(self.failed(unasked("a transfer coding other than chunked")));
        }
        series.answered(outgoing.route, method_label(&outgoing.method), response.status());
        // If both framings are given, chunked counts. The length must not be passed on, and the connection must not be
        // used again (RFC 9112, 6.3).
        let has_both_framings = is_chunked && response.headers_mut().remove(CONTENT_LENGTH).is_some();
        // The response came before the request had been read, so the rest of the request may never be read.
        let early = outgoing.body.len() > UNREAD && !response.status().is_success();
        let arrival = Arrival { at: now, reused: channel.lifetime.made < began };
        // The connection may be idle for a while before its next request, and must not be too old then.
        let old = now.plus(IDLE_BEFORE_WRITE) >= channel.lifetime.retire;
        if has_both_framings || early || old {
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

    /// Sends the request over a connection of the pool, and over another if a kept one returns the request untouched.
    async fn send_over(
        &self,
        pool: &Pool,
        outgoing: &mut Outgoing,
        began: Mono,
    ) -> Result<(Response<Incoming>, Channel), UpstreamError> {
        let deadline = Instant::now() + outgoing.deadlines.head;
        let latest = deadline - outgoing.deadlines.reserve.min(outgoing.deadlines.head);
        let longest_idle = if is_safe(&outgoing.method) { IDLE_BEFORE_READ } else { IDLE_BEFORE_WRITE };
        loop {
            let mut channel = pool.channel(began, longest_idle, latest).await?;
            if channel.is_over_limit() {
                continue;
            }
            let request = self.request(outgoing, &channel)?;
            match channel.send(request, &outgoing.body, deadline).await {
                Some(Ok(response)) => return Ok((response, channel)),
                // A kept connection may have been closed meanwhile, so the request is sent over another. If a new
                // connection was closed, the exchange has failed.
                Some(Err(Unanswered { untouched: true, .. })) if channel.kept && Instant::now() < latest => {}
                Some(Err(Unanswered { error, .. })) => return Err(error),
                None => {
                    // Over HTTP/2 the connection stays open for its other calls. But a connection without an answer may
                    // be dead, so no further call may wait for one.
                    pool.retire(&channel);
                    return Err(UpstreamError::timeout("no answer in time".to_owned()));
                }
            }
        }
    }

    /// Builds the request in the connection's protocol. The gateway's name stands in `Host` over HTTP/1.1 (RFC 9112,
    /// 3.2), in `:authority` over HTTP/2 (RFC 9113, 8.3.1).
    fn request(&self, outgoing: &mut Outgoing, channel: &Channel) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let spare = outgoing.headers.clone();
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        // The original map is sent: it has room for further headers, and the copy has none.
        *request.headers_mut() = mem::replace(&mut outgoing.headers, spare);
        // RFC 9110, 8.6: a request with POST, PUT or PATCH states a length even without content. Otherwise servers
        // answer 411.
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

/// The value of `Host` for a gateway. The port is included only if it is not the scheme's default.
fn host(gateway: &Uri) -> Option<HeaderValue> {
    let own = if gateway.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let host = gateway.host()?;
    let port = gateway.port_u16().filter(|port| *port != own);
    HeaderValue::try_from(port.map_or(host.to_owned(), |port| format!("{host}:{port}"))).ok()
}

/// The error for a response that the request did not ask for.
fn unasked(what: &str) -> UpstreamError {
    UpstreamError::new(ErrorKind::Protocol, Sent::Maybe, what)
}

const REPORT: &str = "report";
// Bytes of a request that a connection certainly buffers when the gateway does not read.
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
