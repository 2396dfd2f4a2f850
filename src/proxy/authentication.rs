//! `POST /v2/authentication` from a caller: answered here, never forwarded. An unmodified Sezzle client gets a
//! placeholder and an expiration that makes it come back as often as it would with Sezzle.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::ProxyError;
use super::response::{CacheStatus, Content, Reply, Source};
use crate::clock::Now;
use crate::credentials::TokenManager;
use crate::sezzle::time::format_rfc3339;

/// Answers a caller's exchange. The keys in its body are compared and forgotten, never used or logged.
///
/// # Errors
/// When the body is not JSON, the public key is another merchant's, or it is not known yet whom we act for.
pub async fn answer(body: &Bytes, tokens: &TokenManager, now: Now) -> Result<Reply, ProxyError> {
    let keys = if body.is_empty() {
        Keys::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|_| ProxyError::Malformed("the body is not a JSON object with the keys"))?
    };
    // A placeholder is fine; a real key that is not ours means that the caller expects to act for somebody else.
    let looks_real = |key: &str| key.trim().to_ascii_lowercase().starts_with("sz_pub_");
    if keys.public_key.is_some_and(|key| looks_real(&key) && !tokens.is_our_public_key(key.trim())) {
        return Err(ProxyError::ForeignKeys);
    }
    let merchant_uuid = match tokens.merchant() {
        Some(merchant) => merchant,
        None => tokens.acquire(PATIENCE).await.map_err(ProxyError::NoToken)?.merchant.clone(),
    };
    let expiration_date = format_rfc3339(now.wall.plus(LIFE)).unwrap_or_default();
    let answer = Answer { token: PLACEHOLDER, expiration_date, merchant_uuid };
    let body = serde_json::to_vec(&answer).map_err(|_| ProxyError::Internal)?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    Ok(Reply {
        status: StatusCode::CREATED,
        headers,
        content: Content::Whole(Some(body.into())),
        source: Source::Sidecar,
        cache: CacheStatus::BYPASS,
    })
}

// Says to whoever finds it in a log that it opens nothing.
const PLACEHOLDER: &str = "placeholder-the-sidecar-adds-the-real-token";
// Until it is known whom we act for.
const PATIENCE: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(120 * 60);

#[derive(Default, Deserialize)]
struct Keys {
    public_key: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    token: &'static str,
    expiration_date: String,
    merchant_uuid: String,
}
