//! Subscriptions to webhooks. `event` makes the webhooks, and `delivery` sends them.

use http::uri::Scheme;
use http::{StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::answer::{Answer, ApiError, CallResult, object};
use super::records::Webhook;
use super::{Gateway, links, notation};

impl Gateway {
    /// `POST /v2/webhooks`.
    pub(super) fn post_webhook(&mut self, merchant: &str, body: &[u8]) -> CallResult {
        self.put_webhook(merchant, notation::uuid(), body)
    }

    /// `PATCH /v2/webhooks/{id}`: replaces both fields.
    pub(super) fn patch_webhook(&mut self, merchant: &str, id: &str, body: &[u8]) -> CallResult {
        self.webhook(merchant, id)?;
        self.put_webhook(merchant, id.to_owned(), body)
    }

    fn put_webhook(&mut self, merchant: &str, id: String, body: &[u8]) -> CallResult {
        let body = object(body)?;
        let url = read_url(&body).ok_or_else(|| ApiError::field("url", "A URL to deliver to is required."))?;
        let events = body.get("events").and_then(Value::as_array).filter(|events| events.iter().all(Value::is_string));
        let events = events.cloned().ok_or_else(|| ApiError::field("events", "A list of events is required."))?;
        let same =
            |(other, webhook): (&String, &Webhook)| *other != id && webhook.merchant == merchant && webhook.url == url;
        if self.options.webhook_conflict && self.webhooks.iter().any(same) {
            return Err(ApiError::new(StatusCode::CONFLICT, "conflict", "url", "This URL is registered already."));
        }
        let answer = Answer::json(StatusCode::OK, &self.webhook_reference(&id).into());
        self.webhooks.put(id, Webhook { merchant: merchant.to_owned(), url, events });
        Ok(answer.with_effect())
    }

    /// `GET /v2/webhooks`.
    pub(super) fn list_webhooks(&self, merchant: &str) -> Answer {
        let own = self.webhooks.iter().filter(|(_, webhook)| webhook.merchant == merchant);
        let list = own.map(|(id, webhook)| self.webhook_body(id, webhook)).collect();
        Answer::json(StatusCode::OK, &Value::Array(list))
    }

    /// `GET /v2/webhooks/{id}`.
    pub(super) fn get_webhook(&self, merchant: &str, id: &str) -> CallResult {
        Ok(Answer::json(StatusCode::OK, &self.webhook_body(id, self.webhook(merchant, id)?)))
    }

    /// `DELETE /v2/webhooks/{id}`.
    pub(super) fn delete_webhook(&mut self, merchant: &str, id: &str) -> CallResult {
        self.webhook(merchant, id).map_err(|_| bad_request("webhooks_uuid", "No such subscription."))?;
        self.webhooks.remove(id);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `POST /v2/webhooks/test`: sends one event, to the URL in the body or else to every subscription that lists the
    /// event.
    pub(super) fn test_webhook(&mut self, merchant: &str, body: &[u8]) -> CallResult {
        let body = object(body)?;
        let event = body.get("event").and_then(Value::as_str);
        if event.is_none() && !body.contains_key("url") {
            return Err(bad_request("event", "An event or a URL is required."));
        }
        let event = event.unwrap_or("order.authorized");
        let example = self.example(event);
        if body.contains_key("url") {
            let url = read_url(&body).ok_or_else(|| bad_request("url", "This is no URL to deliver to."))?;
            self.announce_to(url, event, &example);
        } else {
            self.announce(merchant, event, &example);
        }
        Ok(Answer::empty_with(self.options.webhook_test_status))
    }

    /// Whether a subscription exists.
    pub(in crate::simulator) fn is_subscribed(&self, id: &str) -> bool {
        self.webhooks.find(id).is_some()
    }

    /// Ends a subscription, for all its events.
    pub(in crate::simulator) fn unsubscribe(&mut self, id: &str) {
        self.webhooks.remove(id);
    }

    fn webhook(&self, merchant: &str, id: &str) -> Result<&Webhook, ApiError> {
        let webhook = self.webhooks.find(id).filter(|webhook| webhook.merchant == merchant);
        webhook.ok_or_else(|| ApiError::unknown("webhooks_uuid"))
    }

    fn webhook_reference(&self, id: &str) -> Map<String, Value> {
        let own = format!("webhooks/{id}");
        let links = [
            ("webhooks", "POST", "create"),
            ("webhooks", "GET", "list"),
            (&own, "GET", "self"),
            (&own, "PATCH", "self"),
            (&own, "DELETE", "self"),
        ];
        let links = links::list(&self.options, &links);
        Map::from_iter([("uuid".to_owned(), json!(id)), ("links".to_owned(), links)])
    }

    fn webhook_body(&self, id: &str, webhook: &Webhook) -> Value {
        let mut body = self.webhook_reference(id);
        body.insert("url".to_owned(), json!(webhook.url));
        body.insert("events".to_owned(), json!(webhook.events));
        body.into()
    }
}

fn read_url(body: &Map<String, Value>) -> Option<String> {
    let url = body.get("url")?.as_str()?;
    let scheme = url.parse::<Uri>().ok()?.scheme().cloned()?;
    (scheme == Scheme::HTTP || scheme == Scheme::HTTPS).then(|| url.to_owned())
}

/// 400 for one field. The documents of these calls have no 422.
fn bad_request(location: &str, message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid", location, message)
}
