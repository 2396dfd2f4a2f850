//! Logging delays no caller. The reader of the log may stop, fail or disappear: lost lines are counted, and a shutdown
//! loses none.

use std::fs::OpenOptions;
use std::io::{PipeReader, Read, pipe};
use std::sync::{Arc, Mutex};
use std::thread;

use http::{Method, StatusCode};
use serde_json::Value;
use sezzle_sidecar::simulator::{Gate, Options, Rule};

use crate::support::process::{Ended, Folder, Sidecar, free_address, lines, run};
use crate::support::wire::Wire;
use crate::support::{Session, arrived, eventually};

/// The line of the request with this id.
fn line_of<'l>(lines: &'l [Value], id: &str) -> &'l Value {
    let mut found = lines.iter().filter(|line| line["message"] == "request" && line["request_id"] == id);
    let line = found.next().unwrap_or_else(|| panic!("a line for {id}"));
    assert!(found.next().is_none(), "two lines for {id}");
    line
}

/// Makes so many hits over one connection, each with a log line of about 500 bytes.
async fn hits(sidecar: &Sidecar, count: usize) {
    let path = Session::order(&sidecar.gateway).path;
    sidecar.get(&path).await;
    let id = "x".repeat(128);
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\n\r\n");
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

async fn counted(sidecar: &Sidecar, metric: &str) -> usize {
    let text = sidecar.client.get(sidecar.ops, "/metrics").await.text();
    let name = format!("sezzle_sidecar_{metric} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.expect("the metric").parse().expect("a number")
}

async fn dropped(sidecar: &Sidecar) -> usize {
    counted(sidecar, "log_lines_dropped_total").await
}

/// Reads everything as it arrives.
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

const LOST: &str = "log lines before this one were lost";
// More lines than a pipe and the sidecar's buffer hold together.
const MANY: usize = 12_000;
// The session stays stored, however long a busy machine takes for so many hits.
const STORED: [(&str, &str); 2] = [("CACHE__MAX_TTL", "1h"), ("CACHE__UNTOKENIZED_TTL", "1h")];

#[tokio::test]
async fn a_reader_that_stops_holds_nobody_up_and_what_it_lost_is_counted() {
    let (reader, writer) = pipe().expect("a pipe");
    let sidecar = Sidecar::start_to(writer, &STORED).await;
    hits(&sidecar, MANY).await;
    let lost = dropped(&sidecar).await;
    assert!((1..MANY).contains(&lost), "{lost}");
    let status = sidecar.client.get(sidecar.ops, "/status.json").await.json();
    assert_eq!(status["conditions"][0]["condition"], "log_lost", "{status}");
    assert_eq!(status["hour"]["log_lines_lost"], lost);

    // The reader continues: the kept lines come, after a line with the number of lost ones.
    let (log, reader) = read_on(reader);
    let text = || String::from_utf8(log.lock().expect("not poisoned").clone()).expect("UTF-8");
    eventually("the loss is told", async || text().contains(LOST)).await;
    hits(&sidecar, 10).await;
    assert_eq!(dropped(&sidecar).await, lost);
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    reader.join().expect("reads");
    let lines = lines(&text());
    // Two more lines: the lookups that fill the cache.
    assert_eq!(of(&lines, "request").count(), MANY - lost + 10 + 2);
    let told: Vec<_> = of(&lines, LOST).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["lines"], &told[0]["level"]), (&lost.into(), &"WARN".into()));
}

#[tokio::test]
async fn a_reader_that_stops_does_not_hold_up_the_end() {
    let (reader, writer) = pipe().expect("a pipe");
    let sidecar = Sidecar::start_to(writer, &STORED).await;
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
async fn logged_lines_are_written_however_the_process_ends() {
    let drain = [("DRAIN__GRACE", "10m"), ("DRAIN__TIMEOUT", "20m")];
    let mut sidecar = Sidecar::start(Options::default(), &drain).await;
    hits(&sidecar, 100).await;
    sidecar.process.signal("TERM");
    sidecar.process.signal_again("TERM").await;
    let ended = sidecar.process.end().await;
    let at_once = lines(&ended.stdout);
    assert_eq!((ended.code, of(&at_once, "request").count()), (Some(1), 101));
    assert_eq!(
        of(&at_once, "the drain is cut short: the sidecar ends the remaining connections and writes").count(),
        1
    );

    // A request that the second signal cuts has its line, too.
    let mut sidecar = Sidecar::start(Options::default(), &drain).await;
    let gate = Gate::new();
    sidecar.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let mut wire = Wire::connect(sidecar.proxy).await;
    wire.send("GET /v2/customer HTTP/1.1\r\nhost: localhost\r\nx-request-id: cut\r\n\r\n").await;
    arrived(&gate, 1).await;
    sidecar.process.signal("TERM");
    sidecar.process.signal_again("TERM").await;
    let ended = sidecar.process.end().await;
    let cut = lines(&ended.stdout);
    assert_eq!((ended.code, &line_of(&cut, "cut")["aborted"]), (Some(1), &Value::from("caller")));
    gate.release();

    // A start that fails after the first log lines.
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
    assert_eq!((code, of(&lines(&stdout), "everybody may read this key file").count()), (Some(1), 1), "{stdout}");
}

#[tokio::test]
async fn the_trace_of_a_caller_is_in_its_line_and_goes_no_further() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    let session = Session::order(&sidecar.gateway).path;
    for (id, path, headers) in [
        ("passed", "/v2/customer", vec![("traceparent", trace), ("tracestate", "a=b"), ("baggage", "c=d")]),
        ("missed", &session, vec![("traceparent", trace)]),
        ("hit", &session, vec![("traceparent", trace)]),
        ("refused", "/elsewhere", vec![("TraceParent", trace)]),
        ("none", "/v2/customer", vec![]),
        ("zero", "/v2/customer", vec![("traceparent", zero)]),
        ("twice", "/v2/customer", vec![("traceparent", trace), ("traceparent", trace)]),
        ("upper", "/v2/customer", vec![("traceparent", &trace.to_uppercase())]),
    ] {
        let headers = [&headers[..], &[("x-request-id", id)]].concat();
        sidecar.send(Method::GET, path, &headers, "").await;
    }
    for exchange in sidecar.gateway.journal() {
        for name in ["traceparent", "tracestate", "baggage"] {
            assert!(!exchange.headers.contains_key(name), "{name} was sent");
        }
    }
    let lines = lines(&sidecar.stop().await.stdout);
    for id in ["passed", "missed", "hit", "refused"] {
        assert_eq!(line_of(&lines, id)["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{id}");
    }
    for id in ["none", "zero", "twice", "upper"] {
        assert!(line_of(&lines, id).get("trace_id").is_none(), "{id}");
    }
}

#[tokio::test]
async fn a_line_says_what_the_call_to_sezzle_took() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let Session { path: session, order_path, .. } = Session::tokenize(&sidecar.gateway);
    let call = async |id: &str, method: Method, path: &str, body: &str| {
        sidecar.send(method, path, &[("x-request-id", id)], body).await.status
    };
    assert_eq!(call("missed", Method::GET, &session, "").await, 200);
    assert_eq!(call("hit", Method::GET, &session, "").await, 200);
    assert_eq!(call("passed", Method::GET, "/v2/customer", "").await, 200);
    assert_eq!(call("written", Method::POST, &format!("{order_path}/capture"), "{}").await, 422);
    assert_eq!(call("refused", Method::GET, "/elsewhere", "").await, 404);
    // The gateway is busy twice for the first call, and the second call needs a new token.
    sidecar.gateway.script(Rule::path("/v2/customer").times(2).status(StatusCode::BAD_GATEWAY).body("[]"));
    assert_eq!(call("repeated", Method::GET, "/v2/customer", "").await, 200);
    sidecar.gateway.revoke_tokens();
    assert_eq!(call("replayed", Method::GET, "/v2/customer", "").await, 200);
    let log = sidecar.stop().await.stdout;
    let lines = lines(&log);
    for (id, attempts, token, bytes) in [
        ("missed", 1, 1, None),
        ("passed", 1, 1, None),
        ("written", 1, 1, Some(2)),
        ("repeated", 3, 1, None),
        ("replayed", 2, 2, None),
    ] {
        let line = line_of(&lines, id);
        assert_eq!((&line["attempts"], &line["token_gen"]), (&attempts.into(), &token.into()), "{line}");
        assert_eq!(line.get("bytes_in").and_then(Value::as_u64), bytes, "{line}");
        let [own, whole] = ["upstream_ms", "dur_ms"].map(|name| line[name].as_f64().expect("a number"));
        assert!(own > 0.0 && own <= whole, "{line}");
        assert!(line["conn_reused"].is_boolean(), "{line}");
    }
    let reused = ["missed", "replayed"].map(|id| line_of(&lines, id)["conn_reused"].as_bool());
    assert_eq!(reused, [Some(false), Some(true)], "the first call of all, and one that was sent before");
    for id in ["hit", "refused"] {
        let line = line_of(&lines, id);
        for field in ["attempts", "upstream_ms", "conn_reused", "token_gen", "bytes_in"] {
            assert!(line.get(field).is_none(), "{field} in {line}");
        }
    }
}

#[tokio::test]
async fn of_hits_one_in_so_many_has_a_line_and_everything_else_does() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__SAMPLE_HITS", "10")]).await;
    // All hits use one connection, and so one worker.
    hits(&sidecar, 100).await;
    assert_eq!(counted(&sidecar, "log_lines_sampled_out_total").await, 90);
    for _ in 0..20 {
        sidecar.get("/v2/customer").await;
        sidecar.get("/elsewhere").await;
        sidecar.send(Method::POST, "/v2/order/x/capture", &[], "{}").await;
    }
    assert_eq!(counted(&sidecar, "log_lines_sampled_out_total").await, 90);
    let lines = lines(&sidecar.stop().await.stdout);
    let by_cache = |cache: &str| of(&lines, "request").filter(|line| line["cache"] == cache).count();
    assert_eq!((by_cache("hit"), by_cache("miss"), by_cache("bypass")), (10, 1, 60));
}

#[tokio::test]
async fn a_request_without_a_line_is_not_counted_as_sampled_out() {
    let variables = [("LOG__SAMPLE_HITS", "10"), ("LOG__LEVEL", "warn")];
    let sidecar = Sidecar::start(Options::default(), &variables).await;
    hits(&sidecar, 20).await;
    assert_eq!(counted(&sidecar, "log_lines_sampled_out_total").await, 0);
    assert_eq!(sidecar.stop().await.stdout, "");
}
