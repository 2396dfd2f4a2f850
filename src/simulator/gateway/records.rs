//! The records that the gateway keeps.

use bytes::Bytes;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::Instant;

/// A bearer token's merchant and end.
#[derive(Debug)]
pub(super) struct Bearer {
    pub(super) merchant: String,
    /// `None` if the end is too far away for the clock.
    pub(super) ends: Option<Instant>,
}

/// The pair of keys before the current one.
#[derive(Debug)]
pub(super) struct PreviousKeys {
    pub(super) public: String,
    pub(super) private: String,
    /// `None` if the end is too far away for the clock.
    pub(super) ends: Option<Instant>,
}

impl PreviousKeys {
    pub(super) fn live(&self) -> bool {
        self.ends.is_none_or(|ends| Instant::now() < ends)
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) merchant: String,
    pub(super) order: Option<String>,
    pub(super) tokenize: Option<Tokenize>,
    pub(super) card: Option<Card>,
}

#[derive(Debug)]
pub(super) struct Tokenize {
    pub(super) token: String,
    pub(super) expiration: OffsetDateTime,
    pub(super) approval: String,
    /// The shopper's data from the request.
    pub(super) details: Map<String, Value>,
    pub(super) decision: Option<Decision>,
}

/// The shopper's decision, which uses up the token.
#[derive(Debug)]
pub(super) enum Decision {
    /// The shopper agreed, and became this customer.
    Accepted(String),
    Denied,
}

impl Tokenize {
    /// The customer that the shopper has become, if the shopper has agreed.
    pub(super) fn customer(&self) -> Option<&String> {
        match &self.decision {
            Some(Decision::Accepted(customer)) => Some(customer),
            Some(Decision::Denied) | None => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Card {
    /// Whether the card data comes by a token. If not, it goes straight to the shopper's browser.
    pub(super) by_token: bool,
    pub(super) finished: bool,
    pub(super) first_name: String,
    pub(super) last_name: String,
    /// The merchant's own name for the order, once the merchant has sent it.
    pub(super) order_id: Option<String>,
}

/// The card data that a token leads to. It can be read once.
#[derive(Debug)]
pub(super) struct CardData {
    pub(super) merchant: String,
    pub(super) first_name: String,
    pub(super) last_name: String,
    /// `None` if the end is too far away for the clock.
    pub(super) ends: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Customer {
    pub(super) merchant: String,
    pub(super) expiration: OffsetDateTime,
    /// The shopper's data from the session.
    pub(super) details: Map<String, Value>,
}

#[derive(Debug)]
pub(super) struct Webhook {
    pub(super) merchant: String,
    pub(super) url: String,
    pub(super) events: Vec<Value>,
}

/// A webhook on its way to one URL.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct WebhookJob {
    /// The subscription of the webhook. A webhook without a subscription is sent once and never retried.
    pub(in crate::simulator) subscription: Option<String>,
    pub(in crate::simulator) event: String,
    pub(in crate::simulator) url: String,
    pub(in crate::simulator) body: Bytes,
}
