//! Exchanges keys for tokens, and finds the merchant of a token.

use std::mem;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::answer::{Answer, ApiError, CallResult, object};
use super::records::{Bearer, PreviousKeys};
use super::{Gateway, notation};

impl Gateway {
    /// `POST /v2/authentication`. Earlier tokens stay live.
    pub(super) fn authenticate(&mut self, body: &[u8]) -> CallResult {
        let body = object(body)?;
        let key = |name: &str| {
            let message = "This key is required.";
            let error = || ApiError::new(StatusCode::BAD_REQUEST, "required", name, message);
            body.get(name).and_then(Value::as_str).ok_or_else(error)
        };
        let keys = (key("public_key")?, key("private_key")?);
        let current = keys == (&self.options.public_key, &self.options.private_key);
        let previous =
            self.previous_keys.as_ref().is_some_and(|pair| pair.live() && keys == (&pair.public, &pair.private));
        if !current && !previous {
            return Err(unauthorized("private_key", "These keys are not known."));
        }
        if let Some(url) = self.options.unauthed_checkout_url.as_ref().filter(|_| body.contains_key("cancel_url")) {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthed_checkout_url", "cancel_url", url));
        }
        let life = self.options.token_life;
        let (token, merchant) = (notation::uuid(), self.options.merchant_uuid.clone());
        let stated = self.stated(notation::later(OffsetDateTime::now_utc(), life));
        let answer = json!({
            "token": token,
            "expiration_date": notation::rfc3339(stated, 9),
            "merchant_uuid": merchant,
        });
        self.bearers.put(token, Bearer { merchant, ends: Instant::now().checked_add(life) });
        Ok(Answer::json(StatusCode::CREATED, &answer).with_effect())
    }

    /// The merchant of a call, or 401. A public key alone is enough for a few calls.
    pub(super) fn merchant(&self, headers: &HeaderMap, takes_public_key: bool) -> Result<String, ApiError> {
        let credentials = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
        match credentials {
            Some(("Bearer", token)) => self.bearer(token),
            Some(("Basic", key)) if self.options.public_key_calls && takes_public_key => self.bearer_of_public_key(key),
            Some(_) | None => None,
        }
        .ok_or_else(|| unauthorized("authorization", "A live bearer token is required."))
    }

    fn bearer(&self, token: &str) -> Option<String> {
        let bearer = self.bearers.find(token)?;
        bearer.ends.is_none_or(|ends| Instant::now() < ends).then(|| bearer.merchant.clone())
    }

    /// The merchant of a public key in Base64. Sezzle's clients encode the key alone; other clients add a colon and an
    /// empty password.
    fn bearer_of_public_key(&self, encoded: &str) -> Option<String> {
        let key = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
        let key = key.strip_suffix(':').unwrap_or(&key);
        let previous = self.previous_keys.as_ref().is_some_and(|pair| pair.live() && key == pair.public);
        (key == self.options.public_key || previous).then(|| self.options.merchant_uuid.clone())
    }

    /// Accepts a new pair, and the previous pair for `overlap`.
    pub(in crate::simulator) fn set_keys(&mut self, public: &str, private: &str, overlap: Duration) {
        let options = &mut self.options;
        self.previous_keys = Some(PreviousKeys {
            public: mem::replace(&mut options.public_key, public.to_owned()),
            private: mem::replace(&mut options.private_key, private.to_owned()),
            ends: Instant::now().checked_add(overlap),
        });
    }

    pub(in crate::simulator) fn revoke_tokens(&mut self) {
        self.bearers.clear();
    }
}

fn unauthorized(location: &str, message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", location, message)
}
