//! The callers, and a book of the outcomes that they were told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use http::Method;
use sezzle_sidecar::simulator::{EffectKind, SessionKind, Simulator};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::call::{Answer, Client, Told, client, request, sent};
use crate::counts::Counts;
use crate::faults::Health;

const REMEMBERED: usize = 500;
/// Writes to one order before its ledger is checked and the next order is taken. A webhook about an order names all its
/// captures, and a webhook with very many captures purges the whole cache.
const WRITES: u32 = 14;
const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
const SESSION: &str = r#"{"cancel_url":{"href":"https://shop.example/a"},"complete_url":{"href":"https://shop.example/b"},"order":{"intent":"AUTH","reference_id":"r","description":"d","order_amount":{"amount_in_cents":10000,"currency":"USD"}},"customer":{"tokenize":true}}"#;

/// The state that all callers share.
pub struct Traffic {
    gateway: Simulator,
    health: Arc<Health>,
    /// One sidecar, or those of a fleet.
    proxies: Vec<SocketAddr>,
    until: Instant,
    /// The newest sessions.
    sessions: Mutex<VecDeque<String>>,
    counts: Mutex<Counts>,
    hung_up: AtomicU64,
    wrong: Mutex<Vec<String>>,
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
    client: Client,
    rng: Rng,
    book: Book,
}

impl Traffic {
    pub fn new(gateway: Simulator, health: Arc<Health>, proxies: Vec<SocketAddr>, until: Instant) -> Self {
        Self {
            gateway,
            health,
            proxies,
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
        let answer = self.send(&client(), self.proxies[0], Method::POST, "/v2/webhooks", None, &body).await;
        assert_eq!(answer.expect("an answer").told(), Told::Done);
    }

    pub fn counts(&self, webhooks: u64) -> Counts {
        let mut counts = self.counts.lock().expect("no panic").clone();
        counts.webhooks = webhooks;
        counts
    }

    /// Unknown outcomes that callers were told of, and the number of callers that hung up.
    pub fn unknown(&self) -> (u64, u64) {
        (self.counts(0).unknown, self.hung_up.load(Ordering::Relaxed))
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().expect("no panic").clone()
    }

    /// Makes a call through a sidecar, counts its answer, and notes an answer that may not be.
    pub async fn send(
        &self,
        client: &Client,
        proxy: SocketAddr,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> Option<Answer> {
        let (what, begun) = (format!("{method} {path}"), Instant::now());
        let answer = sent(client, request(proxy, method, path, key, body)).await;
        match &answer {
            Some(answer) => {
                self.counts.lock().expect("no panic").add(answer);
                if answer.is_failed() && self.health.was_good(begun) {
                    self.complain(&format!("{what} failed without a fault of the gateway: {answer:?}"));
                }
            }
            None => self.complain(&format!("{what} was not answered")),
        }
        answer
    }

    pub fn complain(&self, what: &str) {
        self.wrong.lock().expect("no panic").push(what.to_owned());
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
            let Some(key) = key.map(str::to_owned) else {
                return self.traffic.complain("no key on the answer to a capture");
            };
            if own.as_ref().is_some_and(|own| *own != key) {
                self.traffic.complain("another key on the answer to a capture");
            }
            let told = answer.told();
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
            self.book.updates.push(answer.told());
            self.book.writes += 1;
        }
    }

    async fn new_session(&mut self) {
        let Some(answer) = self.send(Method::POST, "/v2/session", None, SESSION).await else { return };
        match (answer.told(), answer.json()["uuid"].as_str()) {
            (Told::Done, Some(uuid)) => {
                let mut sessions = self.traffic.sessions.lock().expect("no panic");
                sessions.push_back(uuid.to_owned());
                if sessions.len() > REMEMBERED {
                    sessions.pop_front();
                }
            }
            (Told::Done | Told::Else, _) => self.traffic.complain(&format!("a new session was told {}", answer.status)),
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
        let request = request(self.proxy(), Method::POST, &path, Some(&key), CAPTURE);
        let _ = timeout(Duration::from_micros(self.rng.u64(..3_000)), client.request(request)).await;
    }

    fn key(&mut self) -> String {
        format!("soak-{:032x}", self.rng.u128(..))
    }

    async fn get(&mut self, path: &str) -> Option<Answer> {
        self.send(Method::GET, path, None, "").await
    }

    async fn send(&mut self, method: Method, path: &str, key: Option<&str>, body: &str) -> Option<Answer> {
        let proxy = self.proxy();
        self.traffic.send(&self.client, proxy, method, path, key, body).await
    }

    fn proxy(&mut self) -> SocketAddr {
        self.traffic.proxies[self.rng.usize(..self.traffic.proxies.len())]
    }
}
