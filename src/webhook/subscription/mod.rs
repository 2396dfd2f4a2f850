//! Watches whether Sezzle has our webhook subscription, and registers it with `webhooks.subscription = "keep"`.
//!
//! Sezzle deletes a subscription after five days of failures, for all its events, and notifies nobody. Then no event
//! comes any more, and stored sessions live to their end. Read next: [`plan`], which decides.

pub mod plan;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use self::plan::{Changes, Found, LookResult, next_look};
use crate::clock::Clock;
use crate::credentials::TokenManager;
use crate::telemetry::metrics::{LabelValue, Metrics, WEBHOOK_EVENTS};
use crate::upstream::{Deadlines, Outgoing, Upstream, own_headers};

/// The task that watches. Cheap to clone.
#[derive(Clone)]
pub struct Subscription(Arc<Inner>);

struct Inner {
    /// The URL at which Sezzle reaches us.
    url: String,
    /// Whether to register that URL.
    keep: bool,
    parts: Parts,
}

/// The other parts of the sidecar that the task uses.
pub struct Parts {
    pub upstream: Upstream,
    pub tokens: Arc<TokenManager>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl Parts {
    pub fn new(upstream: &Upstream, tokens: &Arc<TokenManager>, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        let (upstream, clock) = (upstream.clone(), clock.clone());
        Self { upstream, tokens: Arc::clone(tokens), clock, metrics: Arc::clone(metrics) }
    }
}

impl Subscription {
    /// Watches the subscription of this URL. `keep` says whether to register it.
    pub fn new(url: String, keep: bool, parts: Parts) -> Self {
        let metrics = &parts.metrics;
        for result in LookResult::WORDS {
            metrics.webhook_subscription_checks.with_label_values(&[result]).inc_by(0);
        }
        for result in CHANGE_RESULTS {
            metrics.webhook_subscription_changes.with_label_values(&[result]).inc_by(0);
        }
        Self(Arc::new(Inner { url, keep, parts }))
    }

    /// Looks at once, and then again and again.
    pub async fn run(self) {
        let Inner { keep, parts: Parts { tokens, clock, .. }, .. } = &*self.0;
        tokens.first_token().await;
        let (mut changes, mut failures, mut known) = (Changes::default(), 0_u32, None);
        loop {
            let found = self.look(&mut known).await;
            match &found {
                None => failures = failures.saturating_add(1),
                Some(Found::Whole) => {
                    failures = 0;
                    changes.whole(clock.mono());
                }
                Some(found @ (Found::Incomplete { .. } | Found::Absent)) => {
                    failures = 0;
                    if *keep && changes.may_change(clock.mono()) {
                        changes.changed(clock.mono());
                        self.change(found, &mut known).await;
                    }
                }
            }
            clock.sleep(next_look(failures)).await;
        }
    }

    /// Asks Sezzle for the list of subscriptions, and shows the result in metrics and, if it differs from the last
    /// result `known`, in the log. `None` if the list could not be read.
    async fn look(&self, known: &mut Option<LookResult>) -> Option<Found> {
        let Inner { url, parts: Parts { metrics, .. }, .. } = &*self.0;
        let (found, why) = match self.call(Method::GET, LIST, Bytes::new()).await {
            Ok(list) => (Found::read(&list, url, &WEBHOOK_EVENTS), "the answer is no list of subscriptions".to_owned()),
            Err(why) => (None, why),
        };
        let result = found.as_ref().map_or(LookResult::Failed, Found::result);
        metrics.webhook_subscription_checks.with_label_values(&[result.as_str()]).inc();
        if result != LookResult::Failed {
            let present = i64::from(result == LookResult::Present);
            metrics.webhook_subscription_present.with_label_values(NO_LABELS).set(present);
        }
        if *known != Some(result) {
            match result {
                LookResult::Present => tracing::info!("Sezzle has the webhook subscription with every event"),
                LookResult::Incomplete => tracing::warn!("the webhook subscription lacks some of Sezzle's events"),
                LookResult::Absent => tracing::warn!("Sezzle has no webhook subscription for webhooks.public_url"),
                LookResult::Failed => tracing::warn!(why, "the webhook subscriptions could not be read"),
            }
        }
        *known = Some(result);
        found
    }

    /// Registers our URL with every event, or adds the events that its subscription lacks.
    async fn change(&self, found: &Found, known: &mut Option<LookResult>) {
        let Inner { url, parts: Parts { metrics, .. }, .. } = &*self.0;
        // Another sidecar may make the same change at this moment, and a URL must not be registered twice.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..MOST_JITTER_MS))).await;
        if self.look(known).await.as_ref() != Some(found) {
            return;
        }
        let changed = match found {
            Found::Whole => return,
            Found::Absent => {
                let body = json!({"url": url, "events": WEBHOOK_EVENTS});
                self.call(Method::POST, LIST, body.to_string().into()).await
            }
            Found::Incomplete { id, events } => {
                let others = events.iter().map(String::as_str).filter(|event| !WEBHOOK_EVENTS.contains(event));
                let events: Vec<&str> = WEBHOOK_EVENTS.into_iter().chain(others).collect();
                let body = json!({"url": url, "events": events});
                self.call(Method::PATCH, &format!("{LIST}/{id}"), body.to_string().into()).await
            }
        };
        let result = match &changed {
            Ok(_) => "success",
            Err(_) => "failed",
        };
        metrics.webhook_subscription_changes.with_label_values(&[result]).inc();
        match changed {
            Ok(_) => tracing::warn!("the sidecar registered the webhook subscription for webhooks.public_url"),
            Err(why) => tracing::error!(why, "the sidecar could not register the webhook subscription"),
        }
        self.look(known).await;
    }

    /// Calls Sezzle once. Returns the body of a 2xx answer, or the reason why there is none.
    async fn call(&self, method: Method, target: &str, body: Bytes) -> Result<Bytes, String> {
        let Parts { upstream, tokens, .. } = &self.0.parts;
        let token = tokens.acquire(HEAD_TIMEOUT).await.map_err(|error| error.to_string())?;
        let mut headers = own_headers();
        headers.insert(AUTHORIZATION, token.authorization.clone());
        if method != Method::GET {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let mut outgoing = Outgoing {
            method,
            target: PathAndQuery::try_from(target).map_err(|error| error.to_string())?,
            headers,
            body,
            deadlines: Deadlines::new(HEAD_TIMEOUT, BODY_TIMEOUT),
            route: LabelValue::unnumbered(if target == LIST { LIST } else { ONE }),
            class: LabelValue::unnumbered("webhooks"),
        };
        let answer = upstream.send(&mut outgoing).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_| "the answer broke off or is too large".to_owned())?.to_bytes();
        match head.status {
            status if status.is_success() => Ok(body),
            // The next call has another token.
            StatusCode::UNAUTHORIZED => {
                tokens.after_unauthorized(token.generation, HEAD_TIMEOUT).await;
                Err("Sezzle answered 401".to_owned())
            }
            status => Err(format!("Sezzle answered {}", status.as_u16())),
        }
    }
}

/// `result` of `webhook_subscription_changes_total`.
const CHANGE_RESULTS: [&str; 2] = ["success", "failed"];
const NO_LABELS: &[&str] = &[];
const LIST: &str = "/v2/webhooks";
const ONE: &str = "/v2/webhooks/{webhook}";
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
// A merchant has a handful of subscriptions of a few hundred bytes.
const MAX_ANSWER: usize = 256 * 1024;
// Longer than a call takes.
const MOST_JITTER_MS: u64 = 2000;
