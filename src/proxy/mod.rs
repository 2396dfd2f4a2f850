//! One request, top to bottom: [`Proxy::handle`].
//!
//! [`inbound`] decides whether a request is admitted, [`route`] which call it is, `arrival` whether memory answers it.
//! A lookup of a session goes to the session cache, every other call to [`forward`]. [`response`] makes the caller's
//! answer.

mod arrival;
mod attempts;
mod authentication;
pub mod cache_status;
mod card_data;
mod conditional;
pub mod content;
pub mod error;
mod etag;
pub mod exchange;
pub mod explain;
pub mod forward;
mod guard;
pub mod headers;
pub mod inbound;
pub mod links;
mod lookup;
pub mod pressure;
mod public_key;
pub mod record;
mod request_key;
pub mod response;
pub mod route;
mod stored;
pub mod upstream_stats;
mod write;

use std::future::{Ready, ready};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio_util::either::Either;

use self::arrival::{Arrived, Call};
use self::cache_status::{CacheStatus, Source};
use self::content::Content;
use self::error::{ProxyError, REFUSALS};
use self::exchange::{GatewayResponse, Sending};
use self::forward::Forwarder;
use self::guard::{Panicked, caught};
use self::headers::{X_REQUEST_ID, outgoing_headers};
use self::inbound::HeaderPresence;
use self::pressure::Pressure;
use self::record::{Record, RecordSink, RequestId};
use self::request_key::Origin;
use self::response::{Body, CallerResponse};
use self::route::{Class, Route};
pub use self::write::Writes;
use crate::caller::{Caller, Hosts};
use crate::clock::Clock;
use crate::method::is_safe;
use crate::peer_body::PeerBody;
use crate::session::{CacheResult, SessionCache};
use crate::telemetry::metrics::{LabelValue, Metrics};
use crate::upstream::retry;
use crate::upstream::{Deadlines, Outgoing};
use crate::worker::PerWorker;

/// The session cache of this proxy.
pub type Sessions = SessionCache<ProxyError>;

/// How the proxy serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The hosts that the proxy answers for.
    pub hosts: Hosts,
    /// The bounds of the proxy.
    pub limits: Limits,
    /// Whether an idempotency key under another name counts.
    pub normalise_request_id: bool,
    /// Whether card data is passed on to callers.
    pub forward_card_data: bool,
    /// One of this many hits is logged.
    pub sample_hits: u64,
}

/// Bounds that the proxy keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Permits of a class of calls to Sezzle, and as many for bodies being received; see [`pressure`].
    pub in_flight: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Until the head of the answer to a safe call.
    pub read: Duration,
    /// Until the head of the answer to a write.
    pub write: Duration,
    /// Until the head of a report.
    pub report: Duration,
}

/// Serves requests. One at a time per process, shared by all connections; [`Proxy::with_options`] makes its successor.
#[derive(Clone)]
pub struct Proxy {
    options: Options,
    pressure: Arc<Pressure>,
    sessions: Arc<Sessions>,
    forwarder: Arc<Forwarder>,
    writes: Writes,
    draining: Arc<AtomicBool>,
    sinks: PerWorker<Arc<RecordSink>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// An answer, or the future of one.
pub type Handled = Either<Ready<Response<Body>>, Pin<Box<dyn Future<Output = Response<Body>> + Send>>>;

impl Proxy {
    /// Builds the proxy of its parts, for this many workers.
    pub fn new(
        workers: usize,
        options: Options,
        sessions: Arc<Sessions>,
        forwarder: Forwarder,
        writes: Writes,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        for code in REFUSALS {
            metrics.requests_refused.with_label_values(&[code]).inc_by(0);
        }
        for route in Route::ALL.iter().filter(|route| **route != Route::Authentication) {
            metrics.outcome_unknown.with_label_values(&[route.template()]).inc_by(0);
            metrics.refused_in_doubt.with_label_values(&[route.template()]).inc_by(0);
        }
        for origin in Origin::ALL {
            metrics.idempotency_keys.with_label_values(&[origin.as_str()]).inc_by(0);
        }
        Self {
            pressure: Arc::new(Pressure::new(options.limits.in_flight, &clock, &metrics)),
            forwarder: Arc::new(forwarder),
            draining: Arc::new(AtomicBool::new(false)),
            sinks: PerWorker::new(workers, || {
                Arc::new(RecordSink::new(clock.clone(), Arc::clone(&metrics), options.sample_hits))
            }),
            options,
            sessions,
            writes,
            clock,
            metrics,
        }
    }

    /// This proxy with other options, except for `limits.in_flight`, which stays. Requests in progress finish under the
    /// options that they began with, except for `sample_hits`.
    pub fn with_options(&self, options: Options) -> Self {
        self.sinks.all().for_each(|sink| sink.set_sample_hits(options.sample_hits));
        Self { options, ..self.clone() }
    }

    /// From now on every answer asks the caller to open a new connection elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Brings the gauges up to date.
    pub fn observe(&self) {
        self.pressure.observe();
        self.sessions.observe();
    }

    /// Serves one request. A session in memory is answered at once, without a future.
    pub fn handle(self: &Arc<Self>, request: Request<Incoming>, caller: Caller) -> Handled {
        let (mut head, body) = request.into_parts();
        let body = PeerBody::new(body, head.version);
        let present = HeaderPresence::scan(&head.headers);
        let id = RequestId::choose(if present.request_id { head.headers.get(X_REQUEST_ID) } else { None });
        let mut record = Box::new(Record::begin(&head.method, id, caller.peer, self.sinks.own()));
        let has_body = !body.is_end_stream();
        if has_body {
            // The rest of a small body is discarded, and the connection continues.
            record.set_has_read_body(body.size_hint().upper().is_some_and(|length| length <= SMALL));
        }
        if present.traceparent {
            record.set_trace(&head.headers);
        }
        if is_safe(&head.method) && has_body {
            return Either::Right(Box::pin(Arc::clone(self).serve_without_body(head, body, present, caller, record)));
        }
        match self.arrived(&head, present, &caller, &mut record) {
            Ok(Arrived::Answered(response)) => Either::Left(ready(self.finish(Ok(response), record))),
            Ok(Arrived::Call(call)) => {
                // The request uses this proxy to its end, even if a reload replaces the proxy.
                let proxy = Arc::clone(self);
                Either::Right(Box::pin(async move {
                    let served = {
                        let serving = pin!(proxy.serve(&mut head, body, call, &mut record));
                        caught(serving).await
                    };
                    proxy.finish(served.unwrap_or_else(|Panicked| Err(record.error_of_panic())), record)
                }))
            }
            Err(error) => Either::Left(ready(self.finish(Err(error), record))),
        }
    }

    async fn serve(
        &self,
        head: &mut Parts,
        body: PeerBody,
        mut call: Call,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        match call.class {
            Class::Credentials if head.method == Method::POST => {
                let body = self.receive(body, call.class, record).await?;
                let now = self.clock.now();
                apart(|| authentication::answer(&head.headers, &body, &self.forwarder, &self.metrics, now)).await
            }
            Class::Credentials => Err(ProxyError::MethodNotAllowed("POST")),
            _ if call.matched.route.retry_safety(&head.method) != retry::RetrySafety::Safe => {
                apart(|| self.write(head, &call, body, record)).await
            }
            Class::Session => match call.missed.take() {
                Some(missed) => apart(|| self.lookup(head, &call, missed, record)).await,
                None => {
                    self.count(CacheResult::Bypass);
                    let headers = mem::take(&mut head.headers);
                    self.read(head, headers, &call, record).await
                }
            },
            Class::Read | Class::Report | Class::Money | Class::Webhooks => {
                let headers = mem::take(&mut head.headers);
                self.read(head, headers, &call, record).await
            }
        }
    }

    fn finish(&self, response: Result<CallerResponse, ProxyError>, mut record: Box<Record>) -> Response<Body> {
        let response = response.unwrap_or_else(|error| {
            record.failed(&error);
            let (status, headers, body) = error.answer(&record.request_id().to_string());
            let cache = CacheStatus { result: record.cache_result_of_error(), ..CacheStatus::BYPASS };
            CallerResponse { status, headers, content: Content::Whole(Some(body)), source: Source::Sidecar, cache }
        });
        // The rest of a body that was not read would be taken for the next request.
        let closing = self.draining.load(Ordering::Relaxed) || !record.has_read_body();
        response.finish(record, closing)
    }

    /// A safe call that is not cached: Sezzle's answer is streamed as fast as the caller reads it.
    async fn read(
        &self,
        head: &Parts,
        headers: HeaderMap,
        call: &Call,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let permit = self.pressure.enter(call.class, &head.method, call.at).await?;
        let mut sending = self.sending(head, headers, call, Bytes::new(), record);
        let answer = self.forwarder.call(&mut sending, call.matched.route.carries_links(), &permit).await?;
        record.keep_permit(permit);
        Ok(passed_on(answer, CacheStatus::BYPASS))
    }

    /// `headers` are the caller's.
    fn sending(
        &self,
        head: &Parts,
        headers: HeaderMap,
        Call { matched, class, rights, .. }: &Call,
        body: Bytes,
        record: &mut Record,
    ) -> Sending {
        let class = *class;
        let limits = &self.options.limits;
        let call = matched.route.retry_safety(&head.method);
        let (head_limit, body_limit) = match class {
            Class::Report => (limits.report, REPORT_BODY),
            _ if call == retry::RetrySafety::Safe => (limits.read, READ_BODY),
            _ => (limits.write, WRITE_BODY),
        };
        let readable = self.forwarder.rewrites_links() && matched.route.carries_links();
        let target = head.uri.path_and_query().cloned();
        let outgoing = Outgoing {
            method: head.method.clone(),
            target: target.unwrap_or(PathAndQuery::from_static("/")),
            headers: outgoing_headers(headers, readable || class == Class::Session),
            body,
            deadlines: Deadlines::new(head_limit, body_limit),
            route: LabelValue::of(matched.route),
            class: LabelValue::of(class),
        };
        let stats = record.begin_call(outgoing.body.len());
        Sending { outgoing, call, rights: rights.clone(), request_id: record.request_id().clone(), stats }
    }

    fn count(&self, result: CacheResult) {
        self.sinks.own().series.looked_up(result);
    }
}

/// From the head of the answer to a safe call to its end.
pub const READ_BODY: Duration = Duration::from_secs(30);
// Short, so that a drain outlasts a write; the body of a write's answer is small.
const WRITE_BODY: Duration = Duration::from_secs(5);
// Most requests bring a body of this size with their head.
const SMALL: u64 = 4096;
const REPORT_BODY: Duration = Duration::from_secs(300);

/// Boxes a rare future. Otherwise every passed-on call would pay for the size of a write's future: for the bytes that
/// are moved, and for the stack that each poll touches.
#[inline(never)]
fn apart<'f, F: Future + Send + 'f>(make: impl FnOnce() -> F) -> Pin<Box<dyn Future<Output = F::Output> + Send + 'f>> {
    Box::pin(make())
}

/// Only the plain lookup is cached: a query may ask for something else.
fn is_cacheable(head: &Parts) -> bool {
    head.uri.query().is_none() && matches!(head.method, Method::GET | Method::HEAD)
}

fn passed_on(answer: GatewayResponse, cache: CacheStatus) -> CallerResponse {
    let GatewayResponse { status, headers, content, .. } = answer;
    let cache = CacheStatus { fwd_status: Some(status), ..cache };
    CallerResponse { status, headers, content, source: Source::Upstream, cache }
}
