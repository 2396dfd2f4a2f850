//! The record of one request. Its metrics and its log line are written when the answer has been sent or given up.

mod summary;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use uuid::Uuid;

use super::cache_status::{CacheStatus, Source};
use super::error::ProxyError;
use super::headers::TRACEPARENT;
use super::pressure::Permit;
use super::request_key::KeySource;
use super::route::remedy::{Key, Remedy};
use super::route::{Class, Matched, Route};
use super::upstream_stats::UpstreamStats;
use crate::caller::{Caller, Peer};
use crate::callers::named::KnownCaller;
use crate::clock::{Clock, Now};
use crate::session::CacheResult;
use crate::telemetry::log::excerpt::excerpt;
use crate::telemetry::log::new_request_id;
use crate::telemetry::metrics::{Metrics, RequestSeries, method_label};
use crate::telemetry::trace::{TraceParent, trace_id_text};
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::RetrySafety;

/// The facts about a request so far. Dropping a record writes it, so each request is recorded once, however it ends.
#[derive(Debug)]
pub struct Record {
    pub(super) sink: Arc<RecordSink>,
    pub(super) began: Now,
    pub(super) request_id: RequestId,
    trace: Option<TraceParent>,
    /// The idempotency key and where it came from, if the request is a write that has one.
    pub(super) request_key: Option<(HeaderValue, KeySource)>,
    stats: Option<Arc<UpstreamStats>>,
    peer: Option<Peer>,
    /// Whether the request came by TLS.
    tls: bool,
    /// The caller of the configuration that made the request; `None` for an unknown one, and where none is configured.
    pub(super) caller: Option<KnownCaller>,
    /// `User-Agent`, if the line of the request is logged.
    user_agent: Option<HeaderValue>,
    method: Method,
    matched: Option<Matched>,
    class: Class,
    /// The call's permit, kept until the answer has been sent.
    pub(super) permit: Option<Permit>,
    status: Option<StatusCode>,
    source: Source,
    cache: CacheResult,
    cache_detail: Option<&'static str>,
    error: Option<&'static str>,
    error_detail: ErrorDetail,
    bytes_out: u64,
    end: End,
    /// Whether the connection can persist: nothing of the request's body is left, or so little that the rest is discarded.
    pub(super) connection_can_persist: bool,
}

/// Writes records: it holds the clock that times them, their metrics, and the sampling of hits in the log. Each worker
/// has its own, because every request counts a reference to it.
#[derive(Debug)]
pub struct RecordSink {
    clock: Clock,
    metrics: Arc<Metrics>,
    sample_hits: AtomicU64,
    hits: AtomicU64,
    pub series: RequestSeries,
}

impl RecordSink {
    /// One of `sample_hits` hits is logged; the number is at least 1.
    pub fn new(clock: Clock, metrics: Arc<Metrics>, sample_hits: u64) -> Self {
        let series = RequestSeries::new(Arc::clone(&metrics));
        Self { clock, series, metrics, sample_hits: AtomicU64::new(sample_hits), hits: AtomicU64::new(0) }
    }

    /// From now on one of `sample_hits` hits is logged; the number is at least 1.
    pub fn set_sample_hits(&self, sample_hits: u64) {
        self.sample_hits.store(sample_hits, Ordering::Relaxed);
    }

    /// Whether the line of the next hit is left out. Counts a line that is.
    fn samples_out(&self) -> bool {
        let sample = self.sample_hits.load(Ordering::Relaxed);
        if sample <= 1 || self.hits.fetch_add(1, Ordering::Relaxed).is_multiple_of(sample) {
            return false;
        }
        self.metrics.log_lines_sampled_out.inc();
        true
    }
}

/// The id of a request, in logs and in its answer.
#[derive(Clone, Debug)]
pub enum RequestId {
    Given(HeaderValue),
    Minted(Uuid),
}

impl RequestId {
    /// The caller's own id if it is a plain one, else a new one.
    pub fn choose(given: Option<&HeaderValue>) -> Self {
        let plain = |id: &&HeaderValue| {
            (1..=128).contains(&id.len())
                && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
        };
        given.filter(plain).map_or_else(|| Self::Minted(new_request_id()), |id| Self::Given(id.clone()))
    }

    pub fn header(&self) -> HeaderValue {
        match self {
            Self::Given(id) => id.clone(),
            // A header may hold digits and hyphens.
            Self::Minted(id) => {
                HeaderValue::from_str(text(*id, &mut Uuid::encode_buffer())).unwrap_or(HeaderValue::from_static(""))
            }
        }
    }

    /// The id as text, for which the buffer has room.
    fn text<'t>(&'t self, buffer: &'t mut [u8]) -> &'t str {
        match self {
            Self::Given(id) => id.to_str().unwrap_or_default(),
            Self::Minted(id) => text(*id, buffer),
        }
    }
}

/// Formats an id much faster than [`fmt::Display`] does.
fn text(id: Uuid, buffer: &mut [u8]) -> &str {
    id.hyphenated().encode_lower(buffer)
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text(&mut Uuid::encode_buffer()))
    }
}

/// The details of the sidecar's own error that operators need beside the code.
#[derive(Clone, Copy, Debug, Default)]
struct ErrorDetail {
    cause: Option<&'static str>,
    /// The caller asked for this error, or another place reports it.
    is_expected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The caller went away before the end of the answer.
    CallerGone,
    /// The caller hung up in the middle of its request.
    BodyGivenUp,
    /// Sezzle broke off in the middle of the answer.
    Broken,
    /// The whole answer was handed to the connection.
    Complete,
}

impl Record {
    #[inline]
    pub fn begin(method: &Method, request_id: RequestId, connection: &Caller, sink: &Arc<RecordSink>) -> Self {
        Self {
            began: sink.clock.now(),
            sink: Arc::clone(sink),
            request_id,
            trace: None,
            request_key: None,
            stats: None,
            peer: connection.peer,
            tls: connection.tls,
            caller: None,
            user_agent: None,
            method: method.clone(),
            matched: None,
            class: Class::Read,
            permit: None,
            status: None,
            source: Source::Sidecar,
            cache: CacheResult::Bypass,
            cache_detail: None,
            error: None,
            error_detail: ErrorDetail::default(),
            bytes_out: 0,
            end: End::CallerGone,
            connection_can_persist: true,
        }
    }

    /// The request was let through as this call.
    pub fn admitted(&mut self, matched: Matched, class: Class) {
        self.sink.series.begun(class);
        self.class = class;
        self.matched = Some(matched);
    }

    /// The error that the caller gets when the code that was to answer has panicked.
    pub fn error_of_panic(&self) -> ProxyError {
        let retry_safety = self.matched.as_ref().map(|matched| matched.retry_safety(&self.method));
        if retry_safety.is_none_or(|safety| safety == RetrySafety::Safe) || self.upstream().attempts.is_none() {
            return ProxyError::Internal;
        }
        let cause = UpstreamError::new(ErrorKind::Reset, Sent::Maybe, "the sidecar failed before the answer came");
        ProxyError::OutcomeUnknown { remedy: self.remedy(), cause }
    }

    /// The caller's next step if the outcome of the call is unknown.
    pub(super) fn remedy(&self) -> Remedy {
        let key = match &self.request_key {
            None => Key::None,
            Some((key, KeySource::Minted)) => Key::Minted(key),
            Some((_, KeySource::Caller | KeySource::Normalised | KeySource::IdempotencyKey)) => Key::Callers,
        };
        self.matched.as_ref().map_or(Remedy::AskSezzle, |matched| matched.remedy(&self.method, key))
    }

    /// Reads the trace that the request is part of. A request with two such headers is part of none.
    pub fn set_trace(&mut self, headers: &HeaderMap) {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let only = lines.next().filter(|_| lines.next().is_none());
        self.trace = only.and_then(|parent| TraceParent::parse(parent.as_bytes()));
    }

    /// Keeps the caller's `User-Agent` for the log.
    pub fn set_user_agent(&mut self, headers: &HeaderMap) {
        if tracing::enabled!(tracing::Level::INFO) {
            self.user_agent = headers.get(USER_AGENT).cloned();
        }
    }

    /// The request becomes a call to Sezzle with a body of this many bytes.
    pub fn begin_call(&mut self, body: usize) -> Arc<UpstreamStats> {
        Arc::clone(self.stats.get_or_insert_with(|| Arc::new(UpstreamStats::new(body))))
    }

    /// The caller gets this error of the sidecar's.
    pub fn failed(&mut self, error: &ProxyError) {
        self.note_error(error);
        if matches!(error, ProxyError::BodyBroken) {
            // The caller may have closed only its half of the connection, and still read the answer.
            self.end = End::BodyGivenUp;
        }
        if error.is_refusal() {
            self.sink.metrics.requests_refused.with_label_values(&[error.code()]).inc();
        }
        if let (ProxyError::NotAllowed(_) | ProxyError::AmountOverLimit(_), Some(known)) = (error, &self.caller) {
            self.sink.metrics.caller_refusals.with_label_values(&[&known.caller.name, error.code()]).inc();
        }
    }

    /// Takes note of an error, also of one in whose place the caller gets a stored session.
    pub fn note_error(&mut self, error: &ProxyError) {
        self.error = Some(error.code());
        // A write reports an unknown outcome itself, also when its caller has gone.
        self.error_detail.is_expected = matches!(error, ProxyError::NotStored | ProxyError::OutcomeUnknown { .. });
        if let ProxyError::Upstream(cause) = error {
            self.error_detail.cause = Some(cause.kind.as_str());
            let (request_id, route) = (&self.request_id, self.route().template());
            tracing::warn!(%request_id, route, %cause, "the exchange with Sezzle failed");
        }
        if let ProxyError::NoToken(cause) = error {
            let (request_id, route) = (&self.request_id, self.route().template());
            tracing::warn!(%request_id, route, %cause, "the call was not sent");
        }
    }

    /// An answer is on its way.
    pub fn answered(&mut self, status: StatusCode, source: Source, cache: &CacheStatus) {
        self.status = Some(status);
        self.source = source;
        self.cache = cache.result;
        self.cache_detail = cache.detail();
        if self.method == Method::HEAD {
            // hyper does not ask for the body.
            self.complete();
        }
    }

    /// Bytes of the body were handed to the connection.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub fn complete(&mut self) {
        if self.end == End::CallerGone {
            self.end = End::Complete;
        }
    }

    pub fn broken(&mut self) {
        self.end = End::Broken;
    }

    /// The cache's word for a request that ended with an error of the sidecar's.
    pub fn cache_result_of_error(&self) -> CacheResult {
        if self.class == Class::Session && self.matched.is_some() { CacheResult::Error } else { CacheResult::Bypass }
    }

    fn route(&self) -> Route {
        self.matched.as_ref().map_or(Route::Other, |matched| matched.route)
    }

    /// Logs the line of the request. `trace_id` is that of its span, if it has one.
    fn log(&self, length: Duration, trace_id: Option<u128>) {
        let [mut id, mut trace_text, mut session_id] = [const { Uuid::encode_buffer() }; 3];
        let trace_id = trace_id.or(self.trace.map(|trace| trace.trace_id));
        let upstream = self.upstream();
        let session = self.matched.as_ref().and_then(Matched::session);
        let order = self.matched.as_ref().and_then(Matched::order);
        tracing::info!(
            request_id = self.request_id.text(&mut id),
            trace_id = trace_id.map(|id| trace_id_text(id, &mut trace_text)),
            caller = self.caller.as_ref().map(|known| known.caller.name.as_str()),
            peer_uid = self.peer.map(|peer| peer.uid),
            peer_pid = self.peer.and_then(|peer| peer.pid),
            user_agent = self.user_agent.as_ref().map(|agent| excerpt(agent.as_bytes())),
            method = method_label(&self.method),
            route = self.route().template(),
            code = self.status.map_or(499, |status| status.as_u16()),
            source = self.source.as_str(),
            cache = self.cache.as_str(),
            cache_detail = self.cache_detail,
            dur_ms = (length.as_secs_f64() * 1e6).round() / 1e3,
            bytes_in = upstream.bytes_in,
            bytes_out = self.bytes_out(),
            attempts = upstream.attempts,
            upstream_ms = upstream.upstream_ms,
            conn_reused = upstream.conn_reused,
            token_gen = upstream.token_gen,
            session = session.map(|session| text(session, &mut session_id)),
            order,
            sezzle_request_id = self.request_key.as_ref().and_then(|(key, _)| key.to_str().ok()),
            error = self.error,
            aborted = self.aborted(),
            "request"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let RecordSink { clock, metrics, series, .. } = &*self.sink;
        if self.matched.is_some() {
            // Before the request counts as answered, so that the two never overlap.
            series.ended(self.class);
        }
        series.answered(self.route(), &self.method, self.status, self.source);
        let length = clock.mono().since(self.began.mono);
        series.took(self.class, self.cache, length.as_secs_f64());
        if let Some(kind) = self.trouble() {
            metrics.recent_errors.note(kind, Some(&self.request_id));
        }
        let place = metrics.spans.in_trace(self.trace);
        if let Some(place) = place {
            metrics.spans.send(self.span(place, length));
        }
        if tracing::enabled!(tracing::Level::INFO) && !(self.is_plain_hit() && self.sink.samples_out()) {
            self.log(length, place.map(|place| place.trace_id));
        }
    }
}
