//! The status page: what an operator needs to know first, on one HTML page that loads nothing else.
//!
//! The page changes nothing and costs requests nothing: a task of its own reads the metrics every 30 s, and each view
//! of the page reads them once more. The page names the merchant, so the control listener serves it, and the ops
//! listener only if the configuration says so. Read next: [`page`] for the layout, [`verdict`] for what counts as
//! trouble, [`history`] for the last hour.

pub mod callers;
pub mod chart;
pub mod counts;
mod gauges;
pub mod history;
pub mod html;
mod lasting;
pub mod page;
pub mod quantile;
pub mod snapshot;
pub mod verdict;
pub mod words;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tokio_util::sync::CancellationToken;

use self::counts::Counts;
use self::history::History;
use self::lasting::Lasting;
use self::snapshot::{About, ReloadState, Snapshot, TokenState};
use crate::caller::{Caller, Hosts, Refusal, check_shown};
use crate::clock::{Clock, Now};
use crate::credentials::TokenManager;
use crate::ops::{Ops, text};
use crate::telemetry::metrics::reading::series;
use crate::telemetry::metrics::{ConfigReload, Metrics};

/// Serves the status page on one listener. Cheap to clone.
#[derive(Clone)]
pub struct StatusPage {
    status: Arc<Status>,
    hosts: Arc<ArcSwap<Hosts>>,
}

/// The sources of the page's facts, and the history of the last hour.
pub struct Status {
    about: About,
    ops: Ops,
    tokens: Arc<TokenManager>,
    seen: Mutex<Seen>,
    reload: ArcSwap<ReloadState>,
    started: Now,
    policy: HeaderValue,
    clock: Clock,
}

impl Status {
    /// Collects facts from these parts, from now on.
    pub fn new(about: About, ops: Ops, tokens: Arc<TokenManager>, clock: Clock) -> Self {
        let started = clock.now();
        let history = History::new(Counts::default(), started.mono);
        let seen = Seen { history, unpublished: Lasting::default(), unpublished_for: Duration::ZERO };
        let (seen, reload) = (Mutex::new(seen), ArcSwap::default());
        Self { about, ops, tokens, seen, reload, started, policy: policy(), clock }
    }

    /// Reads the metrics every 30 s, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                self.clock.sleep(INTERVAL).await;
                self.look(self.ops.fresh_metrics(), self.clock.now(), |_| ());
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let (now, metrics) = (self.clock.now(), self.ops.fresh_metrics());
        let live = self.tokens.live().map(|token| (token.expires.remaining(now), token.expires.wall()));
        let (hour, unpublished_for) =
            self.look(metrics, now, |seen| (seen.history.hour(now.mono), seen.unpublished_for));
        Snapshot {
            now: now.wall,
            uptime: now.since(self.started),
            about: self.about.clone(),
            merchant: self.tokens.merchant(),
            unready: self.ops.unready(),
            draining: self.ops.is_draining(),
            token: TokenState { left: live, failure: self.tokens.last_error().map(|error| error.public()) },
            unused_keys: self.tokens.unused_keys(),
            clock_skew: gauges::clock_skew(metrics),
            classes: gauges::classes(metrics, now.wall),
            listeners: gauges::listeners(metrics, &self.about),
            sessions: gauges::size(metrics.cache_entries.get()),
            session_bytes: gauges::size(metrics.cache_bytes.get()),
            in_flight: series(&metrics.in_flight).map(|series| series.gauge()).sum(),
            hour,
            reload: ReloadState::clone(&self.reload.load()),
            fleet: self.about.fleet.clone().map(|server| gauges::fleet(metrics, server, unpublished_for)),
            recent_errors: metrics.recent_errors.list(),
        }
    }

    /// Notes that the configuration was reloaded, or that a reload failed, and the keys that wait for a restart.
    pub fn reloaded(&self, how: ConfigReload, waiting: Vec<&'static str>) {
        self.reload.store(Arc::new(ReloadState { last: Some((self.clock.now().wall, how)), waiting }));
    }

    fn look<T>(&self, metrics: &Metrics, now: Now, then: impl FnOnce(&Seen) -> T) -> T {
        // The counts are read under the lock: otherwise the later of two readers could bring the earlier counts.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.history.observe(Counts::read(metrics), now.mono);
        seen.unpublished_for = seen.unpublished.observe(gauges::unpublished(metrics) > 0, now.mono);
        then(&seen)
    }
}

/// Everything that the observations so far have found.
struct Seen {
    history: History,
    unpublished: Lasting,
    unpublished_for: Duration,
}

// Several observations fall into each part of the hour that is kept.
const INTERVAL: Duration = Duration::from_secs(30);

impl StatusPage {
    /// Serves `status` to requests whose `Host` is a name of this machine or one of `hosts`, which may change.
    pub fn new(status: Arc<Status>, hosts: Arc<ArcSwap<Hosts>>) -> Self {
        Self { status, hosts }
    }

    pub fn answer(&self, head: &Parts, caller: &Caller) -> Response<Full<Bytes>> {
        match self.hosts.load().check_host(head, caller).and_then(|()| check_shown(&head.headers)) {
            Ok(()) => {}
            Err(Refusal::Malformed(how)) => return text(StatusCode::BAD_REQUEST, format!("{how}\n")),
            Err(Refusal::Misdirected) => return text(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED),
            Err(Refusal::Scheme(which)) => return text(StatusCode::MISDIRECTED_REQUEST, format!("{which}\n")),
            Err(Refusal::Browser) => {
                return text(StatusCode::FORBIDDEN, "a browser may open this page, but no web page may load it\n");
            }
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let page =
            page::render(&self.status.snapshot(), head.uri.query() == Some(page::REFRESH.trim_start_matches('?')));
        let mut answer = Response::new(Full::new(page.into()));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, self.status.policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        answer
    }
}

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const MISDIRECTED: &str = "this listener does not answer for this Host (see proxy.hosts)\n";

/// Content-Security-Policy: allows the page's own style and icon, no script, no frame and nothing from elsewhere.
fn policy() -> HeaderValue {
    let hash = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, page::STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    // All characters are valid in a header. If one were not, the page would be shown without style.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

#[cfg(test)]
mod tests;
