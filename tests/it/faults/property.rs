//! Any mix of faults under load: no write takes effect twice, and a caller is told the truth about its write.
//!
//! A failure prints the seed, and `FAULTS_SEED` repeats it, as far as the order of events is the same.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, StatusCode};
use sezzle_sidecar::simulator::{Exchange, Fault, Gate, Reset, Rule};
use tokio::time::{Instant, sleep, timeout};

use super::scene::SESSION;
use crate::support::client::{Answer, Client, Ended};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, header};

const SEEDS: u64 = 3;
const FOR: Duration = Duration::from_millis(2000);
/// Names a call on each of its attempts.
const NUMBER: &str = "x-number";

/// One call of a caller, and the answer that the caller got.
#[derive(Debug)]
struct Write {
    number: usize,
    /// Whether the call documents the key.
    keyed: bool,
    told: Told,
}

#[derive(Debug)]
enum Told {
    /// The caller hung up, so got no answer.
    Nothing,
    Answer {
        status: u16,
        /// The code of an error of the sidecar's.
        code: Option<String>,
        /// An earlier attempt may have taken effect.
        marked: bool,
        key: String,
    },
}

impl Told {
    fn of(answer: &Answer) -> Self {
        let is_own = answer.header("proxy-status").starts_with("sezzle-sidecar; error=");
        Self::Answer {
            status: answer.status,
            code: is_own.then(|| answer.error_code()),
            marked: answer.header("proxy-status").contains("received-status="),
            key: answer.header("sezzle-request-id").to_owned(),
        }
    }

    fn is_unknown(&self) -> bool {
        matches!(self, Self::Answer { code: Some(code), .. } if code == "sidecar.outcome_unknown")
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::Answer { status: 200..300, .. })
    }
}

/// The callers of one run, and the state they share.
struct Load<'h> {
    harness: &'h Harness,
    order: String,
    until: Instant,
    numbers: AtomicUsize,
    writes: Mutex<Vec<Write>>,
}

impl Load<'_> {
    async fn caller(&self, mut rng: Rng) {
        let client = Client::new();
        while Instant::now() < self.until {
            self.write(&client, &mut rng).await;
        }
    }

    /// Makes one write, and repeats it if its outcome is open and it carries a key of the caller's.
    async fn write(&self, client: &Client, rng: &mut Rng) {
        let order = &self.order;
        let capture = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
        let (method, path, body) = match rng.u8(..6) {
            0 | 1 => (Method::POST, format!("/v2/order/{order}/capture"), capture),
            2 => (Method::POST, format!("/v2/order/{order}/release"), r#"{"amount_in_cents":1,"currency":"USD"}"#),
            3 => (Method::POST, "/v2/session".to_owned(), SESSION),
            4 => (Method::PATCH, format!("/v2/order/{order}"), r#"{"reference_id":"r"}"#),
            _ => {
                let other = Session::order(&self.harness.gateway).order_path;
                (Method::DELETE, format!("{other}/checkout"), "")
            }
        };
        let keyed = path.ends_with("/capture") || path.ends_with("/release");
        let own = (keyed && rng.bool()).then(|| format!("own-{}", rng.u64(..)));
        for _ in 0..if own.is_some() { 3 } else { 1 } {
            let number = self.numbers.fetch_add(1, Ordering::SeqCst);
            let text = number.to_string();
            let mut headers = vec![(NUMBER, text.as_str()), ("content-type", "application/json")];
            headers.extend(own.as_deref().map(|key| ("sezzle-request-id", key)));
            let told = if rng.u8(..12) == 0 {
                self.hang_up(rng, &method, &path, &headers, body).await;
                Told::Nothing
            } else {
                match client.try_send(self.harness.proxy, method.clone(), &path, &headers, body).await {
                    Ended::Whole(answer) => Told::of(&answer),
                    other => panic!("{method} {path}: {other:?}"),
                }
            };
            let is_open = !told.is_done();
            self.writes.lock().expect("no panic").push(Write { number, keyed, told });
            if !is_open {
                return;
            }
        }
    }

    /// Sends the write and goes away, now or a little later.
    async fn hang_up(&self, rng: &mut Rng, method: &Method, path: &str, headers: &[(&str, &str)], body: &str) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut wire = Wire::connect(self.harness.proxy).await;
        let length = body.len();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {length}\r\n\r\n{body}"
        ))
        .await;
        let _ = timeout(Duration::from_millis(rng.u64(..5)), wire.read_some()).await;
        wire.reset();
    }

    /// Applies faults to some of the requests to come, again and again.
    async fn faults(&self, mut rng: Rng, held: &Gate) {
        let gateway = &self.harness.gateway;
        // The sidecar obtains new tokens rarely. A revocation and refused exchanges in one run would leave only
        // refusals for the rest.
        let mut revocation = rng.bool().then(|| Instant::now() + FOR / 4);
        let refusing = revocation.is_none();
        while Instant::now() < self.until {
            let path = ["/v2/order/*", "/v2/order/*/capture", "/v2/session"][rng.usize(..3)];
            let rule = Rule::path(path).times(rng.u32(1..4));
            let raw = |bytes: &'static [u8]| Fault::Garbage(Bytes::from_static(bytes));
            gateway.script(match rng.u8(..19) {
                0 => rule.reset(Reset::BeforeReading),
                1 => rule.reset(Reset::BeforeEffect),
                2 | 3 => rule.reset(Reset::AfterEffect),
                4 => rule.close(Reset::AfterEffect),
                5 => rule.reused_only().close(Reset::BeforeReading),
                6 => rule.status(StatusCode::BAD_GATEWAY),
                7 => rule.status(StatusCode::SERVICE_UNAVAILABLE),
                8 => rule.status(StatusCode::INTERNAL_SERVER_ERROR),
                9 if refusing => rule.status(StatusCode::UNAUTHORIZED),
                10 => rule.status(StatusCode::UNPROCESSABLE_ENTITY),
                11 => rule.fault(raw(b"HTTP/1.1 200 OK\r\ncontent-ty")),
                12 => {
                    rule.fault(raw(b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
                }
                13 => rule.fault(raw(b"")),
                14 => rule.fault(raw(b"no HTTP\r\n\r\n")),
                15 => rule.fault(Fault::CutBody(5)),
                16 => rule.times(1).delay(Duration::from_millis(rng.u64(1..600))),
                // The write takes effect only long after its caller got an answer.
                17 => rule.times(1).gate(held),
                _ => Rule::path("/v2/authentication").times(1).status(StatusCode::SERVICE_UNAVAILABLE),
            });
            if revocation.take_if(|at| *at <= Instant::now()).is_some() {
                gateway.revoke_tokens();
            }
            sleep(Duration::from_millis(rng.u64(1..6))).await;
        }
        gateway.clear_rules();
    }
}

/// The writes as the gateway saw them.
struct JournaledWrites {
    by_number: HashMap<usize, Vec<Exchange>>,
    effects_by_key: HashMap<String, usize>,
}

impl JournaledWrites {
    fn of(journal: Vec<Exchange>) -> Self {
        let mut journaled = Self { by_number: HashMap::new(), effects_by_key: HashMap::new() };
        for call in journal {
            let Ok(number) = header(&call.headers, NUMBER).parse() else { continue };
            let key = header(&call.headers, "sezzle-request-id").to_owned();
            *journaled.effects_by_key.entry(key).or_default() += usize::from(call.effect);
            journaled.by_number.entry(number).or_default().push(call);
        }
        journaled
    }

    /// All that is wrong with the course of a write.
    fn judge(&self, write: &Write) -> Option<&'static str> {
        let attempts = self.by_number.get(&write.number).map_or(&[][..], Vec::as_slice);
        let effects = attempts.iter().filter(|attempt| attempt.effect).count();
        // Sezzle answers 401 before it processes a call.
        let sent = attempts.iter().filter(|attempt| attempt.status != Some(401)).count();
        let keys: HashSet<_> =
            attempts.iter().map(|attempt| header(&attempt.headers, "sezzle-request-id").to_owned()).collect();
        match () {
            () if effects > 1 => return Some("was done more than once"),
            () if keys.len() > 1 => return Some("was sent under several keys"),
            () if !write.keyed && sent > 1 => return Some("was sent more than once"),
            () if write.keyed && keys.contains("") => return Some("was sent without a key"),
            () if sent > 3 => return Some("was sent too often"),
            () => {}
        }
        let Told::Answer { status, code, marked, key } = &write.told else { return None };
        let of_key = if write.keyed { self.effects_by_key.get(key).copied().unwrap_or_default() } else { effects };
        match (status, code.as_deref()) {
            _ if write.keyed && key.is_empty() => Some("its caller was not told the key"),
            _ if write.keyed && !keys.is_empty() && !keys.contains(key) => Some("its caller was told another key"),
            (200..300, None) if of_key != 1 => Some("its caller was told it was done"),
            (200..300, None) => None,
            (400..500, None) if !marked && effects > 0 => Some("its caller was told that Sezzle refused it"),
            (400.., None) if *marked && attempts.len() < 2 => Some("its caller was told of an earlier attempt"),
            (400.., None) => None,
            (503, Some(_)) if sent > 0 || effects > 0 => Some("its caller was told that nothing was sent"),
            (503, Some(_)) => None,
            (504, Some("sidecar.outcome_unknown")) if attempts.is_empty() => {
                Some("was never sent, and is said to be unknown")
            }
            (504, Some("sidecar.outcome_unknown")) => None,
            _ => Some("its caller was told something else"),
        }
    }
}

async fn run(seed: u64) -> (usize, usize) {
    let setup = Setup::default().set("GATEWAY__WRITE_TIMEOUT", "300ms").set("LIMITS__IN_FLIGHT", 2000);
    let harness = setup.start().await;
    let order = Session::order(&harness.gateway).authorized(&harness.gateway).order;
    let (numbers, writes) = (AtomicUsize::default(), Mutex::default());
    let load = Load { harness: &harness, order, until: Instant::now() + FOR, numbers, writes };
    let held = Gate::new();
    let caller = |number: u64| load.caller(Rng::with_seed(seed.wrapping_add(number)));
    let callers =
        async { tokio::join!(caller(1), caller(2), caller(3), caller(4), caller(5), caller(6), caller(7), caller(8)) };
    tokio::join!(callers, load.faults(Rng::with_seed(seed), &held));
    held.release();
    let (order, writes) = (load.order, load.writes.into_inner().expect("no panic"));

    let (app, gateway) = harness.into_parts();
    let unknown = app.metrics.outcome_unknown.clone();
    timeout(Duration::from_secs(10), app.drain()).await.expect("the drain ends");
    let counted: u64 = ROUTES.map(|route| unknown.with_label_values(&[route]).get()).iter().sum();
    let effects = gateway.effects(&order);
    let journal = gateway.journal();
    gateway.stop().await;

    let journaled = JournaledWrites::of(journal);
    let wrong = writes.iter().filter_map(|write| Some((journaled.judge(write)?, write)));
    let wrong: Vec<String> = wrong
        .map(|(what, write)| {
            let attempts = journaled.by_number.get(&write.number).into_iter().flatten();
            let attempts = attempts.map(|call| (call.status, call.effect, header(&call.headers, "sezzle-request-id")));
            format!("{what}: {write:?}, {:?}", attempts.collect::<Vec<_>>())
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "FAULTS_SEED={seed}: {} of {}:\n{}",
        wrong.len(),
        writes.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    let mut keys = HashSet::new();
    for key in effects.iter().filter_map(|effect| effect.key.as_ref()) {
        assert!(keys.insert(key), "FAULTS_SEED={seed}: two effects under {key}");
    }
    let told = writes.iter().filter(|write| write.told.is_unknown()).count();
    let nothing = writes.iter().filter(|write| matches!(write.told, Told::Nothing)).count();
    let range = told as u64..=(told + nothing) as u64;
    assert!(range.contains(&counted), "FAULTS_SEED={seed}: {counted} unknown outcomes counted, not {range:?}");
    (writes.len(), told)
}

#[expect(clippy::print_stderr, reason = "shown only when the test fails")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_done_twice_and_no_caller_is_told_an_untruth() {
    let given = std::env::var("FAULTS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds: Vec<u64> = given.map_or_else(|| (0..SEEDS).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    let mut all = (0, 0);
    for seed in seeds {
        eprintln!("FAULTS_SEED={seed}");
        let (writes, unknown) = run(seed).await;
        all = (all.0 + writes, all.1 + unknown);
    }
    eprintln!("{} writes, the outcome of {} unknown", all.0, all.1);
    assert!(all.0 > 100 && all.1 > 5, "too quiet: {all:?}");
}

const ROUTES: [&str; 5] = [
    "/v2/session",
    "/v2/order/{order}",
    "/v2/order/{order}/checkout",
    "/v2/order/{order}/capture",
    "/v2/order/{order}/release",
];
