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
mod resource;
mod rows;
mod session;
mod settlement;
mod webhook;

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};
use time::OffsetDateTime;

use self::answer::CallResult;
use self::bounded_map::BoundedMap;
use self::order::Order;
use self::query::Query;
use self::records::{Bearer, CardData, Customer, PreviousKeys, Session, Webhook};
use self::resource::Resource;
use super::{Options, TokenizeExpiration};

pub(super) use self::answer::{Answer, ApiError, Content};
pub(super) use self::records::WebhookJob;

#[derive(Debug)]
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
        Self {
            options,
            previous_keys: None,
            bearers: BoundedMap::default(),
            sessions: BoundedMap::default(),
            tokens: BoundedMap::default(),
            card_data: BoundedMap::default(),
            customers: BoundedMap::default(),
            webhooks: BoundedMap::default(),
            outbox: Vec::new(),
            orders: BoundedMap::default(),
            orders_made: 0,
            answered: BoundedMap::default(),
        }
    }

    /// Forgets everything but the bearer tokens.
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

    /// An unknown path is refused before the token is looked at, a wrong method after it.
    fn dispatch(&mut self, request: ApiRequest<'_>) -> CallResult {
        let Some(resource) = Resource::of(request.path) else {
            return if self.options.plain_404 { Ok(Answer::no_such_path()) } else { Err(ApiError::unknown("path")) };
        };
        // HEAD is answered as GET; the connection leaves the body out.
        let method = if request.method == Method::HEAD { "GET" } else { request.method.as_str() };
        if (method, resource) == ("POST", Resource::Authentication) {
            return self.authenticate(request.body);
        }
        if resource == Resource::Authentication {
            return Err(wrong_method());
        }
        let merchant = &self.merchant(request.headers, resource)?;
        match (method, resource) {
            // Sezzle's plugin for PrestaShop sends the slash.
            ("POST", Resource::SessionsSlash) if !self.options.session_slash => Err(wrong_method()),
            ("POST", Resource::Sessions | Resource::SessionsSlash) => self.post_session(merchant, request.body),
            ("GET", Resource::Session(id)) => self.get_session(merchant, id),
            ("POST", Resource::Cards) => self.post_card(merchant, request.body),
            ("GET", Resource::CardToken(token)) => self.read_card(merchant, token),
            ("PATCH", Resource::CardOrder(id)) => self.patch_card(merchant, id, request.body),
            ("GET", Resource::Order(id)) => self.get_order(merchant, id),
            ("PATCH", Resource::Order(id)) => self.patch_order(merchant, id, request.body),
            ("PATCH", Resource::Checkout(id)) => self.patch_checkout(merchant, id, request.body),
            ("DELETE", Resource::Checkout(id)) => self.delete_checkout(merchant, id),
            ("POST", Resource::Money(id, kind)) => {
                self.once(merchant, request, |gateway, key| gateway.move_money(merchant, id, kind, request.body, key))
            }
            ("POST", Resource::Renewal(id, kind)) => {
                self.once(merchant, request, |gateway, key| gateway.renew(merchant, id, kind, request.body, key))
            }
            ("GET", Resource::Customers) => Ok(self.list_customers(merchant)),
            ("GET", Resource::Customer(id)) => self.get_customer(merchant, id),
            ("DELETE", Resource::Customer(id)) => self.delete_customer(merchant, id),
            ("POST", Resource::Preapprove(id)) => self.preapprove(merchant, id, request.body),
            ("POST", Resource::CustomerOrder(id)) => {
                self.once(merchant, request, |gateway, _| gateway.order_by_customer(merchant, id, request.body))
            }
            ("GET", Resource::Token(token)) => self.get_token(merchant, token),
            ("GET", Resource::TokenCustomer(token)) => self.get_token_customer(merchant, token),
            ("POST", Resource::Webhooks) => self.post_webhook(merchant, request.body),
            ("GET", Resource::Webhooks) => Ok(self.list_webhooks(merchant)),
            ("GET", Resource::Webhook(id)) => self.get_webhook(merchant, id),
            ("PATCH", Resource::Webhook(id)) => self.patch_webhook(merchant, id, request.body),
            ("DELETE", Resource::Webhook(id)) => self.delete_webhook(merchant, id),
            ("POST", Resource::WebhookTest) => self.test_webhook(merchant, request.body),
            ("GET", Resource::OrdersReport) => self.orders_report(&Query::of(request.query)),
            ("GET", Resource::SettlementSummaries) => self.settlement_summaries(&Query::of(request.query)),
            ("GET", Resource::SettlementDetails(payout)) => self.settlement_details(payout, &Query::of(request.query)),
            ("GET", Resource::InterestBalance) => self.interest_balance(&Query::of(request.query)),
            ("GET", Resource::InterestActivity) => self.interest_activity(&Query::of(request.query)),
            // Sezzle's plugins send these two, and no page describes them.
            ("POST", Resource::Configuration | Resource::WidgetQueue) => {
                Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
            }
            ("GET", Resource::FeatureFlag) => Ok(Answer::json(StatusCode::OK, &self.options.feature_flags.into())),
            _ => Err(wrong_method()),
        }
    }

    /// Repeats the first answer to a call with an idempotency key, whatever it was, without a second effect.
    fn once(
        &mut self,
        merchant: &str,
        request: ApiRequest<'_>,
        act: impl FnOnce(&mut Self, Option<&str>) -> CallResult,
    ) -> CallResult {
        let Some(key) = request.headers.get("sezzle-request-id").and_then(|key| key.to_str().ok()) else {
            return act(self, None);
        };
        let slot = format!("{merchant} {} {key}", request.path);
        if let Some(first) = self.answered.find(&slot) {
            return Ok(Answer { effect: false, ..first.clone() });
        }
        let answer = act(self, Some(key)).unwrap_or_else(|error| error.shaped(self.options.errors));
        self.answered.put(slot, answer.clone());
        Ok(answer)
    }

    /// A true moment as this gateway's clock shows it.
    fn stated(&self, moment: OffsetDateTime) -> OffsetDateTime {
        notation::skewed(moment, self.options.clock_skew)
    }

    /// When a tokenize part ends, as this gateway writes it; `None` when it does not.
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

fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method", "This resource has no such method.")
}
