//! How callers authenticate: by a token exchange, `POST /v2/authentication`, or by a public key. The sidecar never
//! forwards an exchange. An unmodified Sezzle client gets a placeholder in place of a token, with the lifetime of
//! Sezzle's tokens, so that the client comes back as often as it would with Sezzle.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cache_status::{CacheStatus, Source};
use super::content::Content;
use super::decision::Rights;
use super::error::ProxyError;
use super::headers::clean;
use super::links::answers::AnswerLinks;
use super::public_key::{NamedKey, callers_public_key, looks_real};
use super::response::CallerResponse;
use crate::callers::named::KnownCaller;
use crate::callers::table::Issued;
use crate::clock::Now;
use crate::credentials::TokenManager;
use crate::credentials::shop::{NoVerdict, RefusedExchange, SEZZLE_PLATFORM, Shop, Shops, Verdict};
use crate::sezzle::time::format_rfc3339;
use crate::telemetry::metrics::Metrics;

/// Answers exchanges, and decides under which rights a call is sent.
pub struct Authentication {
    pub(super) shops: Shops,
    pub(super) tokens: Arc<TokenManager>,
    pub(super) links: Option<Arc<AnswerLinks>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Authentication {
    /// The rights under which a call is sent, if its `Authorization` may name a public key. Another merchant's key is
    /// refused. The caller's own key, from the configuration, stands for ours.
    pub fn rights(&self, headers: &HeaderMap, caller: Option<&KnownCaller>) -> Result<Rights, ProxyError> {
        let callers_own = caller.and_then(|known| known.caller.public_key.as_deref());
        let named = callers_public_key(headers, callers_own, |key| self.tokens.is_our_public_key(key))?;
        Ok(match named {
            None => Rights::Merchant,
            Some(NamedKey::Ours(authorization)) => Rights::PublicKey(Arc::new(authorization)),
            Some(NamedKey::Callers) => {
                Rights::PublicKey(Arc::new(self.tokens.public_key().ok_or(ProxyError::Internal)?))
            }
        })
    }

    /// Answers a caller's exchange. The keys in its body are compared and forgotten, never used or logged.
    ///
    /// For a client that names its shop or its platform, the sidecar asks Sezzle. If Sezzle does not answer, a client
    /// that named a shop gets an error, because only Sezzle can say whether a shop may sell. A client that named only
    /// its platform gets the placeholder, because it asked for nothing that needs Sezzle.
    ///
    /// A caller that authenticated with keys of its own gets the token `issued` for them in place of the placeholder.
    ///
    /// Fails when the body is not JSON, the public key is another merchant's, the merchant is not known yet, Sezzle
    /// does not say whether the shop may sell, or callers named too many shops.
    pub async fn exchange(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        (caller, issued): (Option<&KnownCaller>, Option<Issued>),
        now: Now,
    ) -> Result<CallerResponse, ProxyError> {
        let keys = if body.is_empty() {
            Keys::default()
        } else {
            serde_json::from_slice(body)
                .map_err(|_| ProxyError::Malformed("the body is not a JSON object with public_key and private_key"))?
        };
        // A placeholder is accepted. A real key that is not the sidecar's means that the caller expects to act for
        // another merchant.
        let is_foreign = |key: String| looks_real(&key) && !self.tokens.is_our_public_key(key.trim());
        if issued.is_none() && keys.public_key.is_some_and(is_foreign) {
            return Err(ProxyError::ForeignKeys);
        }
        match Shop::new(keys.cancel_url, platform(headers)?) {
            None => self.metrics.caller_exchanges.with_label_values(&["placeholder"]).inc(),
            Some(shop) => match self.shops.ask(&shop, caller.map(|known| known.caller.name.as_str())).await {
                Ok(Verdict::Granted) => {}
                Ok(Verdict::Other(refusal)) if shop.is_named() || refusal.is_final() => {
                    return Ok(self.pass_on(refusal));
                }
                Err(NoVerdict::Failed(cause)) if shop.is_named() => return Err(ProxyError::Upstream(cause)),
                Err(NoVerdict::Busy) if shop.is_named() => return Err(ProxyError::Overloaded),
                Err(NoVerdict::TooOften(wait)) if shop.is_named() => return Err(ProxyError::TooManyShops(wait)),
                Ok(Verdict::Other(_)) | Err(_) => {}
            },
        }
        self.token(issued, now).await
    }

    /// An answer with a token, as Sezzle gives one.
    async fn token(&self, issued: Option<Issued>, now: Now) -> Result<CallerResponse, ProxyError> {
        let merchant_uuid = match self.tokens.merchant() {
            Some(merchant) => merchant,
            None => self.tokens.acquire(TOKEN_TIMEOUT).await.map_err(ProxyError::NoToken)?.merchant.clone(),
        };
        let end = issued.as_ref().map_or(now.wall.plus(LIFE), |issued| issued.end);
        let expiration_date = format_rfc3339(end).unwrap_or_default();
        let token = issued.as_ref().map_or(PLACEHOLDER, |issued| issued.token.expose());
        let answer = TokenResponse { token, expiration_date, merchant_uuid };
        let body = serde_json::to_vec(&answer).map_err(|_| ProxyError::Internal)?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Ok(CallerResponse {
            status: StatusCode::CREATED,
            headers,
            content: Content::Whole(Some(body.into())),
            source: Source::Sidecar,
            cache: CacheStatus::BYPASS,
        })
    }

    /// Sezzle's answer with its own body. The headers are cleaned as in every answer.
    fn pass_on(&self, RefusedExchange { status, mut headers, body }: RefusedExchange) -> CallerResponse {
        clean(&mut headers);
        if let Some(links) = &self.links {
            links.rewrite_headers(&mut headers);
        }
        headers.remove(CONTENT_LENGTH);
        let cache = CacheStatus { fwd_status: Some(status), ..CacheStatus::BYPASS };
        CallerResponse { status, headers, content: Content::Whole(Some(body)), source: Source::Upstream, cache }
    }
}

/// The client's description of its platform.
fn platform(headers: &HeaderMap) -> Result<Option<HeaderValue>, ProxyError> {
    let mut lines = headers.get_all(SEZZLE_PLATFORM).iter();
    match (lines.next(), lines.next()) {
        (platform, None) => Ok(platform.cloned()),
        (_, Some(_)) => Err(ProxyError::Malformed("the request has Sezzle-Platform more than once")),
    }
}

// The text tells readers of a log that this is not a token.
const PLACEHOLDER: &str = "placeholder-the-sidecar-adds-the-real-token";
// How long an exchange waits for the sidecar's first token, which names the merchant.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
// The lifetime of Sezzle's tokens.
const LIFE: Duration = Duration::from_secs(120 * 60);

#[derive(Default, Deserialize)]
struct Keys {
    public_key: Option<String>,
    cancel_url: Option<Value>,
}

#[derive(Serialize)]
struct TokenResponse<'t> {
    token: &'t str,
    expiration_date: String,
    merchant_uuid: String,
}
