//! Exchanges the key pair for a bearer token once: `POST /v2/authentication`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::keys::KeyPair;
use crate::clock::{Clock, Wall};
use crate::sezzle::error::is_error;
use crate::sezzle::identifier::is_identifier;
use crate::sezzle::time::{parse_http_date, parse_rfc3339};
use crate::telemetry::metrics::LabelValue;
use crate::upstream::retry_after::retry_after;
use crate::upstream::{Deadlines, Outgoing, Upstream, own_headers};

/// The result of a successful exchange.
#[derive(Debug)]
pub struct Granted {
    /// `Bearer …`, marked sensitive.
    pub authorization: HeaderValue,
    /// When the token expires on the gateway's clock, if stated.
    pub expiration: Option<Wall>,
    /// The `Date` of the response, if stated.
    pub date: Option<Wall>,
    pub merchant: String,
}

/// Why an exchange brought no token. The texts hold neither a key nor a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Sezzle does not know the pair, at least not in this environment.
    #[error("Sezzle rejected the key pair with status {0}; check that the keys belong to gateway.environment")]
    Rejected(StatusCode),
    #[error("the keys authenticate as merchant {found:?}, not as {expected:?}")]
    WrongMerchant {
        /// `credentials.merchant_uuid`, or the merchant of the first token.
        expected: String,
        found: String,
    },
    /// A sidecar answered in Sezzle's place.
    #[error("{LOOP}")]
    Loop,
    /// Sezzle could not be asked, or gave no usable response.
    #[error("{why}")]
    Failed {
        why: String,
        /// How long Sezzle asks to wait before the next attempt.
        retry_after: Option<Duration>,
    },
}

impl ExchangeError {
    /// A text for any reader: without the words of libraries and without the merchant.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "Sezzle rejected the key pair",
            Self::WrongMerchant { .. } => "the keys authenticate as another merchant",
            Self::Loop => LOOP,
            Self::Failed { .. } => "the token exchange failed and is tried again",
        }
    }

    /// The cause of a failure, as the log has it. `None` if [`Self::public`] says all that any reader may know.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Failed { why, .. } => Some(why),
            Self::Rejected(_) | Self::WrongMerchant { .. } | Self::Loop => None,
        }
    }

    /// Whether other keys may help.
    pub fn is_of_keys(&self) -> bool {
        match self {
            Self::Rejected(_) | Self::WrongMerchant { .. } => true,
            Self::Loop | Self::Failed { .. } => false,
        }
    }

    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into(), retry_after: None }
    }

    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed { retry_after, .. } => *retry_after,
            Self::Rejected(_) | Self::WrongMerchant { .. } | Self::Loop => None,
        }
    }
}

const LOOP: &str = "the sidecar reaches a sidecar in Sezzle's place (508 sidecar.loop_detected): gateway.url or a name \
                    server leads back here";

/// Asks for a token. Fails if the keys authenticate as another merchant than `merchant`, if that is given.
pub async fn exchange(
    upstream: &Upstream,
    keys: &KeyPair,
    merchant: Option<&str>,
    clock: &Clock,
) -> Result<Granted, ExchangeError> {
    let failed = |what: &str| ExchangeError::failed(what);
    let mut outgoing = outgoing(keys, None).ok_or_else(|| failed("the keys cannot be written as JSON"))?;
    let answer = upstream.send(&mut outgoing).await.map_err(|error| ExchangeError::failed(error.to_string()))?;
    let (head, body) = answer.into_parts();
    let retry_after = retry_after(&head.headers);
    if head.status == StatusCode::LOOP_DETECTED {
        return Err(ExchangeError::Loop);
    }
    if !may_be_answer(head.status) {
        return Err(ExchangeError::Failed { why: format!("status {}", head.status), retry_after });
    }
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    let body = body.map_err(|_| failed("the answer broke off or is too large"))?.to_bytes();
    if !head.status.is_success() {
        return Err(if is_error(&body) {
            ExchangeError::Rejected(head.status)
        } else {
            ExchangeError::Failed { why: foreign(head.status, &head.headers), retry_after }
        });
    }
    let answer: TokenResponse = serde_json::from_slice(&body).map_err(|_| failed("the answer holds no token"))?;
    let token = Zeroizing::new(answer.token);
    if token.is_empty() {
        return Err(failed("the answer holds no token"));
    }
    let expiration = answer.expiration_date.as_str().and_then(parse_rfc3339);
    if expiration.is_none() {
        tracing::warn!("Sezzle's token has no expiration_date that the sidecar can read");
    }
    // Logs and callers see this name, so only an identifier is accepted.
    let found = answer.merchant_uuid.filter(|text| is_identifier(text)).unwrap_or_default();
    if let Some(expected) = merchant.filter(|expected| !expected.eq_ignore_ascii_case(&found)) {
        return Err(ExchangeError::WrongMerchant { expected: expected.to_owned(), found });
    }
    let line = Zeroizing::new(format!("Bearer {}", *token));
    let mut authorization = HeaderValue::from_str(&line).map_err(|_| failed("the token does not fit into a header"))?;
    authorization.set_sensitive(true);
    let date = head.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_http_date);
    tracing::debug!(merchant = found, skew_ms = date.map(|date| date.millis_since(clock.now().wall)), "token granted");
    Ok(Granted { authorization, expiration, date, merchant: found })
}

/// Whether a response of this status can be Sezzle's judgement of the keys.
fn may_be_answer(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::OK
            | StatusCode::CREATED
            | StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
    )
}

/// Describes a refusal that is not in Sezzle's error format.
pub fn foreign(status: StatusCode, headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()?.split(';').next()).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/+.-".contains(&byte);
    let kind = Some(kind.trim()).filter(|kind| !kind.is_empty() && kind.len() <= 64 && kind.bytes().all(is_plain));
    format!(
        "another server than Sezzle refused the request ({}, {})",
        status.as_u16(),
        kind.unwrap_or("no content type")
    )
}

const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// The request for a token. A `cancel_url` names the shop that the token is for.
pub(super) fn outgoing(keys: &KeyPair, cancel_url: Option<&Value>) -> Option<Outgoing> {
    let request = Request { public_key: keys.public.expose(), private_key: keys.private.expose(), cancel_url };
    let mut headers = own_headers();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(Outgoing {
        method: Method::POST,
        target: PathAndQuery::from_static("/v2/authentication"),
        headers,
        body: Bytes::from_owner(Zeroizing::new(serde_json::to_vec(&request).ok()?)),
        deadlines: Deadlines::new(HEAD_TIMEOUT, BODY_TIMEOUT),
        route: LabelValue::unnumbered("/v2/authentication"),
        class: LabelValue::unnumbered("credentials"),
    })
}

#[derive(Serialize)]
struct Request<'k> {
    public_key: &'k str,
    private_key: &'k str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_url: Option<&'k Value>,
}

#[derive(Deserialize)]
pub(super) struct TokenResponse {
    pub(super) token: String,
    #[serde(default)]
    expiration_date: Value,
    pub(super) merchant_uuid: Option<String>,
}
