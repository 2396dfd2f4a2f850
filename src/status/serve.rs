//! Serves the page, as HTML, as plain text and as JSON, on one listener.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::content::Content;
use super::snapshot::Snapshot;
use super::{Status, json, page, text as plain};
use crate::caller::{Caller, Hosts, Refusal, check_navigation};
use crate::ops::text;

/// Serves the status page on one listener. Cheap to clone.
#[derive(Clone)]
pub struct StatusPage {
    status: Arc<Status>,
    hosts: Arc<ArcSwap<Hosts>>,
    reader: Reader,
    policy: HeaderValue,
}

/// The kinds of readers that a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Operators of this machine, on the control listener.
    Operator,
    /// Every reader in the pod's network, on the ops listener. The page leaves out identifiers, and `/metrics` is
    /// beside it.
    Network,
}

/// The paths that the page answers.
pub const PATHS: [&str; 2] = ["/", JSON_PATH];
const JSON_PATH: &str = "/status.json";

impl StatusPage {
    /// Serves `status` to requests whose `Host` is a name of this machine or one of `hosts`, which may change.
    pub fn new(status: Arc<Status>, hosts: Arc<ArcSwap<Hosts>>, reader: Reader) -> Self {
        Self { status, hosts, reader, policy: policy() }
    }

    /// Answers a request for one of [`PATHS`].
    pub fn answer(&self, head: &Parts, caller: &Caller) -> Response<Full<Bytes>> {
        match self.hosts.load().check_host(head, caller).and_then(|()| check_navigation(&head.headers)) {
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
        let snapshot = self.snapshot();
        let (kind, body) = match head.uri.path() {
            JSON_PATH => ("application/json", format!("{}\n", json::render(&snapshot))),
            _ if wants_text(&head.headers) => ("text/plain; charset=utf-8", plain::render(&Content::of(&snapshot))),
            _ => {
                let refresh = head.uri.query() == Some(page::REFRESH.trim_start_matches('?'));
                let has_metrics = self.reader == Reader::Network;
                ("text/html; charset=utf-8", page::render(&Content::of(&snapshot), refresh, has_metrics))
            }
        };
        let mut answer = Response::new(Full::new(body.into()));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        answer
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = self.status.snapshot();
        match self.reader {
            Reader::Operator => snapshot,
            Reader::Network => snapshot.without_identifiers(),
        }
    }
}

/// Whether a program asks for plain text. A browser asks for HTML first, and curl for anything.
fn wants_text(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"))
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
    // All characters are valid in a header. With an invalid one the page would lose its style and stay safe.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}
