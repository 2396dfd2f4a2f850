//! Orders: the part of a session that money moves on.

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use time::Duration;
use time::OffsetDateTime;

use crate::simulator::Effect;
use crate::simulator::EffectKind;
use crate::simulator::gateway::Gateway;
use crate::simulator::gateway::answer::Answer;
use crate::simulator::gateway::answer::Outcome;
use crate::simulator::gateway::answer::Price;
use crate::simulator::gateway::answer::Refusal;
use crate::simulator::gateway::answer::object;
use crate::simulator::gateway::wording;
use crate::simulator::gateway::wording::link;

#[derive(Debug)]
pub(super) struct Order {
    merchant: String,
    id: String,
    amount: Price,
    capture_at_once: bool,
    stage: Stage,
    expiration: OffsetDateTime,
    /// `reference_id`, `description`, `metadata` and `customer`, as they were sent.
    details: Map<String, Value>,
    /// Every movement of money, whoever caused it.
    movements: Vec<Movement>,
    /// Every write that was called for.
    effects: Vec<Effect>,
    /// Grows with every change, so that any two states of an order can be told apart.
    revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
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

impl Gateway {
    /// Reads a new order, whose fields are named with `location` in front.
    pub(super) fn new_order(
        &mut self,
        merchant: &str,
        body: &Value,
        location: &str,
        customer: Option<&Map<String, Value>>,
    ) -> Result<Order, Refusal> {
        let field = format!("{location}order_amount");
        let amount = body.get("order_amount").ok_or_else(|| Refusal::field(&field, "An amount is required."))?;
        let amount = Price::read(amount, &field)?;
        let capture_at_once = match body.get("intent").map(Value::as_str) {
            None | Some(Some("CAPTURE")) => true,
            Some(Some("AUTH")) => false,
            Some(_) => return Err(Refusal::field(&format!("{location}intent"), "The intent is AUTH or CAPTURE.")),
        };
        let mut order = Order { amount, capture_at_once, ..Order::sample(merchant, self.order_id()) };
        let sent = DETAILS.iter().filter_map(|name| Some(((*name).to_owned(), body.get(*name)?.clone())));
        order.details.extend(sent);
        order.details.extend(customer.map(|customer| ("customer".to_owned(), customer.clone().into())));
        Ok(order)
    }

    /// An id for the next order: every other one is no hexadecimal number, beginning with the first.
    pub(super) fn order_id(&mut self) -> String {
        self.orders_made += 1;
        if self.orders_made % 2 == 1 { wording::opaque() } else { wording::uuid() }
    }

    /// `GET /v2/order/{order}`.
    pub(super) fn get_order(&mut self, merchant: &str, id: &str) -> Outcome {
        let order = self.order(merchant, id)?;
        let expiration = order.expiration;
        let date = self.date(expiration);
        let base = self.options.link_base.clone();
        Ok(Answer::json(StatusCode::OK, &self.order(merchant, id)?.body(&base, &date)))
    }

    /// `PATCH /v2/order/{order}`.
    pub(super) fn patch_order(&mut self, merchant: &str, id: &str, body: &[u8]) -> Outcome {
        let order = self.order(merchant, id)?;
        let reference = object(body)?.remove("reference_id").filter(Value::is_string);
        let reference = reference.ok_or_else(|| Refusal::field("reference_id", "A text is required."))?;
        order.details.insert("reference_id".to_owned(), reference);
        order.changed(EffectKind::Update, 0, None);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `DELETE /v2/order/{order}/checkout`.
    pub(super) fn delete_checkout(&mut self, merchant: &str, id: &str) -> Outcome {
        let order = self.order(merchant, id)?;
        if order.stage != Stage::Open {
            return Err(Refusal::field("order_uuid", "The checkout is not open."));
        }
        order.stage = Stage::Deleted;
        order.changed(EffectKind::DeleteCheckout, 0, None);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `POST /v2/order/{order}/capture`, `/refund` and `/release`.
    pub(super) fn move_money(&mut self, merchant: &str, id: &str, kind: EffectKind, body: &[u8], key: Option<&str>) -> Outcome {
        let order = self.order(merchant, id)?;
        let body = Value::Object(object(body)?);
        let (price, location) = match kind {
            EffectKind::Capture => (body.get("capture_amount").unwrap_or(&Value::Null), "capture_amount"),
            _ => (&body, ""),
        };
        let price = Price::read(price, location)?;
        order.check(kind, &price, location)?;
        let movement = order.book(kind, price.cents);
        // A capture that is not called partial is the last one: the rest of the authorization is let go.
        if kind == EffectKind::Capture && body.get("partial_capture") != Some(&Value::Bool(true)) {
            let rest = order.room(EffectKind::Release);
            if rest > 0 {
                order.book(EffectKind::Release, rest);
            }
        }
        order.changed(kind, price.cents, key.map(str::to_owned));
        Ok(Answer::json(StatusCode::OK, &json!({"uuid": movement})).with_effect())
    }

    pub(in crate::simulator) fn complete_checkout(&mut self, id: &str) -> bool {
        let Some(order) = self.orders.find_mut(id).filter(|order| order.stage == Stage::Open) else { return false };
        order.authorize();
        true
    }

    /// Keeps an order that comes into being without a checkout, approved or not, and answers with it.
    pub(super) fn authorize_new(&mut self, mut order: Order) -> Answer {
        if self.approving {
            order.authorize();
        } else {
            order.stage = Stage::Declined;
        }
        let body = order.body(&self.options.link_base, &self.date(order.expiration));
        self.orders.put(order.id.clone(), order);
        Answer { effect: self.approving, ..Answer::json(StatusCode::OK, &body) }
    }

    pub(in crate::simulator) fn effects(&self, id: &str) -> Vec<Effect> {
        self.orders.find(id).map(|order| order.effects.clone()).unwrap_or_default()
    }

    fn order(&mut self, merchant: &str, id: &str) -> Result<&mut Order, Refusal> {
        let order = self.orders.find_mut(id).filter(|order| order.merchant == merchant);
        order.ok_or_else(|| Refusal::unknown("order_uuid"))
    }
}

impl Order {
    /// An open order over 100.00 USD with intent `AUTH`.
    pub(super) fn sample(merchant: &str, id: String) -> Self {
        Self {
            merchant: merchant.to_owned(),
            id,
            amount: Price { cents: 10_000, currency: "USD".to_owned() },
            capture_at_once: false,
            stage: Stage::Open,
            expiration: OffsetDateTime::now_utc().saturating_add(AUTHORIZATION_LIFE),
            details: Map::new(),
            movements: Vec::new(),
            effects: Vec::new(),
            revision: 1,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
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

    fn body(&self, base: &str, expiration: &str) -> Value {
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

    fn authorize(&mut self) {
        self.stage = Stage::Authorized;
        self.revision += 1;
        if self.capture_at_once {
            self.book(EffectKind::Capture, self.amount.cents);
        }
    }

    fn check(&self, kind: EffectKind, price: &Price, location: &str) -> Result<(), Refusal> {
        let below = |name: &str| if location.is_empty() { name.to_owned() } else { format!("{location}.{name}") };
        if self.stage != Stage::Authorized {
            return Err(Refusal::field("order_uuid", "The order is not authorized."));
        }
        if price.currency != self.amount.currency {
            return Err(Refusal::field(&below("currency"), "The order is in another currency."));
        }
        if price.cents > self.room(kind) {
            return Err(Refusal::field(&below("amount_in_cents"), "This is more than is left."));
        }
        Ok(())
    }

    /// How many cents may still be moved in this way.
    fn room(&self, kind: EffectKind) -> u64 {
        let captured = self.sum(EffectKind::Capture);
        match kind {
            EffectKind::Refund => captured.saturating_sub(self.sum(EffectKind::Refund)),
            _ => self.amount.cents.saturating_sub(captured).saturating_sub(self.sum(EffectKind::Release)),
        }
    }

    fn sum(&self, kind: EffectKind) -> u64 {
        self.movements.iter().filter(|movement| movement.kind == kind).map(|movement| movement.cents).sum()
    }

    /// Notes a movement of money and answers its id.
    fn book(&mut self, kind: EffectKind, cents: u64) -> String {
        let id = wording::uuid();
        self.movements.push(Movement { kind, id: id.clone(), cents });
        id
    }

    fn changed(&mut self, kind: EffectKind, cents: u64, key: Option<String>) {
        self.revision += 1;
        self.effects.push(Effect { kind, cents, key });
    }
}

const DETAILS: [&str; 3] = ["reference_id", "description", "metadata"];
/// An authorization's life at Sezzle is set per merchant; a week is the longest its documents mention.
const AUTHORIZATION_LIFE: Duration = Duration::days(7);
