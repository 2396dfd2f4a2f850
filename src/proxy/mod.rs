//! One request, top to bottom: [`Proxy::handle`].
//!
//! [`inbound`] decides whether a request is admitted and whether memory answers it, and [`route`] which call it is. A
//! lookup of a session goes to the session cache, every other call to `exchange`. [`response`] makes the caller's
//! answer.

mod allowed;
mod arrival;
mod attempt_log;
mod attempts;
mod audited;
mod authentication;
mod body;
mod build;
pub mod cache_status;
mod call;
mod card_data;
mod conditional;
pub mod content;
mod decision;
pub mod error;
mod error_text;
mod etag;
mod exchange;
pub mod explain;
mod guard;
pub mod headers;
pub mod inbound;
pub mod links;
mod lookup;
mod options;
mod own_keys;
mod prepared_write;
pub mod presence;
pub mod pressure;
mod public_key;
pub mod record;
mod request_key;
pub mod response;
pub mod route;
mod sending;
mod shown_path;
mod stored;
pub mod upstream_stats;
mod version_1;
mod write;
mod write_report;
mod writes;

use std::future::{Ready, ready};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;
use tokio_util::either::Either;

use self::arrival::{AmbiguousCertificates, UnservedPaths, log_arrival};
use self::authentication::Authentication;
pub use self::build::Dependencies;
use self::cache_status::{CacheStatus, Source};
pub use self::call::READ_BODY;
use self::content::Content;
use self::decision::{Call, Decision};
use self::error::ProxyError;
use self::exchange::Exchange;
use self::guard::{Panicked, caught};
use self::headers::X_REQUEST_ID;
pub use self::options::{Forwarded, Limits, Options};
use self::presence::HeaderPresence;
use self::pressure::Pressure;
use self::record::{Record, RecordSink, RequestId};
use self::response::{Body, CallerResponse};
use self::route::Class;
pub use self::writes::Writes;
use crate::audit::Audit;
use crate::boxed::{boxed, boxed_future};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::method::is_safe;
use crate::peer_body::PeerBody;
use crate::session::{CacheResult, SessionCache};
use crate::telemetry::metrics::Metrics;
use crate::worker::PerWorker;

pub type Sessions = SessionCache<ProxyError>;

/// Serves requests. All connections of a process share one proxy; [`Proxy::with_options`] makes its successor.
#[derive(Clone)]
pub struct Proxy {
    options: Options,
    pressure: Arc<Pressure>,
    sessions: Arc<Sessions>,
    exchange: Arc<Exchange>,
    authentication: Arc<Authentication>,
    writes: Writes,
    /// `None` if no file is configured.
    audit: Option<Arc<Audit>>,
    draining: Arc<AtomicBool>,
    unserved_paths: Arc<UnservedPaths>,
    ambiguous_certificates: Arc<AmbiguousCertificates>,
    sinks: PerWorker<Arc<RecordSink>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// An answer, or the future of one.
pub type Handled = Either<Ready<Response<Body>>, Pin<Box<dyn Future<Output = Response<Body>> + Send>>>;

impl Proxy {
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

    /// Forgets how calls to Sezzle ended lately, as at the start.
    pub fn reset(&self) {
        self.pressure.reset();
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
        let mut record = boxed(|| Record::begin(&head.method, id, &caller, self.sinks.own()));
        let has_body = !body.is_end_stream();
        if has_body {
            // The rest of a small body is discarded, and the connection persists.
            record.connection_can_persist = body.size_hint().upper().is_some_and(|length| length <= SMALL);
        }
        if present.traceparent {
            record.set_trace(&head.headers);
        }
        if present.user_agent {
            record.set_user_agent(&head.headers);
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            log_arrival(&head, &caller, &record.request_id);
        }
        if is_safe(&head.method) && has_body {
            let proxy = Arc::clone(self);
            let serving = || proxy.serve_without_body(head, body, present, caller, record);
            return Either::Right(boxed_future(serving));
        }
        match self.decide(&head, present, &caller, &mut record) {
            Ok(Decision::Answer(response)) => Either::Left(ready(self.finish(Ok(response), record))),
            // Safe calls and others have futures of their own: a common one would keep room for both. Each uses this
            // proxy to its end, even if a reload replaces the proxy.
            Ok(Decision::Call(mut call)) if call.is_safe(&head.method) => {
                let proxy = Arc::clone(self);
                Either::Right(boxed_future(|| async move {
                    let served = caught(pin!(proxy.serve_safe(&mut head, &mut call, &mut record))).await;
                    proxy.finish_caught(served, record)
                }))
            }
            Ok(Decision::Call(call)) => {
                let proxy = Arc::clone(self);
                Either::Right(boxed_future(|| async move {
                    let served = caught(pin!(proxy.serve_write(&mut head, body, &call, &caller, &mut record))).await;
                    proxy.finish_caught(served, record)
                }))
            }
            Err(error) if has_body && record.connection_can_persist && head.version == Version::HTTP_2 => {
                let proxy = Arc::clone(self);
                Either::Right(boxed_future(|| async move {
                    // An answer while a body is on its way resets the stream, and then some clients lose the answer:
                    // libcurl 7.88 does.
                    let _ = timeout(SMALL_WAIT, body.collect()).await;
                    proxy.finish(Err(error), record)
                }))
            }
            Err(error) => Either::Left(ready(self.finish(Err(error), record))),
        }
    }

    /// Serves a GET, HEAD or OPTIONS that comes with a body, as if it had none. A body there means nothing (RFC 9110,
    /// 9.3.1), so it is read within the limits and dropped.
    async fn serve_without_body(
        self: Arc<Self>,
        mut head: Parts,
        mut body: PeerBody,
        present: HeaderPresence,
        caller: Caller,
        mut record: Box<Record>,
    ) -> Response<Body> {
        let response = async {
            let (matched, class) = self.admit(&head, present, &caller, &mut record)?;
            self.drop_body(&mut body, &head.method, class, &mut record).await?;
            match self.ask_memory(&head, present, matched, class, self.clock.now(), &record)? {
                Decision::Answer(response) => Ok(response),
                Decision::Call(mut call) if call.is_safe(&head.method) => {
                    self.serve_safe(&mut head, &mut call, &mut record).await
                }
                Decision::Call(call) => self.serve_write(&mut head, body, &call, &caller, &mut record).await,
            }
        };
        let response = caught(pin!(response)).await;
        self.finish_caught(response, record)
    }

    /// Serves a safe call.
    async fn serve_safe(
        self: &Arc<Self>,
        head: &mut Parts,
        call: &mut Call,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        match call.missed.take() {
            Some(missed) => apart(|| self.lookup(head, call, missed, record)).await,
            None => {
                if call.class == Class::Session {
                    self.count(CacheResult::Bypass);
                }
                let headers = mem::take(&mut head.headers);
                self.read(head, headers, call, record).await
            }
        }
    }

    /// Serves any other call, once its whole body has come.
    async fn serve_write(
        self: &Arc<Self>,
        head: &mut Parts,
        body: PeerBody,
        call: &Call,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        // A read that cannot be repeated has no body any more.
        let body = if is_safe(&head.method) { Bytes::new() } else { self.receive(body, call.class, record).await? };
        if call.class != Class::Credentials {
            return self.write(head, call, caller, body, record).await;
        }
        let (now, callers) = (self.clock.now(), self.options.callers.as_ref().map(|callers| callers.load_full()));
        let issued = match callers {
            None => None,
            Some(table) => own_keys::exchange(&table, &body, now, &mut record.caller)?,
        };
        let caller = (record.caller.as_ref(), issued);
        apart(|| self.authentication.exchange(&head.headers, &body, caller, now)).await
    }

    /// As [`Self::finish`], unless the code that was to answer has panicked.
    fn finish_caught(
        &self,
        served: Result<Result<CallerResponse, ProxyError>, Panicked>,
        record: Box<Record>,
    ) -> Response<Body> {
        self.finish(served.unwrap_or_else(|Panicked| Err(record.error_of_panic())), record)
    }

    fn finish(&self, response: Result<CallerResponse, ProxyError>, mut record: Box<Record>) -> Response<Body> {
        let response = response.unwrap_or_else(|error| {
            record.failed(&error);
            let (status, headers, body) = error.answer(&record.request_id.to_string());
            let cache = CacheStatus { result: record.cache_result_of_error(), ..CacheStatus::BYPASS };
            CallerResponse { status, headers, content: Content::Whole(Some(body)), source: Source::Sidecar, cache }
        });
        // The rest of a body that was not read would be taken for the next request.
        let closing = self.draining.load(Ordering::Relaxed) || !record.connection_can_persist;
        response.finish(record, closing)
    }

    fn count(&self, result: CacheResult) {
        self.sinks.own().series.looked_up(result);
    }
}

// Most requests bring a body of this size with their head.
const SMALL: u64 = 4096;
// The wait for a small body over HTTP/2 that is right behind its head.
const SMALL_WAIT: Duration = Duration::from_secs(1);

/// Boxes a rare future. Otherwise every passed-on call would pay for the size of a lookup's future, and every write for
/// that of an exchange of keys: for the stack that each poll touches.
#[inline(never)]
fn apart<'f, F: Future + Send + 'f>(make: impl FnOnce() -> F) -> Pin<Box<dyn Future<Output = F::Output> + Send + 'f>> {
    boxed_future(make)
}
