//! A caller of the sidecar. A response header that is not on the caller's list fails the test, so that leaks show.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Collected, Full};
use hyper_util::client::legacy::Error;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{eventually, header};

const LIMIT: Duration = Duration::from_secs(30);

/// Headers that an answer of the sidecar may carry. `x-gateway` stands for any header that the gateway may add.
const ALLOWED: [&str; 29] = [
    "age",
    "allow",
    "cache-control",
    "cache-status",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "pragma",
    "proxy-status",
    "retry-after",
    "sezzle-request-id",
    "transfer-encoding",
    "vary",
    "via",
    "x-gateway",
    "www-authenticate",
    "x-request-id",
    // Headers of the status page only.
    "content-security-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
    "x-content-type-options",
    "location",
    "content-location",
    "link",
];

pub struct Client(hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>);

/// An answer, received whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub fn new() -> Self {
        let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        // A listener closes connections that were idle for 5 s. A request must not meet that moment.
        builder.pool_idle_timeout(Duration::from_secs(3));
        // The sidecar passes on all headers that the gateway sends, however many lines there are.
        Self(builder.http1_max_headers(20_000).build_http())
    }

    /// A client that speaks HTTP/2 from the first byte.
    pub fn http2() -> Self {
        Self(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http())
    }

    pub async fn get(&self, address: SocketAddr, path: &str) -> Answer {
        self.send(address, Method::GET, path, &[], "").await
    }

    pub async fn send(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        match self.try_send(address, method, path, headers, body).await {
            Ended::Whole(answer) => answer,
            other => panic!("no whole answer: {other:?}"),
        }
    }

    /// Waits until the sidecar with this ops listener is ready. Before the start has ended, nothing listens there.
    pub async fn until_ready(&self, ops: SocketAddr) {
        eventually("ready", async || {
            TcpStream::connect(ops).await.is_ok() && self.get(ops, "/readyz").await.status == 200
        })
        .await;
    }

    /// The value of a series on /metrics, named as in [`super::Harness::metric`].
    pub async fn metric(&self, ops: SocketAddr, series: &str) -> f64 {
        self.get(ops, "/metrics").await.metric(series)
    }

    /// Like [`Self::send`], for an answer that may be missing or break off.
    pub async fn try_send(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Ended {
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request");
        let exchange = async {
            let (head, body) = self.0.request(request).await?.into_parts();
            Ok::<_, Error>((head, body.collect().await.ok().map(Collected::to_bytes)))
        };
        let (head, body) = match timeout(LIMIT, exchange).await.expect("an answer in time") {
            Ok(answered) => answered,
            Err(error) => return Ended::Unanswered(error),
        };
        check(&head.headers);
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: Bytes::new() };
        match body {
            Some(body) => Ended::Whole(Answer { body, ..answer }),
            None => Ended::Cut(answer),
        }
    }
}

/// The result of a request.
#[derive(Debug)]
pub enum Ended {
    Whole(Answer),
    /// The answer broke off in its body. The part that came is not kept.
    Cut(Answer),
    /// The connection ended before the answer's head, or could not be opened.
    Unanswered(Error),
}

/// Fails on a header that must not reach a caller.
pub fn check(headers: &HeaderMap) {
    for name in headers.keys() {
        assert!(ALLOWED.contains(&name.as_str()), "{name} must not reach a caller");
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The value of a series in an answer of /metrics, named as in [`super::Harness::metric`].
    pub fn metric(&self, series: &str) -> f64 {
        let series = format!("sezzle_sidecar_{series} ");
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    /// `Cache-Status`, without the name of the cache.
    pub fn cache(&self) -> &str {
        let status = self.header("cache-status");
        status.strip_prefix("sezzle-sidecar; ").unwrap_or(status)
    }

    /// The `code` of an error in Sezzle's shape; checks that the shape is kept.
    pub fn error_code(&self) -> String {
        let json = self.json();
        let error = &json.as_array().expect("an array of errors")[0];
        for member in ["location", "message", "debug_uuid"] {
            assert!(error[member].is_string(), "{member} in {error}");
        }
        assert_eq!(error["debug_uuid"], self.header("x-request-id"), "support finds the request by it");
        error["code"].as_str().expect("a code").to_owned()
    }
}

/// Sends these bytes and returns everything up to the other side's close.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // The other side may close before it has read everything.
    let _ = stream.write_all(request.as_ref()).await;
    let mut answer = Vec::new();
    // A reset is an end too: the other side may not have read all that was sent.
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("closes in time");
    String::from_utf8_lossy(&answer).into_owned()
}
