//! Customers: shoppers who agreed to be charged again, and the tokens of their consent.

use http::StatusCode;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::answer::{Answer, ApiError, CallResult, Price, object};
use super::records::{Customer, Decision, Session, Tokenize};
use super::{Gateway, links, notation};

impl Gateway {
    /// `GET /v2/customer`.
    pub(super) fn list_customers(&self, merchant: &str) -> Answer {
        let own = self.customers.iter().filter(|(_, customer)| customer.merchant == merchant);
        let list = own.map(|(id, customer)| self.customer_reference(id, customer).into()).collect();
        Answer::json(StatusCode::OK, &Value::Array(list))
    }

    /// `GET /v2/customer/{customer}`.
    pub(super) fn get_customer(&self, merchant: &str, id: &str) -> CallResult {
        let customer = self.customer(merchant, id)?;
        let mut body = self.customer_reference(id, customer);
        body.extend(customer.details.clone());
        Ok(Answer::json(StatusCode::OK, &body.into()))
    }

    /// `DELETE /v2/customer/{customer}`.
    pub(super) fn delete_customer(&mut self, merchant: &str, id: &str) -> CallResult {
        self.customer(merchant, id)?;
        self.customers.remove(id);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `POST /v2/customer/{customer}/preapprove`.
    pub(super) fn preapprove(&mut self, merchant: &str, id: &str, body: &[u8]) -> CallResult {
        self.customer(merchant, id)?;
        Price::read(&object(body)?.into(), "")?;
        let answer = json!({"uuid": notation::uuid(), "approved": self.options.approving});
        Ok(Answer { effect: self.options.approving, ..Answer::json(StatusCode::OK, &answer) })
    }

    /// `POST /v2/customer/{customer}/order`. No checkout is needed.
    pub(super) fn order_by_customer(&mut self, merchant: &str, id: &str, body: &[u8]) -> CallResult {
        self.customer(merchant, id)?;
        let order = self.new_order(merchant, &object(body)?.into(), "", None)?;
        Ok(self.authorize_new(order))
    }

    /// `GET /v2/token/{token}/session`: whether the shopper has agreed, and the resulting customer.
    pub(super) fn get_token(&self, merchant: &str, token: &str) -> CallResult {
        let tokenize = self.tokenize(merchant, token)?;
        let links = links::list(&self.options, &[(&format!("token/{token}/session"), "GET", "self")]);
        let mut body = json!({"token": token, "links": links});
        self.put_expiration(&mut body, tokenize.expiration);
        let customer = tokenize.customer().and_then(|id| Some((id, self.customers.find(id)?)));
        if let (Some((id, customer)), Some(body)) = (customer, body.as_object_mut()) {
            body.insert("customer".to_owned(), self.customer_reference(id, customer).into());
        }
        Ok(Answer::json(StatusCode::OK, &body))
    }

    /// `GET /v2/token/{token}/customer`. Sezzle's shoppers make such a token in an app; here the token of a session
    /// serves, once the shopper has agreed.
    pub(super) fn get_token_customer(&self, merchant: &str, token: &str) -> CallResult {
        let customer = self.tokenize(merchant, token)?.customer().filter(|id| self.customers.find(id).is_some());
        let customer = customer.ok_or_else(|| ApiError::unknown("token"))?;
        let (own, path) = (format!("token/{token}/customer"), format!("customer/{customer}"));
        let links = links::list(&self.options, &[(&own, "GET", "self"), (&path, "GET", "customer")]);
        Ok(Answer::json(StatusCode::OK, &json!({"customer_uuid": customer, "status": "Active", "links": links})))
    }

    /// Lets the shopper agree. Returns the new customer, or `None` for a token that is unknown, used or past its time.
    pub(in crate::simulator) fn approve_token(&mut self, token: &str) -> Option<String> {
        let id = notation::uuid();
        let (merchant, ended, details) = {
            let session = self.decide(token, Decision::Accepted(id.clone()))?;
            let tokenize = session.tokenize.as_ref()?;
            (session.merchant.clone(), tokenize.expiration, tokenize.details.clone())
        };
        let now = OffsetDateTime::now_utc();
        let expiration = now.saturating_add(CUSTOMER_LIFE);
        self.customers.put(id.clone(), Customer { merchant: merchant.clone(), expiration, details });
        let data = json!({
            "token": token,
            "expiration": self.date(ended),
            "customer": {"uuid": id, "created_at": self.date(now), "expiration": self.date(expiration)},
        });
        self.announce(&merchant, "customer.tokenized", &data);
        Some(id)
    }

    /// Lets the shopper refuse. `false` for a token that is unknown, used or past its time.
    pub(in crate::simulator) fn deny_token(&mut self, token: &str) -> bool {
        self.decide(token, Decision::Denied).is_some()
    }

    /// Notes the shopper's decision, which uses up the token. `None` for a token that is unknown, used or past its
    /// time.
    fn decide(&mut self, token: &str, decision: Decision) -> Option<&Session> {
        let session = self.sessions.find_mut(self.tokens.find(token)?)?;
        let tokenize = session.tokenize.as_mut()?;
        if tokenize.decision.is_some() || tokenize.expiration <= OffsetDateTime::now_utc() {
            return None;
        }
        tokenize.decision = Some(decision);
        Some(session)
    }

    fn tokenize(&self, merchant: &str, token: &str) -> Result<&Tokenize, ApiError> {
        let session = self.tokens.find(token).and_then(|session| self.sessions.find(session));
        let own = session.filter(|session| session.merchant == merchant);
        own.and_then(|session| session.tokenize.as_ref()).ok_or_else(|| ApiError::unknown("token"))
    }

    fn customer(&self, merchant: &str, id: &str) -> Result<&Customer, ApiError> {
        let customer = self.customers.find(id).filter(|customer| customer.merchant == merchant);
        customer.ok_or_else(|| ApiError::unknown("customer_uuid"))
    }

    fn customer_reference(&self, id: &str, customer: &Customer) -> Map<String, Value> {
        let path = format!("customer/{id}");
        let (preapprove, order) = (format!("{path}/preapprove"), format!("{path}/order"));
        let links = [
            (path.as_str(), "GET", "self"),
            (&path, "DELETE", "self"),
            (&preapprove, "POST", "preapprove"),
            (&order, "POST", "order"),
        ];
        let links = links::list(&self.options, &links);
        let mut body = Map::new();
        body.insert("uuid".to_owned(), json!(id));
        body.insert("expiration".to_owned(), json!(self.date(customer.expiration)));
        body.insert("links".to_owned(), links);
        body
    }
}

/// Sezzle does not publish this limit.
const CUSTOMER_LIFE: Duration = Duration::days(365);
