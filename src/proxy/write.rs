//! A write: received whole, sent once, and seen by every lookup after its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::{ProxyError, REQUEST_KEY};
use super::forward::Forwarded;
use super::record::Record;
use super::response::{CacheStatus, Reply};
use super::route::{Class, Matched};
use super::{Proxy, passed_on, place};
use crate::session::writing::Ending;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};

impl Proxy {
    /// A write. What it changes is purged before it is sent, and again when it has ended, before the first byte of
    /// its answer: whoever has seen the answer finds nothing older than the write.
    pub(super) async fn write(
        &self,
        head: &Parts,
        matched: &Matched,
        class: Class,
        body: Bytes,
        record: &Record,
    ) -> Result<Reply, ProxyError> {
        let place = place(&self.in_flight)?;
        let outgoing = self.outgoing(head, matched, class, body);
        let key = outgoing.headers.get(REQUEST_KEY).cloned();
        let tag = Matched::written(head.uri.path());
        let (sessions, forwarder) = (Arc::clone(&self.sessions), Arc::clone(&self.forwarder));
        let (metrics, request_id) = (Arc::clone(&self.metrics), record.request_id().to_owned());
        let route = matched.route;
        let (give, answer) = oneshot::channel();
        // Not stopped when the caller hangs up: a write runs to its end and its outcome is logged.
        self.tasks.spawn(async move {
            let writing = sessions.begin_write(tag);
            let result = forwarder.call(outgoing, route.carries_links()).await;
            writing.end(ending(&result));
            drop(place);
            if let Err(ProxyError::OutcomeUnknown { key, cause }) = &result {
                metrics.outcome_unknown.with_label_values(&[route.template()]).inc();
                let key = key.as_ref().and_then(|key| key.to_str().ok());
                let route = route.template();
                tracing::error!(request_id, route, sezzle_request_id = key, %cause, "the outcome of a write is unknown");
            }
            if let Err(unclaimed) = give.send(result) {
                let code = match &unclaimed {
                    Ok(forwarded) => forwarded.status.as_u16(),
                    Err(error) => error.status().as_u16(),
                };
                tracing::info!(request_id, route = route.template(), code, "write ended after its caller had gone");
            }
        });
        let forwarded = answer.await.unwrap_or_else(|_| {
            let detail = "the task that sent it ended without an answer".to_owned();
            let cause = UpstreamError { kind: ErrorKind::Reset, sent: Sent::Maybe, detail };
            Err(ProxyError::OutcomeUnknown { key, cause })
        })?;
        Ok(passed_on(forwarded, CacheStatus::BYPASS))
    }

    /// Receives the whole body of a request: nothing is sent to Sezzle before it is here.
    pub(super) async fn receive(&self, body: Incoming) -> Result<Bytes, ProxyError> {
        if body.size_hint().lower() > self.limits.body as u64 {
            return Err(ProxyError::BodyTooLarge);
        }
        // Places of their own, so that callers who send slowly do not keep others from Sezzle.
        let _place = place(&self.receiving)?;
        let received = timeout(BODY_TIMEOUT, Limited::new(body, self.limits.body).collect()).await;
        match received.map_err(|_| ProxyError::BodyTimeout)? {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ProxyError::BodyTooLarge),
            Err(_) => Err(ProxyError::BodyBroken),
        }
    }
}

// For a caller to send the body of a write.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How a write ended, as far as what it changes is concerned.
fn ending(result: &Result<Forwarded, ProxyError>) -> Ending {
    match result {
        // A gateway that gave up on what is behind it cannot know what that will still do.
        Ok(answer) if answer.status.is_server_error() => Ending::Unknown,
        Ok(_) => Ending::Answered,
        Err(error) if error.nothing_was_sent() => Ending::NotSent,
        Err(_) => Ending::Unknown,
    }
}
