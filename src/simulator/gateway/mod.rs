//! The gateway itself: its memory, and its answer to one call at a time, without any I/O.
//!
//! [`Gateway::answer`] is the way in. Each of the modules below owns the calls of one kind.

mod answer;
mod authentication;
mod card;
mod customer;
mod event;
mod links;
mod order;
mod payment;
mod place;
mod query;
mod report;
mod rows;
mod session;
mod settlement;
mod shelf;
mod webhook;
pub(super) mod wording;

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};
use time::OffsetDateTime;

use crate::simulator::gateway::answer::Outcome;
use crate::simulator::gateway::authentication::{Bearer, PreviousKeys};
use crate::simulator::gateway::card::CardData;
use crate::simulator::gateway::customer::Customer;
use crate::simulator::gateway::order::Order;
use crate::simulator::gateway::place::Place;
use crate::simulator::gateway::query::Query;
use crate::simulator::gateway::session::Session;
use crate::simulator::gateway::shelf::Shelf;
use crate::simulator::gateway::webhook::Webhook;
use crate::simulator::{Options, TokenizeExpiration};

pub(super) use crate::simulator::gateway::answer::{Answer, Content, Refusal};
pub(super) use crate::simulator::gateway::event::Parcel;

/// All state of the simulated gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) options: Options,
    previous_keys: Option<PreviousKeys>,
    bearers: Shelf<Bearer>,
    sessions: Shelf<Session>,
    /// The session of each tokenize token.
    tokens: Shelf<String>,
    /// The virtual cards that nobody has read yet, by token.
    card_data: Shelf<CardData>,
    customers: Shelf<Customer>,
    webhooks: Shelf<Webhook>,
    /// The webhooks to deliver.
    outbox: Vec<Parcel>,
    orders: Shelf<Order>,
    orders_made: u64,
    /// Answers to calls with an idempotency key, by merchant, path and key.
    answered: Shelf<Answer>,
}

/// A request that has been read completely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl Gateway {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            previous_keys: None,
            bearers: Shelf::default(),
            sessions: Shelf::default(),
            tokens: Shelf::default(),
            card_data: Shelf::default(),
            customers: Shelf::default(),
            webhooks: Shelf::default(),
            outbox: Vec::new(),
            orders: Shelf::default(),
            orders_made: 0,
            answered: Shelf::default(),
        }
    }

    /// Forgets everything but the bearer tokens.
    pub(super) fn reset(&mut self, options: Options) {
        let bearers = std::mem::take(&mut self.bearers);
        *self = Self { bearers, ..Self::new(options) };
    }

    pub(super) fn answer(&mut self, call: Call<'_>) -> Answer {
        self.dispatch(call).unwrap_or_else(|refusal| refusal.shaped(self.options.errors))
    }

    /// The present value of the `Date` header.
    pub(super) fn clock(&self) -> SystemTime {
        self.stated(OffsetDateTime::now_utc()).into()
    }

    /// An unknown path is refused before the token is looked at, a wrong method after it.
    fn dispatch(&mut self, call: Call<'_>) -> Outcome {
        let Some(place) = Place::of(call.path) else {
            return if self.options.plain_404 { Ok(Answer::no_such_path()) } else { Err(Refusal::unknown("path")) };
        };
        // HEAD is answered as GET; the connection leaves the body out.
        let method = if call.method == Method::HEAD { "GET" } else { call.method.as_str() };
        if (method, place) == ("POST", Place::Authentication) {
            return self.authenticate(call.body);
        }
        if place == Place::Authentication {
            return Err(wrong_method());
        }
        let merchant = &self.merchant(call.headers, place)?;
        match (method, place) {
            // Sezzle's plugin for PrestaShop sends the slash.
            ("POST", Place::SessionsSlash) if !self.options.session_slash => Err(wrong_method()),
            ("POST", Place::Sessions | Place::SessionsSlash) => self.post_session(merchant, call.body),
            ("GET", Place::Session(id)) => self.get_session(merchant, id),
            ("POST", Place::Cards) => self.post_card(merchant, call.body),
            ("GET", Place::CardToken(token)) => self.read_card(merchant, token),
            ("PATCH", Place::CardOrder(id)) => self.patch_card(merchant, id, call.body),
            ("GET", Place::Order(id)) => self.get_order(merchant, id),
            ("PATCH", Place::Order(id)) => self.patch_order(merchant, id, call.body),
            ("PATCH", Place::Checkout(id)) => self.patch_checkout(merchant, id, call.body),
            ("DELETE", Place::Checkout(id)) => self.delete_checkout(merchant, id),
            ("POST", Place::Money(id, kind)) => {
                self.once(merchant, call, |gateway, key| gateway.move_money(merchant, id, kind, call.body, key))
            }
            ("POST", Place::Renewal(id, kind)) => {
                self.once(merchant, call, |gateway, key| gateway.renew(merchant, id, kind, call.body, key))
            }
            ("GET", Place::Customers) => Ok(self.list_customers(merchant)),
            ("GET", Place::Customer(id)) => self.get_customer(merchant, id),
            ("DELETE", Place::Customer(id)) => self.delete_customer(merchant, id),
            ("POST", Place::Preapprove(id)) => self.preapprove(merchant, id, call.body),
            ("POST", Place::CustomerOrder(id)) => {
                self.once(merchant, call, |gateway, _| gateway.order_by_customer(merchant, id, call.body))
            }
            ("GET", Place::Token(token)) => self.get_token(merchant, token),
            ("GET", Place::TokenCustomer(token)) => self.get_token_customer(merchant, token),
            ("POST", Place::Webhooks) => self.post_webhook(merchant, call.body),
            ("GET", Place::Webhooks) => Ok(self.list_webhooks(merchant)),
            ("GET", Place::Webhook(id)) => self.get_webhook(merchant, id),
            ("PATCH", Place::Webhook(id)) => self.patch_webhook(merchant, id, call.body),
            ("DELETE", Place::Webhook(id)) => self.delete_webhook(merchant, id),
            ("POST", Place::WebhookTest) => self.test_webhook(merchant, call.body),
            ("GET", Place::OrdersReport) => self.orders_report(&Query::of(call.query)),
            ("GET", Place::SettlementSummaries) => self.settlement_summaries(&Query::of(call.query)),
            ("GET", Place::SettlementDetails(payout)) => self.settlement_details(payout, &Query::of(call.query)),
            ("GET", Place::InterestBalance) => self.interest_balance(&Query::of(call.query)),
            ("GET", Place::InterestActivity) => self.interest_activity(&Query::of(call.query)),
            // Sezzle's plugins send these two, and no page describes them.
            ("POST", Place::Configuration | Place::WidgetQueue) => {
                Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
            }
            ("GET", Place::FeatureFlag) => Ok(Answer::json(StatusCode::OK, &self.options.feature_flags.into())),
            _ => Err(wrong_method()),
        }
    }

    /// Repeats the first answer to a call with an idempotency key, whatever it was, without a second effect.
    fn once(
        &mut self,
        merchant: &str,
        call: Call<'_>,
        act: impl FnOnce(&mut Self, Option<&str>) -> Outcome,
    ) -> Outcome {
        let Some(key) = call.headers.get("sezzle-request-id").and_then(|key| key.to_str().ok()) else {
            return act(self, None);
        };
        let slot = format!("{merchant} {} {key}", call.path);
        if let Some(first) = self.answered.find(&slot) {
            return Ok(Answer { effect: false, ..first.clone() });
        }
        let answer = act(self, Some(key)).unwrap_or_else(|refusal| refusal.shaped(self.options.errors));
        self.answered.put(slot, answer.clone());
        Ok(answer)
    }

    /// A true moment as this gateway's clock shows it.
    fn stated(&self, moment: OffsetDateTime) -> OffsetDateTime {
        wording::skewed(moment, self.options.clock_skew)
    }

    /// When a tokenize part ends, as this gateway writes it; `None` when it does not.
    fn tokenize_date(&self, moment: OffsetDateTime) -> Option<String> {
        match &self.options.tokenize_expiration {
            TokenizeExpiration::Utc => Some(self.date(moment)),
            TokenizeExpiration::Offset(minutes) => {
                Some(wording::rfc3339_at(self.stated(moment), self.options.expiration_digits, *minutes))
            }
            TokenizeExpiration::GoZero => Some("0001-01-01T00:00:00Z".to_owned()),
            TokenizeExpiration::Text(text) => Some(text.clone()),
            TokenizeExpiration::Absent => None,
        }
    }

    /// A true moment as this gateway writes it into a body.
    fn date(&self, moment: OffsetDateTime) -> String {
        wording::rfc3339(self.stated(moment), self.options.expiration_digits)
    }
}

fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method", "This resource has no such method.")
}
