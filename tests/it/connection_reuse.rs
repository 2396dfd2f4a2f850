//! A request gets the first connection that comes and never a stale one, and unused connections are closed.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sezzle_sidecar::clock::Clock;
use sezzle_sidecar::telemetry::metrics::Metrics;
use sezzle_sidecar::upstream::error::{ErrorKind, Sent, UpstreamError};
use sezzle_sidecar::upstream::{Outgoing, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::support::tls::{Authority, offering};
use crate::support::upstream;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends a write and reads its answer.
async fn call(upstream: &Upstream, limit: Duration) -> Result<Bytes, UpstreamError> {
    let answer = upstream.send(&mut upstream::write(limit)).await?;
    Ok(answer.into_body().collect().await.expect("a body").to_bytes())
}

/// Sends a safe call and reads its answer.
async fn look_up(upstream: &Upstream, limit: Duration) -> Result<Bytes, UpstreamError> {
    let answer = upstream.send(&mut Outgoing { method: Method::GET, ..upstream::write(limit) }).await?;
    Ok(answer.into_body().collect().await.expect("a body").to_bytes())
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Answers one request with this body, and returns the request. The rest of the connection is up to the caller.
async fn answer(stream: &mut TcpStream, body: &str) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    while !read.ends_with(b"{}") {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await?;
    Ok(read)
}

/// A gateway that answers every request after a while, and counts its connections.
async fn calm_gateway(takes: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let (listener, address) = listener().await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                loop {
                    sleep(takes).await;
                    if answer(&mut stream, "calm").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, made)
}

/// A gateway that answers every request over HTTP/2 after a while. Returns its URL.
async fn http2_gateway(ca: &Authority, takes: Duration) -> String {
    let acceptor = acceptor(ca, b"h2");
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.expect("TLS"));
                let service = service_fn(move |request: Request<Incoming>| async move {
                    request.into_body().collect().await.expect("a body");
                    sleep(takes).await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                });
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
            });
        }
    });
    format!("https://localhost:{}", address.port())
}

async fn at_once(upstream: &Upstream, calls: usize) {
    let mut all = JoinSet::new();
    for _ in 0..calls {
        let upstream = upstream.clone();
        all.spawn(async move { call(&upstream, LIMIT).await });
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("no panic").expect("an answer");
    }
}

/// Waits until so many connections are open.
async fn open(metrics: &Metrics, connections: i64) {
    let gauge = metrics.upstream_connections.with_label_values(&["open"]);
    let reached = async {
        while gauge.get() != connections {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(5), reached).await.is_ok(), "{} are open, not {connections}", gauge.get());
}

fn acceptor(ca: &Authority, protocol: &[u8]) -> TlsAcceptor {
    TlsAcceptor::from(offering(ca.server(&["localhost"]), &[protocol]))
}

#[tokio::test]
async fn a_waiting_request_takes_the_connection_that_comes_first() {
    let ca = Authority::new();
    let acceptor = acceptor(&ca, b"http/1.1");
    let (listener, address) = listener().await;
    let (arrived, mut arrivals) = mpsc::channel(4);
    let (asked, second) = oneshot::channel();
    let leave = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&leave);
    let gateway = tokio::spawn(async move {
        let (first, _) = listener.accept().await.expect("accepts");
        let stream = acceptor.accept(first).await.expect("TLS");
        let service = service_fn(move |request: Request<Incoming>| {
            let (arrived, held) = (arrived.clone(), Arc::clone(&held));
            async move {
                request.into_body().collect().await.expect("a body");
                arrived.send(()).await.expect("the test goes on");
                held.acquire().await.expect("open").forget();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"first"))))
            }
        });
        let serving = tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        // The next connection waits for TLS.
        let _second = listener.accept().await.expect("accepts");
        asked.send(()).expect("the test goes on");
        serving.await.expect("no panic").expect("served");
    });

    let (upstream, metrics) = upstream::to(&format!("https://localhost:{}", address.port()), &ca);
    let one = tokio::spawn({
        let upstream = upstream.clone();
        async move { call(&upstream, LIMIT).await }
    });
    arrivals.recv().await.expect("the first request");
    let two = tokio::spawn({
        let upstream = upstream.clone();
        async move { call(&upstream, LIMIT).await }
    });
    second.await.expect("a second connection");
    leave.add_permits(2);
    assert_eq!(one.await.expect("no panic").expect("an answer"), "first");
    let answer = timeout(Duration::from_secs(2), two).await.expect("in less than it takes to give up a connection");
    assert_eq!(answer.expect("no panic").expect("an answer"), "first");
    assert_eq!(metrics.upstream_connections_opened.get(), 1);
    gateway.abort();
}

#[tokio::test]
async fn a_connection_that_comes_too_late_is_kept_for_the_next() {
    let ca = Authority::new();
    let acceptor = acceptor(&ca, b"http/1.1");
    let (listener, address) = listener().await;
    let (late, given_up) = oneshot::channel();
    let gateway = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        given_up.await.expect("the test goes on");
        let stream = acceptor.accept(stream).await.expect("TLS");
        let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"late")))));
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.expect("served");
    });
    let (upstream, metrics) = upstream::to(&format!("https://localhost:{}", address.port()), &ca);
    let error = call(&upstream, Duration::from_millis(100)).await.expect_err("too late");
    assert_eq!((error.kind, error.sent), (ErrorKind::ConnectTimeout, Sent::No), "{error}");
    late.send(()).expect("the gateway waits");
    let began = Instant::now();
    assert_eq!(call(&upstream, LIMIT).await.expect("an answer"), "late");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(metrics.upstream_connections_opened.get(), 1);
    gateway.abort();
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_costs_nothing() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let gateway = tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            answer(&mut stream, &number.to_string()).await.expect("one request for each connection");
        }
    });
    let (upstream, metrics) = upstream::to(&format!("http://{address}"), &ca);
    for number in ["1", "2", "3"] {
        assert_eq!(call(&upstream, LIMIT).await.expect("an answer"), number);
        open(&metrics, 0).await;
    }
    assert_eq!(metrics.upstream_connections_opened.get(), 3);
    gateway.abort();
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_no_answer_to_the_next_call() {
    const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let gateway = tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            // Right behind the answer, and a moment later.
            let pause = Duration::from_millis(if number % 2 == 0 { 0 } else { 20 });
            answer(&mut stream, &number.to_string()).await.expect("one request for each connection");
            sleep(pause).await;
            let _ = stream.write_all(FORGED).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "no request may follow");
        }
    });
    let (upstream, metrics) = upstream::to(&format!("http://{address}"), &ca);
    for number in ["1", "2", "3", "4"] {
        assert_eq!(call(&upstream, LIMIT).await.expect("an answer"), number);
        open(&metrics, 0).await;
    }
    assert_eq!(metrics.upstream_connections_opened.get(), 4);
    assert!(!gateway.is_finished());
    gateway.abort();
}

#[tokio::test]
async fn everybody_is_told_that_there_is_no_connection() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    drop(listener);
    let (upstream, _) = upstream::to(&format!("http://{address}"), &ca);
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let upstream = upstream.clone();
        calls.spawn(async move { call(&upstream, LIMIT).await });
    }
    while let Some(ended) = calls.join_next().await {
        let error = ended.expect("no panic").expect_err("nobody is there");
        assert_eq!((error.kind, error.sent), (ErrorKind::ConnectionRefused, Sent::No), "{error}");
    }
}

#[tokio::test]
async fn a_connection_idle_for_long_is_closed_and_a_used_one_is_not() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let (clock, shift) = Clock::shifted();
    let (upstream, _) = upstream::of_workers(0, clock, &format!("http://{address}"), &ca);
    let gateway = tokio::spawn(async move {
        let (mut used, _) = listener.accept().await.expect("accepts");
        for _ in 0..3 {
            answer(&mut used, "used").await.expect("a request");
        }
        let idle = Instant::now();
        assert_eq!(used.read(&mut [0; 1]).await.expect("an end"), 0);
        idle.elapsed()
    });
    for _ in 0..3 {
        assert_eq!(call(&upstream, LIMIT).await.expect("an answer"), "used");
        sleep(Duration::from_secs(4)).await;
    }
    // The pool looks every 15 s.
    shift.advance(Duration::from_secs(50));
    let idle = gateway.await.expect("no panic");
    assert!((Duration::from_secs(4)..Duration::from_secs(22)).contains(&idle), "{idle:?}");
}

#[tokio::test]
async fn a_gateway_that_no_longer_speaks_http2_gets_a_connection_for_each_request() {
    let ca = Authority::new();
    let (multiplexed, plain) = (acceptor(&ca, b"h2"), acceptor(&ca, b"http/1.1"));
    let (listener, address) = listener().await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let (end, ended) = oneshot::channel();
    let gateway = tokio::spawn(async move {
        let service = || {
            service_fn(async |request: Request<Incoming>| {
                request.into_body().collect().await.expect("a body");
                sleep(Duration::from_millis(100)).await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"served"))))
            })
        };
        let (stream, _) = listener.accept().await.expect("accepts");
        let stream = TokioIo::new(multiplexed.accept(stream).await.expect("TLS"));
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service());
        // The connection ends without GOAWAY.
        tokio::select! {
            ended = ended => ended.expect("the test goes on"),
            ended = connection => panic!("ended early: {ended:?}"),
        }
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            counted.fetch_add(1, Ordering::SeqCst);
            let stream = TokioIo::new(plain.accept(stream).await.expect("TLS"));
            tokio::spawn(http1::Builder::new().serve_connection(stream, service()));
        }
    });
    let (upstream, metrics) = upstream::to(&format!("https://localhost:{}", address.port()), &ca);
    assert_eq!(call(&upstream, LIMIT).await.expect("an answer"), "served");
    at_once(&upstream, 3).await;
    assert_eq!(metrics.upstream_connections_opened.get(), 1, "one carries all");
    end.send(()).expect("the gateway waits");
    open(&metrics, 0).await;
    at_once(&upstream, 3).await;
    assert_eq!(made.load(Ordering::SeqCst), 3);
    gateway.abort();
}

#[tokio::test]
async fn callers_who_leave_do_not_pile_up_connections() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let (upstream, _) = upstream::to(&format!("https://localhost:{}", address.port()), &ca);
    // The gateway accepts connections, and sends nothing.
    let gateway = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok(Ok(connection)) = timeout(Duration::from_millis(1500), listener.accept()).await {
            taken.push(connection);
        }
        taken.len()
    });
    for _ in 0..30 {
        assert_eq!(
            call(&upstream, Duration::from_millis(30)).await.expect_err("too late").kind,
            ErrorKind::ConnectTimeout
        );
    }
    assert_eq!(gateway.await.expect("no panic"), 1);
}

#[tokio::test]
async fn a_connection_idle_for_too_long_is_not_used_even_before_a_sweep() {
    let ca = Authority::new();
    let (address, made) = calm_gateway(Duration::ZERO).await;
    let (clock, shift) = Clock::shifted();
    let (upstream, _) = upstream::of_workers(0, clock, &format!("http://{address}"), &ca);
    let (write, read) = (true, false);
    for (idle, is_write, connections) in [
        (0, write, 1),
        (14, write, 1),
        (49, read, 1),
        (16, write, 2),
        (0, write, 2),
        (14, write, 2),
        (16, read, 2),
        (51, read, 3),
        (3600, write, 4),
    ] {
        shift.advance(Duration::from_secs(idle));
        let answer = if is_write { call(&upstream, LIMIT).await } else { look_up(&upstream, LIMIT).await };
        assert_eq!(answer.expect("an answer"), "calm");
        assert_eq!(made.load(Ordering::SeqCst), connections, "after {idle} s, write: {is_write}");
    }
}

/// A write may take such a connection whichever call used it last, so the shorter limit holds for all calls.
#[tokio::test]
async fn an_http2_connection_idle_for_too_long_is_not_used_even_before_a_sweep() {
    let ca = Authority::new();
    let (clock, shift) = Clock::shifted();
    let (upstream, metrics) = upstream::of_workers(0, clock, &http2_gateway(&ca, Duration::ZERO).await, &ca);
    let (write, read) = (true, false);
    for (idle, is_write, connections) in
        [(0, write, 1), (14, write, 1), (14, read, 1), (16, write, 2), (14, read, 2), (16, read, 3), (3600, write, 4)]
    {
        shift.advance(Duration::from_secs(idle));
        let answer = if is_write { call(&upstream, LIMIT).await } else { look_up(&upstream, LIMIT).await };
        answer.expect("an answer");
        assert_eq!(metrics.upstream_connections_opened.get(), connections, "after {idle} s, write: {is_write}");
    }
}

#[tokio::test]
async fn no_more_are_kept_than_one_worker_may_keep() {
    let ca = Authority::new();
    let (address, made) = calm_gateway(Duration::from_millis(200)).await;
    let (upstream, metrics) = upstream::of_workers(256, Clock::system(), &format!("http://{address}"), &ca);
    at_once(&upstream, 6).await;
    assert_eq!(made.load(Ordering::SeqCst), 6);
    open(&metrics, 2).await;
}

#[tokio::test]
async fn a_repeated_request_has_the_same_bytes() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let gateway = tokio::spawn(async move {
        let mut requests = Vec::new();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            requests.push(answer(&mut stream, "").await.expect("a request"));
        }
        requests
    });
    let (upstream, metrics) = upstream::to(&format!("http://{address}"), &ca);
    let mut outgoing = upstream::write(LIMIT);
    for _ in 0..3 {
        upstream.send(&mut outgoing).await.expect("an answer").into_body().collect().await.expect("a body");
        // The gateway closes each connection behind its answer.
        open(&metrics, 0).await;
    }
    let requests = gateway.await.expect("no panic");
    let text = String::from_utf8_lossy(requests.first().expect("one")).into_owned();
    let expected = format!("accept: application/json\r\ncontent-length: 2\r\nhost: {address}\r\n\r\n{{}}");
    assert_eq!(text, format!("POST /v2/session?a=%20b HTTP/1.1\r\n{expected}"));
    assert!(requests.iter().all(|request| *request == requests[0]), "{requests:?}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_takes_its_connection_along() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let gateway = tokio::spawn(async move {
        let (mut half, _) = listener.accept().await.expect("accepts");
        let mut read = Vec::new();
        while !read.ends_with(b"{}") {
            half.read_buf(&mut read).await.expect("a request");
        }
        half.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.expect("half an answer");
        let (mut whole, _) = listener.accept().await.expect("accepts");
        answer(&mut whole, "whole").await.expect("a request");
        (half.read(&mut [0; 1]).await.expect("an end"), whole)
    });
    let (upstream, metrics) = upstream::to(&format!("http://{address}"), &ca);
    let unread = upstream.send(&mut upstream::write(LIMIT)).await.expect("a head");
    assert_eq!(call(&upstream, LIMIT).await.expect("an answer"), "whole");
    open(&metrics, 2).await;
    drop(unread);
    open(&metrics, 1).await;
    assert_eq!(gateway.await.expect("no panic").0, 0);
}

#[tokio::test]
async fn a_burst_before_http2_is_known_leaves_one_connection() {
    let ca = Authority::new();
    let url = http2_gateway(&ca, Duration::from_millis(100)).await;
    let (upstream, metrics) = upstream::to(&url, &ca);
    at_once(&upstream, 30).await;
    open(&metrics, 1).await;
    let opened = metrics.upstream_connections_opened.get();
    at_once(&upstream, 30).await;
    assert_eq!(metrics.upstream_connections_opened.get(), opened);
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_not_tried_for_ever() {
    let ca = Authority::new();
    let (listener, address) = listener().await;
    let gateway = tokio::spawn(async move {
        let mut taken = 0;
        while timeout(Duration::from_millis(500), listener.accept()).await.is_ok() {
            taken += 1;
        }
        taken
    });
    let (upstream, _) = upstream::to(&format!("http://{address}"), &ca);
    let error = call(&upstream, LIMIT).await.expect_err("closed");
    assert_eq!(error.kind, ErrorKind::Reset, "{error}");
    assert_eq!(gateway.await.expect("no panic"), 1);
}
