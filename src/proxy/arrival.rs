//! The lines of the log for a request when it arrives, at level `debug`, and the warnings of requests that are probably
//! mistakes of a service.

use std::fmt;

use http::HeaderMap;
use http::header::{HOST, USER_AGENT};
use http::request::Parts;

use super::record::{Record, RequestId};
use super::shown_path::shown_path;
use crate::caller::Caller;
use crate::callers::named::NamedCaller;
use crate::clock::Mono;
use crate::telemetry::log::excerpt::excerpt;
use crate::telemetry::log::throttle::Throttle;
use crate::telemetry::metrics::method_label;

/// Logs which request arrives, and over which connection.
#[cold]
pub(super) fn log_arrival(head: &Parts, caller: &Caller, request_id: &RequestId) {
    tracing::debug!(
        %request_id,
        method = method_label(&head.method),
        path = shown_path(head.uri.path()),
        host = shown_host(head),
        user_agent = agent(&head.headers),
        version = ?head.version,
        connection = %Connection(caller),
        "a request arrives"
    );
}

/// Warns, once a minute at most, of requests for paths that the sidecar does not serve.
#[derive(Debug, Default)]
pub(super) struct UnservedPaths(Throttle);

impl UnservedPaths {
    pub(super) fn warn(&self, head: &Parts, now: Mono) {
        if let Some(requests) = self.0.count(now) {
            tracing::warn!(
                requests,
                path = shown_path(head.uri.path()),
                user_agent = agent(&head.headers),
                "requests come for paths outside /v2/; the base URL of a service may be wrong, or a client uses \
                 Sezzle's version 1 (see proxy.v1)"
            );
        }
    }
}

/// Warns, once a minute at most, of requests whose certificate has names of two callers.
#[derive(Debug, Default)]
pub(super) struct AmbiguousCertificates(Throttle);

impl AmbiguousCertificates {
    pub(super) fn warn(&self, one: &NamedCaller, other: &NamedCaller, record: &Record) {
        if let Some(requests) = self.0.count(record.began.mono) {
            tracing::warn!(
                requests,
                request_id = %record.request_id,
                callers = [one.name.as_str(), other.name.as_str()].join(", "),
                "a certificate has names of two callers, so it tells neither; give each caller a certificate of its own"
            );
        }
    }
}

fn agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT).map(|agent| excerpt(agent.as_bytes()))
}

/// The host that a request names, without a user and a password before it. A target in absolute form wins over `Host`
/// (RFC 9112, 3.2.2).
pub(super) fn shown_host(head: &Parts) -> &str {
    let host = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = host.or_else(|| head.headers.get(HOST).map(|host| host.as_bytes())).unwrap_or_default();
    excerpt(host.rsplit(|byte| *byte == b'@').next().unwrap_or_default())
}

/// The other end of a connection.
struct Connection<'c>(&'c Caller);

impl fmt::Display for Connection<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.remote, self.0.peer) {
            (Some(remote), _) => write!(formatter, "{remote}"),
            (None, Some(peer)) => match peer.pid {
                Some(pid) => write!(formatter, "unix, uid {}, pid {pid}", peer.uid),
                None => write!(formatter, "unix, uid {}", peer.uid),
            },
            (None, None) => formatter.write_str("unknown"),
        }
    }
}
