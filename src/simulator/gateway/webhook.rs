//! Subscriptions to webhooks. They are kept and shown; nothing is delivered.

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::simulator::gateway::Gateway;
use crate::simulator::gateway::answer::Answer;
use crate::simulator::gateway::answer::Outcome;
use crate::simulator::gateway::answer::Refusal;
use crate::simulator::gateway::answer::object;
use crate::simulator::gateway::wording;
use crate::simulator::gateway::wording::link;

#[derive(Debug)]
pub(super) struct Webhook {
    merchant: String,
    url: String,
    events: Vec<Value>,
}

impl Gateway {
    /// `POST /v2/webhooks`.
    pub(super) fn post_webhook(&mut self, merchant: &str, body: &[u8]) -> Outcome {
        let body = object(body)?;
        let url = read_url(&body)?;
        let events = body.get("events").and_then(Value::as_array).filter(|events| events.iter().all(Value::is_string));
        let events = events.cloned().ok_or_else(|| Refusal::field("events", "A list of events is required."))?;
        let id = wording::uuid();
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
    pub(super) fn get_webhook(&self, merchant: &str, id: &str) -> Outcome {
        Ok(Answer::json(StatusCode::OK, &self.webhook_body(id, self.webhook(merchant, id)?)))
    }

    /// `DELETE /v2/webhooks/{id}`.
    pub(super) fn delete_webhook(&mut self, merchant: &str, id: &str) -> Outcome {
        self.webhook(merchant, id)?;
        self.webhooks.remove(id);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// `POST /v2/webhooks/test`.
    pub(super) fn test_webhook(&self, body: &[u8]) -> Outcome {
        read_url(&object(body)?)?;
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }

    fn webhook(&self, merchant: &str, id: &str) -> Result<&Webhook, Refusal> {
        let webhook = self.webhooks.find(id).filter(|webhook| webhook.merchant == merchant);
        webhook.ok_or_else(|| Refusal::unknown("webhooks_uuid"))
    }

    fn webhook_reference(&self, id: &str) -> Map<String, Value> {
        let (base, path) = (&self.options.link_base, format!("webhooks/{id}"));
        let links = json!([link(base, &path, "GET", "self"), link(base, &path, "DELETE", "self")]);
        Map::from_iter([("uuid".to_owned(), json!(id)), ("links".to_owned(), links)])
    }

    fn webhook_body(&self, id: &str, webhook: &Webhook) -> Value {
        let mut body = self.webhook_reference(id);
        body.insert("url".to_owned(), json!(webhook.url));
        body.insert("events".to_owned(), json!(webhook.events));
        body.into()
    }
}

fn read_url(body: &Map<String, Value>) -> Result<String, Refusal> {
    let url = body.get("url").and_then(Value::as_str).filter(|url| url.starts_with("http"));
    url.map(str::to_owned).ok_or_else(|| Refusal::field("url", "A URL to deliver to is required."))
}
