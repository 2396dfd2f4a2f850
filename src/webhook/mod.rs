//! The webhook listener: what Sezzle posts is verified, purges what it names, and is handed on to the service.
//!
//! It is the one listener that strangers may reach. A body that Sezzle did not sign has no effect and goes nowhere; the
//! `Host` it was sent to says nothing either way, since Sezzle uses a public name of the merchant's choice.
//! Read next: [`event`] (what is purged) and [`forward`] (what the service gets).

pub mod event;
pub mod forward;
mod outcome;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use self::event::{Concerns, Event};
use self::forward::{Forward, ForwardError};
use crate::caller::is_of_browser;
use crate::credentials::TokenManager;
use crate::peer_body::PeerBody;
use crate::session::SessionCache;
use crate::telemetry::metrics::{Metrics, OTHER_EVENT, code_label};
use crate::telemetry::troubles::Kind;

pub use self::outcome::Outcome;

/// Answers for the webhook listener. Cheap to clone.
pub struct Webhooks<E>(Arc<Inner<E>>);

struct Inner<E> {
    path: String,
    forward: Option<Forward>,
    sessions: Arc<SessionCache<E>>,
    tokens: Arc<TokenManager>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
}

// Derived, it would ask the same of `E`.
impl<E> Clone for Webhooks<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What is known of a webhook that Sezzle signed.
struct Read {
    event: Event,
    is_json: bool,
    /// How many sessions it purged.
    removed: usize,
}

impl<E: Clone + Send + Sync + 'static> Webhooks<E> {
    /// Serves `path`, and hands on by `forward`, in `tasks`.
    pub fn new(
        path: String,
        forward: Option<Forward>,
        sessions: Arc<SessionCache<E>>,
        tokens: Arc<TokenManager>,
        tasks: TaskTracker,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner { path, forward, sessions, tokens, tasks, metrics }))
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let body = match self.receive(&head, PeerBody::new(body, head.version)).await {
            Ok(body) => body,
            Err(refused) => {
                let hint = signature::misplaced(&head.headers).filter(|_| refused == Outcome::BadSignature);
                self.record(refused, None, None, hint, began);
                return refused.answer();
            }
        };
        // Purged before it is handed on: the service looks the session up when it hears of it.
        let read = self.read(&body);
        let this = self.clone();
        // Not stopped when Sezzle hangs up: what the service has done by then is not undone either.
        let handed_on = self.0.tasks.spawn(async move {
            let error = this.hand_on(&head, body).await.err();
            let outcome = match &error {
                None if read.is_json => Outcome::Accepted,
                None => Outcome::Malformed,
                Some(ForwardError::Refused(_) | ForwardError::Failed(_)) => Outcome::ForwardFailed,
                Some(ForwardError::Timeout) => Outcome::ForwardTimeout,
                Some(ForwardError::Busy) => Outcome::Busy,
            };
            this.record(outcome, Some(&read), error.as_ref(), None, began);
            outcome
        });
        handed_on.await.unwrap_or(Outcome::ForwardFailed).answer()
    }

    /// The whole body of a webhook, once it is sure that Sezzle signed it.
    async fn receive(&self, head: &Parts, body: PeerBody) -> Result<Bytes, Outcome> {
        if head.headers.keys().any(is_of_browser) {
            return Err(Outcome::Browser);
        }
        if head.uri.path() != self.0.path {
            return Err(Outcome::NotFound);
        }
        if head.method != Method::POST {
            return Err(Outcome::MethodNotAllowed);
        }
        let signature = signature::read(&head.headers).ok_or(Outcome::BadSignature)?;
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(Outcome::TooLarge);
        }
        let body = match timeout(RECEIVE, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(cause)) if cause.is::<http_body_util::LengthLimitError>() => return Err(Outcome::TooLarge),
            Ok(Err(_)) => return Err(Outcome::BodyBroken),
            Err(_) => return Err(Outcome::BodyTimeout),
        };
        if self.0.tokens.is_signed(&body, &signature) { Ok(body) } else { Err(Outcome::BadSignature) }
    }

    /// Reads the event and purges what it names.
    fn read(&self, body: &[u8]) -> Read {
        let event = Event::read(body);
        let is_json = event.is_some();
        let event = event.unwrap_or_else(Event::unreadable);
        let sessions = &self.0.sessions;
        let removed = match &event.concerns {
            Concerns::Tags(tags) if tags.is_empty() => 0,
            Concerns::Tags(tags) => {
                self.0.metrics.cache_invalidations.with_label_values(&["webhook"]).inc();
                tags.iter().map(|tag| sessions.purge(tag)).sum()
            }
            Concerns::Everything => {
                self.0.metrics.cache_invalidations.with_label_values(&["webhook"]).inc();
                sessions.purge_all()
            }
        };
        Read { event, is_json, removed }
    }

    async fn hand_on(&self, head: &Parts, body: Bytes) -> Result<(), ForwardError> {
        let Some(forward) = &self.0.forward else { return Ok(()) };
        let began = Instant::now();
        let sent = forward.send(&head.headers, body).await;
        if !matches!(sent, Err(ForwardError::Busy)) {
            self.0.metrics.webhook_forward_duration.observe(began.elapsed().as_secs_f64());
        }
        sent
    }

    /// Counts and logs. Of a body that Sezzle did not sign nothing is logged.
    fn record(
        &self,
        outcome: Outcome,
        read: Option<&Read>,
        error: Option<&ForwardError>,
        hint: Option<&'static str>,
        began: Instant,
    ) {
        let event = read.map_or(OTHER_EVENT, |read| read.event.name());
        self.0.metrics.webhooks.with_label_values(&[event, outcome.as_str()]).inc();
        if outcome != Outcome::Accepted {
            let code = Some(code_label(outcome.status()));
            let kind = Kind { about: "webhook", what: outcome.as_str(), code, ..Kind::default() };
            self.0.metrics.troubles.note(kind, None);
        }
        let webhook = read.and_then(|read| read.event.uuid.as_deref());
        let removed = read.map(|read| read.removed);
        let (result, code) = (outcome.as_str(), outcome.status().as_u16());
        let dur_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        match error {
            None => tracing::info!(event, webhook, result, code, removed, dur_ms, hint, "webhook"),
            // Sezzle ends the subscription when this goes on for days.
            Some(error) => tracing::warn!(event, webhook, result, code, removed, dur_ms, %error, "webhook"),
        }
    }
}

// Sezzle's events take a few KiB.
const MAX_BODY: usize = 256 * 1024;
const RECEIVE: Duration = Duration::from_secs(10);
