//! Random bytes from both sides: no panic, no hang, and no leak.
//!
//! A failure prints the seed, and `SOAK_SEED` repeats it, as far as the order of events is the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use sezzle_sidecar::simulator::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::support::eventually;
use crate::support::process::Sidecar;
use crate::support::scripted::{Script, Scripted, answer};

const FOR: Duration = Duration::from_secs(3);
const CALLERS: u64 = 8;

const REQUESTS: [&str; 9] = [
    "GET /v2/session/fadbc642-05a4-4e38-9e74-80e325623af9 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "GET /v2/customer?a=b HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\ncache-control: no-cache\r\n\r\n",
    "POST /v2/order/o/capture HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello",
    "POST /v2/session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx: 1\r\n\r\n",
    "POST /v2/session HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
    "HEAD /v2/orders/report HTTP/1.1\r\nhost: [::1]:80\r\nconnection: x, close\r\n\r\n",
    "POST /v2/authentication HTTP/1.1\r\nhost: localhost\r\ncontent-length: 19\r\n\r\n{\"public_key\":\"a\"}\n",
    "DELETE http://localhost/v2/order/o/checkout HTTP/1.0\r\nhost: localhost\r\nupgrade: h2c\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

const ANSWERS: [&str; 8] = [
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 48\r\n\r\n\
        {\"uuid\":\"fadbc642-05a4-4e38-9e74-80e325623af9\"} ",
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 66\r\n\r\n\
        {\"links\":[{\"href\":\"https://gateway.sezzle.com/v2/order/o\"}],\"a\":1} ",
    "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nx: 1\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nset-cookie: a=b\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncache-control: max-age=\"1, no-store\", private\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\netag: W/\"x\"\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
];

/// Some of the texts, one after the other, with a few bytes changed, lost, doubled or inserted.
fn mutated(rng: &mut Rng, texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..4) {
        bytes.extend(texts[rng.usize(..texts.len())].as_bytes());
    }
    for _ in 0..rng.usize(..6) {
        let at = rng.usize(..bytes.len().max(1)).min(bytes.len());
        let end = (at + rng.usize(1..40)).min(bytes.len());
        match rng.u8(..8) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let piece = piece.repeat(if rng.u8(..20) == 0 { 4000 } else { rng.usize(1..4) });
                bytes.splice(at..at, piece);
            }
            4 => drop(bytes.splice(at..at, *b"\r\n")),
            5 => {
                let words = ["99999999999999999999", "-1", "0", "chunked", "\0", "\t", " ", "%2f", ",", "\u{e9}", "\n"];
                bytes.splice(at..at, words[rng.usize(..words.len())].bytes());
            }
            6 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

/// Runs callers one after the other until the time is over, and returns how many there were.
async fn call(sidecar: &Sidecar, mut rng: Rng, until: Instant, sent: &AtomicUsize) {
    while Instant::now() < until {
        let mut stream = TcpStream::connect(sidecar.proxy).await.expect("connects");
        let bytes = mutated(&mut rng, &REQUESTS);
        let (resets, finishes) = (rng.u8(..8) == 0, rng.u8(..2) == 0);
        let exchange = async {
            let _ = stream.write_all(&bytes).await;
            if resets {
                return;
            }
            if finishes {
                let _ = stream.shutdown().await;
            }
            let mut answer = [0; 4096];
            // A connection on which the sidecar waits for more of the request is abandoned.
            while let Ok(Ok(1..)) = timeout(Duration::from_millis(20), stream.read(&mut answer)).await {}
        };
        // No request may take longer than the gateway's time limit.
        timeout(Duration::from_secs(5), exchange).await.expect("answers without end");
        if resets {
            let _ = stream.set_zero_linger();
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(clippy::print_stderr, reason = "shown only when the test fails")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_from_both_sides_do_no_lasting_harm() {
    let seed = std::env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("SOAK_SEED={seed}");
    let gateway = Scripted::start().await;
    let url = format!("http://{}", gateway.addr);
    let variables = [
        ("GATEWAY__URL", url.as_str()),
        ("GATEWAY__READ_TIMEOUT", "200ms"),
        ("GATEWAY__WRITE_TIMEOUT", "200ms"),
        ("GATEWAY__REPORT_TIMEOUT", "200ms"),
        ("LIMITS__HEAD", "16KiB"),
        ("LIMITS__BODY", "16KiB"),
        ("LOG__LEVEL", "error"),
    ];
    let sidecar = Sidecar::start(Options::default(), &variables).await;

    let (until, sent) = (Instant::now() + FOR, AtomicUsize::new(0));
    let script = async {
        let mut rng = Rng::with_seed(seed);
        while Instant::now() < until {
            let good = answer("200 OK", r#"{"uuid":"fadbc642-05a4-4e38-9e74-80e325623af9"}"#);
            // A gateway that holds its connection would be waited for as long as a body may take. Most answers are
            // good, or the sidecar would send nothing for seconds on end.
            let is_good = rng.u8(..4) != 0;
            gateway.script(if is_good { Script::Bytes(good) } else { Script::Last(mutated(&mut rng, &ANSWERS)) });
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let caller = |number| call(&sidecar, Rng::with_seed(seed.wrapping_add(number)), until, &sent);
    tokio::join!(script, caller(1), caller(2), caller(3), caller(4), caller(5), caller(6), caller(7), caller(CALLERS));
    assert!(sent.load(Ordering::Relaxed) > 100, "only {} callers", sent.load(Ordering::Relaxed));

    gateway.script(Script::Good);
    let session = Uuid::from_u128(u128::from(seed)).to_string();
    let path = format!("/v2/session/{session}");
    let mut lookup = sidecar.get(&path).await;
    // The gateway failed too often in the last seconds. A probe follows a minute later at most.
    let patience = Instant::now() + Duration::from_secs(70);
    while lookup.status == 503 && lookup.error_code() == "sidecar.circuit_open" && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(50)).await;
        lookup = sidecar.get(&path).await;
    }
    assert_eq!((lookup.status, lookup.json()["uuid"].as_str()), (200, Some(session.as_str())), "SOAK_SEED={seed}");
    // All callers have gone, except the client's own connection. A body that broke off in the middle still has its
    // deadline.
    let mut left = String::new();
    eventually("nothing is left", async || {
        let text = sidecar.client.get(sidecar.ops, "/metrics").await.text();
        let gauges =
            ["in_flight_requests", "upstream_connections{state=\"active\"}", "connections{listener=\"proxy\"}"];
        let held = |line: &&str| {
            let gauge = line
                .strip_prefix("sezzle_sidecar_")
                .is_some_and(|line| gauges.iter().any(|gauge| line.starts_with(gauge)));
            let own = line.starts_with("sezzle_sidecar_connections") && line.ends_with(" 1");
            gauge && !own && !line.ends_with(" 0")
        };
        left = text.lines().filter(held).collect::<Vec<_>>().join("\n");
        left.is_empty()
    })
    .await;
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "SOAK_SEED={seed}");
    assert!(!ended.stdout.contains("panic"), "SOAK_SEED={seed}: {}", ended.stdout);
}
