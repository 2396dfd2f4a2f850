//! Shutdown: requests in progress end well, idle connections close at once, and nothing outlasts the hard limit.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::IntCounterVec;
use sezzle_sidecar::app::{App, DrainEnd};
use sezzle_sidecar::simulator::{EffectKind, Gate, Options, Rule, Simulator};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::{Answer, Client};
use crate::support::frame_caller::FrameCaller;
use crate::support::frames::{END_STREAM, data, reset};
use crate::support::process::{Ended, Sidecar};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, arrived, eventually};

const GET: &str = "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A sidecar that is draining.
struct Draining {
    gateway: Simulator,
    proxy: SocketAddr,
    ops: SocketAddr,
    cut: IntCounterVec,
    invalidations: IntCounterVec,
    drain: JoinHandle<()>,
    began: Instant,
}

impl Draining {
    /// Begins the drain.
    fn begin(harness: Harness) -> Self {
        let (proxy, ops) = (harness.proxy, harness.ops);
        let (app, gateway): (App, Simulator) = harness.into_parts();
        let cut = app.metrics.connections_refused.clone();
        let invalidations = app.metrics.cache_invalidations.clone();
        let drain = tokio::spawn(app.drain());
        Self { gateway, proxy, ops, cut, invalidations, drain, began: Instant::now() }
    }

    /// Waits until no new connection is accepted: the grace period is over.
    async fn closed(&self) {
        eventually("closed to callers", async || TcpStream::connect(self.proxy).await.is_err()).await;
    }

    /// The drain still waits, which only shows by watching for a while.
    async fn waits(&mut self, what: &str) {
        let ended = timeout(Duration::from_millis(300), &mut self.drain).await;
        assert!(ended.is_err(), "the drain did not wait for {what}");
    }

    /// Waits for the end, and returns how long the whole drain took.
    async fn end(self) -> Duration {
        timeout(Duration::from_secs(20), self.drain).await.expect("the drain ends").expect("no panic");
        self.began.elapsed()
    }
}

#[tokio::test]
async fn not_ready_at_once_and_serving_through_the_grace_period() {
    let harness = Setup::default().set("DRAIN__GRACE", "2s").start().await;
    let mut kept = harness.wire().await;
    kept.send(GET).await;
    assert_eq!(kept.answer().await.header("connection"), "");
    let session = Session::order(&harness.gateway).path;
    assert_eq!(harness.get(&session).await.status, 200);

    let draining = Draining::begin(harness);
    let client = Client::new();
    eventually("not ready", async || client.get(draining.ops, "/readyz").await.status == 503).await;
    assert_eq!(client.get(draining.ops, "/readyz").await.text(), "not ready: draining\n");
    assert_eq!(client.get(draining.ops, "/livez").await.status, 200, "a restart is not asked for");
    assert!(client.get(draining.ops, "/metrics").await.text().contains("\nsezzle_sidecar_draining 1\n"));

    kept.send(GET).await;
    let last = kept.answer().await;
    assert_eq!((last.status, last.header("connection")), (200, "close"));
    assert!(kept.rest().await.is_empty());
    for (target, status) in [("/v2/customer", 200), (session.as_str(), 200), ("/nowhere", 404)] {
        let mut wire = Wire::connect(draining.proxy).await;
        wire.send(GET.replace("/v2/customer", target)).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, "close"), "{target}");
        assert!(wire.rest().await.is_empty(), "{target}");
    }
    let took = draining.end().await;
    assert!((2_000..4_000).contains(&took.as_millis()), "{took:?}");
}

/// Both get SIGTERM at once, as when a host shuts down, and the service still has work to finish.
#[tokio::test]
async fn a_service_that_drains_beside_it_is_served_to_the_end_of_the_grace_period() {
    let mut sidecar = Sidecar::start(Options::default(), &[("DRAIN__GRACE", "2s")]).await;
    let Session { path: lookup, order, order_path, .. } = Session::order(&sidecar.gateway).authorized(&sidecar.gateway);
    assert_eq!(sidecar.get(&lookup).await.status, 200);
    sidecar.process.signal("TERM");
    sidecar.process.says("draining").await;
    let began = Instant::now();
    assert_eq!(sidecar.client.get(sidecar.ops, "/readyz").await.status, 503);

    let capture = "{\"capture_amount\":{\"amount_in_cents\":1,\"currency\":\"USD\"},\"partial_capture\":true}";
    let json = [("content-type", "application/json")];
    let mut captures = 0;
    while began.elapsed() < Duration::from_millis(1200) {
        let captured = sidecar.send(Method::POST, &format!("{order_path}/capture"), &json, capture).await;
        let looked_up = sidecar.get(&lookup).await;
        assert_eq!((captured.status, looked_up.status), (200, 200), "{captured:?} {looked_up:?}");
        assert_eq!(looked_up.header("connection"), "close", "its pool is not to keep what will be closed");
        captures += 1;
    }
    assert!(captures > 0);
    let gateway = sidecar.gateway.clone();
    let Ended { code, stdout, stderr } = sidecar.process.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("\"message\":\"drained\""), "{stdout}");
    assert!(began.elapsed() < Duration::from_secs(10), "nothing is under way, so the hard end is not waited for");
    let effects = gateway.effects(&order);
    assert_eq!(effects.iter().filter(|effect| effect.kind == EffectKind::Capture).count(), captures);
}

#[tokio::test]
async fn a_lookup_under_way_is_answered() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let mut wire = harness.wire().await;
    wire.send(GET).await;
    arrived(&gate, 1).await;
    let mut draining = Draining::begin(harness);
    draining.closed().await;
    draining.waits("a lookup").await;
    let readiness = Client::new().get(draining.ops, "/readyz").await;
    assert_eq!(readiness.status, 503, "operators can look until the end");
    gate.release();
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    draining.end().await;
}

#[tokio::test]
async fn a_report_under_way_is_sent_to_its_end() {
    let harness = Setup::default().gateway(|gateway| gateway.report_bytes = 16 << 20).start().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a size");
    let mut wire = Wire::over(socket.connect(harness.proxy).await.expect("connects"));
    wire.send(GET.replace("/v2/customer", "/v2/orders/report?start-date=2026-01-01")).await;
    eventually("the report has begun", async || harness.received() == ["GET /v2/orders/report?start-date=2026-01-01"])
        .await;
    let mut draining = Draining::begin(harness);
    draining.closed().await;
    // Longer than the time limit of connections without a request.
    for _ in 0..4 {
        draining.waits("a report").await;
    }
    let report = wire.answer().await;
    assert!(report.body.len() >= 16 << 20);
    assert_eq!(draining.cut.with_label_values(&["proxy", "drain"]).get(), 0);
    draining.end().await;
}

#[tokio::test]
async fn an_answer_whose_caller_is_slow_to_take_it_is_not_cut() {
    let harness = Harness::start().await;
    // The sidecar holds the whole body, which exceeds the sockets' buffers at first: small segments get small buffers.
    let body = format!("[\"{}\"]", "x".repeat((1 << 20) - 100));
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::OK).body(body.clone()));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_tcp_mss(536).expect("a size");
    socket.set_recv_buffer_size(4 * 1024).expect("a size");
    socket.connect(&harness.proxy.into()).expect("connects");
    socket.set_nonblocking(true).expect("an open socket");
    let mut wire = Wire::over(TcpStream::from_std(socket.into()).expect("an open socket"));
    wire.send(GET).await;
    let sent = r#"request_duration_seconds_count{cache="bypass",class="read"}"#;
    eventually("it is answered", async || harness.metric(sent).await == 1.0).await;
    let mut draining = Draining::begin(harness);
    draining.closed().await;
    // Longer than the time limit of connections without a request.
    for _ in 0..5 {
        draining.waits("an answer that is being taken").await;
    }
    let answer = wire.answer().await;
    assert!(answer.body == body.as_bytes(), "{} bytes", answer.body.len());
    draining.end().await;
}

#[tokio::test]
async fn a_write_whose_caller_has_gone_is_done_and_purged() {
    let harness = Harness::start().await;
    let Session { order, order_path, .. } = Session::order(&harness.gateway).authorized(&harness.gateway);
    let gate = Gate::new();
    let capture = format!("{order_path}/capture");
    harness.gateway.script(Rule::path(&capture).gate(&gate));
    for gone in ["reset", "closed"] {
        let mut wire = harness.wire().await;
        let body = "{\"capture_amount\":{\"amount_in_cents\":100,\"currency\":\"USD\"},\"partial_capture\":true}";
        let head = format!("POST {capture} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
        wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
        let sent = if gone == "reset" { 1 } else { 2 };
        arrived(&gate, sent).await;
        if gone == "reset" {
            wire.reset();
        }
    }
    let mut draining = Draining::begin(harness);
    let (gateway, purges) = (draining.gateway.clone(), draining.invalidations.with_label_values(&["write"]));
    draining.closed().await;
    draining.waits("writes").await;
    assert_eq!(gateway.effects(&order), []);
    assert_eq!(purges.get(), 2, "before each was sent");
    gate.release();
    draining.end().await;
    let kinds: Vec<EffectKind> = gateway.effects(&order).iter().map(|effect| effect.kind).collect();
    assert_eq!(kinds, [EffectKind::Capture, EffectKind::Capture]);
    assert_eq!(purges.get(), 4, "and after each");
}

/// Over HTTP/2 a write is told from its connection: the caller resets its stream, or closes the whole connection.
#[tokio::test]
async fn a_drain_waits_for_a_write_that_has_no_connection_any_more() {
    for resets in [true, false] {
        let harness = Harness::start().await;
        let Session { order, order_path, .. } = Session::order(&harness.gateway).authorized(&harness.gateway);
        let (gate, capture) = (Gate::new(), format!("{order_path}/capture"));
        harness.gateway.script(Rule::path(&capture).gate(&gate));
        let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
        let stream = caller.stream();
        let body = "{\"capture_amount\":{\"amount_in_cents\":100,\"currency\":\"USD\"},\"partial_capture\":true}";
        caller.send(caller.head(stream, 0, "POST", &capture, &[("content-type", "application/json")])).await;
        caller.send(data(stream, END_STREAM, body)).await;
        arrived(&gate, 1).await;
        if resets {
            caller.send(reset(stream, 8)).await;
            eventually("the call has ended", async || {
                harness.metric(r#"in_flight_requests{class="money"}"#).await == 0.0
            })
            .await;
        }
        drop(caller);
        eventually("the connection has ended", async || {
            harness.metric(r#"connections{listener="proxy"}"#).await == 0.0
        })
        .await;
        let mut draining = Draining::begin(harness);
        let (gateway, purges) = (draining.gateway.clone(), draining.invalidations.with_label_values(&["write"]));
        draining.closed().await;
        draining.waits("a write").await;
        assert_eq!((gateway.effects(&order).len(), purges.get()), (0, 1), "resets: {resets}");
        gate.release();
        draining.end().await;
        assert_eq!((gateway.effects(&order).len(), purges.get()), (1, 2), "resets: {resets}");
    }
}

/// A sidecar whose capture is under way at Sezzle, for which a caller waits.
struct Capturing {
    sidecar: Sidecar,
    gate: Gate,
    order: String,
    waiting: JoinHandle<Answer>,
}

impl Capturing {
    async fn start() -> Self {
        let sidecar = Sidecar::start(Options::default(), &[]).await;
        let Session { order, order_path, .. } = Session::order(&sidecar.gateway).authorized(&sidecar.gateway);
        let (gate, capture, proxy) = (Gate::new(), format!("{order_path}/capture"), sidecar.proxy);
        sidecar.gateway.script(Rule::path(&capture).gate(&gate));
        let waiting = tokio::spawn(async move {
            let body = "{\"capture_amount\":{\"amount_in_cents\":1,\"currency\":\"USD\"},\"partial_capture\":true}";
            Client::new().send(proxy, Method::POST, &capture, &[("content-type", "application/json")], body).await
        });
        arrived(&gate, 1).await;
        Self { sidecar, gate, order, waiting }
    }
}

/// GNU `timeout` signals its child and then its process group, of which the child is a member.
#[tokio::test]
async fn two_signals_within_a_second_are_one() {
    let Capturing { mut sidecar, gate, order, waiting } = Capturing::start().await;
    sidecar.process.signal_twice("TERM", 0.002);
    sidecar.process.says("draining").await;
    sidecar.process.signal("INT");
    // Only watching for a while shows that the drain goes on.
    sleep(Duration::from_millis(300)).await;
    assert!(!sidecar.process.has_ended() && !waiting.is_finished(), "{}", sidecar.process.stdout());
    gate.release();
    assert_eq!(waiting.await.expect("an answer").status, 200);
    let Ended { code, stdout, stderr } = sidecar.process.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("another signal came within a second of the first"), "{stdout}");
    assert_eq!(sidecar.gateway.effects(&order).len(), 1);
}

#[tokio::test]
async fn a_second_signal_after_a_second_cuts_a_capture() {
    let Capturing { mut sidecar, gate, waiting, .. } = Capturing::start().await;
    sidecar.process.signal("TERM");
    sidecar.process.signal_again("TERM").await;
    let again = Instant::now();
    let answer = waiting.await.expect("an answer");
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    let Ended { code, stderr, .. } = sidecar.process.end().await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(again.elapsed() < Duration::from_secs(10), "far less than drain.timeout");
    gate.release();
}

#[tokio::test]
async fn idle_connections_and_half_sent_requests_do_not_hold_the_drain() {
    let harness = Harness::start().await;
    let mut idle = harness.wire().await;
    idle.send(GET).await;
    idle.answer().await;
    let fresh = harness.wire().await;
    let mut half = harness.wire().await;
    half.send("GET /v2/customer HTTP/1.1\r\nhost: loc").await;
    let mut half_next = harness.wire().await;
    half_next.send(format!("{GET}GET /v2/cust")).await;
    half_next.answer().await;
    eventually("all are open", async || harness.metric(r#"connections{listener="proxy"}"#).await == 4.0).await;
    let draining = Draining::begin(harness);
    assert!(idle.rest().await.is_empty());
    assert!(draining.began.elapsed() < Duration::from_millis(900), "an idle connection is closed at once");
    let cut = draining.cut.with_label_values(&["proxy", "drain"]);
    for mut wire in [fresh, half, half_next] {
        assert!(wire.rest().await.is_empty());
    }
    let took = draining.end().await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(cut.get() >= 1, "half a head was cut");
}

/// Otherwise callers during a restart would be refused, although the next process takes over the socket.
#[tokio::test]
async fn a_request_that_was_on_its_way_when_the_listener_closed_is_answered() {
    let harness = Harness::start().await;
    let mut caller = std::net::TcpStream::connect(harness.proxy).expect("connects");
    eventually("it is open", async || harness.metric(r#"connections{listener="proxy"}"#).await == 1.0).await;
    let draining = Draining::begin(harness);
    while std::net::TcpStream::connect(draining.proxy).is_ok() {
        tokio::task::yield_now().await;
    }
    // Waits until the connection has seen the drain, too.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    caller.write_all(GET.as_bytes()).expect("writes");
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        caller.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        caller.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let answer = answer.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
    draining.end().await;
}

#[tokio::test]
async fn a_head_that_is_completed_in_time_is_answered() {
    let harness = Harness::start().await;
    let mut wire = harness.wire().await;
    let (begun, rest) = GET.split_at(30);
    wire.send(begun).await;
    eventually("it is open", async || harness.metric(r#"connections{listener="proxy"}"#).await == 1.0).await;
    let draining = Draining::begin(harness);
    draining.closed().await;
    wire.send(rest).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    draining.end().await;
}

/// As in the program: the drain ends, and everything left ends with the runtime.
#[test]
fn the_hard_end_cuts_what_is_left() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (gate, harness) = runtime.block_on(async {
        let setup = Setup::default().set("GATEWAY__WRITE_TIMEOUT", "300ms").set("DRAIN__TIMEOUT", "700ms");
        let (gate, harness) = (Gate::new(), setup.start().await);
        harness.gateway.script(Rule::path("/v2/customer").gate(&gate));
        (gate, harness)
    });
    let mut caller = std::net::TcpStream::connect(harness.proxy).expect("connects");
    caller.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    caller.write_all(GET.as_bytes()).expect("writes");
    runtime.block_on(async {
        arrived(&gate, 1).await;
        let took = Draining::begin(harness).end().await;
        assert!((700..3_000).contains(&took.as_millis()), "{took:?}");
    });
    runtime.shutdown_background();
    let mut answer = Vec::new();
    let end = caller.read_to_end(&mut answer);
    let timed_out = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out && answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_refusal_can_be_read_while_its_body_is_still_sent() {
    let harness = Setup::default().set("LIMITS__BODY", "1KiB").start().await;
    let stream = TcpStream::connect(harness.proxy).await.expect("connects");
    let (mut reader, mut writer) = stream.into_split();
    let head = "POST /v2/session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n";
    writer.write_all(head.as_bytes()).await.expect("sends");
    let mut draining = Draining::begin(harness);
    draining.closed().await;
    // Longer than the time limit of connections without a request.
    for _ in 0..4 {
        draining.waits("a body").await;
    }
    let large = vec![b'x'; 8 << 20];
    let send = async {
        let _ = writer.write_all(format!("{:x}\r\n", large.len()).as_bytes()).await;
        let _ = writer.write_all(&large).await;
    };
    let mut answer = Vec::new();
    let receive = async { while let Ok(1..) = reader.read_buf(&mut answer).await {} };
    timeout(Duration::from_secs(10), async { tokio::join!(send, receive) }).await.expect("ends in time");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("}]"), "{answer}");
    assert_eq!(draining.cut.with_label_values(&["proxy", "drain"]).get(), 0);
    draining.end().await;
}

#[tokio::test]
async fn a_write_that_waits_for_its_place_when_all_is_cut_was_not_sent() {
    let harness = Setup::default().set("LIMITS__IN_FLIGHT", 1).start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/order/*").gate(&gate));
    let proxy = harness.proxy;
    let capture = |path: &'static str| {
        tokio::spawn(async move { Client::new().send(proxy, Method::POST, path, &[], "{}").await })
    };
    let under_way = capture("/v2/order/a/capture");
    arrived(&gate, 1).await;
    let waiting = capture("/v2/order/b/capture");
    eventually("waits", async || harness.metric(r#"in_flight_requests{class="money"}"#).await == 2.0).await;
    let (app, gateway) = harness.into_parts();
    assert_eq!(app.drain_until(async {}).await, DrainEnd::CutBySignal);
    let (under_way, waiting) = (under_way.await.expect("an answer"), waiting.await.expect("an answer"));
    assert_eq!((under_way.status, under_way.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!((waiting.status, waiting.error_code().as_str()), (503, "sidecar.stopping"));
    assert_eq!(gateway.count("POST", "/v2/order/*"), 1);
    gate.release();
    gateway.stop().await;
}

/// Over HTTP/2 the last response may end after the drain has looked at its connection.
#[tokio::test]
async fn a_caller_over_http2_that_reads_no_more_does_not_hold_up_the_drain() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
    let stream = caller.stream();
    caller.send(caller.head(stream, END_STREAM, "GET", "/v2/customer", &[])).await;
    arrived(&gate, 1).await;
    let draining = Draining::begin(harness);
    draining.closed().await;
    gate.release();
    let took = draining.end().await;
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// hyper refuses no stream until its ping behind GOAWAY is answered.
#[tokio::test]
async fn a_caller_over_http2_that_answers_no_ping_does_not_hold_up_the_drain() {
    let harness = Harness::start().await;
    let mut caller = FrameCaller::connect(harness.proxy, &[]).await.answering_no_ping();
    let stream = caller.get("/elsewhere").await;
    assert_eq!(caller.told(stream).await.status, Some(404));
    let draining = Draining::begin(harness);
    let calls = tokio::spawn(async move {
        loop {
            let stream = caller.get("/elsewhere").await;
            if caller.told(stream).await.status.is_none() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let took = draining.end().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    calls.await.expect("the connection ends");
}
