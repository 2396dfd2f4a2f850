//! The control listener: purges stored sessions, resets the state and sets the log level of a running process.
//!
//! The listener is off unless configured, and then only on a Unix socket or a loopback address. Each change is logged
//! with the user who asked for it, if the kernel tells.

pub mod client;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use uuid::Uuid;

use crate::caller::{Caller, FROM_BROWSER, Hosts, Refusal};
use crate::peer_body::PeerBody;
use crate::session::SessionCache;
use crate::session::invalidation::Tag;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// Serves the control listener. Cheap to clone.
#[derive(Clone)]
pub struct Control<E> {
    sessions: Arc<SessionCache<E>>,
    /// Resets the breakers, the holds and the retry budget.
    forget: Arc<dyn Fn() + Send + Sync>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Purge {
    Session(Uuid),
    Order(String),
    Token(String),
    All(True),
}

/// Accepts only `true`: `{"all": false}` has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "bool")]
struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, &'static str> {
        if value { Ok(Self) } else { Err("expected true") }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    level: String,
}

impl<E: Clone + Send + Sync + 'static> Control<E> {
    /// `forget` resets the memory of how calls to Sezzle ended: the breakers, the holds and the retry budget.
    pub fn new(
        sessions: Arc<SessionCache<E>>,
        forget: impl Fn() + Send + Sync + 'static,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { sessions, forget: Arc::new(forget), metrics }
    }

    pub async fn handle(&self, request: Request<Incoming>, caller: Caller) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = PeerBody::new(body, head.version);
        if let Err(refusal) = Hosts::default().check(&head, &caller) {
            return refused(refusal);
        }
        match (head.uri.path(), &head.method) {
            ("/log/level", &Method::GET | &Method::HEAD) => match log::level() {
                Some(level) => answer(StatusCode::OK, &json!({ "level": level })),
                None => error(StatusCode::CONFLICT, "this process has no log level"),
            },
            ("/log/level", &Method::PUT) => match receive(body).await {
                Ok(body) => set_level(&body, &caller),
                Err(refused) => refused,
            },
            ("/purge", &Method::POST) => match receive(body).await {
                Ok(body) => self.purge(&body, &caller).await,
                Err(refused) => refused,
            },
            ("/reset", &Method::POST) => match receive(body).await {
                Ok(_) => self.reset(&caller).await,
                Err(refused) => refused,
            },
            ("/log/level", _) => method_not_allowed("GET, HEAD, PUT"),
            ("/purge" | "/reset", _) => method_not_allowed("POST"),
            _ => error(StatusCode::NOT_FOUND, "try /purge, /reset or /log/level"),
        }
    }

    /// Returns the process to the state after its start, except for its connections and its token.
    async fn reset(&self, caller: &Caller) -> Response<Full<Bytes>> {
        (self.forget)();
        let removed = self.sessions.purge_all().await;
        self.metrics.cache_invalidations.with_label_values(&["control"]).inc();
        tracing::warn!(removed, peer_uid = caller.peer.map(|peer| peer.uid), "an operator reset the sidecar");
        answer(StatusCode::OK, &json!({ "removed": removed }))
    }

    async fn purge(&self, body: &[u8], caller: &Caller) -> Response<Full<Bytes>> {
        let purge = match serde_json::from_slice(body) {
            Ok(purge) => purge,
            Err(cause) => return unreadable("one of session, order, token or all", &cause),
        };
        let removed = match &purge {
            Purge::Session(session) => self.sessions.purge(&[Tag::Session(*session)]).await,
            Purge::Order(order) => self.sessions.purge(&[Tag::order(order)]).await,
            Purge::Token(token) => self.sessions.purge(&[Tag::token(token)]).await,
            Purge::All(True) => self.sessions.purge_all().await,
        };
        self.metrics.cache_invalidations.with_label_values(&["control"]).inc();
        let (what, id) = match &purge {
            Purge::Session(session) => ("session", Some(session.to_string())),
            // Tokens stay out of the log, and so does any text in the place of an order's identifier.
            Purge::Order(_) => ("order", None),
            Purge::Token(_) => ("token", None),
            Purge::All(True) => ("all", None),
        };
        tracing::info!(what, id, removed, peer_uid = caller.peer.map(|peer| peer.uid), "an operator purged sessions");
        answer(StatusCode::OK, &json!({ "removed": removed }))
    }
}

fn set_level(body: &[u8], caller: &Caller) -> Response<Full<Bytes>> {
    let wanted: LogLevel = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(cause) => return unreadable("a level", &cause),
    };
    let Some((word, level)) = log::LEVELS.into_iter().find(|(word, _)| *word == wanted.level) else {
        let words = log::LEVELS.map(|(word, _)| word).join(", ");
        return error(StatusCode::UNPROCESSABLE_ENTITY, &format!("level: expected one of {words}"));
    };
    let peer_uid = caller.peer.map(|peer| peer.uid);
    // A line has a field `level` already.
    let say = || tracing::warn!(new_level = word, peer_uid, "an operator set the log level");
    // Logged at the more verbose of the two levels.
    let quieter = level < LevelFilter::WARN;
    if quieter {
        say();
    }
    if !log::set_level(level) {
        return error(StatusCode::CONFLICT, "this process has no log level");
    }
    if !quieter {
        say();
    }
    answer(StatusCode::OK, &json!({ "level": word }))
}

async fn receive(body: PeerBody) -> Result<Bytes, Response<Full<Bytes>>> {
    match timeout(RECEIVE_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(cause)) if cause.is::<http_body_util::LengthLimitError>() => {
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        Ok(Err(_)) => Err(error(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(error(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);
// No request here needs a hundredth of this.
const MAX_BODY: usize = 16 * 1024;

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::Malformed(how) => error(StatusCode::BAD_REQUEST, how),
        Refusal::Misdirected => {
            error(StatusCode::MISDIRECTED_REQUEST, "this listener does not answer for this Host; use localhost")
        }
        Refusal::Scheme(which) => error(StatusCode::MISDIRECTED_REQUEST, which),
        Refusal::Browser => error(StatusCode::FORBIDDEN, FROM_BROWSER),
    }
}

fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {allowed} only"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn unreadable(expected: &str, cause: &serde_json::Error) -> Response<Full<Bytes>> {
    error(StatusCode::UNPROCESSABLE_ENTITY, &format!("expected a body that names {expected}: {cause}"))
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    answer(status, &json!({ "error": message }))
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(format!("{body}\n").into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_purged() {
        let parse = |text: &str| serde_json::from_str::<Purge>(text).ok();
        assert_eq!(parse(r#"{"order":"12a-g"}"#), Some(Purge::Order("12a-g".to_owned())));
        assert_eq!(parse(r#"{"token":"t"}"#), Some(Purge::Token("t".to_owned())));
        assert_eq!(parse(r#"{"all":true}"#), Some(Purge::All(True)));
        assert!(parse(r#"{"session":"6c9db5d4-d09a-4224-860a-b5438ac32ca8"}"#).is_some());
        for wrong in
            ["", "{}", r#"{"all":false}"#, r#"{"session":"x"}"#, r#"{"order":1}"#, r#"{"orders":"a"}"#, "\"all\""]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(r#"{"order":"a","token":"b"}"#), None, "one at a time");
    }
}
