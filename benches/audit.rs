//! The cost of the audit for captures: throughput with `audit.file` beside that without, in one run, and the writes that the
//! lines took.
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

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use sezzle_sidecar::simulator::{Options, Rule, SessionKind, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

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
    let plain = Sidecar::start(&gateway, None).await;
    let audited = Sidecar::start(&gateway, Some(&file)).await;
    println!("{:>8}{:>16}{:>16}{:>8}{:>18}", "callers", "plain, 1/s", "audited, 1/s", "ratio", "lines per write");
    for callers in CALLERS {
        turn(&gateway, plain.proxy, callers).await;
        turn(&gateway, audited.proxy, callers).await;
        let (mut without, mut with) = (0, 0);
        let (lines, writes) = audited.written().await;
        for _ in 0..TURNS {
            without += turn(&gateway, plain.proxy, callers).await;
            with += turn(&gateway, audited.proxy, callers).await;
        }
        let (lines, writes) = {
            let (l, w) = audited.written().await;
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

/// Sends a request and reads its answer, whose body has the stated length.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("is taken");
    let mut read = Vec::with_capacity(4096);
    loop {
        assert!(stream.read_buf(&mut read).await.expect("an answer") > 0, "closed");
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() >= length.parse().expect("a number") {
                return body.to_owned();
            }
        }
    }
}

struct Sidecar {
    child: Child,
    proxy: SocketAddr,
    ops: SocketAddr,
}

impl Sidecar {
    async fn start(gateway: &Simulator, audit: Option<&Path>) -> Self {
        let (proxy, ops) = (free_address(), free_address());
        let options = Options::default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sezzle-sidecar"));
        command.arg("run").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        for (name, value) in [
            ("GATEWAY__ENVIRONMENT", "sandbox".to_owned()),
            ("GATEWAY__URL", gateway.url()),
            ("CREDENTIALS__PUBLIC_KEY", options.public_key),
            ("CREDENTIALS__PRIVATE_KEY", options.private_key),
            ("PROXY__LISTEN", proxy.to_string()),
            ("OPS__LISTEN", ops.to_string()),
            ("LOG__LEVEL", "warn".to_owned()),
        ] {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        if let Some(file) = audit {
            command.env("SEZZLE_SIDECAR__AUDIT__FILE", file).env("SEZZLE_SIDECAR__AUDIT__REQUIRED", "true");
        }
        let sidecar = Self { child: command.spawn().expect("starts"), proxy, ops };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_ready(ops).await {
            assert!(Instant::now() < deadline, "not ready in time");
            sleep(Duration::from_millis(10)).await;
        }
        sidecar
    }

    /// The lines of calls and the writes so far.
    async fn written(&self) -> (f64, f64) {
        let mut stream = TcpStream::connect(self.ops).await.expect("connects");
        let text = exchange(&mut stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let sum = |name: &str| {
            let series = text.lines().filter(|line| line.starts_with(name));
            series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        (sum("sezzle_sidecar_audit_lines_total"), sum("sezzle_sidecar_audit_write_seconds_count"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Both calls fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn is_ready(ops: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(ops).await else { return false };
    let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    let sent = stream.write_all(request.as_bytes()).await;
    sent.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200 ")
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
