//! The faults of the gateway while the soak runs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use sezzle_sidecar::simulator::{Fault, Reset, Rule, Simulator};
use tokio::time::{Instant, sleep};

const QUIET: Duration = Duration::from_secs(20);
const TROUBLED: Duration = Duration::from_secs(20);
const REVOKED: Duration = Duration::from_secs(47);
/// By then no call waits for the gateway any more, and no breaker and no hold refuses one.
const SETTLED: Duration = Duration::from_secs(10);

/// Whether calls could fail by a fault of the gateway.
#[derive(Default)]
pub struct Health(Mutex<Option<Instant>>);

impl Health {
    /// Whether nothing was wrong with the gateway in the whole life of a call that ends now.
    pub fn was_good(&self, begun: Instant) -> bool {
        self.0.lock().expect("no panic").is_some_and(|since| begun >= since + SETTLED)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().expect("no panic") = since;
    }
}

/// Alternates twenty quiet seconds with twenty seconds of faults.
pub async fn come_and_go(gateway: Simulator, health: Arc<Health>, until: Instant, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while Instant::now() < until {
        health.set(Some(Instant::now()));
        let trouble = Instant::now() + QUIET;
        while Instant::now() < trouble.min(until) {
            sleep(Duration::from_millis(100)).await;
        }
        health.set(None);
        let quiet = Instant::now() + TROUBLED;
        while Instant::now() < quiet.min(until) {
            gateway.script(rule(&mut rng));
            sleep(Duration::from_millis(rng.u64(5..40))).await;
        }
        gateway.clear_rules();
    }
}

/// Revokes all tokens now and then.
pub async fn revoke(gateway: Simulator, until: Instant) {
    let mut next = Instant::now() + REVOKED;
    while Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
        if Instant::now() >= next {
            gateway.revoke_tokens();
            next += REVOKED;
        }
    }
}

fn rule(rng: &mut Rng) -> Rule {
    let paths = ["/v2/order/*", "/v2/order/*/capture", "/v2/session", "/v2/session/*", "/v2/orders/*", "/v2/customer"];
    let rule = Rule::path(paths[rng.usize(..paths.len())]).times(rng.u32(1..4));
    let status = |status: u16| rule.clone().status(StatusCode::from_u16(status).expect("a status"));
    let raw = |bytes: &'static [u8]| rule.clone().fault(Fault::Garbage(Bytes::from_static(bytes)));
    match rng.u8(..24) {
        0 => rule.reset(Reset::BeforeReading),
        1 => rule.reset(Reset::BeforeEffect),
        2 | 3 => rule.reset(Reset::AfterEffect),
        4 => rule.close(Reset::AfterEffect),
        5 | 6 => rule.reused_only().close(Reset::BeforeReading),
        7 => status(500),
        8 => status(502),
        9 => status(503),
        10 => status(503).set_header(RETRY_AFTER, HeaderValue::from_static("2")),
        11 => status(504),
        12 => status(401),
        13 => status(403),
        14 => status(429).set_header(RETRY_AFTER, HeaderValue::from_static("1")),
        15 => raw(b"HTTP/1.1 200 OK\r\ncontent-ty"),
        16 => raw(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        17 => raw(b"no HTTP\r\n\r\n"),
        18 => rule.fault(Fault::CutBody(rng.usize(..40))),
        19 => rule.fault(Fault::StatedLength(100_000)),
        20 => rule.times(1).delay(Duration::from_millis(rng.u64(1..3_000))),
        21 => rule.times(1).fault(Fault::SlowHead(Duration::from_millis(rng.u64(1..3_000)))),
        22 => rule.times(1).fault(Fault::LateBody(Duration::from_millis(rng.u64(1..7_000)))),
        // A rare fault: otherwise there would be no token as long as faults last.
        _ if rng.u8(..20) == 0 => Rule::path("/v2/authentication").times(2).status(StatusCode::SERVICE_UNAVAILABLE),
        _ => status(422),
    }
}
