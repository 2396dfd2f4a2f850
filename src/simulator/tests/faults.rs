use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, RETRY_AFTER, VARY};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::simulator::tests::{Caller, soon, start};
use crate::simulator::{Fault, Gate, Reset, Rule, SessionKind, Simulator};

/// The path that captures from a fresh authorized order, and the order's id.
fn capture_path(simulator: &Simulator) -> (String, String) {
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    simulator.complete_checkout(&order);
    (format!("/v2/order/{order}/capture"), order)
}

fn capture() -> Bytes {
    json!({"capture_amount": {"amount_in_cents": 1, "currency": "USD"}, "partial_capture": true}).to_string().into()
}

#[tokio::test]
async fn a_status_rule_answers_in_place_of_the_gateway() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = capture_path(&simulator);
    simulator.script(Rule::on(Method::POST, "/v2/order/*").times(2).status(StatusCode::SERVICE_UNAVAILABLE));
    let reply = caller.send("POST", &path, capture()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.locations().len()), (503, 1));
    simulator.script(Rule::path(&path).times(1).status(StatusCode::BAD_GATEWAY).body("odd"));
    let reply = caller.send("POST", &path, capture()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.as_ref()), (502, b"odd".as_slice()));
    assert_eq!(caller.send("POST", &path, capture()).await.unwrap().status, 503);
    assert!(simulator.effects(&order).is_empty());
    assert_eq!(caller.send("POST", &path, capture()).await.unwrap().status, 200);
    simulator.script(Rule::any().status(StatusCode::NOT_MODIFIED));
    assert_eq!(caller.get("/anything").await.status, 304);
    simulator.clear_rules();
    assert_eq!(caller.get("/anything").await.status, 404);
}

#[tokio::test]
async fn a_body_rule_keeps_the_effect() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = capture_path(&simulator);
    simulator.script(Rule::path(&path).body("{"));
    let reply = caller.send("POST", &path, capture()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.as_ref()), (200, b"{".as_slice()));
    assert_eq!(simulator.effects(&order).len(), 1);
}

#[tokio::test]
async fn headers_are_added_set_and_removed() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let rule = Rule::any()
        .add_header(VARY, HeaderValue::from_static("accept"))
        .add_header(VARY, HeaderValue::from_static("origin"))
        .add_header(CACHE_CONTROL, HeaderValue::from_static("public"))
        .set_header(CACHE_CONTROL, HeaderValue::from_static("max-age=5"))
        .remove_header(CONTENT_TYPE)
        .remove_header(DATE);
    simulator.script(rule);
    let headers = caller.get("/v2/interest/balance").await.headers;
    assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["accept", "origin"]);
    assert_eq!(headers[CACHE_CONTROL], "max-age=5");
    let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "vary"]);
}

#[tokio::test]
async fn a_delay_holds_the_head() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    simulator.script(Rule::any().delay(Duration::from_millis(50)));
    let begin = Instant::now();
    caller.get("/v2/interest/balance").await;
    assert!(begin.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_gate_parks_requests_on_either_side_of_the_effect() {
    let simulator = start().await;
    for after in [false, true] {
        let (path, order) = capture_path(&simulator);
        let gate = Gate::new();
        let rule = Rule::on(Method::POST, &path);
        simulator.script(if after { rule.gate_after_effect(&gate) } else { rule.gate(&gate) });
        let calls = [Caller::login(&simulator).await, Caller::login(&simulator).await];
        let calls = calls.map(|mut caller| {
            let path = path.clone();
            tokio::spawn(async move { caller.send("POST", &path, capture()).await.unwrap().status })
        });
        soon(gate.arrived(2)).await;
        assert_eq!(simulator.effects(&order).len(), if after { 2 } else { 0 });
        assert!(simulator.journal().iter().rev().take(2).all(|entry| entry.status.is_none() && !entry.body.is_empty()));
        gate.release();
        for call in calls {
            assert_eq!(soon(call).await.unwrap(), 200);
        }
        // An open gate lets everybody pass.
        let status = soon(Caller::login(&simulator).await.send("POST", &path, capture())).await.unwrap().status;
        assert_eq!(status, 200);
        assert_eq!(simulator.effects(&order).len(), 3);
    }
}

#[tokio::test]
async fn a_write_takes_effect_although_its_caller_has_gone() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (path, order) = capture_path(&simulator);
    let gates = [Gate::new(), Gate::new()];
    simulator.script(Rule::path(&path).gate(&gates[0]).gate_after_effect(&gates[1]));
    let call = tokio::spawn(async move { caller.send("POST", &path, capture()).await });
    soon(gates[0].arrived(1)).await;
    call.abort();
    let _ = call.await;
    gates[0].release();
    soon(gates[1].arrived(1)).await;
    assert_eq!(simulator.effects(&order).len(), 1);
}

#[tokio::test]
async fn a_reset_comes_where_it_was_asked_for() {
    let simulator = start().await;
    let (path, order) = capture_path(&simulator);
    for (at, read, effect) in
        [(Reset::BeforeReading, false, false), (Reset::BeforeEffect, true, false), (Reset::AfterEffect, true, true)]
    {
        simulator.clear_rules();
        simulator.script(Rule::on(Method::POST, &path).reset(at));
        let mut caller = Caller::login(&simulator).await;
        soon(caller.send("POST", &path, capture())).await.unwrap_err();
        let entry = simulator.journal().pop().unwrap();
        assert_eq!((entry.status, !entry.body.is_empty(), entry.effect), (None, read, effect));
    }
    assert_eq!(simulator.effects(&order).len(), 1);
}

#[tokio::test]
async fn only_a_reused_connection_can_be_met() {
    let simulator = start().await;
    simulator.script(Rule::any().reused_only().reset(Reset::BeforeReading));
    let mut caller = Caller::connect(&simulator).await;
    assert_eq!(caller.get("/").await.status, 404);
    assert!(soon(caller.send("GET", "/", Bytes::new())).await.is_err());
    assert_eq!(Caller::connect(&simulator).await.get("/").await.status, 404);
}

#[tokio::test]
async fn a_reused_connection_is_closed_as_its_next_request_comes() {
    let simulator = start().await;
    simulator.script(Rule::any().reused_only().close(Reset::BeforeReading));
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let request = b"GET /nowhere HTTP/1.1\r\nHost: here\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut byte = [0];
    soon(stream.read_exact(&mut byte)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut rest = String::new();
    // No reset: the end comes as a plain one.
    soon(stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.starts_with("TTP/1.1 404 ") && rest.matches("HTTP/1.1").count() == 0);
    let journal = simulator.journal();
    assert_eq!(journal.iter().map(|entry| entry.status).collect::<Vec<_>>(), [Some(404), None]);
}

#[tokio::test]
async fn a_connection_is_closed_where_it_was_asked_for() {
    let simulator = start().await;
    let (path, order) = capture_path(&simulator);
    for (at, effects) in [(Reset::BeforeReading, 0), (Reset::BeforeEffect, 0), (Reset::AfterEffect, 1)] {
        simulator.script(Rule::on(Method::POST, "/v2/order/*/capture").times(1).close(at));
        let mut caller = Caller::login(&simulator).await;
        soon(caller.send("POST", &path, capture())).await.unwrap_err();
        assert_eq!((simulator.effects(&order).len(), simulator.journal().pop().unwrap().status), (effects, None));
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_and_a_busy_one_is_not() {
    let simulator = start().await;
    let mut before = Caller::connect(&simulator).await;
    assert_eq!(before.get("/").await.status, 404);
    let idle = Duration::from_millis(20);
    simulator.configure(|options| options.idle_timeout = Some(idle));
    let slow = Rule::path("/slow").delay(idle * 2).fault(Fault::SlowBody(idle * 2));
    simulator.script(slow);
    let mut caller = Caller::connect(&simulator).await;
    let begin = Instant::now();
    assert_eq!(soon(caller.get("/slow")).await.status, 404);
    assert!(begin.elapsed() >= idle * 4);
    let begin = Instant::now();
    let mut silent = TcpStream::connect(simulator.addr()).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0])).await.unwrap(), 0);
    assert!(begin.elapsed() >= idle);
    // This one became idle before there was a limit.
    simulator.configure(|options| options.idle_timeout = None);
    assert_eq!(before.get("/").await.status, 404);
}

#[tokio::test]
async fn an_unauthorized_or_too_early_call_is_answered_once_or_always() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let balance = "/v2/interest/balance";
    simulator.script(Rule::path(balance).times(1).status(StatusCode::UNAUTHORIZED));
    assert_eq!(caller.get(balance).await.status, 401);
    assert_eq!(caller.get(balance).await.status, 200);
    simulator.script(Rule::path(balance).status(StatusCode::TOO_MANY_REQUESTS));
    let reply = caller.get(balance).await;
    assert_eq!((reply.status.as_u16(), reply.headers.contains_key(RETRY_AFTER)), (429, false));
    let early = Rule::path(balance).times(1).status(StatusCode::TOO_MANY_REQUESTS);
    simulator.script(early.set_header(RETRY_AFTER, HeaderValue::from_static("7")));
    assert_eq!(caller.get(balance).await.headers[RETRY_AFTER], "7");
    assert_eq!(caller.get(balance).await.status, 429);
}
