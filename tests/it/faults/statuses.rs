//! Answers with which Sezzle refuses a call.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use sezzle_sidecar::simulator::{Fault, Reset, Rule};

use super::{Bend, Marked, Passed, Row, Sezzle, UNKNOWN, hold};

const TROUBLE: [(u16, Bend); 3] = [
    (502, |rule| rule.status(StatusCode::BAD_GATEWAY)),
    (503, |rule| rule.status(StatusCode::SERVICE_UNAVAILABLE)),
    (504, |rule| rule.status(StatusCode::GATEWAY_TIMEOUT)),
];

fn busy(rule: Rule, retry_after: &'static str) -> Rule {
    rule.status(StatusCode::SERVICE_UNAVAILABLE).set_header(RETRY_AFTER, HeaderValue::from_static(retry_after))
}

#[tokio::test]
async fn trouble_that_passes_is_tried_again() {
    let row =
        |(status, bend)| Row::new("once").once(bend).reads(2, Sezzle).keyed(2, 1, Sezzle).unkeyed(1, 0, Passed(status));
    hold(TROUBLE.map(row).to_vec()).await;
}

#[tokio::test]
async fn trouble_that_stays_is_passed_on() {
    let row = |(status, bend)| {
        Row::new("always").always(bend).reads(3, Passed(status)).keyed(3, 0, Marked(status)).unkeyed(
            1,
            0,
            Passed(status),
        )
    };
    hold(TROUBLE.map(row).to_vec()).await;
}

#[tokio::test]
async fn trouble_in_front_of_a_gateway_that_did_it() {
    hold(vec![
        Row::new("once")
            .once(|rule| {
                let answer = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                rule.fault(Fault::Garbage(Bytes::from_static(answer)))
            })
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(1, 1, Passed(502)),
    ])
    .await;
}

#[tokio::test]
async fn a_gateway_that_wants_to_be_left_alone_is() {
    hold(vec![
        Row::new("for longer than a second")
            .always(|rule| busy(rule, "2"))
            .reads(1, Passed(503))
            .keyed(1, 0, Passed(503))
            .unkeyed(1, 0, Passed(503)),
        Row::new("for a second").once(|rule| busy(rule, "1")).reads(2, Sezzle).keyed(2, 1, Sezzle).unkeyed(
            1,
            0,
            Passed(503),
        ),
        Row::new("after an attempt that may have had its effect")
            .once(|rule| rule.reset(Reset::AfterEffect))
            .always(|rule| busy(rule, "2"))
            .reads(2, Passed(503))
            .keyed(2, 1, Marked(503))
            .unkeyed(1, 1, UNKNOWN),
    ])
    .await;
}

#[tokio::test]
async fn a_call_that_would_get_the_same_answer_is_not_repeated() {
    let once_each = |status, bend: Bend| {
        Row::new("always").always(bend).reads(1, Passed(status)).keyed(1, 0, Passed(status)).unkeyed(
            1,
            0,
            Passed(status),
        )
    };
    hold(vec![
        once_each(500, |rule| rule.status(StatusCode::INTERNAL_SERVER_ERROR)),
        once_each(403, |rule| rule.status(StatusCode::FORBIDDEN)),
        once_each(409, |rule| rule.status(StatusCode::CONFLICT)),
        once_each(429, |rule| rule.status(StatusCode::TOO_MANY_REQUESTS)),
        once_each(429, |rule| {
            rule.status(StatusCode::TOO_MANY_REQUESTS).set_header(RETRY_AFTER, HeaderValue::from_static("1"))
        }),
    ])
    .await;
}

#[tokio::test]
async fn a_token_that_sezzle_refuses() {
    hold(vec![
        Row::new("once")
            .once(|rule| rule.status(StatusCode::UNAUTHORIZED))
            .reads(2, Sezzle)
            .keyed(2, 1, Sezzle)
            .unkeyed(2, 1, Sezzle),
        Row::new("for ever")
            .always(|rule| rule.status(StatusCode::UNAUTHORIZED))
            .reads(2, Passed(401))
            .keyed(2, 0, Passed(401))
            .unkeyed(2, 0, Passed(401)),
        Row::new("for ever, after an attempt that may have had its effect")
            .once(|rule| rule.reset(Reset::AfterEffect))
            .always(|rule| rule.status(StatusCode::UNAUTHORIZED))
            .reads(3, Passed(401))
            .keyed(3, 1, Marked(401))
            .unkeyed(1, 1, UNKNOWN),
    ])
    .await;
}
