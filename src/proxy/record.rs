//! The record of one request: its metrics and its log line, made when the answer has been sent or given up.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};

use super::error::ProxyError;
use super::pressure::Place;
use super::response::{Reply, Source};
use super::route::{Class, Matched, Route};
use crate::caller::Peer;
use crate::clock::{Clock, Mono};
use crate::session::CacheResult;
use crate::telemetry::metrics::{Counted, Metrics, code_label, method_label};

/// What is known of a request so far. Dropping it writes the record: whatever becomes of a request, it is recorded
/// once.
#[derive(Debug)]
pub struct Record {
    clock: Clock,
    metrics: Arc<Metrics>,
    began: Mono,
    request_id: String,
    request_key: Option<HeaderValue>,
    peer: Option<Peer>,
    method: Method,
    matched: Option<Matched>,
    class: Class,
    in_flight: Option<Counted>,
    place: Option<Place>,
    status: Option<StatusCode>,
    source: Source,
    cache: &'static str,
    cache_detail: Option<&'static str>,
    error: Option<&'static str>,
    bytes_out: u64,
    end: End,
}

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The caller went away before it.
    CallerGone,
    /// Sezzle broke off in the middle of it.
    Broken,
    /// All of it was handed to the connection.
    Complete,
}

impl Record {
    /// Begins a record.
    pub fn begin(
        method: &Method,
        request_id: String,
        peer: Option<Peer>,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            began: clock.now().mono,
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
            request_id,
            request_key: None,
            peer,
            method: method.clone(),
            matched: None,
            class: Class::Read,
            in_flight: None,
            place: None,
            status: None,
            source: Source::Sidecar,
            cache: "bypass",
            cache_detail: None,
            error: None,
            bytes_out: 0,
            end: End::CallerGone,
        }
    }

    /// The request was let through as this call.
    pub fn admitted(&mut self, matched: Matched, class: Class) {
        self.in_flight = Some(Counted::begin(self.metrics.in_flight.with_label_values(&[class.as_str()])));
        self.class = class;
        self.matched = Some(matched);
    }

    /// The request is a write under this idempotency key.
    pub fn keyed(&mut self, key: HeaderValue) {
        self.request_key = Some(key);
    }

    /// Holds a place among the calls to Sezzle until the answer has been sent.
    pub fn holds(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The request is answered with an error of ours.
    pub fn failed(&mut self, error: &ProxyError) {
        self.spared(error);
        if error.is_refusal() {
            self.metrics.requests_refused.with_label_values(&[error.code()]).inc();
        }
    }

    /// The caller gets something else in place of an error of ours.
    pub fn spared(&mut self, error: &ProxyError) {
        self.error = Some(error.code());
        if let ProxyError::Upstream(cause) = error {
            tracing::warn!(request_id = self.request_id, route = self.route().template(), %cause, "exchange failed");
        }
        if let ProxyError::NoToken(cause) = error {
            tracing::warn!(request_id = self.request_id, route = self.route().template(), %cause, "not sent");
        }
    }

    /// An answer is on its way.
    pub fn answered(&mut self, reply: &Reply) {
        self.status = Some(reply.status);
        self.source = reply.source;
        self.cache = reply.cache.result.as_str();
        self.cache_detail = reply.cache.detail();
        if self.method == Method::HEAD {
            // Its body is never asked for.
            self.complete();
        }
    }

    /// Bytes of the body were handed to the connection.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The whole body was handed to the connection.
    pub fn complete(&mut self) {
        if self.end == End::CallerGone {
            self.end = End::Complete;
        }
    }

    /// Sezzle broke off in the middle of the body.
    pub fn broken(&mut self) {
        self.end = End::Broken;
    }

    /// The cache's word for a request that ended with an error of ours.
    pub fn cache_result_of_error(&self) -> CacheResult {
        if self.class == Class::Session && self.matched.is_some() { CacheResult::Error } else { CacheResult::Bypass }
    }

    /// The id of this request.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The idempotency key, if the request is a write that has one.
    pub fn request_key(&self) -> Option<&HeaderValue> {
        self.request_key.as_ref()
    }

    fn route(&self) -> Route {
        self.matched.as_ref().map_or(Route::Other, |matched| matched.route)
    }

    fn log(&self, seconds: f64) {
        let session = self.matched.as_ref().and_then(Matched::session).map(tracing::field::display);
        let order = self.matched.as_ref().and_then(Matched::order);
        let aborted = match self.end {
            End::Complete => None,
            End::CallerGone => Some("caller"),
            End::Broken => Some("upstream"),
        };
        tracing::info!(
            request_id = self.request_id,
            peer_uid = self.peer.map(|peer| peer.uid),
            peer_pid = self.peer.and_then(|peer| peer.pid),
            method = method_label(&self.method),
            route = self.route().template(),
            code = self.status.map_or(499, |status| status.as_u16()),
            source = self.source.as_str(),
            cache = self.cache,
            cache_detail = self.cache_detail,
            dur_ms = (seconds * 1e6).round() / 1e3,
            bytes_out = self.bytes_out,
            session,
            order,
            sezzle_request_id = self.request_key.as_ref().and_then(|key| key.to_str().ok()),
            error = self.error,
            aborted,
            "request"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Before the request counts as answered, so that the two never overlap.
        self.in_flight = None;
        let code = self.status.map_or("499", code_label);
        let labels = [self.route().template(), method_label(&self.method), code, self.source.as_str()];
        self.metrics.requests.with_label_values(&labels).inc();
        let seconds = self.clock.now().mono.since(self.began).as_secs_f64();
        self.metrics.request_duration.with_label_values(&[self.class.as_str(), self.cache]).observe(seconds);
        self.log(seconds);
    }
}
