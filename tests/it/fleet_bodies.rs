//! A shared body takes a third of its size in Redis. Another test writes the samples that train the dictionary.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CACHE_STATUS, CONTENT_LENGTH, DATE, ETAG, VARY, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};
use sezzle_sidecar::clock::Wall;
use sezzle_sidecar::fleet::body::{Answer, Facts, SharedBody};
use sezzle_sidecar::fleet::entry::Position;
use sezzle_sidecar::fleet::keys::Keys;
use sezzle_sidecar::fleet::life::Times;
use sezzle_sidecar::fleet::seal::seal;
use sezzle_sidecar::session::invalidation::tag_id::TagId;
use sezzle_sidecar::simulator::{EffectKind, Links, SessionKind, TokenizePlace};

use crate::support::{Harness, Setup};

/// The sidecar's usual address, to which links are pointed.
const BASE: &str = "http://127.0.0.1:8080";

fn uuid() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
}

/// Answers as a sidecar stores them: sessions in every form and state, each with its own identifiers and sums.
async fn answers(count: usize) -> Vec<Answer> {
    let harness = Setup::default().set("LINKS__BASE_URL", BASE).start().await;
    let mut answers = Vec::new();
    for number in 0..count / 2 {
        let answer = simulated(&harness, number).await;
        answers.push(documented(&answer.headers, number));
        answers.push(answer);
    }
    harness.stop().await;
    answers
}

/// The simulated gateway's session, through a sidecar.
async fn simulated(harness: &Harness, number: usize) -> Answer {
    harness.gateway.configure(|options| {
        options.tokenize_place =
            if number.is_multiple_of(4) { TokenizePlace::InOrder } else { TokenizePlace::TopLevel };
        options.expiration_digits = [3, 0, 9][number % 3];
        // Each sample has a day of its own, or the same day would stand in all of them.
        options.tokenize_life = Duration::from_secs(fastrand::u64(0..300 * 24 * 60 * 60));
        options.links = if number.is_multiple_of(2) { Links::Full } else { Links::WithoutCheckout };
    });
    let kind = if number % 5 == 1 { SessionKind::Order } else { SessionKind::OrderAndTokenize };
    let ids = harness.gateway.create_session(kind);
    let order = ids.order.expect("an order");
    if number.is_multiple_of(2) {
        assert!(harness.gateway.complete_checkout(&order), "the checkout is open");
        let cents = fastrand::u64(1..5_000);
        assert!(harness.gateway.click(&order, EffectKind::Capture, 5_000 + cents));
        assert!(harness.gateway.click(&order, EffectKind::Refund, cents));
    }
    let answer = harness.get(&format!("/v2/session/{}", ids.session)).await;
    assert_eq!(answer.status, 200);
    let mut headers = answer.headers;
    // The sidecar adds these to each answer and stores none of them.
    for name in [AGE, CACHE_CONTROL, CACHE_STATUS, CONTENT_LENGTH, VIA, HeaderName::from_static("x-request-id")] {
        headers.remove(name);
    }
    let date = UNIX_EPOCH + Duration::from_secs(1_767_225_600 + fastrand::u64(0..300 * 24 * 60 * 60));
    headers.insert(DATE, HeaderValue::try_from(httpdate::fmt_http_date(date)).expect("valid"));
    Answer { etag: None, headers, body: answer.body }
}

/// The documented session on one line, with the headers of a gateway behind a content delivery network.
fn documented(headers: &HeaderMap, number: usize) -> Answer {
    let text: String = include_str!("../../benches/compare/session.json").lines().map(str::trim).collect();
    let text = text.replace("\": ", "\":").replace("https://gateway.sezzle.com", BASE);
    let text = text.replace("EXPIRATION", &format!("2026-{:02}-27T14:46:{:02}.000Z", 1 + number % 12, number % 60));
    let nil = uuid::Uuid::nil().to_string();
    // The session's id stands in two places, the order's in seven, and the token's beside that of the approval.
    let [session, order, token, approval] = [(); 4].map(|()| uuid());
    let ids = [&session, &session, &order, &order, &order, &order, &order, &order, &order, &token, &approval, &token];
    let body = ids.into_iter().fold(text, |text, id| text.replacen(&nil, id, 1));

    let mut headers = headers.clone();
    let mut add = |name, value: &str| headers.insert(name, HeaderValue::from_str(value).expect("valid"));
    let mut etag = None;
    if number.is_multiple_of(2) {
        let tag = format!("W/\"{:x}-{:032x}", body.len(), fastrand::u128(..));
        add(ETAG, &format!("{tag};sidecar-fbc1fc3c\""));
        add(CACHE_CONTROL, "max-age=0, private, must-revalidate");
        etag = Some(HeaderValue::from_str(&format!("{tag}\"")).expect("valid"));
    }
    if number.is_multiple_of(3) {
        add(VARY, "Accept-Encoding");
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
            ("server", "cloudflare"),
            ("cf-cache-status", "DYNAMIC"),
        ] {
            add(HeaderName::from_static(name), value);
        }
        add(HeaderName::from_static("cf-ray"), &format!("{:016x}-IAD", fastrand::u64(..)));
    }
    Answer { etag, headers, body: Bytes::from(body) }
}

/// The sealed body of an answer, with the facts of a session that has an order and a token.
fn sealed(answer: Answer) -> Vec<u8> {
    let times = Times {
        date: Some(Wall(1_764_000_000_000)),
        expiration: Some(Wall(1_764_001_800_000)),
        age: Duration::from_millis(120),
        life: Duration::from_secs(60),
        end: Wall(1_764_000_060_123),
    };
    let tags = [(); 3].map(|()| TagId(fastrand::u128(..).to_be_bytes())).to_vec();
    let facts = Facts { position: Position { ms: 1_764_000_000_000, seq: 3 }, times, tags };
    let keys = Keys::parse(b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "test").expect("a key");
    let name = "szs1:{00ff}:b:run.history:log:session";
    seal(&SharedBody { facts, answer }, &keys, name, [7; 32]).expect("sealed")
}

#[tokio::test]
async fn a_shared_session_takes_a_third_of_its_body() {
    let (mut all, mut bodies, mut worst) = (0, 0, 0.0_f64);
    for answer in answers(60).await {
        let body = answer.body.len();
        let size = sealed(answer).len();
        (all, bodies, worst) = (all + size, bodies + body, worst.max(size as f64 / body as f64));
    }
    let ratio = all as f64 / bodies as f64;
    assert!(ratio <= 0.30 && worst <= 0.35, "{ratio:.3} of the body, at worst {worst:.3}");
}

#[tokio::test]
#[ignore = "writes what benches/dictionary/train reads: tests/run"]
async fn samples_of_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dictionary");
    fs::create_dir_all(&folder).expect("a folder");
    for (number, answer) in answers(1000).await.into_iter().enumerate() {
        fs::write(folder.join(format!("{number}.sample")), answer.encode().expect("small")).expect("written");
    }
}
