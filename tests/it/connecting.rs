//! Connections to the gateway go to every address of its name in turn, are replaced when they are old, and carry HTTP/2
//! where both sides speak it.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::{Method, Version};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use sezzle_sidecar::simulator::{Gate, Options, Rule};
use sezzle_sidecar::telemetry::metrics::Metrics;
use sezzle_sidecar::upstream::Upstream;
use sezzle_sidecar::upstream::error::{ErrorKind, Sent, UpstreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::process::Sidecar;
use crate::support::tls::{Authority, offering};
use crate::support::{Harness, Session, Setup, arrived, eventually, not_tried, upstream};

/// Five minutes and a fifth.
const OLDEST: Duration = Duration::from_secs(360);
/// Five minutes less a fifth, less the time for which a connection may be idle.
const YOUNGEST: Duration = Duration::from_secs(240 - 15);

fn plain(_: &Authority) -> Setup {
    Setup::default()
}

fn http2(ca: &Authority) -> Setup {
    let server = ca.server(&["localhost"]);
    Setup::default()
        .gateway(|gateway| {
            gateway.tls = Some(with_alpn(server));
            gateway.http2 = true;
        })
        .gateway_host("localhost")
        .set("GATEWAY__CA_FILE", ca.file())
        .set("GATEWAY__HTTP2", true)
}

fn with_alpn(server: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    offering(server, &[b"h2", b"http/1.1"])
}

/// The HTTP versions of the requests at the gateway.
fn versions(harness: &Harness) -> Vec<Version> {
    let mut versions: Vec<_> = harness.gateway.journal().into_iter().map(|call| call.version).collect();
    versions.dedup();
    versions
}

#[tokio::test]
async fn a_gateway_on_either_address_family_is_found() {
    for address in ["127.0.0.1", "[::1]"] {
        if TcpListener::bind(format!("{address}:0")).is_err() {
            not_tried(&format!("{address}, which this machine does not have"));
            continue;
        }
        let harness = Setup::default()
            .gateway(|gateway| gateway.listen = format!("{address}:0").parse().expect("an address"))
            .start()
            .await;
        assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200, "{address}");
        harness.stop().await;

        let localhost: Vec<SocketAddr> = ("localhost", 0).to_socket_addrs().expect("resolves").collect();
        if address == "[::1]" && !localhost.iter().any(|address| address.ip() == Ipv6Addr::LOCALHOST) {
            not_tried("localhost as ::1, which it does not resolve to on this machine");
            continue;
        }
        let port = TcpListener::bind(format!("{address}:0")).and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let harness = Setup::default()
            .gateway(|gateway| gateway.listen = format!("{address}:{port}").parse().expect("an address"))
            .set("GATEWAY__URL", format!("http://localhost:{port}"))
            .start()
            .await;
        assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200, "localhost on {address}");
        harness.stop().await;
    }
}

/// Moves the clock by so much. No connection becomes idle meanwhile.
async fn age(harness: &Harness, time: Duration) {
    const STEP: Duration = Duration::from_secs(10);
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(STEP);
        harness.clock.advance(step);
        assert_eq!(harness.get("/v2/customer").await.status, 200);
        left -= step;
    }
}

#[tokio::test]
async fn a_connection_is_replaced_after_five_minutes_or_so() {
    let ca = Authority::new();
    for (what, setup) in [("HTTP/1.1", plain(&ca)), ("HTTP/2", http2(&ca))] {
        let harness = setup.start().await;
        let call = async || assert_eq!(harness.get("/v2/customer").await.status, 200, "{what}");
        call().await;
        age(&harness, YOUNGEST - Duration::from_secs(5)).await;
        call().await;
        assert_eq!(harness.gateway.connections(), 1, "{what}: young");
        // The connection is so near its end that it could be idle beyond it, so this is its last request.
        age(&harness, OLDEST - YOUNGEST).await;
        call().await;
        call().await;
        assert_eq!(harness.gateway.connections(), 2, "{what}: replaced, once");
        harness.clock.advance(OLDEST);
        call().await;
        call().await;
        assert_eq!(harness.gateway.connections(), 3, "{what}: and once more");
        harness.stop().await;
    }
}

#[tokio::test]
async fn as_many_idle_connections_are_kept_as_calls_of_a_class_may_be_in_progress() {
    for (in_flight, kept) in [(2, 2.0), (8, 4.0)] {
        let harness = Setup::default().set("LIMITS__IN_FLIGHT", in_flight).start().await;
        let gate = Gate::new();
        harness.gateway.script(Rule::on(Method::GET, "/v2/*").gate(&gate));
        let sessions = [(); 2].map(|()| Session::tokenize(&harness.gateway).path);
        // Two calls of each of two classes.
        let paths = [&sessions[0], &sessions[1], "/v2/customer", "/v2/order/o"];
        let calls = join_all(paths.map(|path| harness.get(path)));
        let answered = async {
            arrived(&gate, paths.len()).await;
            gate.release();
        };
        join(calls, answered).await;
        let open = "upstream_connections{state=\"open\"}";
        eventually("the others are closed", async || harness.metric(open).await == kept).await;
        harness.stop().await;
    }
}

#[tokio::test]
async fn an_old_http2_connection_ends_the_answers_it_carries() {
    let ca = Authority::new();
    let harness = http2(&ca).gateway(|gateway| gateway.report_bytes = 4 << 20).start().await;
    let client = HyperClient::builder(TokioExecutor::new()).build_http::<http_body_util::Empty<Bytes>>();
    let uri = format!("http://{}/v2/orders/report?start-date=2026-01-01", harness.proxy).parse().expect("a URI");
    let mut slow = client.get(uri).await.expect("an answer");
    let mut read = slow.frame().await.expect("a frame").expect("data").into_data().expect("data").len();
    let made = harness.gateway.connections();
    harness.clock.advance(OLDEST);
    for _ in 0..3 {
        assert_eq!(harness.get("/v2/interest/balance").await.status, 200);
    }
    assert_eq!(harness.gateway.connections(), made + 1);
    read += slow.collect().await.expect("the rest").to_bytes().len();
    assert!(read >= 4 << 20, "{read}");
    harness.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_only_if_both_want_it() {
    let ca = Authority::new();
    let both = http2(&ca).start().await;
    assert_eq!(both.get("/v2/orders/report?start-date=2026-01-01").await.status, 200);
    assert_eq!(versions(&both), [Version::HTTP_2]);
    for call in both.gateway.journal() {
        assert!(!call.headers.contains_key("host"), "{}: :authority says it", call.path);
    }
    both.stop().await;

    let not_offered = http2(&ca).set("GATEWAY__HTTP2", "").start().await;
    assert_eq!(not_offered.get("/v2/orders/report?start-date=2026-01-01").await.status, 200);
    assert_eq!(versions(&not_offered), [Version::HTTP_11]);
    not_offered.stop().await;

    for server in [ca.server(&["localhost"]), offering(ca.server(&["localhost"]), &[b"http/1.1"])] {
        let not_taken =
            http2(&ca).gateway(|gateway| (gateway.tls, gateway.http2) = (Some(server), false)).start().await;
        assert_eq!(not_taken.get("/v2/orders/report?start-date=2026-01-01").await.status, 200);
        assert_eq!(versions(&not_taken), [Version::HTTP_11]);
        not_taken.stop().await;
    }
}

#[tokio::test]
async fn two_hundred_reads_at_once_over_one_http2_connection_get_their_own_answers() {
    let ca = Authority::new();
    let harness = Arc::new(http2(&ca).start().await);
    let mut reads = JoinSet::new();
    for _ in 0..200 {
        let Session { uuid, path, .. } = Session::order(&harness.gateway);
        let harness = Arc::clone(&harness);
        reads.spawn(async move {
            let answer = harness.get(&path).await;
            assert_eq!((answer.status, answer.json()["uuid"].as_str()), (200, Some(uuid.as_str())));
        });
    }
    while let Some(read) = reads.join_next().await {
        read.expect("the right answer");
    }
    assert_eq!((harness.received().len(), harness.gateway.connections()), (200, 1));
    Arc::into_inner(harness).expect("the last one").stop().await;
}

#[tokio::test]
async fn a_slow_call_does_not_hold_up_others_on_the_same_http2_connection() {
    let ca = Authority::new();
    let harness = http2(&ca).start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::on(Method::POST, "/v2/session").gate(&gate));
    let ((), slow) = tokio::join!(
        async {
            arrived(&gate, 1).await;
            assert_eq!(harness.get("/v2/customer").await.status, 200);
            gate.release();
        },
        harness.post("/v2/session", r#"{"cancel_url":{"href":"https://a"},"complete_url":{"href":"https://a"}}"#),
    );
    assert!(slow.status < 500, "{}", slow.text());
    assert_eq!(harness.gateway.connections(), 1);
    harness.stop().await;
}

#[tokio::test]
async fn a_hundred_megabytes_stream_over_http2_in_little_memory() {
    const REPORT: u64 = 100 << 20;
    let ca = Authority::new();
    let options = Options {
        tls: Some(with_alpn(ca.server(&["127.0.0.1"]))),
        http2: true,
        report_bytes: REPORT,
        ..Options::default()
    };
    let file = ca.file();
    let sidecar = Sidecar::start(options, &[("GATEWAY__CA_FILE", &file), ("GATEWAY__HTTP2", "true")]).await;
    let before = sidecar.resident().await;
    let client = HyperClient::builder(TokioExecutor::new()).build_http::<http_body_util::Empty<Bytes>>();
    let uri = format!("http://{}/v2/orders/report?start-date=2026-01-01", sidecar.proxy).parse().expect("a URI");
    let mut answer = client.get(uri).await.expect("an answer");
    let (mut read, mut most) = (0, 0.0_f64);
    while let Some(frame) = answer.frame().await {
        let length = frame.expect("the whole report").into_data().map_or(0, |data| data.len() as u64);
        if (read + length) >> 23 > read >> 23 {
            most = most.max(sidecar.resident().await);
        }
        read += length;
    }
    assert!(read >= REPORT, "{read}");
    assert!(sidecar.gateway.journal().iter().all(|call| call.version == Version::HTTP_2));
    let grown = (most - before) / f64::from(1 << 20);
    assert!(grown < 24.0, "{grown} MiB");
    sidecar.stop().await;
}

/// A gateway that reads the head of one HTTP/2 request on each connection and writes these bytes.
async fn broken_gateway(ca: &Authority, answer: Vec<u8>, close: bool) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let acceptor = TlsAcceptor::from(with_alpn(ca.server(&["localhost"])));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move { refuse(acceptor, stream, &answer, close).await });
        }
    });
    (address, serving)
}

async fn refuse(acceptor: TlsAcceptor, stream: TcpStream, answer: &[u8], close: bool) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).await?;
        if head[3] == 1 {
            break;
        }
    }
    stream.write_all(answer).await?;
    stream.flush().await?;
    if close {
        return stream.shutdown().await;
    }
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn reset(reason: u8) -> Vec<u8> {
    [SETTINGS, &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, reason]].concat()
}

fn go_away(last: u8, reason: u8) -> Vec<u8> {
    [SETTINGS, &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, reason]].concat()
}

fn upstream(ca: &Authority, gateway: SocketAddr) -> (Upstream, Arc<Metrics>) {
    upstream::to(&format!("https://localhost:{}", gateway.port()), ca)
}

async fn write(upstream: &Upstream, limit: Duration) -> UpstreamError {
    upstream.send(&mut upstream::write(limit)).await.expect_err("no answer")
}

#[tokio::test]
async fn only_what_http2_vouches_for_counts_as_not_sent() {
    let [no_error, internal, refused, cancel, calm] = [0, 2, 7, 8, 11];
    let ca = Authority::new();
    let table = [
        ("refused", reset(refused), false, Sent::No, ErrorKind::Reset),
        ("reset for another reason", reset(internal), false, Sent::Maybe, ErrorKind::Reset),
        ("cancelled", reset(cancel), false, Sent::Maybe, ErrorKind::Reset),
        ("no error, and no answer", reset(no_error), false, Sent::Maybe, ErrorKind::Reset),
        ("a farewell before it", go_away(0, no_error), true, Sent::No, ErrorKind::Reset),
        ("a farewell before it, with blame", go_away(0, calm), true, Sent::No, ErrorKind::Reset),
        ("a farewell that includes it", go_away(1, no_error), true, Sent::Maybe, ErrorKind::Reset),
        ("a farewell that includes it, with blame", go_away(1, internal), true, Sent::Maybe, ErrorKind::Reset),
        ("an end", SETTINGS.to_vec(), true, Sent::Maybe, ErrorKind::Reset),
        ("an end before everything", Vec::new(), true, Sent::Maybe, ErrorKind::Reset),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), true, Sent::Maybe, ErrorKind::Protocol),
        ("nothing", SETTINGS.to_vec(), false, Sent::Maybe, ErrorKind::Timeout),
    ];
    for (what, answer, close, sent, kind) in table {
        let (gateway, serving) = broken_gateway(&ca, answer, close).await;
        let limit = if kind == ErrorKind::Timeout { Duration::from_millis(500) } else { Duration::from_secs(10) };
        let error = write(&upstream(&ca, gateway).0, limit).await;
        assert_eq!((error.sent, error.kind), (sent, kind), "{what}: {error}");
        serving.abort();
    }
}

#[tokio::test]
async fn an_http2_connection_that_does_not_answer_gets_no_further_request() {
    let ca = Authority::new();
    let (gateway, serving) = broken_gateway(&ca, SETTINGS.to_vec(), false).await;
    let (upstream, metrics) = upstream(&ca, gateway);
    for opened in 1..=3 {
        assert_eq!(write(&upstream, Duration::from_millis(300)).await.kind, ErrorKind::Timeout);
        assert_eq!(metrics.upstream_connections_opened.get(), opened);
    }
    serving.abort();
}
