//! Thousands of callers that only hold their connections: other callers do not notice, and idle connections are closed
//! in time.

use std::time::Duration;

use sezzle_sidecar::simulator::Options;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::process::Sidecar;
use crate::support::wire::Wire;
use crate::support::{Session, eventually};

const HALF_HEADS: usize = 2000;
/// Descriptors for everything else in this process and the sidecar, other tests included.
const SPARE: usize = 1000;

/// How many connections each of the two processes may hold.
fn places() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("readable");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let soft: usize = line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX);
    soft.saturating_sub(SPARE).min(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_only_hold_connections_keep_nobody_out() {
    let places = places();
    let half_heads = HALF_HEADS.min(places / 2);
    let idle = places - half_heads;
    let limit = (places + 100).to_string();
    let settings = [("LIMITS__CONNECTIONS", limit.as_str()), ("LIMITS__IN_FLIGHT", "64"), ("LOG__LEVEL", "warn")];
    let sidecar = Sidecar::start(Options::default(), &settings).await;
    let session = Session::order(&sidecar.gateway).path;
    assert_eq!(sidecar.get(&session).await.status, 200);

    let mut crowd = Vec::with_capacity(idle);
    for _ in 0..idle {
        crowd.push(TcpStream::connect(sidecar.proxy).await.expect("connects"));
    }
    // The listener for operators gives an idle connection 5 s only.
    let mut loiterers = Vec::new();
    for _ in 0..20 {
        loiterers.push(Wire::connect(sidecar.ops).await);
    }
    let began = Instant::now();
    let head = format!("GET {session} HTTP/1.1\r\nhost: localhost\r\nx-half: {}", "x".repeat(4096));
    let mut halves = Vec::with_capacity(half_heads);
    for _ in 0..half_heads {
        let mut wire = Wire::connect(sidecar.proxy).await;
        wire.send(&head).await;
        halves.push(wire);
    }
    // Other callers are served while the crowd is complete, as far as this machine opens it within the 5 s of a head.
    let mut slowest = Duration::ZERO;
    for turn in 0..200 {
        let asked = Instant::now();
        let path = if turn % 2 == 0 { session.as_str() } else { "/v2/customer" };
        assert_eq!(sidecar.get(path).await.status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?} with {idle} idle and {half_heads} half heads");

    let metric = async |series: &str| {
        let text = sidecar.client.get(sidecar.ops, "/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("sezzle_sidecar_{series} ")));
        line.map_or(0, |value| value.parse::<usize>().expect("a number"))
    };
    let cut = r#"connections_refused_total{listener="proxy",reason="head_timeout"}"#;
    eventually("every half head is cut", async || metric(cut).await == half_heads).await;
    assert!(began.elapsed() > Duration::from_millis(4900), "and not too early: {:?}", began.elapsed());
    for wire in &mut halves {
        assert!(wire.rest().await.is_empty(), "half a request gets no answer");
    }
    let cut = r#"connections_refused_total{listener="ops",reason="idle_timeout"}"#;
    eventually("every idle one is cut", async || metric(cut).await >= loiterers.len()).await;
    for wire in &mut loiterers {
        assert!(wire.rest().await.is_empty());
    }
    let open = r#"connections{listener="proxy"}"#;
    assert!(metric(open).await >= idle, "an idle connection has longer");
    assert_eq!(metric(r#"connections_refused_total{listener="proxy",reason="limit"}"#).await, 0);

    drop(crowd);
    eventually("all are gone but the client's own", async || metric(open).await <= 2).await;
    assert_eq!(sidecar.get(&session).await.status, 200);
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
