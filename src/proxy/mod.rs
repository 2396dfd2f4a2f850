//! One request, top to bottom: [`Proxy::handle`].
//!
//! [`inbound`] decides whether it is let through, [`route`] which call it is. A lookup of a session goes to the
//! session cache, everything else to [`forward`], and [`response`] is what the caller sees of it.

mod authentication;
mod conditional;
pub mod error;
pub mod exchange;
pub mod explain;
pub mod forward;
pub mod inbound;
pub mod links;
mod lookup;
pub mod pressure;
pub mod record;
mod request_key;
pub mod response;
pub mod route;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use self::error::{ProxyError, REFUSALS};
use self::exchange::{Answered, Sending};
use self::forward::Forwarder;
use self::inbound::{admit, outgoing_headers};
use self::pressure::Pressure;
use self::record::Record;
use self::request_key::Origin;
use self::response::{Body, CacheStatus, Content, Reply, Source};
use self::route::{Class, Matched, Route};
pub use self::write::Writes;
use crate::caller::{Caller, Hosts};
use crate::clock::Clock;
use crate::session::{CacheResult, SessionCache};
use crate::telemetry::log::new_request_id;
use crate::telemetry::metrics::Metrics;
use crate::upstream::retry::Call;
use crate::upstream::{Deadlines, Outgoing};

/// The session cache of this proxy.
pub type Sessions = SessionCache<ProxyError>;

/// How the proxy serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom it answers for.
    pub hosts: Hosts,
    /// What it keeps to.
    pub limits: Limits,
    /// Whether a misspelt idempotency key is one.
    pub normalise_request_id: bool,
}

/// Bounds that the proxy keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Places of a class of calls to Sezzle, and as many for bodies being received; see [`pressure`].
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

/// Serves requests. One per process, shared by all connections.
pub struct Proxy {
    options: Options,
    pressure: Arc<Pressure>,
    sessions: Arc<Sessions>,
    forwarder: Arc<Forwarder>,
    writes: Writes,
    draining: AtomicBool,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Proxy {
    /// Puts the parts together.
    pub fn new(
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
        for route in Route::WRITES {
            metrics.outcome_unknown.with_label_values(&[route.template()]).inc_by(0);
            metrics.refused_in_doubt.with_label_values(&[route.template()]).inc_by(0);
        }
        for origin in Origin::ALL {
            metrics.idempotency_keys.with_label_values(&[origin.as_str()]).inc_by(0);
        }
        Self {
            pressure: Arc::new(Pressure::new(options.limits.in_flight, &clock, &metrics)),
            forwarder: Arc::new(forwarder),
            draining: AtomicBool::new(false),
            options,
            sessions,
            writes,
            clock,
            metrics,
        }
    }

    /// From now on every answer asks the caller to open a new connection elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Serves one request of a caller's.
    pub async fn handle(&self, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut record = Record::begin(&head.method, request_id(&head), caller.peer, &self.clock, &self.metrics);
        let reply = match self.serve(&head, body, &caller, &mut record).await {
            Ok(reply) => reply,
            Err(error) => {
                record.failed(&error);
                let (status, headers, body) = error.answer(record.request_id());
                let cache = CacheStatus { result: record.cache_result_of_error(), ..CacheStatus::BYPASS };
                Reply { status, headers, content: Content::Whole(Some(body)), source: Source::Sidecar, cache }
            }
        };
        reply.finish(record, self.draining.load(Ordering::Relaxed))
    }

    async fn serve(
        &self,
        head: &Parts,
        body: Incoming,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<Reply, ProxyError> {
        let matched = admit(&self.options.hosts, head, !body.is_end_stream(), caller)?;
        let class = matched.route.class(&head.method);
        record.admitted(matched.clone(), class);
        match class {
            Class::Credentials if head.method == Method::POST => {
                let body = self.receive(body, class).await?;
                authentication::answer(&body, self.forwarder.tokens(), self.clock.now()).await
            }
            Class::Credentials => Err(ProxyError::MethodNotAllowed("POST")),
            _ if !head.method.is_safe() => {
                let body = self.receive(body, class).await?;
                self.write(head, &matched, class, body, record).await
            }
            Class::Session => match matched.session().filter(|_| is_cacheable(head)) {
                Some(session) => self.lookup(head, &matched, session, record).await,
                None => {
                    self.count(CacheResult::Bypass);
                    self.read(head, &matched, class, record).await
                }
            },
            Class::Read | Class::Report | Class::Money | Class::Webhooks => {
                self.read(head, &matched, class, record).await
            }
        }
    }

    /// A safe call that is not cached: Sezzle's answer is streamed as fast as the caller reads it.
    async fn read(
        &self,
        head: &Parts,
        matched: &Matched,
        class: Class,
        record: &mut Record,
    ) -> Result<Reply, ProxyError> {
        let place = self.pressure.enter(class, &head.method).await?;
        let sending = self.sending(head, matched, class, Bytes::new(), record);
        let answer = self.forwarder.call(sending, matched.route.carries_links(), &place).await?;
        record.holds(place);
        Ok(passed_on(answer, CacheStatus::BYPASS))
    }

    fn sending(&self, head: &Parts, matched: &Matched, class: Class, body: Bytes, record: &Record) -> Sending {
        let limits = &self.options.limits;
        let (head_limit, body_limit) = match class {
            Class::Report => (limits.report, REPORT_BODY),
            _ if head.method.is_safe() => (limits.read, READ_BODY),
            _ => (limits.write, WRITE_BODY),
        };
        let readable = self.forwarder.rewrites_links() && matched.route.carries_links();
        let target = head.uri.path_and_query().cloned();
        let outgoing = Outgoing {
            method: head.method.clone(),
            target: target.unwrap_or(PathAndQuery::from_static("/")),
            headers: outgoing_headers(&head.headers, readable || class == Class::Session),
            body,
            deadlines: Deadlines { head: head_limit, body: body_limit },
            route: matched.route.template(),
            class: class.as_str(),
        };
        let call = if head.method.is_safe() { Call::Safe } else { Call::Unkeyed };
        Sending { outgoing, call, request_id: record.request_id().to_owned() }
    }

    fn count(&self, result: CacheResult) {
        self.metrics.cache_requests.with_label_values(&[result.as_str()]).inc();
    }
}

/// From the head of the answer to a safe call to its end.
pub const READ_BODY: Duration = Duration::from_secs(30);
// Short, so that a drain outlasts a write; what it waits for is small.
const WRITE_BODY: Duration = Duration::from_secs(5);
const REPORT_BODY: Duration = Duration::from_secs(300);

/// Only the plain lookup is cached: a query may ask for something else.
fn is_cacheable(head: &Parts) -> bool {
    head.uri.query().is_none() && matches!(head.method, Method::GET | Method::HEAD)
}

fn passed_on(answer: Answered, cache: CacheStatus) -> Reply {
    let Answered { status, headers, content, in_doubt: _ } = answer;
    let cache = CacheStatus { fwd_status: Some(status), ..cache };
    Reply { status, headers, content, source: Source::Upstream, cache }
}

/// The caller's own id where it sent a plain one, else a new one.
fn request_id(head: &Parts) -> String {
    const HEADER: HeaderName = HeaderName::from_static("x-request-id");
    let plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
    };
    match head.headers.get(HEADER).and_then(|id| id.to_str().ok()).filter(plain) {
        Some(id) => id.to_owned(),
        None => new_request_id().to_string(),
    }
}
