//! Events: their data, and the subscriptions that get them by webhook.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::answer::Price;
use super::records::WebhookJob;
use super::{Gateway, notation};
use crate::simulator::{EffectKind, TokenizedType};

impl Gateway {
    /// Raises an event for the current merchant, whether Sezzle has such an event or not. Returns how many
    /// subscriptions list the event.
    pub(in crate::simulator) fn raise(&mut self, event: &str, data: &Value) -> usize {
        let merchant = self.options.merchant_uuid.clone();
        let before = self.outbox.len();
        self.announce(&merchant, event, data);
        self.outbox.len() - before
    }

    /// Takes the webhooks that are to be delivered.
    pub(in crate::simulator) fn take_outbox(&mut self) -> Vec<WebhookJob> {
        mem::take(&mut self.outbox)
    }

    /// Sends the event to every subscription of the merchant that lists it.
    pub(super) fn announce(&mut self, merchant: &str, event: &str, data: &Value) {
        let body = self.event_body(event, data);
        let listed = self
            .webhooks
            .iter()
            .filter(|(_, webhook)| webhook.merchant == merchant && webhook.events.iter().any(|listed| listed == event));
        self.outbox.extend(listed.map(|(id, webhook)| WebhookJob {
            subscription: Some(id.clone()),
            event: event.to_owned(),
            url: webhook.url.clone(),
            body: body.clone(),
        }));
    }

    /// Sends the event to one URL, whatever the subscriptions list.
    pub(super) fn announce_to(&mut self, url: String, event: &str, data: &Value) {
        let body = self.event_body(event, data);
        self.outbox.push(WebhookJob { subscription: None, event: event.to_owned(), url, body });
    }

    /// Reports that money was captured or refunded. `source` says where the request came from.
    pub(super) fn announce_movement(&mut self, id: &str, kind: EffectKind, source: &str) {
        match kind {
            EffectKind::Capture => self.announce_order(id, "order.captured", Some(source)),
            EffectKind::Refund => self.announce_order(id, "order.refunded", Some(source)),
            _ => {}
        }
    }

    /// Reports that an order was authorized, and captured if that was its intent.
    pub(super) fn announce_authorized(&mut self, id: &str) {
        self.announce_order(id, "order.authorized", None);
        if self.orders.find(id).is_some_and(|order| order.capture_at_once) {
            self.announce_movement(id, EffectKind::Capture, "gateway");
        }
    }

    fn announce_order(&mut self, id: &str, event: &str, source: Option<&str>) {
        let Some(order) = self.orders.find(id) else { return };
        let merchant = order.merchant.clone();
        let order = order.body(&self.options, &self.date(order.expiration));
        let mut data = Map::from_iter([("uuid".to_owned(), json!(id))]);
        data.extend(
            order.get("authorization").map(|authorization| ("authorization".to_owned(), authorization.clone())),
        );
        data.extend(source.map(|source| ("source".to_owned(), json!(source))));
        self.announce(&merchant, event, &data.into());
    }

    /// Lets a shopper dispute an order, or lets the dispute go on. `false` if there is no such order.
    pub(in crate::simulator) fn dispute(&mut self, id: &str, event: &str) -> bool {
        let Some(order) = self.orders.find(id) else { return false };
        let (merchant, price) = (order.merchant.clone(), order.price(order.room(EffectKind::Refund)));
        let reference = order.details.get("reference_id").and_then(Value::as_str).unwrap_or_default();
        let data = self.dispute_data(id, reference, &price, event);
        self.announce(&merchant, event, &data);
        true
    }

    /// The data of a test event.
    pub(super) fn example(&self, event: &str) -> Value {
        let now = OffsetDateTime::now_utc();
        match event.split_once('.').map_or(event, |(kind, _)| kind) {
            "customer" => json!({
                "token": notation::uuid(),
                "expiration": self.date(notation::later(now, self.options.tokenize_life)),
                "customer": {"uuid": notation::uuid()},
            }),
            "dispute" => {
                let price = Price { cents: 10_000, currency: "USD".to_owned() };
                self.dispute_data(&notation::opaque(), "test", &price, event)
            }
            _ if ["order.captured", "order.refunded"].contains(&event) => {
                json!({"uuid": notation::opaque(), "source": "gateway"})
            }
            _ => json!({"uuid": notation::opaque()}),
        }
    }

    fn dispute_data(&self, order: &str, reference: &str, price: &Price, event: &str) -> Value {
        let due = notation::later(OffsetDateTime::now_utc(), DISPUTE_LIFE);
        json!({
            "dispute_id": notation::uuid(),
            "order_uuid": order,
            "order_reference_id": reference,
            "dispute_type": "item_not_received",
            "dispute_status": event.strip_prefix("dispute.").unwrap_or(event),
            "dispute_amount_in_cents": price.cents,
            "dispute_currency": price.currency,
            "dispute_due_date": self.date(due),
        })
    }

    fn event_body(&self, event: &str, data: &Value) -> Bytes {
        let created = notation::rfc3339(self.stated(OffsetDateTime::now_utc()), 6);
        let data_type = match event.split_once('.').map_or(event, |(kind, _)| kind) {
            "customer" if self.options.tokenized_data_type == TokenizedType::Tokenize => "tokenize",
            kind => kind,
        };
        let body = json!({
            "uuid": notation::uuid(),
            "created_at": created,
            "event": event,
            "data_type": data_type,
            "data": data,
        });
        body.to_string().into()
    }
}

/// How long a merchant has to answer. Sezzle does not publish this time.
const DISPUTE_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
