//! Writes whose callers do not wait, and a process that is about to end: every write that was sent gets its outcome, or
//! is logged as unknown.

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::{Exchange, Fault, Gate, Options, Reset, Rule};
use tokio::task::{JoinHandle, JoinSet};

use super::scene::is_minted;
use crate::support::client::{Answer, Client, Ended};
use crate::support::process::Sidecar;
use crate::support::wire::Wire;
use crate::support::{Session, arrived, eventually, header};

const BODY: &str = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
const FOR_EVER: Duration = Duration::from_secs(3600);

/// An order that can be captured, and the path of its captures.
fn capture(sidecar: &Sidecar) -> (String, String) {
    let session = Session::order(&sidecar.gateway).authorized(&sidecar.gateway);
    (session.order, format!("{}/capture", session.order_path))
}

/// Sends a capture without waiting for its answer.
async fn send(sidecar: &Sidecar, path: &str, key: Option<&str>) -> Wire {
    let mut wire = Wire::connect(sidecar.proxy).await;
    let key = key.map_or_else(String::new, |key| format!("sezzle-request-id: {key}\r\n"));
    let length = BODY.len();
    wire.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{key}content-length: {length}\r\n\r\n{BODY}")).await;
    wire
}

/// The log lines about an order.
fn told(log: &str, order: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    lines.filter(|line: &Value| line["order"] == order).collect()
}

fn is_unknown(line: &Value) -> bool {
    line["level"] == "ERROR" && line["message"].as_str().is_some_and(|message| message.contains("unknown"))
}

#[tokio::test]
async fn the_outcome_of_a_write_whose_caller_has_gone_is_logged_with_its_order() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    for http2 in [false, true] {
        let (order, path) = capture(&sidecar);
        let gate = Gate::new();
        sidecar.gateway.script(Rule::path(&path).gate(&gate));
        if http2 {
            // The caller's connection stays open, and only this call is cancelled.
            let client = Client::http2();
            let call = client.try_send(sidecar.proxy, Method::POST, &path, &[], BODY);
            tokio::select! {
                answer = call => panic!("{answer:?}"),
                () = arrived(&gate, 1) => {}
            }
        } else {
            send(&sidecar, &path, None).await.reset();
            arrived(&gate, 1).await;
        }
        assert_eq!(sidecar.gateway.effects(&order), []);
        gate.release();
        let done = || told(&sidecar.process.stdout(), &order).into_iter().find(|line| line["code"] == 200);
        eventually("its end is logged", async || done().is_some()).await;
        let line = done().expect("logged");
        assert_eq!(line["route"], "/v2/order/{order}/capture", "{line}");
        assert!(line["sezzle_request_id"].as_str().is_some_and(is_minted), "{line}");
        assert_eq!(sidecar.gateway.effects(&order).len(), 1);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_logged_with_its_order_and_key_even_if_no_caller_waits() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let gate = Gate::new();
    for (waits, own) in [(true, Some("key-1")), (true, None), (false, Some("key-2")), (false, None)] {
        let (order, path) = capture(&sidecar);
        sidecar.gateway.script(Rule::path(&path).reset(Reset::AfterEffect).gate(&gate));
        let before = sidecar.gateway.count("POST", &path);
        let mut wire = send(&sidecar, &path, own).await;
        eventually("it has arrived", async || sidecar.gateway.count("POST", &path) > before).await;
        let key = if waits {
            gate.release();
            let answer = wire.answer().await;
            assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
            answer.header("sezzle-request-id").to_owned()
        } else {
            wire.reset();
            let attempt = sidecar.gateway.journal().pop().expect("an attempt");
            header(&attempt.headers, "sezzle-request-id").to_owned()
        };
        assert!(own.is_none_or(|own| own == key) && (own.is_some() || is_minted(&key)), "{key}");
        let logged = async || told(&sidecar.process.stdout(), &order).iter().any(is_unknown);
        eventually("it is logged", logged).await;
        let lines = told(&sidecar.process.stdout(), &order);
        let unknown: Vec<_> = lines.iter().filter(|line| is_unknown(line)).collect();
        assert_eq!(unknown.len(), 1, "{lines:?}");
        assert_eq!(unknown[0]["sezzle_request_id"], key, "{lines:?}");
    }
    let series = r#"sezzle_sidecar_money_outcome_unknown_total{route="/v2/order/{order}/capture"} 4"#;
    let text = sidecar.client.get(sidecar.ops, "/metrics").await.text();
    assert!(text.lines().any(|line| line == series), "{text}");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_drain_waits_for_writes_whose_callers_have_gone() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let (order, path) = capture(&sidecar);
    let gate = Gate::new();
    sidecar.gateway.script(Rule::path(&path).gate(&gate));
    send(&sidecar, &path, None).await.reset();
    arrived(&gate, 1).await;
    let Sidecar { mut process, gateway, proxy, .. } = sidecar;
    process.signal("TERM");
    eventually("closed", async || tokio::net::TcpStream::connect(proxy).await.is_err()).await;
    process.says("draining").await;
    assert!(!process.stdout().contains("\"drained\""));
    gate.release();
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(gateway.effects(&order).len(), 1);
    let lines = told(&ended.stdout, &order);
    assert!(lines.iter().any(|line| line["code"] == 200), "{lines:?}");
    assert!(ended.stdout.contains("\"drained\""), "nothing was cut: {}", ended.stdout);
    gateway.stop().await;
}

/// The answers that a caller under load got, by the number of its call.
type Told = HashMap<String, Answer>;

/// Sends captures one after the other, until nobody answers any more.
async fn capture_on(client: usize, sidecar: std::net::SocketAddr, path: String) -> Told {
    let (http, mut told) = (Client::new(), Told::new());
    for call in 0.. {
        let id = format!("{client}-{call}");
        let headers = [("x-request-id", id.as_str()), ("x-number", id.as_str())];
        match http.try_send(sidecar, Method::POST, &path, &headers, BODY).await {
            Ended::Whole(answer) => drop(told.insert(id, answer)),
            Ended::Cut(answer) => panic!("{id}: {answer:?}"),
            Ended::Unanswered(_) => break,
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_under_load_loses_no_answer_and_leaves_no_outcome_unlogged() {
    let sidecar = Sidecar::start(Options::default(), &[("DRAIN__GRACE", "200ms")]).await;
    let (order, path) = capture(&sidecar);
    sidecar.gateway.script(Rule::path(&path).delay(Duration::from_millis(20)));
    let mut callers: JoinSet<Told> = (0..16).map(|client| capture_on(client, sidecar.proxy, path.clone())).collect();
    eventually("there is load", async || sidecar.gateway.count("POST", &path) > 100).await;
    sidecar.process.signal("TERM");
    let mut told = Told::new();
    while let Some(caller) = callers.join_next().await {
        told.extend(caller.expect("no panic"));
    }
    let ended = sidecar.process.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let arrived: Vec<Exchange> = sidecar.gateway.journal().into_iter().filter(|call| call.path == path).collect();
    assert_eq!(sidecar.gateway.effects(&order).len(), arrived.len(), "each arrived once");
    let logged: HashMap<String, Value> = told_ids(&ended.stdout);
    for call in &arrived {
        let id = header(&call.headers, "x-number");
        let answer = told.get(id).unwrap_or_else(|| panic!("{id} was done and not answered"));
        assert_eq!(answer.status, 200, "{id}");
        assert_eq!(logged.get(id), Some(&200.into()), "{id} is not logged");
    }
    assert!(arrived.len() > 100, "{}", arrived.len());
    sidecar.gateway.stop().await;
}

/// The status that each request was logged with.
fn told_ids(log: &str) -> HashMap<String, Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let requests = lines.filter(|line| line["message"] == "request");
    requests.map(|line| (line["request_id"].as_str().expect("an id").to_owned(), line["code"].clone())).collect()
}

/// A sidecar with two captures that never end: one caller waits, the other has gone.
struct Hanging {
    sidecar: Sidecar,
    waiting: JoinHandle<Answer>,
    orders: [String; 2],
    keys: [String; 2],
}

impl Hanging {
    async fn start(drain_timeout: &str) -> Self {
        let limits = [("GATEWAY__WRITE_TIMEOUT", "300ms"), ("DRAIN__TIMEOUT", drain_timeout)];
        let sidecar = Sidecar::start(Options::default(), &limits).await;
        let ((waited_for, path), (left, other)) = (capture(&sidecar), capture(&sidecar));
        // The head comes in time, so that the sidecar waits only for the body, longer than the drain lasts.
        for path in [&path, &other] {
            sidecar.gateway.script(Rule::path(path).fault(Fault::LateBody(FOR_EVER)));
        }
        let mut wire = send(&sidecar, &path, Some("of-the-caller")).await;
        send(&sidecar, &other, None).await.reset();
        let answered =
            |path: &str| sidecar.gateway.journal().iter().any(|call| call.path == path && call.status.is_some());
        eventually("both are done", async || answered(&path) && answered(&other)).await;
        let journal = sidecar.gateway.journal();
        let attempt = journal.iter().find(|call| call.path == other).expect("an attempt");
        let keys = ["of-the-caller".to_owned(), header(&attempt.headers, "sezzle-request-id").to_owned()];
        let waiting = tokio::spawn(async move { wire.answer().await });
        Self { sidecar, waiting, orders: [waited_for, left], keys }
    }
}

/// The log has both outcomes as unknown, with their keys.
fn logged(log: &str, orders: &[String; 2], keys: &[String; 2]) {
    for (order, key) in orders.iter().zip(keys) {
        let lines = told(log, order);
        let unknown: Vec<_> = lines.iter().filter(|line| is_unknown(line)).collect();
        assert_eq!(unknown.len(), 1, "{order}: {log}");
        assert_eq!(unknown[0]["sezzle_request_id"], key.as_str());
    }
}

#[tokio::test]
async fn a_write_that_the_hard_end_cuts_is_reported_unknown() {
    let Hanging { sidecar, waiting, orders, keys } = Hanging::start("900ms").await;
    let Sidecar { process, gateway, .. } = sidecar;
    process.signal("TERM");
    let answer = waiting.await.expect("an answer");
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    assert_eq!(answer.header("sezzle-request-id"), "of-the-caller");
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    logged(&ended.stdout, &orders, &keys);
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_that_a_second_signal_cuts_is_logged_as_unknown() {
    let Hanging { sidecar, waiting, orders, keys } = Hanging::start("20s").await;
    let Sidecar { mut process, gateway, .. } = sidecar;
    process.signal("TERM");
    process.signal_again("TERM").await;
    let ended = process.end().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    logged(&ended.stdout, &orders, &keys);
    waiting.abort();
    gateway.stop().await;
}
