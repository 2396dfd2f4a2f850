//! Each connection and all connections together have limits, and a listener that cannot start names the reason.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sezzle_sidecar::app::StartError;
use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::support::client::Client;
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, arrived, eventually};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn refused(reason: &str) -> String {
    format!("connections_refused_total{{listener=\"proxy\",reason=\"{reason}\"}}")
}

const OPEN: &str = r#"connections{listener="proxy"}"#;

#[tokio::test]
async fn a_connection_carries_many_requests_pipelined_too() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    let mut wire = harness.wire().await;
    for _ in 0..3 {
        wire.send(get(&session)).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    // Answers come one after the other, in the order of the requests.
    let body = "{\"url\":\"https://a.example\"}";
    let post = format!("POST /v2/webhooks/test HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    let head = format!("HEAD {session} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let all = [
        get("/v2/customer"),
        get(&session),
        post,
        body.to_owned(),
        head,
        get("/nowhere"),
        get("/v2/orders/report?start-date=2026-01-01"),
    ];
    wire.send(all.concat()).await;
    assert_eq!(wire.answer().await.cache(), "fwd=bypass; fwd-status=200");
    assert!(wire.answer().await.cache().starts_with("hit"));
    assert_eq!(wire.answer().await.status, 201);
    assert!(wire.answer_to_head().await.cache().starts_with("hit"));
    assert_eq!(wire.answer().await.error_code(), "sidecar.not_found");
    assert!(wire.answer().await.json()[0]["order_uuid"].is_string());
    assert_eq!(harness.received().len(), 4);
    assert_eq!(harness.metric(OPEN).await, 1.0);
    drop(wire);
    eventually("the connection is gone", async || harness.metric(OPEN).await == 0.0).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_slow_head_is_cut_while_others_are_served() {
    let harness = Harness::start().await;
    let began = Instant::now();
    let mut first = harness.wire().await;
    first.send("GET /v2/customer HTTP/1.1\r\nhost: local").await;
    let mut later = harness.wire().await;
    later.send(get("/v2/customer")).await;
    assert_eq!(later.answer().await.status, 200);
    later.send("G").await;
    let drip = async {
        // Bytes that come now and then do not extend the time limit.
        loop {
            sleep(Duration::from_millis(200)).await;
            later.send("E").await;
            assert_eq!(harness.get("/v2/customer").await.status, 200);
        }
    };
    let cut = async {
        assert!(first.rest().await.is_empty(), "no answer to half a request");
        eventually("both are cut", async || harness.metric(&refused("head_timeout")).await == 2.0).await;
    };
    tokio::select! {
        () = cut => {}
        () = drip => {}
    }
    let took = began.elapsed();
    assert!((4_900..15_000).contains(&took.as_millis()), "{took:?}");
    assert!(later.rest().await.is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let harness = Setup::default().set("LIMITS__CONNECTIONS", 2).start().await;
    let mut first = harness.wire().await;
    let second = harness.wire().await;
    eventually("two are open", async || harness.metric(OPEN).await == 2.0).await;
    for turned_away in 1..=3 {
        let mut extra = harness.wire().await;
        extra.send(get("/v2/customer")).await;
        let answer = extra.answer().await;
        assert_eq!((answer.status, answer.header("retry-after"), answer.header("connection")), (503, "1", "close"));
        assert_eq!(answer.json()[0]["code"], "sidecar.overloaded");
        assert_eq!(answer.json()[0]["debug_uuid"], answer.header("x-request-id"));
        assert!(extra.rest().await.is_empty());
        assert_eq!(harness.metric(&refused("limit")).await, f64::from(turned_away));
    }
    assert_eq!(harness.received(), [""; 0]);
    first.send(get("/v2/customer")).await;
    assert_eq!(first.answer().await.status, 200, "those who are in are served");
    drop(second);
    eventually("a place is free", async || harness.metric(OPEN).await == 1.0).await;
    assert_eq!(harness.get("/v2/customer").await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_sends_no_more_still_gets_its_answer() {
    let harness = Harness::start().await;
    let gate = Gate::new();
    harness.gateway.script(Rule::path("/v2/*").gate(&gate));
    let mut reader = harness.wire().await;
    reader.send(get("/v2/customer")).await;
    reader.finish_sending().await;
    let mut writer = harness.wire().await;
    let body = "{\"url\":\"https://a.example\"}";
    let head = "POST /v2/webhooks/test HTTP/1.1\r\nhost: localhost\r\n";
    writer.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    writer.finish_sending().await;
    arrived(&gate, 2).await;
    gate.release();
    assert_eq!(reader.answer().await.status, 200);
    assert_eq!(writer.answer().await.status, 201);
    assert!(reader.rest().await.is_empty() && writer.rest().await.is_empty(), "and the connection ends");
    harness.stop().await;
}

/// Relays bytes between the sidecar and the gateway, and counts the gateway's.
async fn relay(listener: TcpListener, gateway: SocketAddr, passed: Arc<AtomicUsize>) {
    loop {
        let (sidecar, _) = listener.accept().await.expect("accepts");
        let passed = Arc::clone(&passed);
        tokio::spawn(async move {
            let gateway = TcpStream::connect(gateway).await.expect("connects");
            let ((mut from, mut to), (mut back, mut out)) = (gateway.into_split(), sidecar.into_split());
            tokio::spawn(async move { copy(&mut back, &mut to).await });
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                passed.fetch_add(read, Ordering::SeqCst);
                if out.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The number of relayed bytes once no more come.
async fn settled(passed: &AtomicUsize) -> usize {
    let mut last = (passed.load(Ordering::SeqCst), Instant::now());
    eventually("the gateway is held up", async || {
        let now = passed.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(500)
    })
    .await;
    last.0
}

#[tokio::test]
async fn a_caller_that_stops_reading_stops_the_gateway() {
    const REPORT: u64 = 1 << 30;
    let (listener, passed) = (TcpListener::bind("127.0.0.1:0").await.expect("binds"), Arc::new(AtomicUsize::new(0)));
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let setup = Setup::default().gateway(|gateway| gateway.report_bytes = REPORT).set("GATEWAY__URL", url);
    let harness = setup.start_unready().await;
    tokio::spawn(relay(listener, harness.gateway.addr(), Arc::clone(&passed)));
    harness.ready().await;

    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a size");
    let mut wire = Wire::over(socket.connect(harness.proxy).await.expect("connects"));
    wire.send(get("/v2/orders/report?start-date=2026-01-01")).await;
    eventually("the report has begun", async || passed.load(Ordering::SeqCst) > 1024).await;
    let held = settled(&passed).await;
    // The buffers of four sockets hold this much; the sidecar's memory holds far less.
    assert!(held < 32 << 20, "{held} bytes for a caller that reads none");
    assert_eq!(harness.get("/v2/customer").await.status, 200, "others are served");

    // The transfer continues when the caller reads on.
    let mut read = 0;
    while read < held + (8 << 20) {
        read += wire.read_some().await.expect("more of the report").len();
    }
    let after = settled(&passed).await;
    assert!(after >= read && after < read + (32 << 20), "{after} bytes for a caller that read {read}");
    drop(wire);
    let active = r#"upstream_connections{state="active"}"#;
    eventually("the rest is not fetched", async || harness.metric(active).await == 0.0).await;
    assert!(passed.load(Ordering::SeqCst) < 128 << 20);
    harness.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let first = Harness::start().await;
    for (variable, key, address) in
        [("PROXY__LISTEN", "proxy.listen", first.proxy), ("OPS__LISTEN", "ops.listen", first.ops)]
    {
        let started = Setup::default().set(variable, address).try_start().await;
        let error = started.err().expect("a second one cannot start");
        assert!(matches!(error, StartError::Bind(_)), "{error}");
        assert!(error.to_string().starts_with(&format!("{key}: cannot listen on {address}: ")), "{error}");
    }
    assert_eq!(first.get("/v2/customer").await.status, 200, "the first one does not notice");
    first.stop().await;
}

#[tokio::test]
async fn several_addresses_are_one_sidecar() {
    let harness = Setup::default().set("PROXY__LISTEN", "127.0.0.1:0, 127.0.0.2:0").start().await;
    let addresses = harness.addresses();
    assert_eq!(
        addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>(),
        ["127.0.0.1", "127.0.0.2"]
    );
    let session = Session::order(&harness.gateway).path;
    for &address in &addresses {
        assert_eq!(harness.client.get(address, &session).await.status, 200);
    }
    assert_eq!(harness.gateway.count("GET", &session), 1, "one cache for all");
    assert_eq!(harness.metric(OPEN).await, 2.0);
    harness.stop().await;

    let taken = Harness::start().await;
    let both = format!("127.0.0.1:0, {}", taken.proxy);
    assert!(
        Setup::default().set("PROXY__LISTEN", both).try_start().await.is_err(),
        "one that is taken is one too many"
    );
    taken.stop().await;
}

#[tokio::test]
async fn a_machine_without_ipv6_is_served_on_the_rest() {
    let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let harness = Setup::default().set("PROXY__LISTEN", "127.0.0.1:0, [::1]:0").start().await;
    assert_eq!(harness.addresses().len(), if has_ipv6 { 2 } else { 1 });
    for address in harness.addresses() {
        assert_eq!(Client::new().get(address, "/v2/customer").await.status, 200, "{address}");
    }
    harness.stop().await;

    let only = Setup::default().set("PROXY__LISTEN", "[::1]:0").try_start().await;
    assert_eq!(only.is_ok(), has_ipv6, "nothing to listen on is an error");
    if let Ok(harness) = only {
        assert_eq!(harness.get("/v2/customer").await.status, 200);
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_gets_the_reason_in_the_usual_shape() {
    let harness = Setup::default().set("LIMITS__HEAD", "16KiB").start().await;
    let large = format!("GET /v2/customer HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    for (request, status, code) in
        [(large, 431, "sidecar.head_too_large"), ("no request at all\r\n\r\n".to_owned(), 400, "sidecar.bad_request")]
    {
        // As the first request, and after another one.
        for before in [0, 1] {
            let mut wire = harness.wire().await;
            for _ in 0..before {
                wire.send(get("/v2/customer")).await;
                assert_eq!(wire.answer().await.status, 200);
            }
            wire.send(&request).await;
            let answer = wire.answer().await;
            assert_eq!((answer.status, answer.header("connection")), (status, "close"));
            assert_eq!(answer.error_code(), code);
            assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=http_request_error");
            assert!(wire.rest().await.is_empty());
        }
    }
    eventually("each is counted", async || harness.metric(&refused("malformed")).await == 4.0).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_answered_early_can_finish_sending_and_read_why() {
    let harness = Setup::default().set("LIMITS__BODY", "1KiB").start().await;
    for (head, code) in [
        ("POST /v2/session HTTP/1.1\r\nhost: localhost\r\n", "sidecar.body_too_large"),
        ("POST /v2/session HTTP/1.1\r\nhost: evil.example\r\n", "sidecar.misdirected"),
        ("POST /v2/session HTTP/1.1\r\nhost: localhost\r\norigin: null\r\n", "sidecar.browser_refused"),
    ] {
        let mut wire = harness.wire().await;
        wire.send(format!("{head}content-length: 1000000\r\n\r\n")).await;
        for _ in 0..10 {
            wire.send("x".repeat(100_000)).await;
        }
        assert_eq!(wire.answer().await.error_code(), code);
        assert!(wire.rest().await.is_empty());
    }
    assert_eq!(harness.received(), [""; 0]);
    harness.stop().await;
}
