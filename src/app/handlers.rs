//! The request handlers of the listeners.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::time::timeout;

use crate::caller::{Caller, check_navigation};
use crate::control::Control;
use crate::ops::Ops;
use crate::proxy::Proxy;
use crate::proxy::error::ProxyError;
use crate::proxy::response::Body;
use crate::server::workers::Workers;
use crate::server::{Handler, Request};
use crate::status::serve::{PATHS, StatusPage};
use crate::supervisor::Supervisor;
use crate::webhook::Webhooks;

/// Serves each request to its end with the proxy that was in force when it arrived.
#[derive(Clone)]
pub(super) struct ProxyHandler(pub(super) Arc<ArcSwap<Proxy>>);

impl Handler for ProxyHandler {
    type Body = Body;

    fn handle(&self, request: Request, caller: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin {
        self.0.load().handle(request, caller)
    }
}

#[derive(Clone)]
pub(super) struct ControlHandler(pub(super) Control<ProxyError>, pub(super) StatusPage);

impl Handler for ControlHandler {
    type Body = Full<Bytes>;

    fn handle(&self, request: Request, caller: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin {
        let Self(control, page) = self;
        Box::pin(async move {
            match request.uri().path() {
                path if PATHS.contains(&path) => page.answer(&request.into_parts().0, &caller),
                _ => control.handle(request, caller).await,
            }
        })
    }
}

#[derive(Clone)]
pub(super) struct WebhookHandler(pub(super) Webhooks<ProxyError>);

impl Handler for WebhookHandler {
    type Body = Full<Bytes>;

    fn handle(&self, request: Request, _: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin {
        Box::pin(self.0.handle(request))
    }
}

#[derive(Clone)]
pub(super) struct OpsHandler {
    pub(super) ops: Ops,
    pub(super) page: Option<StatusPage>,
    pub(super) workers: Workers,
    pub(super) supervisor: Supervisor,
}

impl Handler for OpsHandler {
    type Body = Full<Bytes>;

    fn handle(&self, request: Request, caller: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin {
        let Self { ops, page, workers, supervisor } = self;
        Box::pin(async move {
            match (request.uri().path(), page) {
                (path, Some(page)) if PATHS.contains(&path) => page.answer(&request.into_parts().0, &caller),
                _ if check_navigation(request.headers()).is_err() => Ops::refused(),
                // This thread is alive. The threads that serve callers and the vital tasks must be alive too.
                ("/livez", _) if timeout(WORKERS_TIMEOUT, workers.respond()).await.is_err() => Ops::hanging(),
                ("/livez", _) if let Some(task) = supervisor.failed_task() => Ops::missing(task),
                (path, _) => ops.answer(request.method(), path),
            }
        })
    }
}

// Shorter than the timeout of probes. One piece of work occupies a thread for microseconds.
const WORKERS_TIMEOUT: Duration = Duration::from_secs(1);
