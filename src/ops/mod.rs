//! The operators' listener: `/metrics`, `/livez`, `/readyz`. GET only, and nothing here changes anything, so that it
//! may be reachable from the pod's network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use crate::credentials::TokenManager;
use crate::telemetry::metrics::Metrics;

/// Answers for metrics and health. Cheap to clone.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    metrics: Arc<Metrics>,
    tokens: Arc<TokenManager>,
    before_scrape: Box<dyn Fn() + Send + Sync>,
    draining: AtomicBool,
}

impl Ops {
    /// Answers for these parts. `before_scrape` brings gauges up to date.
    pub fn new(
        metrics: Arc<Metrics>,
        tokens: Arc<TokenManager>,
        before_scrape: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let before_scrape = Box::new(before_scrape);
        Self(Arc::new(Inner { metrics, tokens, before_scrape, draining: AtomicBool::new(false) }))
    }

    /// Not ready from now on.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.metrics.draining.set(1);
    }

    /// Whether it is stopping.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Why it is not ready; `None` if it is. Ready: configured, listening, and there was a token once. It does not follow
    /// Sezzle's health.
    pub fn unready(&self) -> Option<&'static str> {
        if self.is_draining() {
            return Some("draining");
        }
        if self.0.tokens.ever_had_token() {
            return None;
        }
        let error = self.0.tokens.last_error();
        Some(error.map_or("the first token is being obtained", |error| error.public()))
    }

    /// The metrics, brought up to date.
    pub fn fresh_metrics(&self) -> &Metrics {
        (self.0.before_scrape)();
        &self.0.metrics
    }

    /// Answers one request.
    pub fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let known = matches!(path, "/metrics" | "/livez" | "/readyz");
        if !known {
            return text(StatusCode::NOT_FOUND, "try /metrics, /livez or /readyz\n");
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(),
            // Whoever can answer is alive. An outage of Sezzle must not restart anything.
            _ => text(StatusCode::OK, "alive\n"),
        }
    }

    /// The answer to a browser that asks for another page.
    pub fn refused() -> Response<Full<Bytes>> {
        text(StatusCode::FORBIDDEN, "a browser may show this, and no page may load it\n")
    }

    /// The answer to a probe when a thread that serves callers does not respond: only a new start helps then.
    pub fn hanging() -> Response<Full<Bytes>> {
        text(StatusCode::SERVICE_UNAVAILABLE, "a thread that serves callers hangs\n")
    }

    /// The answer to a probe when a task is gone or hangs that the process cannot do without. A task that has panicked begins
    /// anew by itself; probes that fail for longer mean that this does not help.
    pub fn missing(task: &str) -> Response<Full<Bytes>> {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("a task that must live is gone or hangs: {task}\n"))
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.fresh_metrics().render() {
            Ok(body) => {
                let mut answer = text(StatusCode::OK, body);
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                answer.headers_mut().insert(CONTENT_TYPE, format);
                answer
            }
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n")
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.unready() {
            None => text(StatusCode::OK, "ready\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
