//! An order, the part of a session that money moves on: its sums, its stages and how it is shown.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;

use crate::simulator::Effect;
use crate::simulator::EffectKind;
use crate::simulator::gateway::answer::Price;
use crate::simulator::gateway::answer::Refusal;
use crate::simulator::gateway::wording;
use crate::simulator::gateway::wording::link;

#[derive(Debug)]
pub(super) struct Order {
    pub(super) merchant: String,
    pub(super) id: String,
    amount: Price,
    pub(super) capture_at_once: bool,
    pub(super) stage: Stage,
    /// When the authorization ends; without meaning before there is one.
    pub(super) expiration: OffsetDateTime,
    /// `reference_id`, `description`, `metadata` and `customer`, as they were sent.
    pub(super) details: Map<String, Value>,
    /// Every movement of money, whoever caused it.
    movements: Vec<Movement>,
    /// Every write that was called for.
    pub(super) effects: Vec<Effect>,
    /// Grows with every change, so that any two states of an order can be told apart.
    revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Authorized,
    /// The authorization was not approved.
    Declined,
    Deleted,
}

#[derive(Debug)]
struct Movement {
    kind: EffectKind,
    id: String,
    cents: u64,
}

impl Order {
    /// An order whose checkout is open.
    pub(super) fn new(merchant: &str, id: String, amount: Price, capture_at_once: bool) -> Self {
        Self {
            merchant: merchant.to_owned(),
            id,
            amount,
            capture_at_once,
            stage: Stage::Open,
            expiration: OffsetDateTime::UNIX_EPOCH,
            details: Map::new(),
            movements: Vec::new(),
            effects: Vec::new(),
            revision: 1,
        }
    }

    /// The order as its session shows it. The last five fields are the simulator's own: tests see by them what has changed.
    pub(super) fn in_session(&self, base: &str) -> Map<String, Value> {
        let path = format!("order/{}", self.id);
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("uuid", json!(self.id));
        put("intent", json!(if self.capture_at_once { "CAPTURE" } else { "AUTH" }));
        put("checkout_url", json!(format!("https://checkout.sezzle.com/?id={}", self.id)));
        let mut links = vec![link(base, &path, "GET", "self"), link(base, &path, "PATCH", "self")];
        links.extend(["release", "capture", "refund"].map(|rel| link(base, &format!("{path}/{rel}"), "POST", rel)));
        put("links", links.into());
        put("status", json!(self.status()));
        put("captured_amount_in_cents", json!(self.sum(EffectKind::Capture)));
        put("refunded_amount_in_cents", json!(self.sum(EffectKind::Refund)));
        put("released_amount_in_cents", json!(self.sum(EffectKind::Release)));
        put("revision", json!(self.revision));
        body
    }

    pub(super) fn body(&self, base: &str, expiration: &str) -> Value {
        let mut body = self.in_session(base);
        body.extend(self.details.clone());
        body.insert("order_amount".to_owned(), self.amount.to_json());
        if matches!(self.stage, Stage::Authorized | Stage::Declined) {
            let authorization = json!({
                "authorization_amount": self.amount.to_json(),
                "approved": self.stage == Stage::Authorized,
                "expiration": expiration,
                "captures": self.listed(EffectKind::Capture),
                "refunds": self.listed(EffectKind::Refund),
                "releases": self.listed(EffectKind::Release),
            });
            body.insert("authorization".to_owned(), authorization);
        }
        body.into()
    }

    fn listed(&self, kind: EffectKind) -> Vec<Value> {
        let amount = |cents| Price { cents, ..self.amount.clone() }.to_json();
        let movements = self.movements.iter().filter(|movement| movement.kind == kind);
        movements.map(|movement| json!({"uuid": movement.id, "amount": amount(movement.cents)})).collect()
    }

    fn status(&self) -> &'static str {
        match self.stage {
            Stage::Open => "created",
            Stage::Declined => "declined",
            Stage::Deleted => "deleted",
            Stage::Authorized if self.sum(EffectKind::Refund) > 0 => "refunded",
            Stage::Authorized if self.sum(EffectKind::Capture) > 0 => "captured",
            Stage::Authorized if self.sum(EffectKind::Release) > 0 => "released",
            Stage::Authorized => "authorized",
        }
    }

    pub(super) fn authorize(&mut self) {
        self.stage = Stage::Authorized;
        self.revision += 1;
        if self.capture_at_once {
            self.book(EffectKind::Capture, self.amount.cents);
        }
    }

    /// Reads how much money a call is about, and checks it against what the order lets it move.
    pub(super) fn read_price(&self, kind: EffectKind, body: &Value) -> Result<Price, Refusal> {
        let field = match kind {
            EffectKind::Capture => "capture_amount",
            EffectKind::Upcharge => "upcharge_amount",
            _ => "",
        };
        let value = if field.is_empty() { body } else { body.get(field).unwrap_or(&Value::Null) };
        let price = Price::read(value, field)?;
        self.check(kind, &price, field)?;
        Ok(price)
    }

    fn check(&self, kind: EffectKind, price: &Price, location: &str) -> Result<(), Refusal> {
        let below = |name: &str| if location.is_empty() { name.to_owned() } else { format!("{location}.{name}") };
        if self.stage != Stage::Authorized {
            return Err(Refusal::field("order_uuid", "The order is not authorized."));
        }
        let needs_life = matches!(kind, EffectKind::Capture | EffectKind::Release);
        if needs_life && self.expiration <= OffsetDateTime::now_utc() {
            return Err(Refusal::field("order_uuid", "The authorization has run out."));
        }
        if price.currency != self.amount.currency {
            return Err(Refusal::field(&below("currency"), "The order is in another currency."));
        }
        if price.cents > self.room(kind) {
            return Err(Refusal::field(&below("amount_in_cents"), "This is more than is left."));
        }
        Ok(())
    }

    /// How many cents may still be asked for in this way.
    pub(super) fn room(&self, kind: EffectKind) -> u64 {
        let captured = self.sum(EffectKind::Capture);
        match kind {
            EffectKind::Update | EffectKind::UpdateCheckout | EffectKind::DeleteCheckout => 0,
            EffectKind::Reauthorize => self.amount.cents,
            EffectKind::Upcharge => u64::MAX,
            EffectKind::Refund => captured.saturating_sub(self.sum(EffectKind::Refund)),
            EffectKind::Capture | EffectKind::Release => {
                self.amount.cents.saturating_sub(captured).saturating_sub(self.sum(EffectKind::Release))
            }
        }
    }

    fn sum(&self, kind: EffectKind) -> u64 {
        self.movements.iter().filter(|movement| movement.kind == kind).map(|movement| movement.cents).sum()
    }

    /// Notes a movement of money and answers its id.
    pub(super) fn book(&mut self, kind: EffectKind, cents: u64) -> String {
        let id = wording::uuid();
        self.movements.push(Movement { kind, id: id.clone(), cents });
        id
    }

    pub(super) fn changed(&mut self, kind: EffectKind, cents: u64, key: Option<String>) {
        self.revision += 1;
        self.effects.push(Effect { kind, cents, key });
    }
}
