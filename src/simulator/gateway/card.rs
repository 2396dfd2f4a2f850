//! Virtual cards: a session for one, and the card data that can be read once.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Answer, ApiError, CallResult, object};
use super::records::{Card, CardData, Session};
use super::{Gateway, notation};

impl Gateway {
    /// `POST /v2/session/card`.
    pub(super) fn post_card(&mut self, merchant: &str, body: &[u8]) -> CallResult {
        let body = object(body)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let origin = text("origin").ok_or_else(|| ApiError::field("origin", "The window's origin is required."));
        let mode = text("mode").filter(|mode| ["iframe", "popup"].contains(mode));
        let mode = mode.ok_or_else(|| ApiError::field("mode", "The mode is iframe or popup."));
        if let Some(error) = ApiError::all([origin.err(), mode.err()].into_iter().flatten()) {
            return Err(error);
        }
        let customer = body.get("customer").unwrap_or(&Value::Null);
        let name = |name: &str, otherwise: &str| customer[name].as_str().unwrap_or(otherwise).to_owned();
        let card = Card {
            by_token: text("card_response_format") == Some("token"),
            first_name: name("first_name", "Test"),
            last_name: name("last_name", "Shopper"),
            ..Card::default()
        };
        let id = self.open_card(merchant, card);
        let answer = json!({
            "uuid": id,
            "dashboard_url": format!("https://dashboard.sezzle.com/customer/virtual-card?id={id}"),
        });
        Ok(Answer::json(StatusCode::CREATED, &answer).with_effect())
    }

    /// `GET /v2/session/card/token/{token}`. The first read deletes the token, even by HEAD.
    pub(super) fn read_card(&mut self, merchant: &str, token: &str) -> CallResult {
        let live = |card: &&CardData| card.merchant == merchant && card.ends.is_none_or(|ends| Instant::now() < ends);
        let card = self.card_data.find(token).filter(live).ok_or_else(|| ApiError::unknown("token"))?;
        let answer = json!({
            "pan": TEST_NUMBER,
            "cvv_number": "123",
            "expiration_date": TEST_EXPIRATION,
            "first_name": card.first_name,
            "last_name": card.last_name,
        });
        self.card_data.remove(token);
        Ok(Answer::json(StatusCode::OK, &answer).with_effect())
    }

    /// `PATCH /v2/session/{session}/card`: the merchant's own name for the order.
    pub(super) fn patch_card(&mut self, merchant: &str, id: &str, body: &[u8]) -> CallResult {
        let session = self.sessions.find_mut(id).filter(|session| session.merchant == merchant);
        let card =
            session.and_then(|session| session.card.as_mut()).ok_or_else(|| ApiError::unknown("session_uuid"))?;
        let order_id = object(body)?.remove("order_id").and_then(|id| id.as_str().map(str::to_owned));
        card.order_id = Some(order_id.ok_or_else(|| ApiError::field("order_id", "A text is required."))?);
        Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())
    }

    /// Creates a card session of the current merchant, whose card data comes by a token.
    pub(in crate::simulator) fn create_card(&mut self) -> String {
        let merchant = self.options.merchant_uuid.clone();
        let (first_name, last_name) = ("Test".to_owned(), "Shopper".to_owned());
        self.open_card(&merchant, Card { by_token: true, first_name, last_name, ..Card::default() })
    }

    /// Lets the shopper finish in the window. Returns the token, if the card data comes by a token. `None` if there is
    /// no such card session, or if its shopper has finished already.
    pub(in crate::simulator) fn finish_card(&mut self, id: &str) -> Option<Option<String>> {
        let ends = Instant::now().checked_add(self.options.card_token_life);
        let session = self.sessions.find_mut(id)?;
        let card = session.card.as_mut().filter(|card| !card.finished)?;
        card.finished = true;
        if !card.by_token {
            return Some(None);
        }
        let (first_name, last_name) = (card.first_name.clone(), card.last_name.clone());
        let (token, merchant) = (notation::uuid(), session.merchant.clone());
        self.card_data.put(token.clone(), CardData { merchant, first_name, last_name, ends });
        Some(Some(token))
    }

    fn open_card(&mut self, merchant: &str, card: Card) -> String {
        let id = notation::uuid();
        let session = Session { merchant: merchant.to_owned(), order: None, tokenize: None, card: Some(card) };
        self.sessions.put(id.clone(), session);
        id
    }
}

/// A card number that every card network reserves for tests.
const TEST_NUMBER: &str = "4111111111111111";
/// The last month that two digits for the year can name.
const TEST_EXPIRATION: &str = "1299";
