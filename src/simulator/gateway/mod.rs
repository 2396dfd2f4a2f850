//! The gateway itself: its memory, and its answer to one call at a time, without any I/O.
//!
//! [`Gateway::answer`] is the way in. Each of the modules below owns the calls of one kind.

mod answer;
mod authentication;
mod bounded_map;
mod card;
mod customer;
mod event;
mod links;
pub(super) mod notation;
mod order;
mod payment;
mod query;
mod records;
mod report;
mod routes;
mod rows;
mod session;
mod settlement;
mod webhook;

use std::time::SystemTime;

use http::{HeaderMap, Method};
use time::OffsetDateTime;

use self::bounded_map::BoundedMap;
use self::order::Order;
use self::records::{Bearer, CardData, Customer, PreviousKeys, Session, Webhook};
use super::{Options, TokenizeExpiration};

pub(super) use self::answer::{Answer, ApiError, Content};
pub(super) use self::records::WebhookJob;

#[derive(Debug, Default)]
pub(super) struct Gateway {
    pub(super) options: Options,
    previous_keys: Option<PreviousKeys>,
    bearers: BoundedMap<Bearer>,
    sessions: BoundedMap<Session>,
    /// The session of each tokenize token.
    tokens: BoundedMap<String>,
    /// The virtual cards that nobody has read yet, by token.
    card_data: BoundedMap<CardData>,
    customers: BoundedMap<Customer>,
    webhooks: BoundedMap<Webhook>,
    outbox: Vec<WebhookJob>,
    orders: BoundedMap<Order>,
    orders_made: u64,
    /// Answers to calls with an idempotency key, by merchant, path and key.
    answered: BoundedMap<Answer>,
}

/// A request that has been read completely.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiRequest<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl Gateway {
    pub(super) fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Goes back to the state of the start, except for the bearer tokens.
    pub(super) fn reset(&mut self, options: Options) {
        let bearers = std::mem::take(&mut self.bearers);
        *self = Self { bearers, ..Self::new(options) };
    }

    pub(super) fn answer(&mut self, request: ApiRequest<'_>) -> Answer {
        self.dispatch(request).unwrap_or_else(|error| error.shaped(self.options.errors))
    }

    /// The present value of the `Date` header.
    pub(super) fn clock(&self) -> SystemTime {
        self.stated(OffsetDateTime::now_utc()).into()
    }

    /// A true moment on this gateway's clock, which may be wrong.
    fn stated(&self, moment: OffsetDateTime) -> OffsetDateTime {
        notation::skewed(moment, self.options.clock_skew)
    }

    /// The end of a tokenize part as this gateway writes it; `None` if the gateway leaves the field out.
    fn tokenize_date(&self, moment: OffsetDateTime) -> Option<String> {
        match &self.options.tokenize_expiration {
            TokenizeExpiration::Utc => Some(self.date(moment)),
            TokenizeExpiration::Offset(minutes) => {
                Some(notation::rfc3339_at(self.stated(moment), self.options.expiration_digits, *minutes))
            }
            TokenizeExpiration::GoZero => Some("0001-01-01T00:00:00Z".to_owned()),
            TokenizeExpiration::Text(text) => Some(text.clone()),
            TokenizeExpiration::Absent => None,
        }
    }

    /// A true moment as this gateway writes it into a body.
    fn date(&self, moment: OffsetDateTime) -> String {
        notation::rfc3339(self.stated(moment), self.options.expiration_digits)
    }
}
