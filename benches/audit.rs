//! The cost of the audit for captures: throughput with `audit.file` beside that without, in one run, and the number of
//! lines in each write.
//!
//! `cargo bench --bench audit` starts two release binaries in front of one simulated gateway in this process, which
//! answers after 20 ms. Callers send to the one and to the other in turn, two seconds each. A folder may follow: the
//! audit file is made there, in place of the temporary folder, which may be in memory.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement that fails may panic; it measures real time and prints what it found"
)]

mod sidecar;

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::Method;
use sezzle_sidecar::simulator::{Options, Rule, SessionKind, Simulator};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::sidecar::{Sidecar, exchange};

const GATEWAY: Duration = Duration::from_millis(20);
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 5;
const CALLERS: [usize; 3] = [1, 16, 64];

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let file = place.unwrap_or_else(|| folder.path().to_owned()).join(format!("audit-{}.log", std::process::id()));
    let gateway = Simulator::start(Options::default()).await.expect("a gateway");
    gateway.script(Rule::on(Method::POST, "/v2/order/*").delay(GATEWAY));
    let plain = Sidecar::start(&gateway, &[]).await;
    let audit = [("AUDIT__FILE", file.display().to_string()), ("AUDIT__REQUIRED", "true".to_owned())];
    let audited = Sidecar::start(&gateway, &audit).await;
    println!("{:>8}{:>16}{:>16}{:>8}{:>18}", "callers", "plain, 1/s", "audited, 1/s", "ratio", "lines per write");
    for callers in CALLERS {
        turn(&gateway, plain.proxy, callers).await;
        turn(&gateway, audited.proxy, callers).await;
        let (mut without, mut with) = (0, 0);
        let (lines, writes) = written(&audited).await;
        for _ in 0..TURNS {
            without += turn(&gateway, plain.proxy, callers).await;
            with += turn(&gateway, audited.proxy, callers).await;
        }
        let (lines, writes) = {
            let (l, w) = written(&audited).await;
            (l - lines, w - writes)
        };
        let rate = |calls: usize| calls as f64 / (TURN * TURNS as u32).as_secs_f64();
        let ratio = with as f64 / without as f64;
        println!("{callers:>8}{:>16.0}{:>16.0}{ratio:>8.2}{:>18.1}", rate(without), rate(with), lines / writes);
    }
    drop((plain, audited));
    let _ = std::fs::remove_file(file);
    gateway.stop().await;
}

/// The captures that so many callers get done in one turn.
async fn turn(gateway: &Simulator, proxy: SocketAddr, callers: usize) -> usize {
    let mut all = JoinSet::new();
    for _ in 0..callers {
        let order = gateway.create_session(SessionKind::Order).order.expect("an order");
        assert!(gateway.complete_checkout(&order), "the checkout is open");
        all.spawn(async move {
            let body = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
            let request = format!(
                "POST /v2/order/{order}/capture HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut caller = TcpStream::connect(proxy).await.expect("connects");
            let (end, mut done) = (Instant::now() + TURN, 0);
            while Instant::now() < end {
                exchange(&mut caller, &request).await;
                done += 1;
            }
            done
        });
    }
    all.join_all().await.into_iter().sum()
}

/// The lines of calls and the writes so far.
async fn written(sidecar: &Sidecar) -> (f64, f64) {
    let mut stream = TcpStream::connect(sidecar.ops).await.expect("connects");
    let text = exchange(&mut stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let sum = |name: &str| {
        let series = text.lines().filter(|line| line.starts_with(name));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (sum("sezzle_sidecar_audit_lines_total"), sum("sezzle_sidecar_audit_write_seconds_count"))
}
