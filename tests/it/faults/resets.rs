//! Connections that end before the answer's head is whole.

use bytes::Bytes;
use http::StatusCode;
use sezzle_sidecar::simulator::{Fault, Reset};

use super::{FAILED, Marked, Passed, Row, Sezzle, UNKNOWN, hold};

const HALF_A_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: applica";

#[tokio::test]
async fn before_the_request_was_read() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.reset(Reset::BeforeReading))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 0, UNKNOWN),
        Row::new("twice")
            .times(2, |rule| rule.reset(Reset::BeforeReading))
            .reads(3, Sezzle)
            .keyed(3, 1, Sezzle)
            .unkeyed(1, 0, UNKNOWN),
        Row::new("always")
            .always(|rule| rule.reset(Reset::BeforeReading))
            .reads(3, FAILED)
            .keyed(3, 0, UNKNOWN)
            .unkeyed(1, 0, UNKNOWN),
    ])
    .await;
}

#[tokio::test]
async fn after_it_was_read_and_before_its_effect() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.reset(Reset::BeforeEffect))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 0, UNKNOWN),
        Row::new("always")
            .always(|rule| rule.reset(Reset::BeforeEffect))
            .reads(3, FAILED)
            .keyed(3, 0, UNKNOWN)
            .unkeyed(1, 0, UNKNOWN),
        Row::new("closed, not reset")
            .once(|rule| rule.close(Reset::BeforeEffect))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 0, UNKNOWN),
    ])
    .await;
}

#[tokio::test]
async fn after_its_effect() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.reset(Reset::AfterEffect))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN),
        Row::new("always")
            .always(|rule| rule.reset(Reset::AfterEffect))
            .reads(3, FAILED)
            .keyed(3, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN),
        Row::new("closed, not reset")
            .once(|rule| rule.close(Reset::AfterEffect))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN),
    ])
    .await;
}

#[tokio::test]
async fn in_the_middle_of_the_head() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.fault(Fault::Garbage(Bytes::from_static(HALF_A_HEAD))))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN),
        Row::new("always")
            .always(|rule| rule.fault(Fault::Garbage(Bytes::from_static(HALF_A_HEAD))))
            .reads(3, FAILED)
            .keyed(3, 1, UNKNOWN)
            .unkeyed(1, 1, UNKNOWN),
    ])
    .await;
}

#[tokio::test]
async fn an_idle_connection_closed_at_the_moment_of_its_reuse() {
    hold(vec![
        // By then the gateway had read the head of the request.
        Row::new("closed")
            .always(|rule| rule.reused_only().close(Reset::BeforeReading))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 0, UNKNOWN),
        Row::new("reset")
            .always(|rule| rule.reused_only().reset(Reset::BeforeReading))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 0, UNKNOWN),
    ])
    .await;
}

/// Every answer but a success looks as if nothing had been done, and carries the mark of an earlier attempt.
#[tokio::test]
async fn later_attempts_decide_the_result() {
    hold(vec![
        Row::new("a refusal")
            .once(|rule| rule.reset(Reset::AfterEffect))
            .always(|rule| rule.status(StatusCode::UNPROCESSABLE_ENTITY))
            .reads(2, Passed(422))
            .keyed(2, 1, Marked(422))
            .unkeyed(1, 1, UNKNOWN),
        Row::new("an error that is not repeated")
            .once(|rule| rule.reset(Reset::AfterEffect))
            .always(|rule| rule.status(StatusCode::INTERNAL_SERVER_ERROR))
            .reads(2, Passed(500))
            .keyed(2, 1, Marked(500))
            .unkeyed(1, 1, UNKNOWN),
        Row::new("a busy gateway, twice")
            .once(|rule| rule.reset(Reset::BeforeEffect))
            .always(|rule| rule.status(StatusCode::SERVICE_UNAVAILABLE))
            .reads(3, Passed(503))
            .keyed(3, 0, Marked(503))
            .unkeyed(1, 0, UNKNOWN),
        Row::new("another fault each")
            .once(|rule| rule.status(StatusCode::BAD_GATEWAY))
            .once(|rule| rule.reset(Reset::AfterEffect))
            .reads(3, Sezzle)
            .keyed(3, 1, Sezzle)
            .unkeyed(1, 0, Passed(502)),
        Row::new("a busy gateway, and no answer in the end")
            .once(|rule| rule.status(StatusCode::BAD_GATEWAY))
            .always(|rule| rule.reset(Reset::AfterEffect))
            .reads(3, FAILED)
            .keyed(3, 1, UNKNOWN)
            .unkeyed(1, 0, Passed(502)),
        Row::new("a token that has ended")
            .once(|rule| rule.reset(Reset::AfterEffect))
            .once(|rule| rule.status(StatusCode::UNAUTHORIZED))
            .reads(3, Sezzle)
            .keyed(3, 1, Sezzle)
            .unkeyed(1, 1, UNKNOWN),
        Row::new("after a token that had ended")
            .once(|rule| rule.status(StatusCode::UNAUTHORIZED))
            .once(|rule| rule.reset(Reset::AfterEffect))
            .reads(3, Sezzle)
            .keyed(3, 1, Sezzle)
            .unkeyed(2, 1, UNKNOWN),
        Row::new("after a token that had ended, no answer at all")
            .once(|rule| rule.status(StatusCode::UNAUTHORIZED))
            .always(|rule| rule.reset(Reset::BeforeEffect))
            .reads(4, FAILED)
            .keyed(4, 0, UNKNOWN)
            .unkeyed(2, 0, UNKNOWN),
    ])
    .await;
}
