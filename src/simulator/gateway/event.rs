//! Events: what the gateway tells its merchants by webhook, and whom it tells.

use std::mem;

use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;

use crate::simulator::gateway::Gateway;
use crate::simulator::gateway::wording;

/// A webhook on its way to one URL.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Parcel {
    /// The subscription it is sent for; without one it is sent once and never retried.
    pub(in crate::simulator) subscription: Option<String>,
    pub(in crate::simulator) event: String,
    pub(in crate::simulator) url: String,
    pub(in crate::simulator) body: Bytes,
}

impl Gateway {
    /// Raises any event for the current merchant, known or not, and answers how many subscriptions list it.
    pub(in crate::simulator) fn raise(&mut self, event: &str, data: &Value) -> usize {
        let merchant = self.options.merchant_uuid.clone();
        let before = self.outbox.len();
        self.announce(&merchant, event, data);
        self.outbox.len() - before
    }

    /// Takes out what is to be delivered.
    pub(in crate::simulator) fn outbox(&mut self) -> Vec<Parcel> {
        mem::take(&mut self.outbox)
    }

    /// Tells every subscription of the merchant that lists the event.
    pub(super) fn announce(&mut self, merchant: &str, event: &str, data: &Value) {
        let body = self.event_body(event, data);
        let listed = self
            .webhooks
            .iter()
            .filter(|(_, webhook)| webhook.merchant == merchant && webhook.events.iter().any(|listed| listed == event));
        self.outbox.extend(listed.map(|(id, webhook)| Parcel {
            subscription: Some(id.clone()),
            event: event.to_owned(),
            url: webhook.url.clone(),
            body: body.clone(),
        }));
    }

    /// Tells one URL, whoever has subscribed to what.
    pub(super) fn announce_to(&mut self, url: String, event: &str, data: &Value) {
        let body = self.event_body(event, data);
        self.outbox.push(Parcel { subscription: None, event: event.to_owned(), url, body });
    }

    /// Tells what has become of an order.
    pub(super) fn announce_order(&mut self, id: &str, event: &str) {
        let Some(order) = self.orders.find(id) else { return };
        let merchant = order.merchant.clone();
        let order = order.body(&self.options.link_base, &self.date(order.expiration));
        let data = json!({"uuid": id, "authorization": order.get("authorization")});
        self.announce(&merchant, event, &data);
    }

    /// Tells that an order was authorized, and captured if that was its intent.
    pub(super) fn announce_authorized(&mut self, id: &str) {
        self.announce_order(id, "order.authorized");
        if self.orders.find(id).is_some_and(|order| order.capture_at_once) {
            self.announce_order(id, "order.captured");
        }
    }

    fn event_body(&self, event: &str, data: &Value) -> Bytes {
        let created = wording::rfc3339(self.stated(OffsetDateTime::now_utc()), 6);
        let data_type = data_type(event);
        let body = json!({
            "uuid": wording::uuid(),
            "created_at": created,
            "event": event,
            "data_type": data_type,
            "data": data,
        });
        body.to_string().into()
    }
}

/// The data of a test event.
pub(super) fn example(event: &str) -> Value {
    match data_type(event) {
        "tokenize" => json!({"token": wording::uuid(), "customer": {"uuid": wording::uuid()}}),
        "dispute" => json!({"uuid": wording::uuid(), "order_uuid": wording::opaque()}),
        _ => json!({"uuid": wording::opaque()}),
    }
}

/// The kind of an event's data: in Sezzle's examples the first part of its name, but for the tokenized customer.
fn data_type(event: &str) -> &str {
    match event.split_once('.').map_or(event, |(kind, _)| kind) {
        "customer" => "tokenize",
        kind => kind,
    }
}
