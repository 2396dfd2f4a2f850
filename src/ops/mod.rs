//! The ops listener: `/metrics`, `/livez` and `/readyz`. GET and HEAD only, and without side effects, so that the pod's
//! network may reach this listener.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use crate::credentials::TokenManager;
use crate::telemetry::metrics::Metrics;
use crate::text::printable;

/// Why the sidecar is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    pub reason: &'static str,
    /// The cause of the last failure, as the log has it.
    cause: Option<String>,
}

impl fmt::Display for Unready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason)?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(formatter, ": {cause}"))
    }
}

/// Serves metrics and health. Cheap to clone.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    metrics: Arc<Metrics>,
    tokens: Arc<TokenManager>,
    before_scrape: Box<dyn Fn() + Send + Sync>,
    draining: AtomicBool,
}

impl Ops {
    /// Serves the state of these parts. `before_scrape` updates gauges.
    pub fn new(
        metrics: Arc<Metrics>,
        tokens: Arc<TokenManager>,
        before_scrape: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let before_scrape = Box::new(before_scrape);
        Self(Arc::new(Inner { metrics, tokens, before_scrape, draining: AtomicBool::new(false) }))
    }

    /// Makes the sidecar unready from now on.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.metrics.draining.set(1);
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Why the sidecar is not ready; `None` if it is. A sidecar is ready once it is configured, listens and has had a
    /// token. Sezzle's health does not matter.
    pub fn unready(&self) -> Option<Unready> {
        if self.is_draining() {
            return Some(Unready { reason: "draining", cause: None });
        }
        if self.0.tokens.ever_had_token() {
            return None;
        }
        let first = Unready { reason: "the first token is being obtained", cause: None };
        Some(self.exchange_failure().unwrap_or(first))
    }

    /// How the last token exchange failed; `None` if it did not.
    pub fn exchange_failure(&self) -> Option<Unready> {
        let error = self.0.tokens.last_error()?;
        // Libraries word a part of the cause, and a peer may have a say in that. The answer is one line of text.
        Some(Unready { reason: error.public(), cause: error.cause().map(|cause| printable(cause, MAX_CAUSE)) })
    }

    pub fn fresh_metrics(&self) -> &Metrics {
        (self.0.before_scrape)();
        &self.0.metrics
    }

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
            // A process that can respond is alive. An outage of Sezzle must not cause restarts.
            _ => text(StatusCode::OK, "alive\n"),
        }
    }

    /// The response to a browser that loads this on behalf of another page.
    pub fn refused() -> Response<Full<Bytes>> {
        text(StatusCode::FORBIDDEN, "a browser may open this path, but no web page may load it\n")
    }

    /// The response to a probe while a thread that serves callers hangs. Only a restart helps then.
    pub fn hanging() -> Response<Full<Bytes>> {
        text(StatusCode::SERVICE_UNAVAILABLE, "a thread that serves callers hangs\n")
    }

    /// The response to a probe while a vital task is gone or hangs. A task that panicked is started again; a probe that
    /// fails for longer means that this did not help.
    pub fn missing(task: &str) -> Response<Full<Bytes>> {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("a vital task has ended or hangs: {task}\n"))
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
                tracing::error!(%error, "the sidecar cannot write its metrics");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the sidecar cannot write its metrics\n")
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

// More characters than any cause of our own wording has.
const MAX_CAUSE: usize = 300;

/// A short answer in plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
