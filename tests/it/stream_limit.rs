//! No connection carries more HTTP/2 streams than its gateway allows. A call waits for a free stream and is counted
//! meanwhile, or uses another connection if that helps. No part of a call is sent once the call was cancelled or has no
//! time left for an answer.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sezzle_sidecar::telemetry::metrics::{LabelValue, Metrics};
use sezzle_sidecar::upstream::Upstream;
use sezzle_sidecar::upstream::error::{ErrorKind, Sent, UpstreamError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::support::client::Answer;
use crate::support::frame_gateway::{Came, Conduct, FrameGateway};
use crate::support::frames::{
    ACK, END_STREAM, GOAWAY, HEADERS, MAX_STREAMS, RST_STREAM, SETTINGS, data, head, reset, settings,
};
use crate::support::scripted::TOKEN;
use crate::support::tls::{Authority, offering};
use crate::support::{Harness, Setup, eventually, header, upstream};

/// 204.
fn no_content(request: &Came) -> Vec<u8> {
    head(request.stream, END_STREAM, &[(":status", "204")])
}

/// The head of a 200 whose body follows.
fn ok(stream: u32) -> Vec<u8> {
    head(stream, 0, &[(":status", "200")])
}

struct Scene {
    gateway: FrameGateway,
    upstream: Upstream,
    metrics: Arc<Metrics>,
}

impl Scene {
    async fn new(streams: Option<u32>, takes: impl Into<Option<Duration>>) -> Self {
        Self::answering(streams, takes, no_content).await
    }

    async fn answering(streams: Option<u32>, takes: impl Into<Option<Duration>>, answer: fn(&Came) -> Vec<u8>) -> Self {
        let ca = Authority::new();
        let conduct = Conduct { streams, takes: takes.into(), is_asked_for_tokens: false };
        let gateway = FrameGateway::behaving(&ca, conduct).await;
        gateway.script(answer);
        let (upstream, metrics) = upstream::to(&gateway.url(), &ca);
        Self { gateway, upstream, metrics }
    }

    /// Makes so many writes at once, and returns how each ended.
    async fn writes(&self, count: usize, limit: Duration) -> Vec<Result<(), UpstreamError>> {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let upstream = self.upstream.clone();
            calls.spawn(async move { write(&upstream, limit).await });
        }
        calls.join_all().await
    }

    fn begin(&self, limit: Duration) -> tokio::task::JoinHandle<Result<(), UpstreamError>> {
        let upstream = self.upstream.clone();
        tokio::spawn(async move { write(&upstream, limit).await })
    }

    async fn waiting(&self, calls: i64) {
        eventually("so many calls wait", async || self.metrics.upstream_waiting.get() == calls).await;
    }

    /// The most streams that were open at once on any connection, as seen by the gateway.
    fn most_at_once(&self, takes: Duration) -> usize {
        let mut open: HashMap<usize, Vec<Instant>> = HashMap::new();
        let mut most = 0;
        for head in self.gateway.heads() {
            let began = open.entry(head.connection).or_default();
            began.retain(|at| head.at < *at + takes);
            began.push(head.at);
            most = most.max(began.len());
        }
        most
    }
}

async fn write(upstream: &Upstream, limit: Duration) -> Result<(), UpstreamError> {
    let answer = upstream.send(&mut upstream::write(limit)).await?;
    assert_eq!(answer.status(), 204);
    answer.into_body().collect().await.expect("an end");
    Ok(())
}

fn not_sent(ended: &Result<(), UpstreamError>, kind: ErrorKind) -> bool {
    matches!(ended, Err(error) if error.sent == Sent::No && error.kind == kind)
}

#[tokio::test]
async fn no_connection_is_given_more_calls_than_its_gateway_allows() {
    let takes = Duration::from_millis(300);
    for (streams, connections) in [(1, 2..=16), (4, 2..=16), (100, 1..=16)] {
        let scene = Scene::new(Some(streams), takes).await;
        // The first write shows the gateway's protocol and limit.
        assert!(scene.writes(1, LONG).await.iter().all(Result::is_ok));
        let ended = scene.writes(30, LONG).await;
        assert!(ended.iter().all(Result::is_ok), "{streams}: {ended:?}");
        assert_eq!(scene.gateway.whole().len(), 31);
        let most = scene.most_at_once(takes);
        assert!(most <= streams as usize, "{most} at once where {streams} are allowed");
        let made = scene.gateway.connections();
        assert!(connections.contains(&made), "{made} connections where {streams} streams are allowed");
    }
}

#[tokio::test]
async fn a_gateway_that_states_no_limit_is_sent_all_over_one_connection() {
    let scene = Scene::new(None, Duration::from_millis(300)).await;
    assert!(scene.writes(1, LONG).await.iter().all(Result::is_ok));
    assert!(scene.writes(150, LONG).await.iter().all(Result::is_ok));
    assert_eq!(scene.gateway.connections(), 1);
}

#[tokio::test]
async fn nothing_is_sent_where_no_stream_is_allowed() {
    let scene = Scene::new(Some(0), Duration::ZERO).await;
    // One call does not wait for the gateway's settings, as RFC 9113 allows. Its result depends on which side is
    // faster.
    let _ = scene.writes(1, Duration::from_millis(500)).await;
    let before = scene.gateway.heads().len();
    assert!(before <= 1);
    let ended = scene.writes(30, Duration::from_secs(1)).await;
    assert!(ended.iter().all(|ended| not_sent(ended, ErrorKind::StreamLimit)), "{ended:?}");
    sleep(Duration::from_millis(500)).await;
    assert!(scene.gateway.heads().len() < before + scene.gateway.connections());
    assert!(scene.gateway.connections() <= 2, "{} connections, of no use", scene.gateway.connections());
    scene.waiting(0).await;
    let connection = scene.gateway.connections() - 1;
    let raised = scene.begin(LONG);
    scene.waiting(1).await;
    scene.gateway.send(connection, settings(&[(MAX_STREAMS, 1)]));
    raised.await.expect("no panic").expect("an answer, once one is allowed");
}

#[tokio::test]
async fn a_call_that_waited_too_long_is_never_sent() {
    // The gateway answers nothing, so that every stream stays in use, on each of 16 connections.
    let scene = Scene::new(Some(1), None).await;
    let taken: Vec<_> = (0..16).map(|_| scene.begin(Duration::from_secs(20))).collect();
    eventually("all streams are taken", async || scene.gateway.whole().len() == 16).await;
    let mut calls = 0;
    loop {
        let began = Instant::now();
        let waiting = scene.begin(Duration::from_secs(2));
        scene.waiting(1).await;
        let ended = waiting.await.expect("no panic");
        let took = began.elapsed();
        assert!(not_sent(&ended, ErrorKind::StreamLimit), "{ended:?}");
        calls += 1;
        if took < Duration::from_millis(1990) {
            break;
        }
        // A busy machine may hold one call up for longer, and hardly five.
        assert!(calls < 5, "a quarter of a second is kept for the answer: {took:?}");
    }
    assert_eq!(scene.metrics.upstream_errors.with_label_values(&["stream_limit"]).get(), calls);
    scene.waiting(0).await;
    // Streams become free, and nothing else is sent.
    let resets = [1, 3].map(|stream| reset(stream, 8));
    for connection in 0..scene.gateway.connections() {
        scene.gateway.send(connection, resets[0].clone());
    }
    sleep(Duration::from_secs(1)).await;
    let heads = scene.gateway.heads();
    let used: HashSet<usize> = heads.iter().map(|head| head.connection).collect();
    assert_eq!((heads.len(), used.len()), (16, 16));
    for call in taken {
        call.abort();
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_while_it_waits_leaves_its_turn_to_the_next() {
    let scene = Scene::new(Some(1), None).await;
    let mut taken: Vec<_> = (0..16).map(|_| scene.begin(LONG)).collect();
    eventually("all streams are taken", async || scene.gateway.whole().len() == 16).await;
    let first = scene.begin(LONG);
    scene.waiting(1).await;
    let second = scene.begin(LONG);
    scene.waiting(2).await;
    first.abort();
    scene.waiting(1).await;
    // The caller of a sent write goes away, which frees its stream.
    taken.pop().expect("a call").abort();
    scene.waiting(0).await;
    eventually("the second one is sent", async || scene.gateway.whole().len() == 17).await;
    let frames = scene.gateway.frames();
    let (reset, last) = (
        frames.iter().position(|frame| frame.kind == RST_STREAM).expect("the gateway is told"),
        frames.iter().rposition(|frame| frame.kind == HEADERS).expect("a head"),
    );
    assert!(reset < last, "the stream is free before another is opened");
    second.abort();
    for call in taken {
        call.abort();
    }
}

#[tokio::test]
async fn a_limit_that_is_lowered_holds_from_then_on() {
    let takes = Duration::from_millis(300);
    let scene = Scene::new(Some(100), takes).await;
    assert!(scene.writes(10, LONG).await.iter().all(Result::is_ok));
    for connection in 0..scene.gateway.connections() {
        scene.gateway.send(connection, settings(&[(MAX_STREAMS, 1)]));
    }
    // The sidecar acknowledges the first settings of the connection in use, and then these.
    let used = scene.gateway.heads().last().expect("a request").connection;
    let is_acknowledgement =
        |frame: &Came| frame.connection == used && frame.kind == SETTINGS && frame.flags & ACK != 0;
    let acknowledged = || scene.gateway.frames().iter().filter(|frame| is_acknowledgement(frame)).count();
    eventually("the lower limit is known", async || acknowledged() == 2).await;
    let before = scene.gateway.heads().len();
    assert!(scene.writes(10, LONG).await.iter().all(Result::is_ok));
    let mut open: HashMap<usize, Instant> = HashMap::new();
    for head in scene.gateway.heads().into_iter().skip(before) {
        // The gateway states the limit of 100 on new connections again.
        if head.connection == 0 {
            let last = open.insert(head.connection, head.at);
            assert!(last.is_none_or(|last| head.at >= last + takes), "two at once after the limit was lowered to 1");
        }
    }
}

/// For reports, the whole window of one stream in frames of 16 bytes. For requests of the first connection, 204.
fn crumbs(request: &Came) -> Vec<u8> {
    if request.connection == 0 {
        return no_content(request);
    }
    [ok(request.stream), data(request.stream, 0, [b'x'; 16]).repeat(16 * 1024)].concat()
}

#[tokio::test]
async fn reports_that_nobody_reads_do_not_end_the_connection_of_a_write() {
    const CALM: u8 = 11;
    let scene = Scene::answering(None, Duration::from_millis(1), crumbs).await;
    assert!(scene.writes(1, LONG).await.iter().all(Result::is_ok));
    let report = async || {
        let mut outgoing = upstream::write(LONG);
        outgoing.class = LabelValue::unnumbered("report");
        scene.upstream.send(&mut outgoing).await.expect("the head of a report")
    };
    let ended = || scene.gateway.frames().into_iter().find(|frame| frame.kind == GOAWAY);
    let mut reports = Vec::new();
    // h2 counts 240 bytes for each of these frames. Eight full windows stay within its limit.
    for _ in 0..8 {
        reports.push(report().await);
    }
    sleep(Duration::from_secs(1)).await;
    assert!(ended().is_none(), "{:?}", ended());
    reports.push(report().await);
    eventually("the library has had enough", async || ended().is_some()).await;
    let ended = ended().expect("an end");
    assert_eq!((ended.connection, ended.payload[7]), (1, CALM));
    assert!(scene.writes(1, LONG).await.iter().all(Result::is_ok));
    assert_eq!(scene.gateway.connections(), 2, "the write's connection is the one from before");
}

/// A body in two parts with 100 empty frames between them, the most that h2 accepts on one connection.
fn hundred_empty(request: &Came) -> Vec<u8> {
    let stream = request.stream;
    [ok(stream), data(stream, 0, "a"), data(stream, 0, "").repeat(100), data(stream, END_STREAM, "b")].concat()
}

#[tokio::test]
async fn a_connection_takes_a_hundred_empty_frames_in_its_life() {
    let scene = Scene::answering(None, Duration::ZERO, hundred_empty).await;
    let call = async || {
        let answer = scene.upstream.send(&mut upstream::write(LONG)).await?;
        let body = answer.into_body().collect().await.map_err(|error| UpstreamError::from_body(&error))?;
        Ok::<_, UpstreamError>(body.to_bytes())
    };
    assert_eq!(call().await.expect("whole"), "ab");
    let error = call().await.expect_err("the 101st empty frame ends the connection");
    assert_eq!((error.kind, error.sent), (ErrorKind::Protocol, Sent::Maybe), "{error}");
    assert!(error.detail.contains("ENHANCE_YOUR_CALM") || error.detail.contains("too_many"), "{error}");
    assert_eq!(call().await.expect("whole again, over another one"), "ab");
    assert_eq!(scene.gateway.connections(), 2);
}

/// Answers a token exchange at once, and every other request after a while, four at a time on each connection.
async fn slow_gateway(ca: &Authority, takes: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(offering(ca.server(&["localhost"]), &[b"h2"]));
    let arrived = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&arrived);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            let service = service_fn(move |request: Request<Incoming>| {
                let counted = Arc::clone(&counted);
                async move {
                    let is_exchange = request.uri().path() == "/v2/authentication";
                    request.into_body().collect().await?;
                    if !is_exchange {
                        counted.fetch_add(1, Ordering::SeqCst);
                        sleep(takes).await;
                    }
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(TOKEN.as_bytes()))))
                }
            });
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.expect("TLS"));
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(4).serve_connection(stream, service).await
            });
        }
    });
    (address, arrived)
}

async fn before(ca: &Authority, gateway: SocketAddr, limit: &str) -> Arc<Harness> {
    let setup = Setup::default()
        .set("GATEWAY__URL", format!("https://localhost:{}", gateway.port()))
        .set("GATEWAY__CA_FILE", ca.file())
        .set("GATEWAY__HTTP2", true)
        .set("GATEWAY__WRITE_TIMEOUT", limit)
        .set("PROXY__WORKERS", 1);
    Arc::new(setup.start().await)
}

/// Makes so many writes at once, of calls that take no key.
async fn preapprove(harness: &Arc<Harness>, count: usize) -> Vec<Answer> {
    let mut writes = JoinSet::new();
    for _ in 0..count {
        let harness = Arc::clone(harness);
        writes.spawn(async move { harness.post("/v2/customer/c/preapprove", "{}").await });
    }
    writes.join_all().await
}

#[tokio::test]
async fn writes_beyond_the_limit_of_one_connection_are_done_all_the_same() {
    let ca = Authority::new();
    let (gateway, arrived) = slow_gateway(&ca, Duration::from_secs(2)).await;
    let harness = before(&ca, gateway, "10s").await;
    let answers = preapprove(&harness, 30).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(arrived.load(Ordering::SeqCst), 30);
    assert_eq!(harness.metric("upstream_waiting").await, 0.0);
    Arc::into_inner(harness).expect("the last one").stop().await;
}

#[tokio::test]
async fn a_caller_whose_call_waited_in_vain_is_told_that_nothing_was_sent() {
    let ca = Authority::new();
    let (gateway, arrived) = slow_gateway(&ca, Duration::from_secs(60)).await;
    let harness = before(&ca, gateway, "2s").await;
    // Sixteen connections carry 64 calls.
    let answers = preapprove(&harness, 100).await;
    let (sent, unsent): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 504);
    assert_eq!(arrived.load(Ordering::SeqCst), sent.len(), "what was answered 503 was not sent");
    assert!(unsent.len() > 10 && sent.len() >= 4, "{} and {}", unsent.len(), sent.len());
    for answer in &unsent {
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
        assert!(answer.text().contains("the sidecar sent nothing"), "{}", answer.text());
        let status = header(&answer.headers, "proxy-status");
        assert!(status.contains("error=connection_limit_reached"), "{status}");
    }
    let counted = harness.metric(r#"upstream_errors_total{kind="stream_limit"}"#).await;
    assert_eq!(counted, unsent.len() as f64);
    Arc::into_inner(harness).expect("the last one").stop().await;
}

const LONG: Duration = Duration::from_secs(15);
