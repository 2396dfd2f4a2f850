//! One call, made once, with a gateway and a sidecar of its own.

use http::Method;
use sezzle_sidecar::simulator::{Exchange, Rule};
use uuid::{Uuid, Variant, Version};

use super::{ALWAYS, Bend, Cut, Expected, Marked, Own, Passed, Sezzle, Short};
use crate::support::client::{Answer, Ended};
use crate::support::{Harness, Session, header};

pub const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
const REFUND: &str = r#"{"amount_in_cents":1000,"currency":"USD"}"#;
pub const SESSION: &str = r#"{"cancel_url":{"href":"https://shop.example/cancel"},"complete_url":{"href":"https://shop.example/done"},"customer":{"tokenize":true}}"#;
const KEY: &str = "key-of-the-caller";

/// The calls of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    Lookup,
    Order,
    Report,
    /// With the caller's key.
    Capture,
    /// Without a key of the caller's.
    Refund,
    NewSession,
    DeleteCheckout,
    /// A write that Sezzle does not know.
    Unknown,
}

impl Call {
    pub const ALL: [Self; 8] = [
        Self::Lookup,
        Self::Order,
        Self::Report,
        Self::Capture,
        Self::Refund,
        Self::NewSession,
        Self::DeleteCheckout,
        Self::Unknown,
    ];

    fn is_write(self) -> bool {
        !matches!(self, Self::Lookup | Self::Order | Self::Report)
    }

    fn is_keyed(self) -> bool {
        matches!(self, Self::Capture | Self::Refund)
    }

    /// The status of a good answer.
    fn good(self) -> u16 {
        match self {
            Self::NewSession => 201,
            Self::DeleteCheckout => 204,
            Self::Unknown => 404,
            _ => 200,
        }
    }
}

pub struct Scene {
    pub call: Call,
    pub harness: Harness,
    method: Method,
    pub path: String,
    query: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    /// The order of the write, and its earlier effects.
    order: String,
    before: usize,
}

impl Scene {
    /// Prepares the call, and leaves nothing of the preparation in the gateway's journal.
    pub async fn prepare(call: Call, harness: Harness) -> Self {
        let Session { path: lookup, order, order_path, .. } = Session::tokenize(&harness.gateway);
        // An unknown call stands for a call that Sezzle adds later, whose answers are JSON.
        harness.gateway.configure(|gateway| gateway.plain_404 = false);
        if call != Call::DeleteCheckout {
            assert!(harness.gateway.complete_checkout(&order));
        }
        if call == Call::Refund {
            let captured = harness.post(&format!("{order_path}/capture"), CAPTURE).await;
            assert_eq!(captured.status, 200, "{}", captured.text());
        }
        let (method, path, body) = match call {
            Call::Lookup => (Method::GET, lookup, ""),
            Call::Order => (Method::GET, order_path, ""),
            Call::Report => (Method::GET, "/v2/orders/report".to_owned(), ""),
            Call::Capture => (Method::POST, format!("{order_path}/capture"), CAPTURE),
            Call::Refund => (Method::POST, format!("{order_path}/refund"), REFUND),
            Call::NewSession => (Method::POST, "/v2/session".to_owned(), SESSION),
            Call::DeleteCheckout => (Method::DELETE, format!("{order_path}/checkout"), ""),
            Call::Unknown => (Method::POST, format!("{order_path}/unheard-of"), "{}"),
        };
        let mut headers = vec![("content-type", "application/json")];
        if call == Call::Capture {
            headers.push(("sezzle-request-id", KEY));
        }
        let query = if call == Call::Report { "?start-date=2026-01-01" } else { "" };
        let before = harness.gateway.effects(&order).len();
        harness.gateway.clear_journal();
        Self { call, harness, method, path, query, headers, body, order, before }
    }

    /// Applies faults to the next requests of this call only.
    pub fn bend(&self, bends: &[(u32, Bend)]) {
        // The newest matching rule applies.
        for (times, bend) in bends.iter().rev() {
            let rule = bend(Rule::on(self.method.clone(), &self.path));
            self.harness.gateway.script(if *times == ALWAYS { rule } else { rule.times(*times) });
        }
    }

    /// Makes the call.
    pub async fn send(&self) -> Ended {
        let target = format!("{}{}", self.path, self.query);
        let Harness { client, proxy, .. } = &self.harness;
        client.try_send(*proxy, self.method.clone(), &target, &self.headers, self.body).await
    }

    /// Makes the call, and returns all that went wrong.
    pub async fn run(&self, expected: &Expected) -> Option<String> {
        let (answer, whole) = match self.send().await {
            Ended::Whole(answer) => (answer, true),
            Ended::Cut(answer) => (answer, false),
            Ended::Unanswered(error) => return Some(format!("got no answer: {error:?}")),
        };
        let attempts = self.attempts();
        let effects = attempts.iter().filter(|attempt| attempt.effect).count();
        let takes = if self.call.is_write() && self.call != Call::Unknown { expected.effects } else { 0 };
        if attempts.len() != expected.arrived || effects != takes || self.effects() != self.of_the_order(takes) {
            let text = if whole { answer.text() } else { String::new() };
            return Some(format!("{} arrived, {effects} took effect; got {} {text}", attempts.len(), answer.status));
        }
        if let Some(wrong) = self.wrong_answer(&answer, whole, expected) {
            return Some(format!("{wrong}: got {} {:?} {}", answer.status, answer.headers, answer.text()));
        }
        if let Some(wrong) = self.wrong_key(&attempts, &answer) {
            return Some(wrong);
        }
        let (counted, told) = (self.unknowns().await, f64::from(u8::from(expected.gets == super::UNKNOWN)));
        (counted != told).then(|| format!("{counted} unknown outcomes are counted"))
    }

    /// The attempts that arrived at the gateway.
    pub fn attempts(&self) -> Vec<Exchange> {
        let journal = self.harness.gateway.journal();
        journal.into_iter().filter(|call| call.method == self.method && call.path == self.path).collect()
    }

    /// How many effects on the order follow from so many effects of the call.
    fn of_the_order(&self, effects: usize) -> usize {
        if self.call == Call::NewSession { 0 } else { effects }
    }

    fn effects(&self) -> usize {
        self.harness.gateway.effects(&self.order).len() - self.before
    }

    fn wrong_answer(&self, answer: &Answer, whole: bool, expected: &Expected) -> Option<&'static str> {
        let good = self.call.good();
        let proxy_status = answer.header("proxy-status");
        let (status, told) = match expected.gets {
            Sezzle => (good, proxy_status.is_empty()),
            Short(length) => (good, proxy_status.is_empty() && answer.body.len() == length),
            Cut => (good, proxy_status.is_empty()),
            Passed(status) => (status, proxy_status.is_empty()),
            Marked(status) => {
                let start = format!("sezzle-sidecar; received-status={status}; details=\"");
                (status, proxy_status.starts_with(&start) && proxy_status.ends_with('"'))
            }
            Own(status, code) => {
                let is_own = whole && answer.status == status && answer.error_code() == format!("sidecar.{code}");
                (status, is_own && proxy_status.starts_with("sezzle-sidecar; error="))
            }
        };
        match () {
            () if answer.status != status => Some("another status"),
            () if whole == (expected.gets == Cut) => Some(if whole { "is whole" } else { "breaks off" }),
            () if !told => Some("another answer"),
            () if answer.text().contains("127.0.0.1") && status >= 400 => Some("names an address"),
            () => None,
        }
    }

    /// Checks that every attempt and the answer carry one key, or none does.
    fn wrong_key(&self, attempts: &[Exchange], answer: &Answer) -> Option<String> {
        let told = answer.header("sezzle-request-id");
        let mut keys: Vec<&str> = attempts.iter().map(|call| header(&call.headers, "sezzle-request-id")).collect();
        let lines = |call: &Exchange| call.headers.get_all("sezzle-request-id").iter().count();
        keys.push(told);
        keys.dedup();
        let right = match self.call {
            Call::Capture => keys == [KEY],
            Call::Refund => keys.len() == 1 && is_minted(told),
            _ => keys == [""],
        };
        let single = attempts.iter().all(|call| lines(call) == usize::from(self.call.is_keyed()));
        (!right || !single).then(|| format!("the keys of the attempts and of the answer are {keys:?}"))
    }

    async fn unknowns(&self) -> f64 {
        let text = self.harness.client.get(self.harness.ops, "/metrics").await.text();
        let counts = text.lines().filter(|line| line.starts_with("sezzle_sidecar_money_outcome_unknown_total{"));
        counts.map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).expect("a count")).sum()
    }

    pub async fn stop(self) {
        self.harness.stop().await;
    }
}

/// Whether a key is a random UUID in its usual form.
pub fn is_minted(key: &str) -> bool {
    Uuid::try_parse(key).is_ok_and(|uuid| {
        uuid.get_version() == Some(Version::Random)
            && uuid.get_variant() == Variant::RFC4122
            && uuid.hyphenated().to_string() == key
    })
}
