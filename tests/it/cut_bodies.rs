//! A cut body never passes for a whole one, neither a caller's nor the gateway's.

use std::time::Duration;

use http::Method;
use sezzle_sidecar::simulator::EffectKind;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::client::{Client, Ended as Came};
use crate::support::frame_caller::{Ended, FrameCaller};
use crate::support::frame_gateway::FrameGateway;
use crate::support::frames::{END_STREAM, data, go_away, head, reset};
use crate::support::process::Sidecar;
use crate::support::tls::Authority;
use crate::support::{Harness, Session, Setup, eventually};

const BODY: &str = r#"{"amount_in_cents":100,"currency":"USD"}"#;
const CODES: [u32; 6] = [0, 1, 2, 7, 8, 11];

/// A request that may change something, and the frames by which its caller cancels it.
struct GivenUp {
    method: &'static str,
    path: &'static str,
    length: Option<&'static str>,
    begins: &'static [&'static str],
}

const GIVEN_UP: [GivenUp; 8] = [
    GivenUp { method: "POST", path: "/v2/order/o/refund", length: Some("40"), begins: &["{\"amount"] },
    GivenUp { method: "POST", path: "/v2/order/o/refund", length: None, begins: &["{\"amount", "_in_cents\":"] },
    GivenUp { method: "POST", path: "/v2/order/o/capture", length: None, begins: &[] },
    GivenUp { method: "POST", path: "/v2/session", length: Some("40"), begins: &[] },
    // All stated bytes have arrived, but not the end of the stream.
    GivenUp { method: "POST", path: "/v2/order/o/release", length: Some("40"), begins: &[BODY] },
    GivenUp { method: "PATCH", path: "/v2/order/o", length: None, begins: &[BODY] },
    GivenUp { method: "DELETE", path: "/v2/order/o/checkout", length: None, begins: &[] },
    GivenUp { method: "POST", path: "/v2/authentication", length: None, begins: &["{"] },
];

#[tokio::test]
async fn a_write_that_its_caller_gives_up_over_http2_is_not_sent() {
    let harness = Harness::start().await;
    for at_once in [true, false] {
        for code in CODES {
            for GivenUp { method, path, length, begins } in &GIVEN_UP {
                let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
                let stream = caller.stream();
                let length: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
                let mut frames = caller.head(stream, 0, method, path, &length);
                frames.extend(begins.iter().flat_map(|part| data(stream, 0, part)));
                if !at_once {
                    caller.send(&frames).await;
                    let class = if path.ends_with("authentication") { "credentials" } else { "money" };
                    let received = format!("in_flight_requests{{class=\"{class}\"}}");
                    eventually("being received", async || harness.metric(&received).await == 1.0).await;
                    frames.clear();
                }
                frames.extend(reset(stream, code));
                caller.send(&frames).await;
                // The connection stays usable, and the frames before this one have been handled.
                let next = caller.stream();
                let after = caller.head(next, END_STREAM, "GET", "/v2/customer", &[]);
                caller.send(after).await;
                let told = caller.told(next).await;
                assert_eq!((told.status, told.ended), (Some(200), Ended::Whole), "{method} {path} {code}");
            }
        }
    }
    let under_way = r#"in_flight_requests{class="money"}"#;
    eventually("all have ended", async || harness.metric(under_way).await == 0.0).await;
    let sent = harness.received().into_iter().filter(|call| call != "GET /v2/customer");
    assert_eq!(sent.collect::<Vec<_>>(), [""; 0]);
    assert_eq!(harness.gateway.effects("o").len(), 0);
    harness.stop().await;
}

#[tokio::test]
async fn a_write_that_comes_whole_over_http2_is_sent_however_it_is_framed() {
    let harness = Harness::start().await;
    let Session { order, order_path, .. } = Session::order(&harness.gateway).authorized(&harness.gateway);
    let capture = format!("{order_path}/capture");
    let whole = r#"{"capture_amount":{"amount_in_cents":100,"currency":"USD"},"partial_capture":true}"#;
    let json = ("content-type", "application/json");
    let length = whole.len().to_string();
    let stated = [json, ("content-length", &length)];
    let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
    for (fields, frames) in [
        (&stated[..], &[(whole, END_STREAM)][..]),
        (&stated[..], &[(whole, 0), ("", END_STREAM)][..]),
        (&[json][..], &[(&whole[..9], 0), (&whole[9..], END_STREAM)][..]),
    ] {
        let stream = caller.stream();
        let mut bytes = caller.head(stream, 0, "POST", &capture, fields);
        bytes.extend(frames.iter().flat_map(|(part, flags)| data(stream, *flags, part)));
        caller.send(bytes).await;
        assert_eq!(caller.told(stream).await.status, Some(200));
    }
    // Trailers, which the sidecar drops, end the body.
    let stream = caller.stream();
    let mut bytes = caller.head(stream, 0, "POST", &capture, &[json]);
    bytes.extend(data(stream, 0, whole));
    bytes.extend(head(stream, END_STREAM, &[("x-checksum", "1")]));
    caller.send(bytes).await;
    assert_eq!(caller.told(stream).await.status, Some(200));
    // A reset after the end changes nothing: a whole request runs to its end.
    let stream = caller.stream();
    let mut bytes = caller.head(stream, 0, "POST", &capture, &stated);
    bytes.extend(data(stream, END_STREAM, whole));
    caller.send(bytes).await;
    eventually("carried out", async || harness.gateway.effects(&order).len() == 5).await;
    assert!(harness.gateway.effects(&order).iter().all(|effect| effect.kind == EffectKind::Capture));
    harness.stop().await;
}

#[tokio::test]
async fn half_a_write_that_is_ended_and_reset_at_once_is_not_sent() {
    // As Node's `close()` and `destroy()` cancel a request that is being written.
    let harness = Harness::start().await;
    let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
    let mut late = Vec::new();
    for (method, path) in [("POST", "/v2/order/o/refund"), ("PATCH", "/v2/order/o"), ("DELETE", "/v2/order/o/checkout")]
    {
        for half in ["", "{\"amount\":"] {
            loop {
                let target = format!("{path}?late={}", late.len());
                let stream = caller.stream();
                let mut bytes = caller.head(stream, 0, method, &target, &[]);
                bytes.extend(data(stream, 0, half));
                caller.send(bytes).await;
                let ended = Instant::now();
                caller.send(data(stream, END_STREAM, "")).await;
                // The frame is in a segment of its own, as often with Node.
                tokio::time::sleep(Duration::from_millis(1)).await;
                caller.send(reset(stream, 0)).await;
                // The sidecar waits 10 ms for the reset. On a busy machine this test may take longer to send it: such
                // a write is a whole one, and the next try shows what this one could not.
                if ended.elapsed() < Duration::from_millis(5) {
                    break;
                }
                late.push(format!("{method} {target}"));
                assert!(late.len() < 100, "no reset is sent in time");
            }
        }
    }
    let last = caller.stream();
    caller.send(caller.head(last, END_STREAM, "GET", "/v2/customer", &[])).await;
    assert_eq!(caller.told(last).await.status, Some(200));
    let received: Vec<String> = harness.received().into_iter().filter(|call| !late.contains(call)).collect();
    assert_eq!(received, ["GET /v2/customer"]);
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_is_logged_as_gone() {
    let sidecar = Sidecar::start(Default::default(), &[("LOG__LEVEL", "info")]).await;
    for code in [0, 8] {
        let mut caller = FrameCaller::connect(sidecar.proxy, &[]).await;
        let stream = caller.stream();
        caller.send(caller.head(stream, 0, "POST", "/v2/order/o/refund", &[])).await;
        caller.send([data(stream, 0, "{"), reset(stream, code)].concat()).await;
        let next = caller.stream();
        caller.send(caller.head(next, END_STREAM, "GET", "/v2/customer", &[])).await;
        assert_eq!(caller.told(next).await.status, Some(200));
    }
    let lines = async || {
        let log = sidecar.process.stdout();
        log.lines().filter(|line| line.contains("refund")).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("both are logged", async || lines().await.len() == 2).await;
    for line in lines().await {
        assert!(line.contains(r#""aborted":"caller""#), "{line}");
    }
}

/// The gateway's frames on a stream, and whether they may answer a lookup of the session.
type Answer = fn(u32) -> Vec<u8>;

const JSON: &str = r#"{"uuid":"0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e","order":{"uuid":"o"}}"#;

fn json(stream: u32, length: bool, part: &str, flags: u8) -> Vec<u8> {
    let all = JSON.len().to_string();
    let mut fields = vec![(":status", "200"), ("content-type", "application/json")];
    fields.extend(length.then_some(("content-length", all.as_str())));
    [head(stream, 0, &fields), data(stream, flags, part)].concat()
}

const CUT: [(&str, Answer); 8] = [
    ("NO_ERROR under a length", |stream| [json(stream, true, &JSON[..30], 0), reset(stream, 0)].concat()),
    ("NO_ERROR without a length", |stream| [json(stream, false, &JSON[..30], 0), reset(stream, 0)].concat()),
    ("NO_ERROR after all of the length", |stream| [json(stream, true, JSON, 0), reset(stream, 0)].concat()),
    ("NO_ERROR after the head", |stream| [json(stream, false, "", 0), reset(stream, 0)].concat()),
    ("less than was stated", |stream| json(stream, true, &JSON[..30], END_STREAM)),
    ("a farewell that contradicts it", |stream| [json(stream, false, &JSON[..30], 0), go_away(0, 0)].concat()),
    ("CANCEL", |stream| [json(stream, false, &JSON[..30], 0), reset(stream, 8)].concat()),
    ("INTERNAL_ERROR", |stream| [json(stream, true, &JSON[..30], 0), reset(stream, 2)].concat()),
];

async fn behind(authority: &Authority) -> (FrameGateway, Harness) {
    let gateway = FrameGateway::start(authority).await;
    let setup = Setup::default()
        .set("GATEWAY__URL", gateway.url())
        .set("GATEWAY__CA_FILE", authority.file())
        .set("GATEWAY__HTTP2", true);
    (gateway, setup.start().await)
}

#[tokio::test]
async fn an_answer_that_the_gateway_cuts_over_http2_is_never_a_whole_one() {
    let authority = Authority::new();
    for (what, answer) in CUT {
        let (gateway, harness) = behind(&authority).await;
        gateway.script(move |call| answer(call.stream));
        let session = format!("/v2/session/{}", Uuid::from_u128(0x0b5e0b5e_0b5e_4b5e_8b5e_0b5e0b5e0b5e));
        let lookup = harness.get(&session).await;
        assert_eq!((lookup.status, lookup.error_code().as_str()), (502, "sidecar.upstream_failed"), "{what}");
        assert_eq!(gateway.calls(), 3, "{what}: a lookup is asked again");
        gateway.script(move |call| answer(call.stream));
        let keyed = harness.post("/v2/order/o/capture", "{}").await;
        assert_eq!((keyed.status, keyed.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{what}");
        assert_eq!((keyed.header("sezzle-request-id").len(), gateway.calls()), (36, 3), "{what}");
        gateway.script(move |call| answer(call.stream));
        let unkeyed = harness.post("/v2/session", "{}").await;
        assert_eq!((unkeyed.status, unkeyed.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{what}");
        assert_eq!(gateway.calls(), 1, "{what}: a write without a key is sent once");
        // Nothing of the answer was stored.
        gateway.script(|call| json(call.stream, true, JSON, END_STREAM));
        let lookup = harness.get(&session).await;
        assert_eq!((lookup.status, lookup.text().as_str()), (200, JSON), "{what}");
        assert!(lookup.cache().starts_with("fwd=uri-miss"), "{what}: {}", lookup.cache());
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_report_that_the_gateway_cuts_is_cut_for_its_caller() {
    let authority = Authority::new();
    let (gateway, harness) = behind(&authority).await;
    let report = "/v2/orders/report?start-date=2026-01-01";
    for code in CODES {
        for length in [None, Some("28013")] {
            gateway.script(move |call| {
                let stream = call.stream;
                let mut fields = vec![(":status", "200"), ("content-type", "text/csv")];
                fields.extend(length.map(|length| ("content-length", length)));
                [head(stream, 0, &fields), data(stream, 0, "a,b\n1,2\n"), reset(stream, code)].concat()
            });
            for client in [Client::new(), Client::http2()] {
                let came = client.try_send(harness.proxy, Method::GET, report, &[], "").await;
                let Came::Cut(answer) = came else { panic!("code {code}, length {length:?}: {came:?}") };
                assert_eq!(answer.status, 200);
            }
            let mut caller = FrameCaller::connect(harness.proxy, &[]).await;
            let stream = caller.stream();
            caller.send(caller.head(stream, END_STREAM, "GET", report, &[])).await;
            let told = caller.told(stream).await;
            assert_eq!(told.status, Some(200), "{told:?}");
            assert!(matches!(told.ended, Ended::Reset(code) if code != 0), "{told:?}");
        }
    }
    harness.stop().await;
}
