//! The journal and the deliveries, page by page, as JSON.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::error::CommandError;
use super::input::Input;
use crate::simulator::delivery::{Attempt, Deliveries, Delivery, DeliveryState};
use crate::simulator::gateway::notation::rfc3339;
use crate::simulator::journal::{Exchange, Journal};
use crate::simulator::rule::path_matches;

/// The entries that a request asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    since: usize,
    method: Option<String>,
    path: Option<String>,
}

/// Reads a query, whose names must be among `known`.
pub(super) fn read(input: Input<'_>, known: &[&str]) -> Result<Page, CommandError> {
    let query = input.query;
    Input { query: None, ..input }.refuse()?;
    let mut page = Page::default();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let unreadable =
            |expected: &str| CommandError::unreadable(format!("{name}: expected {expected}, found {value:?}"));
        let text = percent_decode_str(value).decode_utf8().map_err(|_| unreadable("UTF-8"))?.into_owned();
        match name {
            _ if !known.contains(&name) => {
                let known = known.join(", ");
                return Err(CommandError::unreadable(format!("unknown {name:?}, expected {known}")));
            }
            "since" => page.since = text.parse().map_err(|_| unreadable("a number"))?,
            "method" => page.method = Some(text),
            _ => page.path = Some(text),
        }
    }
    Ok(page)
}

impl Page {
    pub(super) fn journal(&self, journal: &Journal) -> Value {
        let wanted = journal.since(self.since).filter(|(_, exchange)| self.wants(exchange));
        let shown = wanted.map(|(number, exchange)| (number, exchange.body.len(), show_exchange(number, exchange)));
        let (exchanges, next) = fill(shown, journal.next());
        json!({"exchanges": exchanges, "next": next})
    }

    pub(super) fn deliveries(&self, deliveries: &Deliveries, dropped: u64) -> Value {
        let log = deliveries.log();
        let since = log.since(self.since);
        let shown = since.map(|(number, delivery)| (number, delivery.body.len(), show_delivery(delivery)));
        let (deliveries, next) = fill(shown, log.next());
        json!({"deliveries": deliveries, "next": next, "dropped": dropped})
    }

    fn wants(&self, exchange: &Exchange) -> bool {
        self.method.as_ref().is_none_or(|method| exchange.method == method.as_str())
            && self.path.as_ref().is_none_or(|path| path_matches(path, &exchange.path))
    }
}

/// The entries that fit on a page, and the number of the next entry. The entries come with their numbers and the
/// lengths of their bodies.
fn fill(entries: impl Iterator<Item = (usize, usize, Value)>, end: usize) -> (Vec<Value>, usize) {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for (number, length, entry) in entries {
        if page.len() >= MAX_ENTRIES || bytes >= MAX_BODY_BYTES {
            return (page, number);
        }
        bytes += length;
        page.push(entry);
    }
    (page, end)
}

fn show_exchange(number: usize, exchange: &Exchange) -> Value {
    let (name, body) = match std::str::from_utf8(&exchange.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", BASE64_STANDARD.encode(&exchange.body)),
    };
    json!({
        "number": number,
        "connection": exchange.connection,
        "version": format!("{:?}", exchange.version),
        "method": exchange.method.as_str(),
        "path": exchange.path,
        "query": exchange.query,
        "headers": headers(&exchange.headers),
        name: body,
        "status": exchange.status,
        "effect": exchange.effect,
    })
}

fn show_delivery(delivery: &Delivery) -> Value {
    let (state, reason) = match delivery.state {
        DeliveryState::Pending => ("pending", None),
        DeliveryState::Accepted => ("accepted", None),
        DeliveryState::GivenUp => ("given_up", None),
        DeliveryState::Unsubscribed => ("unsubscribed", None),
        DeliveryState::NotSent(reason) => ("not_sent", Some(reason)),
    };
    let attempt = |attempt: &Attempt| json!({"at": rfc3339(attempt.at.into(), 3), "status": attempt.status});
    json!({
        "number": delivery.number,
        "subscription": delivery.subscription,
        "event": delivery.event,
        "url": delivery.url,
        "body": String::from_utf8_lossy(&delivery.body),
        "attempts": delivery.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "state": state,
        "reason": reason,
    })
}

fn headers(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.keys().map(|name| (name.as_str(), headers.get_all(name).iter().map(text).collect())).collect()
}

/// The most entries of a page, so that a person can look through it.
const MAX_ENTRIES: usize = 100;
/// The size of the bodies after which a page ends. A page may exceed this size by one body.
const MAX_BODY_BYTES: usize = 1024 * 1024;
