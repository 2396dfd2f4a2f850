//! Hostile callers: bytes that two parsers could read differently. Each case states the requests that reach the
//! gateway, the answers that the caller gets, and the fate of the connection. A request hidden in another never reaches
//! the gateway, and none of its bytes is left for the next caller.

mod connections;
mod crowd;
mod framing;
mod gateway;
mod heads;
mod soak;

use std::time::Duration;

use tokio::time::timeout;

use crate::support::{Harness, Session, Setup, header};

/// The line at the gateway for a request that is read as it was meant.
const SEEN: &str = "POST /v2/webhooks/test hello";
/// The hidden request, which must never count as one: behind the doubtful framing, or inside it.
const HIDDEN: &str = "DELETE /v2/customer/hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// A request that the sidecar answers by itself. The answer shows that a connection is still usable.
const NEXT: &str = "POST /v2/authentication HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";

/// One hostile caller.
struct Case {
    name: String,
    sent: Vec<u8>,
    /// Requests that reach the gateway: method, target, body.
    seen: Vec<String>,
    /// The statuses of all answers.
    got: Vec<u16>,
    then: Then,
}

/// The fate of the connection after the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The connection carries another request.
    Kept,
    /// The connection is closed without another byte.
    Closed,
    /// The sidecar waits for more, and closes the connection once the caller ends its side.
    ClosedAtTheEnd,
}

/// A caller whose bytes the parser refuses.
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

    /// Returns all that went wrong.
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
            // The sidecar frames the request anew, without the caller's framing.
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
    let session = Session::order(&harness.gateway).path;
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
