//! A gateway that answers lookups of sessions with headers chosen by a test, and a sidecar in front of it. The test
//! moves the clock of both.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use http::Method;
use uuid::Uuid;

use super::client::Answer;
use super::scripted::{Script, Scripted};
use super::{Harness, Setup};

pub type Lines<'l> = &'l [(&'l str, &'l str)];

pub struct Origin {
    pub harness: Harness,
    pub gateway: Scripted,
    passed: AtomicI64,
}

impl Origin {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let gateway = Scripted::start().await;
        let harness = setup.set("GATEWAY__URL", format!("http://{}", gateway.addr)).start().await;
        Self { harness, gateway, passed: AtomicI64::new(0) }
    }

    /// Moves both clocks.
    pub fn pass(&self, seconds: u64) {
        self.harness.clock.advance(Duration::from_secs(seconds));
        self.passed.fetch_add(i64::try_from(seconds).expect("small"), Ordering::SeqCst);
    }

    /// So many seconds from now by the sidecar's clock, as an HTTP date.
    pub fn date(&self, seconds: i64) -> String {
        let seconds = seconds + self.passed.load(Ordering::SeqCst);
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        httpdate::fmt_http_date(if seconds < 0 { now - distance } else { now + distance })
    }

    /// So many seconds from now by the sidecar's clock, as Sezzle writes dates in bodies.
    pub fn expiration(&self, seconds: i64) -> String {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let millis = i64::try_from(since.as_millis()).expect("before 2200");
        let seconds = seconds + self.passed.load(Ordering::SeqCst);
        sezzle_sidecar::sezzle::time::format_rfc3339(sezzle_sidecar::clock::Wall(millis + seconds * 1000))
            .expect("a year of four digits")
    }

    /// Lookups get this status, these headers (`@5` is the date in so many seconds) and this body from now on.
    pub fn answers(&self, status: &str, lines: Lines<'_>, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut text = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in lines {
            let relative = value.strip_prefix('@').map(|seconds| self.date(seconds.parse().expect("seconds")));
            text.push_str(&format!("{name}: {}\r\n", relative.as_deref().unwrap_or(value)));
        }
        if status.starts_with("200") && !lines.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            text.push_str("Content-Type: application/json\r\n");
        }
        if !status.starts_with("304") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut bytes = format!("{text}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.gateway.script(Script::Bytes(bytes));
    }

    /// The lookup of this session gets the session with these headers from now on.
    pub fn serves(&self, session: Uuid, lines: Lines<'_>) {
        self.answers("200 OK", lines, format!(r#"{{"uuid":"{session}","order":{{"uuid":"o-{session}"}}}}"#));
    }

    pub async fn get(&self, session: Uuid, lines: Lines<'_>) -> Answer {
        self.ask(Method::GET, session, lines).await
    }

    pub async fn ask(&self, method: Method, session: Uuid, lines: Lines<'_>) -> Answer {
        self.harness.send(method, &format!("/v2/session/{session}"), lines, "").await
    }

    /// How many requests the gateway has received.
    pub fn asked(&self) -> usize {
        self.gateway.heads().len()
    }

    /// A header of the gateway's last request; empty for an absent header.
    pub fn last(&self, name: &str) -> String {
        let head = self.gateway.heads().pop().expect("a request");
        let value = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_default().to_owned()
    }
}

/// Waits until no second begins within the next half. HTTP dates are cut to whole seconds: if the next second begins
/// between a date and its reading, an answer that was just made is more than a second old.
pub async fn early_in_a_second() {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let part = Duration::from_nanos(since.subsec_nanos().into());
    if part > Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(part)).await;
    }
}

/// The id of a new session.
pub fn session() -> Uuid {
    Uuid::from_u128(fastrand::u128(..))
}
