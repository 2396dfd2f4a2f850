//! The log costs callers nothing but its lines: whoever reads it may stop, fail or be gone. What is lost is counted, and
//! at the end nothing is.

use std::fs::OpenOptions;
use std::io::{PipeReader, Read, pipe};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use sezzle_sidecar::simulator::{Options, SessionKind};

use crate::binary::lines;
use crate::support::eventually;
use crate::support::process::{Ended, Folder, Sidecar, free_address, run};
use crate::support::wire::Wire;

/// So many hits over one connection, each with a line of about 500 bytes.
async fn hits(sidecar: &Sidecar, count: usize) {
    let session = sidecar.gateway.create_session(SessionKind::Order).session;
    sidecar.get(&format!("/v2/session/{session}")).await;
    let id = "x".repeat(128);
    let request = format!("GET /v2/session/{session} HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\n\r\n");
    let mut wire = Wire::connect(sidecar.proxy).await;
    let mut left = count;
    while left > 0 {
        let now = left.min(50);
        wire.send(request.repeat(now)).await;
        for _ in 0..now {
            let answer = wire.answer().await;
            assert_eq!((answer.status, &answer.cache()[..3]), (200, "hit"));
        }
        left -= now;
    }
}

async fn dropped(sidecar: &Sidecar) -> usize {
    let text = sidecar.client.get(sidecar.ops, "/metrics").await.text();
    let value = text.lines().find_map(|line| line.strip_prefix("sezzle_sidecar_log_lines_dropped_total "));
    value.expect("the metric").parse().expect("a number")
}

/// Reads all that comes, as it comes.
fn read_on(mut reader: PipeReader) -> (Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>) {
    let text = Arc::<Mutex<Vec<u8>>>::default();
    let read = Arc::clone(&text);
    let thread = thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            read.lock().expect("not poisoned").extend_from_slice(&chunk[..length]);
        }
    });
    (text, thread)
}

fn of<'l>(lines: &'l [Value], message: &'l str) -> impl Iterator<Item = &'l Value> {
    lines.iter().filter(move |line| line["message"] == message)
}

const LOST: &str = "lines of the log were lost before this one";
// More than a pipe and the sidecar hold together.
const MANY: usize = 12_000;

#[tokio::test]
async fn a_reader_that_stops_holds_nobody_up_and_what_it_lost_is_counted() {
    let (reader, writer) = pipe().expect("a pipe");
    let sidecar = Sidecar::start_to(writer, &[]).await;
    hits(&sidecar, MANY).await;
    let lost = dropped(&sidecar).await;
    assert!((1..MANY).contains(&lost), "{lost}");

    // It reads on: what was kept comes, and a line that says how much is missing before it.
    let (log, reader) = read_on(reader);
    let text = || String::from_utf8(log.lock().expect("not poisoned").clone()).expect("UTF-8");
    eventually("the loss is told", async || text().contains(LOST)).await;
    hits(&sidecar, 10).await;
    assert_eq!(dropped(&sidecar).await, lost);
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    reader.join().expect("reads");
    let lines = lines(&text());
    // And the lookups that fill the cache, twice.
    assert_eq!(of(&lines, "request").count(), MANY - lost + 10 + 2);
    let told: Vec<_> = of(&lines, LOST).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["lines"], &told[0]["level"]), (&lost.into(), &"WARN".into()));
}

#[tokio::test]
async fn a_reader_that_stops_does_not_hold_up_the_end() {
    let (reader, writer) = pipe().expect("a pipe");
    let sidecar = Sidecar::start_to(writer, &[]).await;
    hits(&sidecar, MANY).await;
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    drop(reader);
}

#[tokio::test]
async fn a_stream_that_fails_is_no_reason_to_fail() {
    let (reader, gone) = pipe().expect("a pipe");
    drop(reader);
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a device");
    for (what, stdout) in [("gone", gone.into()), ("full", std::process::Stdio::from(full))] {
        let sidecar = Sidecar::start_to(stdout, &[]).await;
        hits(&sidecar, 100).await;
        eventually("all lines are counted", async || dropped(&sidecar).await > 100).await;
        let ended = sidecar.stop().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{what}");
    }
}

#[tokio::test]
async fn no_line_is_lost_at_the_end() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    hits(&sidecar, 3_000).await;
    let ended = sidecar.stop().await;
    let lines = lines(&ended.stdout);
    assert_eq!((ended.code, of(&lines, "request").count()), (Some(0), 3_001));
    assert_eq!(lines.last().map(|line| &line["message"]), Some(&"drained".into()));
}

#[tokio::test]
async fn what_was_logged_is_written_however_it_ends() {
    let drain = [("DRAIN__GRACE", "10m"), ("DRAIN__TIMEOUT", "20m")];
    let mut sidecar = Sidecar::start(Options::default(), &drain).await;
    hits(&sidecar, 100).await;
    sidecar.process.signal("TERM");
    sidecar.process.says("draining").await;
    sidecar.process.signal("TERM");
    let ended = sidecar.process.end().await;
    let at_once = lines(&ended.stdout);
    assert_eq!((ended.code, of(&at_once, "request").count()), (Some(1), 101));
    assert_eq!(of(&at_once, "what was still under way is cut").count(), 1);

    // A start that fails after something was logged.
    let folder = Folder::new();
    let (taken, free) = (std::net::TcpListener::bind("127.0.0.1:0").expect("a port"), free_address().to_string());
    let private = folder.write_with("private", "sz_pr_simulated", 0o444);
    let address = taken.local_addr().expect("an address").to_string();
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("CREDENTIALS__PUBLIC_KEY", "sz_pub_simulated"),
        ("CREDENTIALS__PRIVATE_KEY_FILE", &private),
        ("PROXY__LISTEN", &address),
        ("OPS__LISTEN", &free),
    ];
    let Ended { code, stdout, .. } = run(&["run"], &variables).await;
    assert_eq!((code, of(&lines(&stdout), "key file may be read by others").count()), (Some(1), 1), "{stdout}");
}
