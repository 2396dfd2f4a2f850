//! HTTP/2 is spoken without TLS with callers that begin with its preface, on the port and under the rules of HTTP/1.1.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sezzle_sidecar::address::Address;
use sezzle_sidecar::caller::Caller;
use sezzle_sidecar::server::cut::Timeouts;
use sezzle_sidecar::server::socket::bind;
use sezzle_sidecar::server::workers::Workers;
use sezzle_sidecar::server::{Handler, Listener, Stop};
use sezzle_sidecar::simulator::{Gate, Rule};
use sezzle_sidecar::systemd::sockets::PassedSockets;
use sezzle_sidecar::telemetry::metrics::Metrics;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::support::client::Client;
use crate::support::frame_caller::{Ended, FrameCaller};
use crate::support::frames::{END_STREAM, HEADERS, data};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, arrived, eventually};

const OPEN: &str = r#"connections{listener="proxy"}"#;

async fn http2(setup: Setup) -> Harness {
    let mut harness = setup.start().await;
    harness.client = Client::new();
    harness
}

#[tokio::test]
async fn one_connection_carries_many_calls_at_once() {
    let harness = http2(Setup::default()).await;
    let caller = Arc::new(Client::http2());
    let session = Session::order(&harness.gateway).path;
    assert_eq!(caller.get(harness.proxy, &session).await.status, 200);
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let mut parked = JoinSet::new();
    for _ in 0..50 {
        let (caller, proxy) = (caller.clone(), harness.proxy);
        parked.spawn(async move { caller.get(proxy, "/v2/customer").await.status });
    }
    arrived(&gate, 50).await;
    let hit = caller.get(harness.proxy, &session).await;
    assert!(hit.cache().starts_with("hit"), "served while the others wait");
    let body = "{\"url\":\"https://a.example\"}";
    let posted = caller.send(harness.proxy, Method::POST, "/v2/webhooks/test", &[], body).await;
    assert_eq!(posted.status, 201);
    let report = caller.get(harness.proxy, "/v2/orders/report?start-date=2026-01-01").await;
    assert!(report.body.len() > 60_000 && report.json().is_array());
    assert_eq!(harness.metric(OPEN).await, 1.0);
    gate.release();
    assert!(parked.join_all().await.into_iter().all(|status| status == 200));
    harness.stop().await;
}

#[tokio::test]
async fn the_rules_for_callers_are_the_same() {
    let harness = http2(Setup::default().set("LIMITS__BODY", "1KiB")).await;
    let caller = Client::http2();
    let code = async |method, path: &str, headers: &[(&str, &str)], body: &str| {
        caller.send(harness.proxy, method, path, headers, body).await.error_code()
    };
    assert_eq!(code(Method::GET, "/v2/customer", &[("origin", "null")], "").await, "sidecar.browser_refused");
    assert_eq!(code(Method::GET, "/v2/customer", &[("host", "evil.example")], "").await, "sidecar.bad_request");
    assert_eq!(code(Method::GET, "/v2//customer", &[], "").await, "sidecar.bad_request");
    assert_eq!(code(Method::POST, "/v2/session", &[], &" ".repeat(1025)).await, "sidecar.body_too_large");
    assert_eq!(code(Method::GET, "/metrics", &[], "").await, "sidecar.not_found");
    assert_eq!(harness.received(), [""; 0]);

    let mut stranger = connect(&harness).await;
    let answer = stranger.send_request(request("http://evil.example/v2/customer")).await.expect("an answer");
    assert_eq!(answer.status(), 421);
    // A TLS terminator that relays the bytes leaves `https`. No caller that means the sidecar sends `ftp`.
    for (scheme, status, says) in [("https", 200, "["), ("ftp", 421, ":scheme must be http or https")] {
        let asked = request(&format!("{scheme}://{}/v2/customer", harness.proxy));
        let (head, body) = stranger.send_request(asked).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(head.status, status, "{scheme}: {text}");
        assert!(text.contains(says), "{scheme}: {text}");
    }
    harness.stop().await;
}

/// Some clients lose an answer whose stream is reset while they send.
#[tokio::test]
async fn a_small_body_that_comes_behind_its_head_is_taken_before_a_refusal() {
    let harness = http2(Setup::default()).await;
    let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
    let length = [("content-length", "2")];
    let stream = caller.stream();
    caller.send(caller.head(stream, 0, "POST", "/v2//customer", &length)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    caller.send(data(stream, END_STREAM, "{}")).await;
    let told = caller.told(stream).await;
    assert_eq!((told.status, told.ended), (Some(400), Ended::Whole));
    let next = caller.stream();
    caller.send(caller.head(next, END_STREAM, "GET", "/v2//customer", &[])).await;
    let frame = caller.frame().await.expect("an answer");
    assert_eq!((frame.stream, frame.kind), (next, HEADERS), "no reset came behind the answer");
    // A body that does not come keeps no answer back for long.
    let began = Instant::now();
    let stream = caller.stream();
    caller.send(caller.head(stream, 0, "POST", "/v2//customer", &length)).await;
    assert_eq!(caller.told(stream).await.status, Some(400));
    assert!(began.elapsed() < Duration::from_secs(10));
    harness.stop().await;
}

#[tokio::test]
async fn a_get_with_a_body_is_one_without() {
    let harness = http2(Setup::default().set("LIMITS__BODY", "1KiB")).await;
    let caller = Client::http2();
    for method in [Method::GET, Method::HEAD] {
        let get = async |body: &str| caller.send(harness.proxy, method.clone(), "/v2/customer", &[], body).await.status;
        assert_eq!(get("{}").await, 200);
        assert_eq!(get(&" ".repeat(1025)).await, 413);
    }
    assert_eq!(harness.metric("request_bodies_dropped_total").await, 2.0);
    // A separate, empty frame ends the stream.
    let connection = TcpStream::connect(harness.proxy).await.expect("connects");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(connection)).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    let request = request(&format!("http://{}/v2/customer", harness.proxy)).map(|_| EndedLate);
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
    assert_eq!(harness.metric("request_bodies_dropped_total").await, 2.0, "an empty one is none");
    assert!(
        harness.gateway.journal().iter().filter(|call| call.path == "/v2/customer").all(|call| call.body.is_empty())
    );
    harness.stop().await;
}

/// An empty body whose end shows only when it is read.
struct EndedLate;

impl hyper::body::Body for EndedLate {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused_and_the_connection_goes_on() {
    let harness = http2(Setup::default()).await;
    let mut caller = connect(&harness).await;
    let mut large = request(&format!("http://{}/v2/customer", harness.proxy));
    for number in 0..40 {
        let name: http::HeaderName = format!("x-{number}").parse().expect("a name");
        large.headers_mut().insert(name, "v".repeat(1000).parse().expect("a value"));
    }
    assert_eq!(caller.send_request(large).await.expect("an answer").status(), 431);
    let small = request(&format!("http://{}/v2/customer", harness.proxy));
    assert_eq!(caller.send_request(small).await.expect("an answer").status(), 200);
    harness.stop().await;
}

#[tokio::test]
async fn a_head_of_too_many_lines_is_refused_and_the_connection_goes_on() {
    let harness = http2(Setup::default()).await;
    let mut caller = connect(&harness).await;
    // The sidecar itself answers for this path, however many lines the gateway would accept.
    let url = format!("http://{}/elsewhere", harness.proxy);
    for (lines, status) in [(100, 404), (101, 431), (100, 404), (800, 431), (0, 404)] {
        let mut request = request(&url);
        for number in 0..lines {
            let name: http::HeaderName = format!("x-{number}").parse().expect("a name");
            request.headers_mut().insert(name, HeaderValue::from_static("v"));
        }
        assert_eq!(caller.send_request(request).await.expect("an answer").status(), status, "{lines} lines");
    }
    let refused = r#"connections_refused_total{listener="proxy",reason="malformed"}"#;
    assert_eq!(harness.metric(refused).await, 2.0);
    harness.stop().await;
}

#[tokio::test]
async fn empty_frames_beyond_the_limit_end_the_connection_of_their_sender_alone() {
    let harness = http2(Setup::default()).await;
    let mut other = connect(&harness).await;
    for (frames, status) in [(99, Some(201)), (101, None)] {
        let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
        let stream = caller.stream();
        let body = "{\"url\":\"https://a.example\"}";
        let mut bytes = caller.head(stream, 0, "POST", "/v2/webhooks/test", &[("content-type", "application/json")]);
        bytes.extend((0..frames).flat_map(|_| data(stream, 0, "")));
        bytes.extend(data(stream, END_STREAM, body));
        caller.send(bytes).await;
        assert_eq!(caller.told(stream).await.status, status, "{frames} frames");
    }
    assert_eq!(harness.received(), ["POST /v2/webhooks/test"], "a write that did not come whole is not sent");
    let request = request(&format!("http://{}/v2/customer", harness.proxy));
    assert_eq!(other.send_request(request).await.expect("an answer").status(), 200);
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_withholds_credit_frees_what_its_answer_held() {
    let harness = http2(Setup::default().gateway(|gateway| gateway.report_bytes = 8 << 20)).await;
    let mut caller = connect(&harness).await;
    let began = Instant::now();
    let report = request(&format!("http://{}/v2/orders/report?start-date=2026-01-01", harness.proxy));
    let answer = caller.send_request(report).await.expect("an answer");
    assert_eq!(harness.metric(r#"in_flight_requests{class="report"}"#).await, 1.0);
    // The body of this answer is not read: the window is used up, and the connection still carries other calls.
    let other = request(&format!("http://{}/v2/customer", harness.proxy));
    let whole = caller.send_request(other).await.expect("an answer").into_body().collect().await;
    assert!(whole.is_ok());
    let freed = async {
        eventually_long("its place is free", async || {
            harness.metric(r#"in_flight_requests{class="report"}"#).await == 0.0
        })
        .await
    };
    freed.await;
    assert!(began.elapsed() >= Duration::from_secs(29), "{:?}", began.elapsed());
    assert_eq!(harness.metric(r#"connections_refused_total{listener="proxy",reason="write_timeout"}"#).await, 1.0);
    // The rest of the body ends with an error, not like a complete one.
    assert!(answer.into_body().collect().await.is_err());
    harness.stop().await;
}

#[tokio::test]
async fn a_drain_says_goodbye_and_lets_calls_end() {
    let harness = http2(Setup::default()).await;
    let mut idle = connect(&harness).await;
    let url = format!("http://{}/v2/customer", harness.proxy);
    assert_eq!(idle.send_request(request(&url)).await.expect("an answer").status(), 200);
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let mut busy = connect(&harness).await;
    let waiting = tokio::spawn(busy.send_request(request(&url)));
    arrived(&gate, 1).await;
    let (app, gateway) = harness.into_parts();
    let drain = tokio::spawn(app.drain());
    // After GOAWAY the idle connection closes while the busy one is still served.
    timeout(Duration::from_secs(10), async {
        while idle.ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await
    .expect("goodbye");
    gate.release();
    assert_eq!(waiting.await.expect("a task").expect("an answer").status(), 200);
    timeout(Duration::from_secs(10), drain).await.expect("in time").expect("a task");
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_in_the_middle_of_a_drain_is_taken_whole() {
    let harness = http2(Setup::default()).await;
    // Small bodies that exceed the window. The sidecar holds both whole.
    let bodies = [100, 400_000].map(|size| format!("[\"{}\"]", "x".repeat(size)));
    let gate = Gate::new();
    for (path, body) in PATHS.into_iter().zip(&bodies) {
        harness.gateway.script(Rule::path(path).status(StatusCode::OK).body(body.clone()).gate(&gate));
    }
    let mut waiting = Vec::new();
    for path in PATHS {
        let mut caller = connect(&harness).await;
        waiting.push(tokio::spawn(caller.send_request(request(&format!("http://{}{path}", harness.proxy)))));
    }
    arrived(&gate, 2).await;
    let proxy = harness.proxy;
    let (app, gateway) = harness.into_parts();
    let drain = tokio::spawn(app.drain());
    eventually("closed to callers", async || TcpStream::connect(proxy).await.is_err()).await;
    // Longer than the time limit of connections without a request.
    tokio::time::sleep(BEYOND_DRAIN_TIMEOUT).await;
    gate.release();
    for (waiting, body) in waiting.into_iter().zip(bodies) {
        let mut answer = waiting.await.expect("a task").expect("an answer").into_body();
        // Waits as long again while the answer is read.
        tokio::time::sleep(BEYOND_DRAIN_TIMEOUT).await;
        let mut taken = Vec::new();
        while let Some(frame) = answer.frame().await {
            taken.extend_from_slice(&frame.expect("not cut").into_data().unwrap_or_default());
        }
        assert!(taken == body.as_bytes(), "{} bytes", taken.len());
    }
    timeout(Duration::from_secs(10), drain).await.expect("in time").expect("a task");
    gateway.stop().await;
}

const PATHS: [&str; 2] = ["/v2/customer", "/v2/webhooks"];
const BEYOND_DRAIN_TIMEOUT: Duration = Duration::from_millis(1200);

#[tokio::test]
async fn an_idle_connection_is_told_to_go_before_it_is_cut() {
    let metrics = Arc::new(Metrics::new().expect("valid metrics"));
    let (address, serving) = serve(Nothing, &metrics);

    let mut wire = Wire::connect(address).await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    wire.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await;
    let (received, mut kinds) = (wire.rest().await, Vec::new());
    let mut rest = received.as_slice();
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        kinds.push(*kind);
        rest = &payload[usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)..];
    }
    assert!(kinds.contains(&7), "no GOAWAY among frames of the kinds {kinds:?}");
    let counted = || metrics.connections_refused.with_label_values(&["proxy", "idle_timeout"]).get();
    eventually("it is counted", async || counted() == 1).await;
    serving.abort();
}

/// Starts a listener with this handler and short deadlines.
fn serve(handler: impl Handler, metrics: &Arc<Metrics>) -> (SocketAddr, JoinHandle<()>) {
    let brief = Duration::from_millis(200);
    let listener = Listener {
        name: "proxy",
        http2: true,
        tls: None,
        max_head: 16 * 1024,
        timeouts: Timeouts { head: brief, idle: brief, write: brief },
        permits: Arc::new(Semaphore::new(1)),
        stop: Stop::default(),
        workers: Workers::none(),
        connections: TaskTracker::new(),
        metrics: Arc::clone(metrics),
    };
    let mut sockets = bind("proxy", &[Address::Tcp(([127, 0, 0, 1], 0).into())], 0o600, &mut PassedSockets::default())
        .expect("binds");
    let socket = sockets.pop().expect("a socket");
    let address = socket.address().ok().and_then(|address| address.tcp()).expect("an address");
    (address, tokio::spawn(listener.serve(Arc::new(socket), handler)))
}

#[tokio::test]
async fn answers_that_are_given_up_are_in_memory_no_more_and_their_connection_ends() {
    let metrics = Arc::new(Metrics::new().expect("valid metrics"));
    let large = Large::default();
    let (address, serving) = serve(large.clone(), &metrics);
    // Without credit no byte of an answer may be sent.
    let mut caller = FrameCaller::connect(address, &[(4, 0)]).await;
    for _ in 0..8 {
        let stream = caller.stream();
        caller.send(caller.head(stream, END_STREAM, "GET", "/", &[])).await;
    }
    eventually("all are answered", async || large.0.load(Ordering::SeqCst) == 8).await;
    let given_up = || metrics.connections_refused.with_label_values(&["proxy", "write_timeout"]).get();
    eventually("all are given up", async || given_up() == 8).await;
    eventually("none is in memory", async || large.0.load(Ordering::SeqCst) == 0).await;
    // Further requests do not keep the connection open.
    let ended = async {
        loop {
            let stream = caller.stream();
            caller.send(caller.head(stream, END_STREAM, "HEAD", "/", &[])).await;
            if let Ok(None) = timeout(Duration::from_millis(50), caller.frame()).await {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), ended).await.expect("the connection ends");
    serving.abort();
}

/// Answers with a megabyte, and counts the bodies in memory.
#[derive(Clone, Default)]
struct Large(Arc<AtomicUsize>);

impl Handler for Large {
    type Body = http_body_util::Full<Bytes>;

    fn handle(&self, _: Request<Incoming>, _: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin {
        self.0.fetch_add(1, Ordering::SeqCst);
        let body = Bytes::from_owner(Held(vec![b'x'; 1 << 20], self.clone()));
        ready(Response::new(body.into()))
    }
}

struct Held(Vec<u8>, Large);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Nothing;

impl Handler for Nothing {
    type Body = http_body_util::Full<Bytes>;

    fn handle(&self, _: Request<Incoming>, _: Caller) -> impl Future<Output = Response<Self::Body>> + Send + Unpin {
        ready(Response::default())
    }
}

#[tokio::test]
async fn half_a_preface_is_half_a_head() {
    let harness = http2(Setup::default()).await;
    let mut wire = harness.wire().await;
    let began = Instant::now();
    for byte in b"PRI * HTTP/2" {
        wire.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    assert!(wire.rest().await.is_empty());
    assert!(began.elapsed() < Duration::from_secs(7), "it has 5 s from its first byte on: {:?}", began.elapsed());
    let cut = r#"connections_refused_total{listener="proxy",reason="head_timeout"}"#;
    assert_eq!(harness.metric(cut).await, 1.0);
    // A request that only begins like the preface is HTTP/1.1, however it is cut into pieces.
    let mut wire = harness.wire().await;
    for piece in ["P", "O", "ST /v2/webhooks/test HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"] {
        wire.send(piece).await;
    }
    assert_eq!(wire.answer().await.status, 400, "the gateway's own, for an empty body");
    assert_eq!(harness.received(), ["POST /v2/webhooks/test"]);
    let mut wire = harness.wire().await;
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nno frames at all, and more of it than a frame's head").await;
    wire.rest().await;
    let malformed = r#"connections_refused_total{listener="proxy",reason="malformed"}"#;
    eventually("it is counted", async || harness.metric(malformed).await == 1.0).await;
    harness.stop().await;
}

type Sender = http2::SendRequest<Empty<Bytes>>;

async fn connect(harness: &Harness) -> Sender {
    let stream = TcpStream::connect(harness.proxy).await.expect("connects");
    // The protocol's initial window. hyper's own exceeds every answer here but a report.
    let mut caller = http2::Builder::new(TokioExecutor::new());
    caller.initial_stream_window_size(65_535);
    let (sender, connection) = caller.handshake(TokioIo::new(stream)).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    sender
}

fn request(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url).body(Empty::new()).expect("a valid request")
}

async fn eventually_long(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
