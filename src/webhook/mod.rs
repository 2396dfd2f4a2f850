//! The webhook listener: verifies webhooks from Sezzle, purges the sessions that they concern, and forwards them to the
//! service.
//!
//! This is the one listener that strangers may reach. A body without Sezzle's signature has no effect and is not
//! forwarded. The `Host` is not checked, since Sezzle uses a public name that the merchant chose. Read next: [`event`]
//! for the purges, and [`forward`] for the request to the service.

pub mod event;
pub mod forward;
mod result;
pub mod signature;
pub mod subscription;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use self::event::{Concerns, Event};
use self::forward::{Forward, ForwardError};
use crate::caller::is_browser_header;
use crate::clock::Clock;
use crate::credentials::TokenManager;
use crate::drift::Drift;
use crate::drift::shape::Subject;
use crate::peer_body::PeerBody;
use crate::session::SessionCache;
use crate::telemetry::log::excerpt::excerpt;
use crate::telemetry::log::throttle::Throttle;
use crate::telemetry::metrics::{Metrics, OTHER_EVENT, code_label};
use crate::telemetry::recent_errors::Kind;

pub use self::result::WebhookResult;

/// Serves the webhook listener. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks<E>(Arc<Inner<E>>);

struct Inner<E> {
    path: String,
    forward: Option<Forward>,
    sessions: Arc<SessionCache<E>>,
    tokens: Arc<TokenManager>,
    tasks: TaskTracker,
    drift: Drift,
    /// Limits the warnings of webhooks that Sezzle did not sign.
    unsigned: Throttle,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// A signed webhook after its purge.
struct Purged {
    event: Event,
    is_json: bool,
    removed: usize,
}

impl<E: Clone + Send + Sync + 'static> Webhooks<E> {
    /// Serves `path`, and forwards with `forward` in tasks of `tasks`.
    pub fn new(
        path: String,
        forward: Option<Forward>,
        sessions: Arc<SessionCache<E>>,
        tokens: Arc<TokenManager>,
        (tasks, drift): (TaskTracker, Drift),
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let unsigned = Throttle::default();
        Self(Arc::new(Inner { path, forward, sessions, tokens, tasks, drift, unsigned, clock, metrics }))
    }

    pub async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let body = match self.receive(&head, PeerBody::new(body, head.version)).await {
            Ok(body) => body,
            Err(refused) => {
                let hint = signature::misplaced(&head.headers).filter(|_| refused == WebhookResult::BadSignature);
                if refused == WebhookResult::BadSignature {
                    self.warn_of_signature(&head, hint);
                }
                self.record(refused, None, None, hint, began);
                return refused.answer();
            }
        };
        let this = self.clone();
        // The task goes on if Sezzle hangs up: the service's own work cannot be undone either.
        let forwarded = self.0.tasks.spawn(async move {
            // The purge comes first: the service looks up the session when it hears of the event.
            let purged = this.purge(&body).await;
            this.0.drift.offer(Subject::Webhook, &body);
            let error = this.forward(&head, body).await.err();
            let result = match &error {
                None if purged.is_json => WebhookResult::Accepted,
                None => WebhookResult::Malformed,
                Some(ForwardError::Refused(_) | ForwardError::Failed(_)) => WebhookResult::ForwardFailed,
                Some(ForwardError::Timeout) => WebhookResult::ForwardTimeout,
                Some(ForwardError::Busy) => WebhookResult::Busy,
            };
            this.record(result, Some(&purged), error.as_ref(), None, began);
            result
        });
        forwarded.await.unwrap_or(WebhookResult::ForwardFailed).answer()
    }

    /// Receives the whole body of a webhook, and checks Sezzle's signature.
    async fn receive(&self, head: &Parts, body: PeerBody) -> Result<Bytes, WebhookResult> {
        if head.headers.keys().any(is_browser_header) {
            return Err(WebhookResult::Browser);
        }
        if head.uri.path() != self.0.path {
            return Err(WebhookResult::NotFound);
        }
        if head.method != Method::POST {
            return Err(WebhookResult::MethodNotAllowed);
        }
        let signature = signature::read(&head.headers).ok_or(WebhookResult::BadSignature)?;
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(WebhookResult::TooLarge);
        }
        let body = match timeout(RECEIVE_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(cause)) if cause.is::<http_body_util::LengthLimitError>() => return Err(WebhookResult::TooLarge),
            Ok(Err(_)) => return Err(WebhookResult::BodyBroken),
            Err(_) => return Err(WebhookResult::BodyTimeout),
        };
        if self.0.tokens.is_signed(&body, &signature) { Ok(body) } else { Err(WebhookResult::BadSignature) }
    }

    /// Reads the event and purges the sessions that it concerns, here and at the other sidecars of a fleet.
    async fn purge(&self, body: &[u8]) -> Purged {
        let event = Event::read(body);
        let is_json = event.is_some();
        let event = event.unwrap_or_else(Event::unreadable);
        let sessions = &self.0.sessions;
        let removed = match &event.concerns {
            Concerns::Tags(tags) if tags.is_empty() => 0,
            Concerns::Tags(tags) => {
                self.0.metrics.cache_invalidations.with_label_values(&["webhook"]).inc();
                sessions.purge(tags).await
            }
            Concerns::Everything => {
                self.0.metrics.cache_invalidations.with_label_values(&["webhook"]).inc();
                sessions.purge_all().await
            }
        };
        Purged { event, is_json, removed }
    }

    async fn forward(&self, head: &Parts, body: Bytes) -> Result<(), ForwardError> {
        let Some(forward) = &self.0.forward else { return Ok(()) };
        let began = Instant::now();
        let sent = forward.send(&head.headers, body).await;
        if !matches!(sent, Err(ForwardError::Busy)) {
            self.0.metrics.webhook_forward_duration.observe(began.elapsed().as_secs_f64());
        }
        sent
    }

    /// Warns, once a minute at most, of webhooks that Sezzle did not sign. The only facts about such a webhook are its
    /// headers, which anybody can forge.
    fn warn_of_signature(&self, head: &Parts, hint: Option<&'static str>) {
        let Inner { unsigned, clock, .. } = &*self.0;
        let Some(webhooks) = unsigned.count(clock.mono()) else { return };
        let shown = |name| head.headers.get(name).map(|value: &HeaderValue| excerpt(value.as_bytes()));
        let (forwarded_for, user_agent) = (shown(X_FORWARDED_FOR), shown(USER_AGENT));
        tracing::warn!(
            webhooks,
            forwarded_for,
            user_agent,
            hint,
            "webhooks come without Sezzle's signature by the sidecar's keys: register the webhook with these keys, and \
             let no proxy change its body"
        );
    }

    /// Counts and logs the webhook. Nothing from an unsigned body is logged.
    fn record(
        &self,
        result: WebhookResult,
        purged: Option<&Purged>,
        error: Option<&ForwardError>,
        hint: Option<&'static str>,
        began: Instant,
    ) {
        let event = purged.map_or(OTHER_EVENT, |purged| purged.event.name());
        self.0.metrics.webhooks.with_label_values(&[event, result.as_str()]).inc();
        if purged.is_some() {
            self.0.metrics.last_webhook.note();
        }
        if result != WebhookResult::Accepted {
            let code = Some(code_label(result.status()));
            let kind = Kind { about: "webhook", what: result.as_str(), code, ..Kind::default() };
            self.0.metrics.recent_errors.note(kind, None);
        }
        let webhook = purged.and_then(|purged| purged.event.uuid.as_deref());
        let removed = purged.map(|purged| purged.removed);
        let (result, code) = (result.as_str(), result.status().as_u16());
        let dur_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        match error {
            None => tracing::info!(event, webhook, result, code, removed, dur_ms, hint, "webhook"),
            // Sezzle ends the subscription if this goes on for days.
            Some(error) => tracing::warn!(event, webhook, result, code, removed, dur_ms, %error, "webhook"),
        }
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

// Sezzle's events take a few KiB.
const MAX_BODY: usize = 256 * 1024;
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);
