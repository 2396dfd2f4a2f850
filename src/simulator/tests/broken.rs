use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::simulator::tests::{Caller, soon, start};
use crate::simulator::{Fault, Rule, Simulator};

const WAIT: Duration = Duration::from_millis(30);
const BALANCE: &str = "/v2/interest/balance";
const REPORT: &str = "/v2/orders/report?start-date=2026-01-01";
const BODY: &str = r#"{"interest_balance":103.27}"#;

/// The whole answer to a request for the balance, as bytes on the wire, until the simulator closes.
async fn answer(simulator: &Simulator, fault: Fault) -> String {
    let bearer = Caller::login(simulator).await.headers["authorization"].to_str().unwrap().to_owned();
    simulator.script(Rule::path(BALANCE).times(1).fault(fault));
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let request =
        format!("GET {BALANCE} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nAuthorization: {bearer}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn garbage_is_sent_as_it_is() {
    let simulator = start().await;
    assert_eq!(answer(&simulator, Fault::Garbage(Bytes::from("\0not http"))).await, "\0not http");
    assert_eq!(answer(&simulator, Fault::Garbage(Bytes::new())).await, "");
    assert_eq!(simulator.journal().pop().unwrap().status, None);
}

#[tokio::test]
async fn a_wrong_length_is_stated() {
    let simulator = start().await;
    for length in [3, 3000] {
        let answer = answer(&simulator, Fault::StatedLength(length)).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(answer.matches(&format!("\r\ncontent-length: {length}\r\n")).count(), 1);
        assert!(answer.ends_with(&format!("\r\n\r\n{BODY}")));
    }
    assert_eq!(simulator.journal().pop().unwrap().status, Some(200));
}

#[tokio::test]
async fn a_cut_body_lacks_its_end() {
    let simulator = start().await;
    for kept in [0, 10] {
        let answer = answer(&simulator, Fault::CutBody(kept)).await;
        assert!(answer.contains(&format!("content-length: {}\r\n", BODY.len())));
        let begun: String = BODY.chars().take(kept).collect();
        assert!(answer.ends_with(&format!("\r\n\r\n{begun}")), "{answer}");
    }
    let mut caller = Caller::login(&simulator).await;
    simulator.script(Rule::path("/v2/orders/report").fault(Fault::CutBody(20_000)));
    assert!(soon(caller.send("GET", REPORT, Bytes::new())).await.is_err());
}

#[tokio::test]
async fn slow_answers_arrive_whole() {
    let simulator = start().await;
    let drip = Fault::DrippingBody { bytes: 20, wait: WAIT / 2 };
    for fault in [Fault::SlowHead(WAIT), Fault::LateBody(WAIT), Fault::SlowBody(WAIT), drip] {
        let begin = Instant::now();
        let answer = answer(&simulator, fault).await;
        assert!(begin.elapsed() >= WAIT);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&format!("\r\n\r\n{BODY}")), "{answer}");
    }
    let mut caller = Caller::login(&simulator).await;
    simulator.script(Rule::path("/v2/orders/report").fault(Fault::SlowBody(WAIT)));
    assert_eq!(soon(caller.get(REPORT)).await.body.len(), 65_592);
}

#[tokio::test]
async fn an_endless_body_ends_with_the_simulator() {
    let simulator = start().await;
    simulator.script(Rule::any().fault(Fault::EndlessBody));
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
    let mut taken = vec![0; 4 * 1024 * 1024];
    soon(stream.read_exact(&mut taken)).await.unwrap();
    soon(simulator.stop()).await;
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn a_late_body_does_not_hold_its_head() {
    let simulator = start().await;
    simulator.script(Rule::any().fault(Fault::LateBody(Duration::from_secs(3600))));
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 404 "));
    let entry = simulator.journal().pop().unwrap();
    assert_eq!(entry.status, Some(404));
}
