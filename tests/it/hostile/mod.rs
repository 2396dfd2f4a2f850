//! Callers that mean harm: bytes that two parsers could read differently. For each it is held what the gateway saw, what
//! the caller got, and what became of the connection. A request hidden in another never reaches the gateway, and
//! nothing of it is left for the next caller.

mod connections;
mod crowd;
mod framing;
mod gateway;
mod heads;
mod soak;

use std::time::Duration;

use sezzle_sidecar::simulator::SessionKind;
use tokio::time::timeout;

use crate::support::{Harness, Setup, header};

/// What the gateway sees of a request that is read as it was meant.
const SEEN: &str = "POST /v2/webhooks/test hello";
/// The request that must never be one: behind the framing that is in doubt, or inside of it.
const HIDDEN: &str = "DELETE /v2/customer/hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// A request that the sidecar answers by itself, to see that a connection goes on.
const NEXT: &str = "POST /v2/authentication HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";

/// One hostile caller.
struct Case {
    name: String,
    sent: Vec<u8>,
    /// Requests that the gateway gets: method, target, body.
    seen: Vec<String>,
    /// The statuses of all answers.
    got: Vec<u16>,
    then: Then,
}

/// What becomes of the connection after the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It carries another request.
    Kept,
    /// It is closed, without another byte.
    Closed,
    /// The sidecar waits for more; it is closed once the caller says that there is none.
    ClosedAtTheEnd,
}

/// A caller whose bytes are refused by the parser.
fn refused(name: impl Into<String>, sent: impl AsRef<[u8]>) -> Case {
    Case { name: name.into(), sent: sent.as_ref().to_vec(), seen: Vec::new(), got: vec![400], then: Then::Closed }
}

impl Case {
    fn sees(mut self, seen: &[&str]) -> Self {
        self.seen = seen.iter().map(|&line| line.to_owned()).collect();
        self
    }

    fn gets(mut self, got: &[u16]) -> Self {
        self.got = got.to_vec();
        self
    }

    fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// What did not go as it should.
    async fn run(&self, harness: &Harness) -> Option<String> {
        let before = harness.gateway.journal().len();
        let mut wire = harness.wire().await;
        wire.send(&self.sent).await;
        if self.then == Then::ClosedAtTheEnd {
            wire.finish_sending().await;
        }
        let mut got = Vec::new();
        let mut next = None;
        if self.then == Then::Kept {
            for _ in &self.got {
                got.push(wire.status().await);
            }
            wire.send(NEXT).await;
            next = wire.status().await;
            wire.finish_sending().await;
        }
        while let Some(status) = wire.status().await {
            got.push(Some(status));
        }
        let got: Vec<u16> = got.into_iter().flatten().collect();
        let calls = harness.gateway.journal().split_off(before);
        let framed = calls.iter().all(|call| {
            // What goes on is framed anew, by nothing of the caller's.
            let length = header(&call.headers, "content-length");
            header(&call.headers, "transfer-encoding").is_empty()
                && (length == call.body.len().to_string() || (length.is_empty() && call.body.is_empty()))
        });
        let seen: Vec<String> = calls
            .iter()
            .map(|call| format!("{} {} {}", call.method, call.path, String::from_utf8_lossy(&call.body)))
            .map(|line| line.trim_end().to_owned())
            .collect();
        let kept = next == Some(201);
        let right = framed && got == self.got && seen == self.seen && kept == (self.then == Then::Kept);
        (!right).then(|| format!("{}: got {got:?}, then {next:?}; the gateway saw {seen:?}", self.name))
    }
}

/// Runs every case on a connection of its own, and a plain lookup after each.
async fn run(cases: Vec<Case>) {
    let harness = Setup::default().set("LIMITS__HEAD", "16KiB").set("LIMITS__BODY", "4KiB").start().await;
    let session = format!("/v2/session/{}", harness.gateway.create_session(SessionKind::Order).session);
    let mut wrong = Vec::new();
    for case in &cases {
        let ran = timeout(Duration::from_secs(5), case.run(&harness)).await;
        wrong.extend(ran.unwrap_or_else(|_| Some(format!("{}: waits for more", case.name))));
        let lookup = harness.get(&session).await;
        assert_eq!(
            (lookup.status, lookup.text().contains("uuid")),
            (200, true),
            "the next caller, after {}",
            case.name
        );
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    harness.stop().await;
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /v2/webhooks/test HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n{body}")
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}
