//! A sidecar seen from both sides: the caller's requests and answers, and the gateway's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sezzle_sidecar::simulator::Exchange;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use super::client::Answer;
use super::{Harness, Setup, header};

/// A harness, and every byte that its gateway sends. Makes one call at a time.
pub struct BothSides {
    pub harness: Harness,
    gateway: SocketAddr,
    heard: Heard,
}

type Heard = Arc<Mutex<Vec<u8>>>;

/// A call through the sidecar.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Request {
    /// Adds a JSON body, unless `body` is empty.
    pub fn new(method: Method, target: impl Into<String>, body: impl Into<String>) -> Self {
        let (target, body) = (target.into(), body.into());
        let mut headers = CALLERS.map(|(name, value)| (name, value.to_owned())).to_vec();
        if !body.is_empty() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        Self { method, target, headers, body }
    }

    fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// Whether Sezzle documents an idempotency key for the call.
    fn is_keyed(&self) -> bool {
        let tails = ["/capture", "/refund", "/release", "/reauthorize", "/upcharge"];
        let order = self.path().starts_with("/v2/order/") && tails.iter().any(|tail| self.path().ends_with(tail));
        let customers = self.path().starts_with("/v2/customer/") && self.path().ends_with("/order");
        self.method == Method::POST && (order || customers)
    }

    /// Whether the sidecar never reads the answer of this call.
    fn is_streamed(&self) -> bool {
        let reports = ["/v2/settlements/", "/v2/orders/", "/v2/interest/"];
        reports.iter().any(|start| self.target.starts_with(start)) || self.is_card_data()
    }

    fn is_card_data(&self) -> bool {
        self.target.starts_with("/v2/session/card/token/")
    }
}

/// The caller's headers on every call: one that the sidecar keeps back, one that it replaces, two that it completes and
/// one that passes.
const CALLERS: [(&str, &str); 5] = [
    ("authorization", "Bearer of-the-caller"),
    ("accept-encoding", "gzip"),
    ("user-agent", "service/1"),
    ("accept", "application/json"),
    ("x-custom", "1, \"2\""),
];

impl BothSides {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let gateway = listener.local_addr().expect("an address");
        let (heard, simulator) = (Heard::default(), Arc::new(OnceLock::new()));
        tokio::spawn(relay(listener, Arc::clone(&simulator), Arc::clone(&heard)));
        let setup =
            Setup::default().set("GATEWAY__URL", format!("http://{gateway}")).set("PROXY__CARD_DATA", "forward");
        let harness = setup.start_with(|gateway| simulator.set(gateway.addr()).expect("set once")).await;
        harness.ready().await;
        Self { harness, gateway, heard }
    }

    /// Makes a call that reaches the gateway. Fails unless the gateway got the caller's request, and the caller the
    /// gateway's answer, except for the documented changes.
    pub async fn call(&self, request: &Request) -> Answer {
        self.heard.lock().expect("no panic").clear();
        let before = self.harness.gateway.journal().len();
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = self.harness.send(request.method.clone(), &request.target, &headers, &request.body).await;
        let journal = self.harness.gateway.journal();
        let got = journal[before..].iter().filter(|call| call.path != "/v2/authentication");
        let got: Vec<&Exchange> = got.collect();
        assert!(!got.is_empty(), "{request:?} did not reach the gateway: {}", answer.text());
        for exchange in &got {
            self.gateway_got(request, exchange);
        }
        let key = got.last().and_then(|exchange| exchange.headers.get("sezzle-request-id")).cloned();
        let sent = answers(&self.heard.lock().expect("no panic")).pop().expect("the gateway's answer");
        self.caller_got(request, &sent, &answer, key);
        if answer.status == 429 || answer.status >= 500 {
            // The next call finds the sidecar without memory of this failure.
            self.harness.clock.advance(Duration::from_secs(10));
        }
        answer
    }

    fn gateway_got(&self, request: &Request, got: &Exchange) {
        let target = got.query.as_ref().map_or(got.path.clone(), |query| format!("{}?{query}", got.path));
        assert_eq!((&got.method, &target), (&request.method, &request.target));
        assert_eq!(got.body, request.body, "{} {target}", request.method);
        let mut expected = HeaderMap::new();
        for (name, value) in &request.headers {
            expected.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let user_agent = format!("service/1 sezzle-sidecar/{}", env!("CARGO_PKG_VERSION"));
        expected.insert("user-agent", user_agent.parse().expect("a value"));
        expected.insert("via", HeaderValue::from_static("1.1 sezzle-sidecar"));
        expected.insert("host", self.gateway.to_string().parse().expect("a value"));
        if !request.is_streamed() {
            expected.insert("accept-encoding", HeaderValue::from_static("identity"));
        }
        if !request.body.is_empty() {
            expected.insert("content-length", request.body.len().into());
        }
        let mut headers = got.headers.clone();
        let bearer = headers.remove("authorization");
        let bearer = bearer.as_ref().and_then(|bearer| bearer.to_str().ok()).expect("a token");
        assert!(bearer.starts_with("Bearer ") && !bearer.contains("caller"), "{bearer}");
        expected.remove("authorization");
        if request.is_keyed() && !expected.contains_key("sezzle-request-id") {
            let minted = headers.remove("sezzle-request-id").expect("a key");
            assert_eq!(minted.len(), 36, "{minted:?}");
        }
        if request.body.is_empty() {
            assert!(["", "0"].contains(&header(&headers, "content-length")), "{headers:?}");
            headers.remove("content-length");
        }
        assert_eq!(lines(&headers), lines(&expected), "{} {target}", request.method);
    }

    fn caller_got(&self, request: &Request, sent: &Answer, got: &Answer, key: Option<HeaderValue>) {
        let call = format!("{} {}", request.method, request.target);
        assert_eq!(got.status, sent.status, "{call}: {}", got.text());
        let body = if request.is_streamed() { sent.body.clone() } else { self.relinked(&sent.body) };
        assert!(got.body == body, "{call}\n{}\nis not\n{}", got.text(), String::from_utf8_lossy(&body));

        let mut headers = got.headers.clone();
        assert!(!headers.remove("x-request-id").expect("an id").is_empty(), "{call}");
        let cache = headers.remove("cache-status").expect("a word on the cache");
        let cache = cache.to_str().expect("text");
        let session = request.method == Method::GET && request.path().starts_with("/v2/session/");
        if session && request.path().len() == "/v2/session/".len() + 36 {
            assert!(cache.starts_with("sezzle-sidecar; fwd="), "{call}: {cache}");
            // The sidecar adds a tag of its own where Sezzle sends none.
            assert_eq!(headers.remove("etag").is_some(), got.status == 200, "{call}");
        } else {
            assert_eq!(cache, format!("sezzle-sidecar; fwd=bypass; fwd-status={}", got.status), "{call}");
        }
        let mut expected = sent.headers.clone();
        expected.append("via", HeaderValue::from_static("1.1 sezzle-sidecar"));
        if !expected.contains_key("cache-control") {
            expected.insert("cache-control", HeaderValue::from_static("private, no-cache"));
        }
        if request.is_card_data() {
            expected.insert("cache-control", HeaderValue::from_static("no-store"));
        }
        if let Some(key) = key.filter(|_| request.is_keyed()) {
            expected.insert("sezzle-request-id", key);
            // Every attempt got this answer, and the first attempt may have taken effect.
            if matches!(sent.status, 502..=504) {
                let mark = headers.remove("proxy-status").expect("a mark");
                let start = format!("sezzle-sidecar; received-status={}; details=", sent.status);
                assert!(mark.to_str().expect("text").starts_with(&start), "{call}: {mark:?}");
            }
        }
        if sent.headers.contains_key("content-length") && got.status != 204 {
            expected.insert("content-length", got.body.len().into());
        }
        assert_eq!(lines(&headers), lines(&expected), "{call}");
    }

    /// A body with its links changed as the sidecar changes them. `href` stands nowhere else in Sezzle's answers.
    fn relinked(&self, body: &Bytes) -> Bytes {
        let Ok(mut text) = String::from_utf8(body.to_vec()) else { return body.clone() };
        for host in HOSTS {
            for colon in [":", ": "] {
                let own = format!("\"href\"{colon}\"http://{}/", self.harness.proxy);
                text = text.replace(&format!("\"href\"{colon}\"{host}/"), &own);
            }
        }
        text.into()
    }

    pub async fn stop(self) {
        self.harness.stop().await;
    }
}

/// All of Sezzle's gateways.
pub const HOSTS: [&str; 4] = [
    "https://gateway.sezzle.com",
    "https://sandbox.gateway.sezzle.com",
    "https://gateway.eu.sezzle.com",
    "https://sandbox.gateway.eu.sezzle.com",
];

fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

/// Relays connections to the simulator and keeps its answers. Ends with the test's runtime.
async fn relay(listener: TcpListener, simulator: Arc<OnceLock<SocketAddr>>, heard: Heard) {
    loop {
        let (sidecar, _) = listener.accept().await.expect("a connection");
        let gateway = TcpStream::connect(simulator.get().expect("started before the sidecar")).await;
        let (mut requests, mut back) = sidecar.into_split();
        let (mut answers, mut on) = gateway.expect("the simulator listens").into_split();
        tokio::spawn(async move {
            let _ = copy(&mut requests, &mut on).await;
            on.shutdown().await
        });
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = answers.read(&mut piece).await {
                heard.lock().expect("no panic").extend_from_slice(&piece[..read]);
                if back.write_all(&piece[..read]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// The answers in a gateway's bytes, one after the other.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let mut parsed = http_head(bytes);
        let rest = &bytes[parsed.1..];
        let length = header(&parsed.0.headers, "content-length").parse().unwrap_or(0);
        let (body, used) = match header(&parsed.0.headers, "transfer-encoding") {
            "chunked" => chunks(rest),
            _ => (rest[..length].to_vec(), length),
        };
        parsed.0.body = body.into();
        answers.push(parsed.0);
        bytes = &rest[used..];
    }
    answers
}

/// The head of an answer and its length.
fn http_head(bytes: &[u8]) -> (Answer, usize) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
    let mut lines = head.trim_end().lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        let name: HeaderName = name.parse().expect("a header's name");
        headers.append(name, value.parse().expect("a header's value"));
    }
    (Answer { status, headers, body: Bytes::new() }, end)
}

/// A chunked body, and the length of its encoded form.
fn chunks(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&bytes[at..at + line]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        let start = at + line + 2;
        body.extend_from_slice(&bytes[start..start + size]);
        at = start + size + 2;
        if size == 0 {
            return (body, at);
        }
    }
}
