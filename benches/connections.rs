//! The cost of idle callers: the sidecar's memory for each held connection, and the effect on other callers.
//!
//! `cargo bench --bench connections` starts the release binary in front of a simulated gateway in this process.

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
use std::fs;
use std::process::Command;
use std::time::Instant;

use sezzle_sidecar::simulator::{Options, SessionKind, Simulator};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use self::sidecar::{Sidecar, exchange};

const IDLE: usize = 10_000;
const HALF_HEADS: usize = 2_000;
const REQUESTS: u32 = 1_000;

/// The bytes that each held connection has sent.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    /// One request, whose answer the caller has read.
    Request,
    /// This many bytes of a head.
    HalfHead(usize),
}

fn main() {
    const RAISED: &str = "CONNECTIONS_LIMIT_RAISED";
    if env::var_os(RAISED).is_none() {
        // A process cannot raise its own limit without unsafe code. A shell can, before it becomes the process.
        let script = r#"ulimit -n "$(ulimit -Hn)"; exec "$0""#;
        let own = env::current_exe().expect("a path");
        let status = Command::new("/bin/sh").arg("-c").arg(script).arg(own).env(RAISED, "1").status();
        assert!(status.expect("a shell").success());
        return;
    }
    let files = open_files();
    println!("open files allowed: {files}, limits.head: 32KiB");
    println!("{:<42}{:>8}{:>14}{:>12}{:>22}", "connections", "number", "VmRSS before", "each", "1000 requests beside");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, number, held) in [
        ("none", 0, Held::Nothing),
        ("idle, nothing sent", IDLE, Held::Nothing),
        ("idle after a request", IDLE, Held::Request),
        ("half a head, 8 KiB of it", HALF_HEADS, Held::HalfHead(8 << 10)),
        ("half a head, 31 KiB of it", HALF_HEADS, Held::HalfHead(31 << 10)),
    ] {
        let number = number.min(files.saturating_sub(200));
        runtime.block_on(measure(name, number, held));
    }
}

async fn measure(name: &str, number: usize, held: Held) {
    let gateway = Simulator::start(Options::default()).await.expect("a gateway");
    let sidecar = Sidecar::start(&gateway, &[("LIMITS__CONNECTIONS", (number + 100).to_string())]).await;
    let session = gateway.create_session(SessionKind::Order).session;
    let request = format!("GET /v2/session/{session} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut caller = TcpStream::connect(sidecar.proxy).await.expect("connects");
    for _ in 0..100 {
        exchange(&mut caller, &request).await;
    }

    let before = resident(&sidecar);
    let mut connections = Vec::with_capacity(number);
    for _ in 0..number {
        let mut connection = TcpStream::connect(sidecar.proxy).await.expect("connects");
        match held {
            Held::Nothing => {}
            Held::Request => drop(exchange(&mut connection, &request).await),
            Held::HalfHead(bytes) => {
                let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-half: {}", "x".repeat(bytes - 42));
                connection.write_all(head.as_bytes()).await.expect("is taken");
            }
        }
        connections.push(connection);
    }
    let began = Instant::now();
    for _ in 0..REQUESTS {
        exchange(&mut caller, &request).await;
    }
    let took = began.elapsed();
    let grown = resident(&sidecar).saturating_sub(before);
    let each = grown.checked_div(number).map_or("-".to_owned(), |each| format!("{:.1} KiB", each as f64 / 1024.0));
    let before = format!("{} KiB", before / 1024);
    println!("{name:<42}{number:>8}{before:>14}{each:>12}{:>22}", format!("{took:.1?}"));
    drop(connections);
    drop(sidecar);
    gateway.stop().await;
}

/// The sidecar's resident bytes.
fn resident(sidecar: &Sidecar) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.child.id())).expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("readable");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}
