//! The calls that read an order and write to it.

use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::answer::{Answer, ApiError, CallResult, Price, object};
use super::order::{Order, Stage};
use super::{Gateway, notation};
use crate::simulator::{Effect, EffectKind, Upcharge};

impl Gateway {
    /// Reads a new order. Errors name its fields with `location` in front.
    pub(super) fn new_order(
        &mut self,
        merchant: &str,
        body: &Value,
        location: &str,
        customer: Option<&Map<String, Value>>,
    ) -> Result<Order, ApiError> {
        let field = format!("{location}order_amount");
        let amount = body.get("order_amount").ok_or_else(|| ApiError::field(&field, "An amount is required."))?;
        let amount = Price::read(amount, &field)?;
        let capture_at_once = read_intent(body, location)?;
        let mut order = Order::new(merchant, self.order_id(), amount, capture_at_once);
        let sent = DETAILS.iter().filter_map(|name| Some(((*name).to_owned(), body.get(*name)?.clone())));
        order.details.extend(sent);
        order.details.extend(customer.map(|customer| ("customer".to_owned(), customer.clone().into())));
        Ok(order)
    }

    /// An id for the next order. Every second id is no hexadecimal number, beginning with the first.
    pub(super) fn order_id(&mut self) -> String {
        self.orders_made += 1;
        if self.orders_made % 2 == 1 { notation::opaque() } else { notation::uuid() }
    }

    /// `GET /v2/order/{order}`.
    pub(super) fn get_order(&self, merchant: &str, id: &str) -> CallResult {
        let order = self.orders.find(id).filter(|order| order.merchant == merchant);
        let order = order.ok_or_else(|| ApiError::unknown("order_uuid"))?;
        let body = order.body(&self.options, &self.date(order.expiration));
        Ok(Answer::json(StatusCode::OK, &body))
    }

    /// `PATCH /v2/order/{order}`.
    pub(super) fn patch_order(&mut self, merchant: &str, id: &str, body: &[u8]) -> CallResult {
        let order = self.order(merchant, id)?;
        let reference = object(body)?.remove("reference_id").filter(Value::is_string);
        let reference = reference.ok_or_else(|| ApiError::field("reference_id", "A text is required."))?;
        order.details.insert("reference_id".to_owned(), reference);
        order.changed(EffectKind::Update, 0, None);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `PATCH /v2/order/{order}/checkout`: changes the shipping address of an express checkout.
    pub(super) fn patch_checkout(&mut self, merchant: &str, id: &str, body: &[u8]) -> CallResult {
        let done = Answer::empty_with(self.options.checkout_update_status);
        let order = self.order(merchant, id)?;
        let body = object(body).unwrap_or_default();
        if !["currency_code", "address_uuid"].iter().all(|name| body.get(*name).is_some_and(Value::is_string)) {
            return Ok(ApiError::bare());
        }
        if order.stage != Stage::Open {
            return Err(ApiError::field("order_uuid", "The checkout is not open."));
        }
        order.changed(EffectKind::UpdateCheckout, 0, None);
        Ok(done.with_effect())
    }

    /// `DELETE /v2/order/{order}/checkout`.
    pub(super) fn delete_checkout(&mut self, merchant: &str, id: &str) -> CallResult {
        let order = self.order(merchant, id)?;
        if order.stage != Stage::Open {
            return Err(ApiError::field("order_uuid", "The checkout is not open."));
        }
        order.stage = Stage::Deleted;
        order.changed(EffectKind::DeleteCheckout, 0, None);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `POST /v2/order/{order}/capture`, `/refund` and `/release`.
    pub(super) fn move_money(
        &mut self,
        merchant: &str,
        id: &str,
        kind: EffectKind,
        body: &[u8],
        key: Option<&str>,
    ) -> CallResult {
        let keeps_rest = self.options.capture_keeps_rest;
        let order = self.order(merchant, id)?;
        let body = Value::Object(object(body)?);
        let price = order.read_price(kind, &body)?;
        let movement = order.book(kind, price.cents);
        let is_last = match body.get("partial_capture") {
            Some(Value::Bool(partial)) => !partial,
            Some(_) | None => !keeps_rest,
        };
        if kind == EffectKind::Capture && is_last {
            order.release_rest();
        }
        order.changed(kind, price.cents, key.map(str::to_owned));
        self.announce_movement(id, kind, "gateway");
        Ok(Answer::json(StatusCode::OK, &json!({"uuid": movement})).with_effect())
    }

    /// Moves money by a click in Sezzle's dashboard. No caller sees such a call. `None` if there is no such order; an
    /// error if the order does not allow the movement.
    pub(in crate::simulator) fn click(
        &mut self,
        id: &str,
        kind: EffectKind,
        cents: u64,
    ) -> Option<Result<(), ApiError>> {
        let order = self.orders.find_mut(id)?;
        if let Err(error) = order.check(kind, &order.price(cents), "") {
            return Some(Err(error));
        }
        order.book(kind, cents);
        order.changed(kind, cents, None);
        self.announce_movement(id, kind, "dashboard");
        Some(Ok(()))
    }

    /// `POST /v2/order/{order}/reauthorize` and `/upcharge`. Both answer with a new order, which has the reference of
    /// the first order and which no session names. The authorization of the first order may have ended, but need not
    /// have.
    pub(super) fn renew(
        &mut self,
        merchant: &str,
        id: &str,
        kind: EffectKind,
        body: &[u8],
        key: Option<&str>,
    ) -> CallResult {
        let upcharge = self.options.upcharge;
        let order = self.order(merchant, id)?;
        let body = Value::Object(object(body)?);
        let mut amount = order.read_price(kind, &body)?;
        let cents = amount.cents;
        let is_upcharge = kind == EffectKind::Upcharge;
        let capture_at_once = is_upcharge && read_intent(&body, "")?;
        if is_upcharge && upcharge == Upcharge::Replaces {
            amount = order.with_surplus(cents);
        }
        let details = order.details.clone();
        let mut renewed = Order::new(merchant, self.order_id(), amount, capture_at_once);
        renewed.details = details;
        renewed.parent = (is_upcharge && upcharge == Upcharge::Separate).then(|| id.to_owned());
        let new = renewed.id.clone();
        let answer = self.authorize_new(renewed);
        // A refused authorization leaves the first order as it was.
        if answer.effect {
            let order = self.order(merchant, id)?;
            match (is_upcharge, upcharge) {
                (true, Upcharge::Separate) => order.upcharged(new, cents),
                (true, Upcharge::Replaces) => order.release_rest(),
                (false, _) => {}
            }
            order.changed(kind, cents, key.map(str::to_owned));
        }
        Ok(answer)
    }

    /// Lets the shopper refuse the checkout. No webhook reports that. `false` without such an open checkout.
    pub(in crate::simulator) fn deny_checkout(&mut self, id: &str) -> bool {
        let Some(order) = self.orders.find_mut(id).filter(|order| order.stage == Stage::Open) else { return false };
        order.deny();
        true
    }

    /// Lets the shopper finish the checkout. `false` without such an open checkout.
    pub(in crate::simulator) fn complete_checkout(&mut self, id: &str) -> bool {
        let end = self.authorization_end();
        let Some(order) = self.orders.find_mut(id).filter(|order| order.stage == Stage::Open) else { return false };
        order.expiration = end;
        order.authorize();
        self.announce_authorized(id);
        true
    }

    /// Stores an order that needs no checkout, approved or not, and returns it.
    pub(super) fn authorize_new(&mut self, mut order: Order) -> Answer {
        order.expiration = self.authorization_end();
        if self.options.approving {
            order.authorize();
        } else {
            order.stage = Stage::Declined;
        }
        let body = order.body(&self.options, &self.date(order.expiration));
        let id = order.id.clone();
        self.orders.put(id.clone(), order);
        if self.options.approving {
            self.announce_authorized(&id);
        }
        Answer { effect: self.options.approving, ..Answer::json(StatusCode::OK, &body) }
    }

    /// The end of an authorization that is given now.
    fn authorization_end(&self) -> OffsetDateTime {
        notation::later(OffsetDateTime::now_utc(), self.options.authorization_life)
    }

    pub(in crate::simulator) fn effects(&self, id: &str) -> Option<Vec<Effect>> {
        self.orders.find(id).map(|order| order.effects.clone())
    }

    fn order(&mut self, merchant: &str, id: &str) -> Result<&mut Order, ApiError> {
        let order = self.orders.find_mut(id).filter(|order| order.merchant == merchant);
        order.ok_or_else(|| ApiError::unknown("order_uuid"))
    }
}

/// Whether the intent is to capture at once, which is the default.
fn read_intent(body: &Value, location: &str) -> Result<bool, ApiError> {
    match body.get("intent").map(Value::as_str) {
        None | Some(Some("CAPTURE")) => Ok(true),
        Some(Some("AUTH")) => Ok(false),
        Some(_) => Err(ApiError::field(&format!("{location}intent"), "The intent is AUTH or CAPTURE.")),
    }
}

const DETAILS: [&str; 3] = ["reference_id", "description", "metadata"];
