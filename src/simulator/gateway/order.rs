//! An order, the part of a session that moves money: its sums, its stages and its JSON.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::answer::{ApiError, Price};
use super::{links, notation};
use crate::simulator::{CheckoutStatus, Effect, EffectKind, Links, Options};

#[derive(Debug)]
pub(super) struct Order {
    pub(super) merchant: String,
    pub(super) id: String,
    amount: Price,
    pub(super) capture_at_once: bool,
    pub(super) stage: Stage,
    /// When the authorization ends; without meaning before the order is authorized.
    pub(super) expiration: OffsetDateTime,
    /// `reference_id`, `description`, `metadata` and `customer`, as the merchant sent them.
    pub(super) details: Map<String, Value>,
    /// Every movement of money, by the merchant or by the gateway.
    movements: Vec<Movement>,
    /// The order that this order is an upcharge of.
    pub(super) parent: Option<String>,
    /// The orders that are upcharges of this order, each with its cents.
    upcharges: Vec<(String, u64)>,
    /// Every write to the order.
    pub(super) effects: Vec<Effect>,
    /// A number that grows with every change, so that tests can tell two states of an order apart.
    revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Authorized,
    /// The authorization was not approved.
    Declined,
    /// The shopper refused the checkout.
    Denied,
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
            parent: None,
            upcharges: Vec::new(),
            effects: Vec::new(),
            revision: 1,
        }
    }

    /// The order as its session shows it. The last five fields are the simulator's own: they show tests each change.
    pub(super) fn in_session(&self, options: &Options) -> Map<String, Value> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("uuid", json!(self.id));
        put("intent", json!(if self.capture_at_once { "CAPTURE" } else { "AUTH" }));
        put("checkout_url", json!(format!("https://checkout.sezzle.com/?id={}", self.id)));
        put("links", self.links(options));
        put("status", json!(self.status()));
        put("captured_amount_in_cents", json!(self.sum(EffectKind::Capture)));
        put("refunded_amount_in_cents", json!(self.sum(EffectKind::Refund)));
        put("released_amount_in_cents", json!(self.sum(EffectKind::Release)));
        put("revision", json!(self.revision));
        body
    }

    fn links(&self, options: &Options) -> Value {
        let below = |name: &str| format!("order/{}{name}", self.id);
        let (own, checkout) = (below(""), below("/checkout"));
        let [release, capture, refund] = ["/release", "/capture", "/refund"].map(below);
        let mut links = vec![
            (own.as_str(), "GET", "self"),
            (&own, "PATCH", "self"),
            (&release, "POST", "release"),
            (&capture, "POST", "capture"),
            (&refund, "POST", "refund"),
        ];
        if options.links != Links::WithoutCheckout {
            links.push((&checkout, "DELETE", "checkout"));
        }
        links::list(options, &links)
    }

    /// The order as `GET /v2/order/{order}` shows it. `expiration` is the end of the authorization.
    pub(super) fn body(&self, options: &Options, expiration: &str) -> Value {
        let mut body = self.in_session(options);
        body.extend(self.details.clone());
        body.insert("order_amount".to_owned(), self.amount.to_json());
        if options.checkout_status != CheckoutStatus::Absent {
            body.insert("checkout_status".to_owned(), self.checkout_status(options.checkout_status).into());
        }
        if let Some(parent) = &self.parent {
            body.insert("is_upcharge".to_owned(), true.into());
            body.insert("parent_order_uuid".to_owned(), parent.as_str().into());
        }
        if !self.upcharges.is_empty() {
            let one = |(id, cents): &(String, u64)| json!({"uuid": id, "amount": self.price(*cents).to_json()});
            body.insert("upcharges".to_owned(), self.upcharges.iter().map(one).collect());
        }
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
        let movements = self.movements.iter().filter(|movement| movement.kind == kind);
        movements.map(|movement| json!({"uuid": movement.id, "amount": self.price(movement.cents).to_json()})).collect()
    }

    /// An amount in the order's currency.
    pub(super) fn price(&self, cents: u64) -> Price {
        Price { cents, ..self.amount.clone() }
    }

    /// The sum of the order, with some cents more.
    pub(super) fn with_surplus(&self, cents: u64) -> Price {
        self.price(self.amount.cents.saturating_add(cents))
    }

    fn checkout_status(&self, finished: CheckoutStatus) -> &'static str {
        match (self.stage, finished) {
            (Stage::Open, _) => "active",
            (Stage::Denied, _) => "denied",
            (Stage::Deleted, _) => "deleted",
            (Stage::Authorized | Stage::Declined, CheckoutStatus::Completed) => "completed",
            (Stage::Authorized | Stage::Declined, _) => "complete",
        }
    }

    fn status(&self) -> &'static str {
        match self.stage {
            Stage::Open => "created",
            Stage::Declined => "declined",
            Stage::Denied => "denied",
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

    /// Notes that the order was upcharged by another one.
    pub(super) fn upcharged(&mut self, id: String, cents: u64) {
        self.upcharges.push((id, cents));
    }

    /// Reads the amount of a call, and checks whether the order allows to move so much.
    pub(super) fn read_price(&self, kind: EffectKind, body: &Value) -> Result<Price, ApiError> {
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

    /// Checks whether the order allows to move this amount. Errors name the field below `location`.
    pub(super) fn check(&self, kind: EffectKind, price: &Price, location: &str) -> Result<(), ApiError> {
        let below = |name: &str| if location.is_empty() { name.to_owned() } else { format!("{location}.{name}") };
        if self.stage != Stage::Authorized {
            return Err(ApiError::field("order_uuid", "The order is not authorized."));
        }
        let needs_life = matches!(kind, EffectKind::Capture | EffectKind::Release);
        if needs_life && self.expiration <= OffsetDateTime::now_utc() {
            return Err(ApiError::field("order_uuid", "The authorization has run out."));
        }
        if price.currency != self.amount.currency {
            return Err(ApiError::field(&below("currency"), "The order is in another currency."));
        }
        if price.cents > self.room(kind) {
            return Err(ApiError::field(&below("amount_in_cents"), "This is more than is left."));
        }
        Ok(())
    }

    /// How many cents a call of this kind may still move.
    pub(super) fn room(&self, kind: EffectKind) -> u64 {
        let captured = self.sum(EffectKind::Capture);
        match kind {
            EffectKind::Update | EffectKind::UpdateCheckout | EffectKind::DeleteCheckout => 0,
            EffectKind::Reauthorize => self.amount.cents,
            EffectKind::Upcharge => {
                let used: u64 = self.upcharges.iter().map(|(_, cents)| cents).sum();
                (self.amount.cents * UPCHARGE_PERCENT / 100).saturating_sub(used)
            }
            EffectKind::Refund => captured.saturating_sub(self.sum(EffectKind::Refund)),
            EffectKind::Capture | EffectKind::Release => {
                self.amount.cents.saturating_sub(captured).saturating_sub(self.sum(EffectKind::Release))
            }
        }
    }

    fn sum(&self, kind: EffectKind) -> u64 {
        self.movements.iter().filter(|movement| movement.kind == kind).map(|movement| movement.cents).sum()
    }

    /// Releases the part that is neither captured nor released.
    pub(super) fn release_rest(&mut self) {
        let rest = self.room(EffectKind::Release);
        if rest > 0 {
            self.book(EffectKind::Release, rest);
        }
    }

    pub(super) fn deny(&mut self) {
        self.stage = Stage::Denied;
        self.revision += 1;
    }

    /// Notes a movement of money, and returns its id.
    pub(super) fn book(&mut self, kind: EffectKind, cents: u64) -> String {
        let id = notation::uuid();
        self.movements.push(Movement { kind, id: id.clone(), cents });
        id
    }

    /// Notes a write to the order.
    pub(super) fn changed(&mut self, kind: EffectKind, cents: u64, key: Option<String>) {
        self.revision += 1;
        self.effects.push(Effect { kind, cents, key });
    }
}

/// The largest sum of all upcharges of an order, in percent of the order.
const UPCHARGE_PERCENT: u64 = 15;
