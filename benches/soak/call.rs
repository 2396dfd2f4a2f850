//! One call, and what its answer tells the caller.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(45);

pub type Client = legacy::Client<HttpConnector, Full<Bytes>>;

/// The outcome of a write as its caller was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    Done,
    /// Sezzle refused the write, and no earlier attempt took effect.
    Refused,
    /// Nothing was sent.
    Unsent,
    /// The write may have been done.
    Open,
    /// Any other answer; no caller of a write may get one.
    Else,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `None` of an answer that broke off.
    pub body: Option<Bytes>,
}

impl Answer {
    pub fn told(&self) -> Told {
        match self.status {
            _ if self.body.is_none() => Told::Open,
            200..300 => Told::Done,
            503 if self.is_own_error() => Told::Unsent,
            504 if self.is_unknown() => Told::Open,
            _ if self.is_own_error() => Told::Else,
            400..500 if !self.has("proxy-status", "received-status=") => Told::Refused,
            _ => Told::Open,
        }
    }

    /// Whether the answer broke off, or is an error that is no fault of the caller.
    pub fn is_failed(&self) -> bool {
        self.body.is_none() || self.status >= 500 || self.is_own_error()
    }

    pub fn is_own_error(&self) -> bool {
        self.has("proxy-status", "; error=")
    }

    pub fn is_unknown(&self) -> bool {
        let text = self.body.as_deref().unwrap_or_default();
        self.status == 504 && String::from_utf8_lossy(text).contains("sidecar.outcome_unknown")
    }

    pub fn has(&self, name: &str, what: &str) -> bool {
        self.headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(what))
    }

    /// The body; `Null` of one that is no JSON.
    pub fn json(&self) -> Value {
        self.body.as_ref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default()
    }
}

/// Sends a request. `None` if nothing came back in time.
pub async fn sent(client: &Client, request: Request<Full<Bytes>>) -> Option<Answer> {
    let exchange = async {
        let (head, body) = client.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok().map(|body| body.to_bytes());
        Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    timeout(LIMIT, exchange).await.ok().flatten()
}

pub fn request(proxy: SocketAddr, method: Method, path: &str, key: Option<&str>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://{proxy}{path}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    if let Some(key) = key {
        request = request.header("sezzle-request-id", key);
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request")
}

pub fn client() -> Client {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(Duration::from_secs(5)).pool_timer(TokioTimer::new()).build_http()
}
