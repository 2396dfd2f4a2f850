//! Answers of the gateway, and the fields that it reads from a body.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::notation;
use super::rows::Rows;
use crate::simulator::Errors;

/// A complete answer, and whether its call changed anything at the gateway.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Answer {
    pub(in crate::simulator) status: StatusCode,
    pub(in crate::simulator) content: Content,
    pub(in crate::simulator) effect: bool,
}

#[derive(Clone, Debug)]
pub(in crate::simulator) enum Content {
    Empty,
    Json(Bytes),
    /// A short text of another media type.
    Text(&'static str, Bytes),
    Rows(Rows),
}

impl Answer {
    pub(in crate::simulator) fn empty(status: StatusCode) -> Self {
        Self { status, content: Content::Empty, effect: false }
    }

    /// As [`Self::empty`], with a status from the settings.
    pub(super) fn empty_with(status: u16) -> Self {
        Self::empty(StatusCode::from_u16(status).unwrap_or_default())
    }

    pub(in crate::simulator) fn json(status: StatusCode, value: &Value) -> Self {
        Self { status, content: Content::Json(value.to_string().into()), effect: false }
    }

    pub(super) fn csv(text: String) -> Self {
        Self { status: StatusCode::OK, content: Content::Text("text/csv", text.into()), effect: false }
    }

    pub(super) fn rows(rows: Rows) -> Self {
        Self { status: StatusCode::OK, content: Content::Rows(rows), effect: false }
    }

    /// 404 in the words of a web server that knows no such path.
    pub(super) fn no_such_path() -> Self {
        let text = Bytes::from_static(b"404 page not found");
        Self { status: StatusCode::NOT_FOUND, content: Content::Text("text/plain", text), effect: false }
    }

    pub(super) fn with_effect(self) -> Self {
        Self { effect: true, ..self }
    }
}

/// An error in Sezzle's words: a status and at least one problem.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct ApiError {
    status: StatusCode,
    problems: Vec<Value>,
}

impl ApiError {
    pub(in crate::simulator) fn new(status: StatusCode, code: &str, location: &str, message: &str) -> Self {
        let mut error = Self { status, problems: Vec::new() };
        error.add(code, location, message);
        error
    }

    /// 422 for one field.
    pub(super) fn field(location: &str, message: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", location, message)
    }

    /// 404 for something in the path.
    pub(super) fn unknown(location: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", location, "No such resource.")
    }

    /// 400 in the form that the documents of one call have: not a list, and with these fields only.
    pub(super) fn bare() -> Answer {
        Answer::json(StatusCode::BAD_REQUEST, &json!({"code": "bad_request", "message": "bad request"}))
    }

    fn add(&mut self, code: &str, location: &str, message: &str) {
        let debug_uuid = notation::uuid();
        self.problems.push(json!({"code": code, "location": location, "message": message, "debug_uuid": debug_uuid}));
    }

    /// Joins all errors into one, so that one answer names every missing field. `None` without errors.
    pub(super) fn all(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        errors.into_iter().reduce(|mut first, next| {
            first.problems.extend(next.problems);
            first
        })
    }

    /// The error in one of its forms. Only the form of a list has room for more than one problem.
    pub(super) fn shaped(mut self, form: Errors) -> Answer {
        let keep: &[&str] = match (form, self.problems.first()) {
            (Errors::List, _) | (_, None) => return self.into(),
            (Errors::Object, _) => &["code", "location", "message", "debug_uuid"],
            (Errors::Bare, _) => &["code", "message"],
        };
        let problem = self.problems.swap_remove(0);
        let kept: Map<String, Value> =
            keep.iter().filter_map(|name| Some(((*name).to_owned(), problem.get(*name)?.clone()))).collect();
        Answer::json(self.status, &kept.into())
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        Self::json(error.status, &Value::Array(error.problems))
    }
}

pub(super) type CallResult = Result<Answer, ApiError>;

/// An amount of money in the smallest unit of its currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) cents: u64,
    pub(super) currency: String,
}

impl Price {
    /// Reads a price. An error names the wrong field below `location`, which is empty for the body itself.
    pub(super) fn read(value: &Value, location: &str) -> Result<Self, ApiError> {
        let below = |name: &str| if location.is_empty() { name.to_owned() } else { format!("{location}.{name}") };
        let cents =
            value.get("amount_in_cents").and_then(Value::as_u64).filter(|cents| (1..=MAX_CENTS).contains(cents));
        let currency = value.get("currency").and_then(Value::as_str).filter(|currency| currency.len() == 3);
        match (cents, currency) {
            (Some(cents), Some(currency)) => Ok(Self { cents, currency: currency.to_owned() }),
            (None, _) => Err(ApiError::field(&below("amount_in_cents"), "A positive amount in cents is required.")),
            (_, None) => Err(ApiError::field(&below("currency"), "A three-letter currency code is required.")),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"amount_in_cents": self.cents, "currency": self.currency})
    }
}

/// The body as a JSON object, or 400.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let error = |_| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "body", "The body is not a JSON object.");
    serde_json::from_slice(body).map_err(error)
}

/// Sezzle's amounts are 32-bit integers. The bound also keeps every sum of amounts within 64 bits.
const MAX_CENTS: u64 = i32::MAX as u64;
