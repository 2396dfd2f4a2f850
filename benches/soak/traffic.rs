//! The callers, and a book of the outcomes that they were told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sezzle_sidecar::simulator::{EffectKind, SessionKind, Simulator};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::verdict::{Sample, median};

const LIMIT: Duration = Duration::from_secs(45);
const REMEMBERED: usize = 500;
/// Writes to one order before its ledger is checked and the next order is taken. A webhook about an order names all its
/// captures, and a webhook with very many captures purges the whole cache.
const WRITES: u32 = 14;
const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
const SESSION: &str = r#"{"cancel_url":{"href":"https://shop.example/a"},"complete_url":{"href":"https://shop.example/b"},"order":{"intent":"AUTH","reference_id":"r","description":"d","order_amount":{"amount_in_cents":10000,"currency":"USD"}},"customer":{"tokenize":true}}"#;

/// The state that all callers share.
pub struct Traffic {
    gateway: Simulator,
    proxy: SocketAddr,
    until: Instant,
    /// The newest sessions.
    sessions: Mutex<VecDeque<String>>,
    counts: Mutex<Counts>,
    hung_up: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// How calls ended.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    calls: u64,
    hits: u64,
    /// Sezzle's answers, by the first digit of their status.
    classes: [u64; 6],
    /// The sidecar's own 503 answers.
    unsent: u64,
    /// The sidecar's own errors for calls without an effect.
    failed: u64,
    unknown: u64,
    /// Answers after an earlier attempt that may have taken effect.
    marked: u64,
    /// Answers that broke off.
    cut: u64,
    ledgers: u64,
    webhooks: u64,
}

impl Counts {
    pub const TITLES: &str = "minute   calls    hits     2xx    4xx    5xx  unsent failed unknown marked   cut ledgers hooks  KiB resident (least, median, most)  descriptors";

    pub fn since(&self, before: &Self) -> Self {
        let mut classes = self.classes;
        classes.iter_mut().zip(before.classes).for_each(|(now, before)| *now -= before);
        Self {
            calls: self.calls - before.calls,
            hits: self.hits - before.hits,
            classes,
            unsent: self.unsent - before.unsent,
            failed: self.failed - before.failed,
            unknown: self.unknown - before.unknown,
            marked: self.marked - before.marked,
            cut: self.cut - before.cut,
            ledgers: self.ledgers - before.ledgers,
            webhooks: self.webhooks - before.webhooks,
        }
    }

    pub fn print(&self, minute: usize, samples: &[Sample]) {
        let Self { calls, hits, classes, unsent, failed, unknown, marked, cut, ledgers, webhooks } = self;
        let [_, _, ok, _, client, server] = classes;
        let resident = || samples.iter().map(|sample| sample.resident);
        let (least, most) = (resident().min().unwrap_or(0), resident().max().unwrap_or(0));
        let middle = median(samples, |sample| sample.resident);
        let open = median(samples, |sample| sample.descriptors);
        println!(
            "{minute:>6}{calls:>8}{hits:>8}{ok:>8}{client:>7}{server:>7}{unsent:>8}{failed:>7}{unknown:>8}{marked:>7}{cut:>6}\
             {ledgers:>8}{webhooks:>6}{least:>16}{middle:>10}{most:>10}{open:>13}"
        );
    }
}

/// The outcome of a write as its caller was told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Done,
    /// Sezzle refused the write, and no earlier attempt took effect.
    Refused,
    /// Nothing was sent.
    Unsent,
    /// The write may have been done.
    Open,
    /// Any other answer; no caller of a write may get one.
    Else,
}

/// The outcomes that callers were told of the writes to one order.
#[derive(Default)]
struct Book {
    order: String,
    writes: u32,
    /// Writes with a key.
    keys: HashMap<String, Vec<Told>>,
    /// Writes without a key.
    updates: Vec<Told>,
}

struct Caller {
    traffic: Arc<Traffic>,
    client: Client<HttpConnector, Full<Bytes>>,
    rng: Rng,
    book: Book,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Traffic {
    pub fn new(gateway: Simulator, proxy: SocketAddr, until: Instant) -> Self {
        Self {
            gateway,
            proxy,
            until,
            sessions: Mutex::default(),
            counts: Mutex::default(),
            hung_up: AtomicU64::new(0),
            wrong: Mutex::default(),
        }
    }

    pub fn gateway(&self) -> &Simulator {
        &self.gateway
    }

    /// Calls until the soak ends.
    pub async fn caller(self: Arc<Self>, seed: u64) {
        let client = client();
        let mut caller = Caller { client, rng: Rng::with_seed(seed), book: self.open(), traffic: Arc::clone(&self) };
        while Instant::now() < self.until {
            caller.call().await;
            sleep(Duration::from_micros(caller.rng.u64(..16_000))).await;
        }
        self.close(&caller.book);
    }

    /// Lets the gateway send webhooks to the sidecar.
    pub async fn subscribe(self: &Arc<Self>, webhooks: SocketAddr) {
        let events = r#"["order.captured","order.authorized","customer.tokenized"]"#;
        let body = format!(r#"{{"url":"http://{webhooks}/webhooks/sezzle","events":{events}}}"#);
        let caller = Caller { traffic: Arc::clone(self), client: client(), rng: Rng::new(), book: Book::default() };
        let answer = caller.send(Method::POST, "/v2/webhooks", None, &body).await.expect("an answer");
        assert!(answer.status < 300, "{answer:?}", answer = answer.status);
    }

    pub fn counts(&self, webhooks: u64) -> Counts {
        Counts { webhooks, ..self.counts.lock().expect("no panic").clone() }
    }

    /// Unknown outcomes that callers were told of, and the number of callers that hung up.
    pub fn unknown(&self) -> (u64, u64) {
        (self.counts(0).unknown, self.hung_up.load(Ordering::Relaxed))
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().expect("no panic").clone()
    }

    fn open(&self) -> Book {
        let order = self.gateway.create_session(SessionKind::Order).order.expect("an order");
        assert!(self.gateway.complete_checkout(&order));
        Book { order, ..Book::default() }
    }

    /// Compares what callers were told of an order's writes with the gateway's ledger.
    fn close(&self, book: &Book) {
        let effects = self.gateway.effects(&book.order);
        let mut wrong = Vec::new();
        let updates = effects.iter().filter(|effect| effect.kind == EffectKind::Update).count();
        let of = |told: &[Told], what| told.iter().filter(|told| **told == what).count();
        let (done, open) = (of(&book.updates, Told::Done), of(&book.updates, Told::Open));
        if !(done..=done + open).contains(&updates) {
            wrong.push(format!("{updates} updates, {done} told and {open} open"));
        }
        let mut found: HashMap<&str, usize> = HashMap::new();
        for effect in effects.iter().filter(|effect| effect.kind != EffectKind::Update) {
            *found.entry(effect.key.as_deref().unwrap_or("")).or_default() += 1;
        }
        for (key, told) in &book.keys {
            let times = found.remove(key.as_str()).unwrap_or_default();
            let range = match () {
                () if of(told, Told::Done) > 0 => 1..=1,
                () if of(told, Told::Open) > 0 => 0..=1,
                () => 0..=0,
            };
            if !range.contains(&times) {
                wrong.push(format!("{times} effects under {key}, told {told:?}"));
            }
        }
        wrong.extend(found.into_keys().map(|key| format!("an effect under {key:?}, of which nobody was told")));
        let all = book.keys.values().flatten().chain(&book.updates);
        wrong.extend(all.filter(|told| **told == Told::Else).map(|_| "a write was told something else".to_owned()));
        self.counts.lock().expect("no panic").ledgers += 1;
        let wrong = wrong.into_iter().map(|what| format!("{}: {what}", book.order));
        self.wrong.lock().expect("no panic").extend(wrong);
    }
}

impl Caller {
    async fn call(&mut self) {
        match self.rng.u8(..100) {
            0..45 => self.lookup().await,
            45..50 => {
                let nobodys = Uuid::from_u128(self.rng.u128(..));
                self.get(&format!("/v2/session/{nobodys}")).await;
            }
            50..55 => drop(self.get(&format!("/v2/order/{}", self.book.order)).await),
            55..58 => drop(self.get("/v2/customer").await),
            58..60 => drop(self.get("/v2/orders/report?start-date=2026-01-01").await),
            60..80 => self.capture().await,
            80..87 => self.update().await,
            87..98 => self.new_session().await,
            _ => self.hang_up().await,
        }
        if self.book.writes >= WRITES {
            self.traffic.close(&self.book);
            self.book = self.traffic.open();
        }
    }

    async fn lookup(&mut self) {
        let session = {
            let sessions = self.traffic.sessions.lock().expect("no panic");
            if sessions.is_empty() { None } else { sessions.get(self.rng.usize(..sessions.len())).cloned() }
        };
        if let Some(session) = session {
            self.get(&format!("/v2/session/{session}")).await;
        }
    }

    /// A capture under the caller's own key is repeated until its outcome is known, as a service should do.
    async fn capture(&mut self) {
        let path = format!("/v2/order/{}/capture", self.book.order);
        let own = self.rng.bool().then(|| self.key());
        for _ in 0..if own.is_some() { 4 } else { 1 } {
            let Some(answer) = self.send(Method::POST, &path, own.as_deref(), CAPTURE).await else { return };
            let key = answer.headers.get("sezzle-request-id").and_then(|key| key.to_str().ok());
            let Some(key) = key.map(str::to_owned) else { return self.complain("no key on the answer to a capture") };
            if own.as_ref().is_some_and(|own| *own != key) {
                self.complain("another key on the answer to a capture");
            }
            let told = told(&answer);
            self.book.keys.entry(key).or_default().push(told);
            self.book.writes += 1;
            if told == Told::Done {
                return;
            }
        }
    }

    async fn update(&mut self) {
        let path = format!("/v2/order/{}", self.book.order);
        if let Some(answer) = self.send(Method::PATCH, &path, None, r#"{"reference_id":"r"}"#).await {
            self.book.updates.push(told(&answer));
            self.book.writes += 1;
        }
    }

    async fn new_session(&mut self) {
        let Some(answer) = self.send(Method::POST, "/v2/session", None, SESSION).await else { return };
        let body = answer.body.as_ref().and_then(|body| serde_json::from_slice::<serde_json::Value>(body).ok());
        match (told(&answer), body.as_ref().and_then(|body| body["uuid"].as_str())) {
            (Told::Done, Some(uuid)) => {
                let mut sessions = self.traffic.sessions.lock().expect("no panic");
                sessions.push_back(uuid.to_owned());
                if sessions.len() > REMEMBERED {
                    sessions.pop_front();
                }
            }
            (Told::Done | Told::Else, _) => self.complain(&format!("a new session was told {}", answer.status)),
            _ => {}
        }
    }

    /// Sends a capture and hangs up before its answer, or during it.
    async fn hang_up(&mut self) {
        let path = format!("/v2/order/{}/capture", self.book.order);
        let key = self.key();
        self.traffic.hung_up.fetch_add(1, Ordering::Relaxed);
        self.book.keys.entry(key.clone()).or_default().push(Told::Open);
        self.book.writes += 1;
        // A connection of its own, since hanging up closes it.
        let client = client();
        let request = request(self.traffic.proxy, Method::POST, &path, Some(&key), CAPTURE);
        let _ = timeout(Duration::from_micros(self.rng.u64(..3_000)), client.request(request)).await;
    }

    fn key(&mut self) -> String {
        format!("soak-{:032x}", self.rng.u128(..))
    }

    async fn get(&self, path: &str) -> Option<Answer> {
        self.send(Method::GET, path, None, "").await
    }

    async fn send(&self, method: Method, path: &str, key: Option<&str>, body: &str) -> Option<Answer> {
        let what = format!("{method} {path}");
        let request = request(self.traffic.proxy, method, path, key, body);
        let exchange = async {
            let (head, body) = self.client.request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok().map(|body| body.to_bytes());
            Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let answer = timeout(LIMIT, exchange).await.ok().flatten();
        match &answer {
            Some(answer) => self.count(answer),
            None => self.complain(&format!("{what} was not answered")),
        }
        answer
    }

    fn count(&self, answer: &Answer) {
        let mut counts = self.traffic.counts.lock().expect("no panic");
        counts.calls += 1;
        let has = |name: &str, what: &str| {
            answer.headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(what))
        };
        counts.hits += u64::from(has("cache-status", "; hit"));
        match answer.status {
            _ if answer.body.is_none() => counts.cut += 1,
            503 if has("proxy-status", "; error=") => counts.unsent += 1,
            504 if is_unknown(answer) => counts.unknown += 1,
            _ if has("proxy-status", "; error=") => counts.failed += 1,
            status => {
                counts.marked += u64::from(has("proxy-status", "received-status="));
                counts.classes[usize::from(status / 100).min(5)] += 1;
            }
        }
    }

    fn complain(&self, what: &str) {
        self.traffic.wrong.lock().expect("no panic").push(what.to_owned());
    }
}

fn told(answer: &Answer) -> Told {
    let status = answer.headers.get("proxy-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_own = status.contains("; error=");
    match answer.status {
        _ if answer.body.is_none() => Told::Open,
        200..300 => Told::Done,
        503 if is_own => Told::Unsent,
        504 if is_unknown(answer) => Told::Open,
        _ if is_own => Told::Else,
        400..500 if !status.contains("received-status=") => Told::Refused,
        _ => Told::Open,
    }
}

fn is_unknown(answer: &Answer) -> bool {
    let text = answer.body.as_deref().unwrap_or_default();
    answer.status == 504 && String::from_utf8_lossy(text).contains("sidecar.outcome_unknown")
}

fn request(proxy: SocketAddr, method: Method, path: &str, key: Option<&str>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://{proxy}{path}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    if let Some(key) = key {
        request = request.header("sezzle-request-id", key);
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request")
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(Duration::from_secs(5)).pool_timer(TokioTimer::new()).build_http()
}
