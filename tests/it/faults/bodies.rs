//! Answers whose body arrives damaged, late or not at all.

use std::time::Duration;

use bytes::Bytes;
use sezzle_sidecar::simulator::{Fault, Rule};

use super::scene::{Call, Scene};
use super::{Cut, FAILED, LATE, Row, Sezzle, Short, UNKNOWN, at_once, hold};
use crate::support::wire::Wire;
use crate::support::{Setup, eventually};

const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn half_a_body() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.fault(Fault::CutBody(10)))
            .read_whole(2, Sezzle)
            .report(1, Cut)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN)
            .delete(1, 1, Sezzle),
        Row::new("always")
            .always(|rule| rule.fault(Fault::CutBody(10)))
            .read_whole(3, FAILED)
            .report(1, Cut)
            .keyed(3, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN)
            .delete(1, 1, Sezzle),
    ])
    .await;
}

#[tokio::test]
async fn no_byte_of_a_body() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.fault(Fault::CutBody(0)))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN)
            .delete(1, 1, Sezzle),
        Row::new("always")
            .always(|rule| rule.fault(Fault::CutBody(0)))
            .reads(3, FAILED)
            .keyed(3, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN)
            .delete(1, 1, Sezzle),
    ])
    .await;
}

#[tokio::test]
async fn a_stated_length_that_is_wrong() {
    hold(vec![
        Row::new("too long")
            .once(|rule| rule.fault(Fault::StatedLength(200_000)))
            .read_whole(2, Sezzle)
            .report(1, Cut)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN)
            .delete(1, 1, Sezzle),
        Row::new("too long, always")
            .always(|rule| rule.fault(Fault::StatedLength(200_000)))
            .read_whole(3, FAILED)
            .report(1, Cut)
            .keyed(3, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN)
            .delete(1, 1, Sezzle),
        // Nobody can tell that the body is not whole.
        Row::new("too short")
            .always(|rule| rule.fault(Fault::StatedLength(5)))
            .reads(1, Short(5))
            .keyed(1, 1, Short(5))
            .unkeyed(1, 1, Short(5))
            .delete(1, 1, Sezzle),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_is_no_http_leaves_a_write_unknown() {
    let row = |fault| Row::new(fault).reads(1, FAILED).keyed(1, 1, UNKNOWN).unkeyed(1, 1, UNKNOWN);
    hold(vec![
        row("another protocol").always(|rule| rule.fault(Fault::Garbage(Bytes::from_static(b"SSH-2.0-x\r\n\r\n")))),
        row("a status that is none")
            .always(|rule| rule.fault(Fault::Garbage(Bytes::from_static(b"HTTP/1.1 2x OK\r\n\r\n")))),
        row("two lengths").always(|rule| {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x";
            rule.fault(Fault::Garbage(Bytes::from_static(answer)))
        }),
    ])
    .await;
}

#[tokio::test]
async fn no_head_in_time() {
    let row = |fault| {
        Row::new(fault)
            .setup(|setup| {
                let limits = ["READ", "WRITE", "REPORT"].map(|class| format!("GATEWAY__{class}_TIMEOUT"));
                limits.iter().fold(setup, |setup, limit| setup.set(limit, "500ms"))
            })
            .within(Duration::from_secs(4))
            .reads(1, LATE)
            .keyed(1, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN)
    };
    hold(vec![
        row("none at all").always(|rule| rule.delay(FOR_EVER)),
        row("half of it, and then nothing").always(|rule| rule.fault(Fault::SlowHead(FOR_EVER))),
        // All attempts together share this deadline.
        row("none after a reset")
            .once(|rule| rule.reset(sezzle_sidecar::simulator::Reset::AfterEffect))
            .always(|rule| rule.delay(FOR_EVER))
            .reads(2, LATE)
            .keyed(2, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_drips_is_waited_for() {
    hold(vec![
        Row::new("a few bytes a millisecond")
            .setup(|setup| setup.gateway(|gateway| gateway.report_bytes = 200))
            .always(|rule| rule.fault(Fault::DrippingBody { bytes: 20, wait: Duration::from_millis(1) })),
    ])
    .await;
}

/// Longer than the sidecar waits for the body of a write's answer, which no setting changes.
#[tokio::test]
async fn the_body_of_a_writes_answer_is_not_waited_for_without_end() {
    let row = |fault| {
        Row::new(fault).within(Duration::from_secs(9)).keyed(1, 1, UNKNOWN).unkeyed(1, 1, UNKNOWN).delete(1, 1, Sezzle)
    };
    let never = row("never comes").always(|rule| rule.fault(Fault::LateBody(FOR_EVER)));
    let stalls = row("stalls").always(|rule| rule.fault(Fault::SlowBody(FOR_EVER)));
    let drips = row("drips").always(|rule| rule.fault(Fault::DrippingBody { bytes: 1, wait: Duration::from_secs(1) }));
    let writes = [Call::Capture, Call::Refund, Call::NewSession, Call::DeleteCheckout, Call::Unknown];
    let calls = [never, stalls, drips].into_iter().flat_map(|row| writes.map(|call| row.clone().run(call)));
    let wrong = at_once(calls).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_body_without_end_lasts_no_longer_than_its_caller() {
    for call in [Call::Lookup, Call::Order, Call::Report, Call::Capture, Call::NewSession] {
        let scene = Scene::prepare(call, Setup::default().start().await).await;
        scene.bend(&[(super::ALWAYS, |rule: Rule| rule.fault(Fault::EndlessBody))]);
        let (method, body) = match call {
            Call::Capture => ("POST", super::scene::CAPTURE),
            Call::NewSession => ("POST", super::scene::SESSION),
            _ => ("GET", ""),
        };
        let stream = tokio::net::TcpStream::connect(scene.harness.proxy).await.expect("connects");
        let mut wire = Wire::over(stream);
        let query = if call == Call::Report { "?start-date=2026-01-01" } else { "" };
        let length = body.len();
        wire.send(format!(
            "{method} {}{query} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}",
            scene.path
        ))
        .await;
        let mut read = 0;
        while read < 4 << 20 {
            read += wire.read_some().await.unwrap_or_else(|| panic!("{call:?}: ended after {read} bytes")).len();
        }
        wire.reset();
        let left = [r#"upstream_connections{state="active"}"#, r#"connections{listener="proxy"}"#];
        eventually(&format!("{call:?}: nothing is left"), async || {
            scene.harness.metric(left[0]).await == 0.0 && scene.harness.metric(left[1]).await == 0.0
        })
        .await;
        assert_eq!(scene.attempts().len(), 1, "{call:?}");
        scene.stop().await;
    }
}
