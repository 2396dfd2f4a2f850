//! Sessions, in which a shopper pays an order, agrees to be charged again, or both.

use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::answer::{Answer, ApiError, CallResult, Price, object};
use super::order::Order;
use super::records::{Session, Tokenize};
use super::{Gateway, links, notation};
use crate::simulator::{SessionIds, SessionKind, TokenizePlace};

impl Gateway {
    /// `POST /v2/session`.
    pub(super) fn post_session(&mut self, merchant: &str, body: &[u8]) -> CallResult {
        let body = object(body)?;
        let mut customer = body.get("customer").and_then(Value::as_object).cloned().unwrap_or_default();
        let tokenize = customer.remove("tokenize") == Some(Value::Bool(true));
        let order = body.get("order").map(|order| self.new_order(merchant, order, "order.", Some(&customer)));
        let mut problems = missing(&body);
        if order.is_none() && !tokenize {
            problems.push(ApiError::field("order", "An order or a customer to tokenize is required."));
        }
        let order = match order.transpose() {
            Ok(order) => order,
            Err(error) => {
                problems.push(error);
                None
            }
        };
        if let Some(error) = ApiError::all(problems) {
            return Err(error);
        }
        let ids = self.open_session(merchant.to_owned(), order, tokenize.then_some(customer));
        Ok(Answer { status: StatusCode::CREATED, ..self.get_session(merchant, &ids.session)? }.with_effect())
    }

    /// `GET /v2/session/{session}`. The answer does not change when the token ends or is used.
    pub(super) fn get_session(&self, merchant: &str, id: &str) -> CallResult {
        if Uuid::parse_str(id).is_err() {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid", "session_uuid", "This is not a UUID."));
        }
        let session = self.sessions.find(id).filter(|session| session.merchant == merchant);
        let session = session.ok_or_else(|| ApiError::unknown("session_uuid"))?;
        Ok(Answer::json(StatusCode::OK, &self.session_body(id, session)))
    }

    /// Creates a session of the current merchant. Its order is over 100.00 USD, with intent `AUTH`.
    pub(in crate::simulator) fn create_session(&mut self, kind: SessionKind) -> SessionIds {
        let merchant = self.options.merchant_uuid.clone();
        let order = (kind != SessionKind::Tokenize).then(|| {
            let amount = Price { cents: 10_000, currency: "USD".to_owned() };
            Order::new(&merchant, self.order_id(), amount, false)
        });
        self.open_session(merchant, order, (kind != SessionKind::Order).then(Map::new))
    }

    fn open_session(
        &mut self,
        merchant: String,
        order: Option<Order>,
        shopper: Option<Map<String, Value>>,
    ) -> SessionIds {
        let tokenize = shopper.map(|details| Tokenize {
            token: notation::uuid(),
            expiration: notation::later(OffsetDateTime::now_utc(), self.options.tokenize_life),
            approval: notation::uuid(),
            details,
            decision: None,
        });
        let ids = SessionIds {
            session: notation::uuid(),
            order: order.as_ref().map(|order| order.id.clone()),
            token: tokenize.as_ref().map(|tokenize| tokenize.token.clone()),
        };
        if let Some(order) = order {
            self.orders.put(order.id.clone(), order);
        }
        if let Some(token) = &ids.token {
            self.tokens.put(token.clone(), ids.session.clone());
        }
        self.sessions.put(ids.session.clone(), Session { merchant, order: ids.order.clone(), tokenize, card: None });
        ids
    }

    fn session_body(&self, id: &str, session: &Session) -> Value {
        let own = links::list(&self.options, &[(&format!("session/{id}"), "GET", "self")]);
        let mut body = Map::from_iter([("uuid".to_owned(), json!(id)), ("links".to_owned(), own)]);
        let order = session.order.as_ref().and_then(|id| self.orders.find(id));
        let mut order = order.map(|order| order.in_session(&self.options));
        if let Some(tokenize) = &session.tokenize {
            let (beside, inside) = match self.options.tokenize_place {
                TokenizePlace::TopLevel => (true, false),
                TokenizePlace::InOrder => (order.is_none(), order.is_some()),
                TokenizePlace::Both => (true, order.is_some()),
            };
            let tokenize = self.tokenize_body(tokenize);
            if let Some(order) = order.as_mut().filter(|_| inside) {
                order.insert("tokenize".to_owned(), tokenize.clone());
            }
            if beside {
                body.insert("tokenize".to_owned(), tokenize);
            }
        }
        if let Some(order) = order {
            body.insert("order".to_owned(), order.into());
        }
        if let Some(card) = &session.card {
            body.insert("card".to_owned(), json!({"order_id": card.order_id}));
        }
        body.into()
    }

    fn tokenize_body(&self, tokenize: &Tokenize) -> Value {
        let Tokenize { token, expiration, approval, .. } = tokenize;
        let links = links::list(&self.options, &[(&format!("token/{token}/session"), "GET", "token")]);
        let mut body = Map::from_iter([("token".to_owned(), json!(token)), ("links".to_owned(), links)]);
        if self.options.approval_url {
            let url = "https://dashboard.sezzle.com/customer/checkout-approval?merchant-request-id=";
            body.insert("approval_url".to_owned(), format!("{url}{approval}").into());
        }
        let mut body = Value::Object(body);
        self.put_expiration(&mut body, *expiration);
        body
    }

    /// Adds the end of a tokenize part, unless the settings leave it out.
    pub(super) fn put_expiration(&self, body: &mut Value, expiration: OffsetDateTime) {
        if let (Some(body), Some(date)) = (body.as_object_mut(), self.tokenize_date(expiration)) {
            body.insert("expiration".to_owned(), date.into());
        }
    }
}

/// An error for each missing URL to which the shopper returns.
fn missing(body: &Map<String, Value>) -> Vec<ApiError> {
    ["cancel_url", "complete_url"]
        .into_iter()
        .filter(|name| !body.get(*name).and_then(|url| url.get("href")).is_some_and(Value::is_string))
        .map(|name| ApiError::field(name, "A URL to return to is required."))
        .collect()
}
