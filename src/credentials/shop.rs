//! Exchanges the keys on behalf of one shop. A client that names its shop (`cancel_url`) or its platform
//! (`Sezzle-Platform`) asks whether that shop may sell with these keys. Only Sezzle knows, so the sidecar asks Sezzle
//! with its own keys. The token in a positive response stays here and is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::TokenManager;
use super::exchange::{MAX_ANSWER, TokenResponse, outgoing};
use super::keys::KeyPair;
use super::pace::Pace;
use crate::clock::{Clock, Deadline, Now};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};

/// The platform of a client: base64 of its name and versions.
pub const SEZZLE_PLATFORM: HeaderName = HeaderName::from_static("sezzle-platform");

/// The client's description of its shop.
#[derive(Clone)]
pub struct Shop {
    /// The shop's address, as the client wrote it.
    cancel_url: Option<Value>,
    platform: Option<HeaderValue>,
}

/// Sezzle's judgement of a shop.
#[derive(Clone)]
pub enum Verdict {
    /// The shop may sell with these keys.
    Granted,
    /// Sezzle's response without a token.
    Other(RefusedExchange),
}

/// Sezzle's response to an exchange, without a token.
#[derive(Clone)]
pub struct RefusedExchange {
    pub status: StatusCode,
    /// The headers, as received.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no verdict on a shop.
#[derive(Clone)]
pub enum NoVerdict {
    Failed(UpstreamError),
    /// The sidecar asks Sezzle about too many shops at this moment.
    Busy,
    /// Callers asked about too many shops lately. The next exchange may begin after this time.
    TooOften(Duration),
}

/// Asks Sezzle about shops, one exchange at a time for each shop, and remembers the verdicts for a while.
pub struct Shops {
    upstream: Upstream,
    tokens: Arc<TokenManager>,
    clock: Clock,
    metrics: Arc<Metrics>,
    slots: StdMutex<HashMap<Id, Arc<Slot>>>,
    pace: StdMutex<Pace>,
}

/// A digest of the shop's description: of fixed size, and without an address in memory.
type Id = [u8; 32];

/// The holder of the lock asks Sezzle; the others find its result.
type Slot = Mutex<Option<Known>>;

struct Known {
    answer: Result<Verdict, NoVerdict>,
    until: Deadline,
    keys: Arc<KeyPair>,
}

impl Known {
    fn holds(&self, keys: &Arc<KeyPair>, now: Now) -> bool {
        Arc::ptr_eq(&self.keys, keys) && !self.until.passed(now)
    }
}

impl Shop {
    /// `None` if nothing describes the shop. An empty address counts as absent.
    pub fn new(cancel_url: Option<Value>, platform: Option<HeaderValue>) -> Option<Self> {
        let cancel_url = cancel_url.filter(|url| !url.is_null() && *url != "");
        let platform = platform.filter(|platform| !platform.is_empty());
        (cancel_url.is_some() || platform.is_some()).then_some(Self { cancel_url, platform })
    }

    /// Whether the client named the shop, so that only Sezzle can answer.
    pub fn is_named(&self) -> bool {
        self.cancel_url.is_some()
    }

    fn id(&self) -> Option<Id> {
        let url = self.cancel_url.as_ref().map(Value::to_string).unwrap_or_default();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&u64::try_from(url.len()).ok()?.to_le_bytes());
        context.update(url.as_bytes());
        context.update(self.platform.as_ref().map_or(&[][..], HeaderValue::as_bytes));
        context.finish().as_ref().try_into().ok()
    }
}

impl RefusedExchange {
    /// Whether this is Sezzle's final judgement of keys or shop: errors in Sezzle's format, and no temporary status.
    pub fn is_final(&self) -> bool {
        let for_now = matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        self.status.is_client_error() && !for_now && self.body.trim_ascii_start().starts_with(b"[")
    }

    /// Whether the refusal is about the shop, and therefore the same for each of its exchanges.
    fn is_of_shop(&self) -> bool {
        let errors = serde_json::from_slice::<Vec<Value>>(&self.body).unwrap_or_default();
        self.is_final() && errors.iter().any(|error| error["code"] == "unauthed_checkout_url")
    }
}

impl Shops {
    pub fn new(upstream: Upstream, tokens: Arc<TokenManager>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { upstream, tokens, clock, metrics, slots: StdMutex::default(), pace: StdMutex::default() }
    }

    /// Sezzle's verdict on a shop, remembered or from a new exchange. `caller` is the name of the caller that asks, if
    /// `[[callers]]` are configured.
    pub async fn ask(&self, shop: &Shop, caller: Option<&str>) -> Result<Verdict, NoVerdict> {
        let asked = timeout(EXCHANGE_TIMEOUT, self.known_or_asked(shop, caller)).await;
        let (answer, remembered) = asked.unwrap_or_else(|_| {
            let detail = "Sezzle did not answer the exchange for a shop in time".to_owned();
            (Err(NoVerdict::Failed(UpstreamError::timeout(detail))), false)
        });
        let result = match &answer {
            _ if remembered => "remembered",
            Ok(Verdict::Granted) => "granted",
            Ok(Verdict::Other(refusal)) if refusal.is_final() => "refused",
            Err(NoVerdict::TooOften(_)) => "rate_limited",
            Ok(Verdict::Other(_)) | Err(NoVerdict::Failed(_) | NoVerdict::Busy) => "failed",
        };
        self.metrics.caller_exchanges.with_label_values(&[result]).inc();
        answer
    }

    /// The verdict, and whether it was remembered.
    async fn known_or_asked(&self, shop: &Shop, caller: Option<&str>) -> (Result<Verdict, NoVerdict>, bool) {
        let Some(slot) = shop.id().and_then(|id| self.slot(id)) else { return (Err(NoVerdict::Busy), false) };
        let mut known = slot.lock().await;
        let keys = self.tokens.keys();
        if let Some(known) = known.as_ref().filter(|known| known.holds(&keys, self.clock.now())) {
            return (known.answer.clone(), true);
        }
        let taken = self.pace.lock().unwrap_or_else(PoisonError::into_inner).take(caller, self.clock.mono());
        if let Err(wait) = taken {
            return (Err(NoVerdict::TooOften(wait)), false);
        }
        let answer = self.exchange(shop, &keys).await.map_err(NoVerdict::Failed);
        let life = match &answer {
            Ok(Verdict::Granted) => GRANTED,
            Ok(Verdict::Other(refusal)) if refusal.is_of_shop() && refusal.body.len() <= MAX_KEPT => REFUSED,
            // Long enough for the callers that have been waiting for this answer.
            Ok(Verdict::Other(_)) | Err(_) => FAILED,
        };
        let until = Deadline::after(self.clock.now(), life);
        *known = Some(Known { answer: answer.clone(), until, keys });
        (answer, false)
    }

    /// The slot of a shop; `None` when all slots are in use.
    fn slot(&self, id: Id) -> Option<Arc<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&id) {
            return Some(Arc::clone(slot));
        }
        if slots.len() >= MOST_SHOPS {
            let (now, keys) = (self.clock.now(), self.tokens.keys());
            let in_use = |slot: &Arc<Slot>| Arc::strong_count(slot) > 1;
            let live =
                |slot: &Slot| slot.try_lock().is_ok_and(|known| known.as_ref().is_some_and(|k| k.holds(&keys, now)));
            slots.retain(|_, slot| in_use(slot) || live(slot));
            if slots.len() >= MOST_SHOPS {
                let any = *slots.iter().find(|(_, slot)| !in_use(slot))?.0;
                slots.remove(&any);
            }
        }
        Some(Arc::clone(slots.entry(id).or_default()))
    }

    async fn exchange(&self, shop: &Shop, keys: &KeyPair) -> Result<Verdict, UpstreamError> {
        let unusable = |what: &str| {
            UpstreamError::new(ErrorKind::Protocol, Sent::Maybe, format!("the exchange for a shop: {what}"))
        };
        let Shop { cancel_url, platform } = shop;
        let outgoing = outgoing(keys, cancel_url.as_ref());
        let mut outgoing = outgoing.ok_or_else(|| unusable("the keys cannot be written as JSON"))?;
        outgoing.headers.extend(platform.clone().map(|platform| (SEZZLE_PLATFORM, platform)));
        let (head, body) = self.upstream.send(&mut outgoing).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_| unusable("the answer broke off or is too large"))?.to_bytes();
        if !head.status.is_success() {
            return Ok(Verdict::Other(RefusedExchange { status: head.status, headers: head.headers, body }));
        }
        let answer: TokenResponse = serde_json::from_slice(&body).map_err(|_| unusable("the answer holds no token"))?;
        let (token, merchant) = (Zeroizing::new(answer.token), answer.merchant_uuid.unwrap_or_default());
        if token.is_empty() {
            return Err(unusable("the answer holds no token"));
        }
        match self.tokens.merchant() {
            Some(ours) if !ours.eq_ignore_ascii_case(&merchant) => Err(unusable("the answer names another merchant")),
            _ => Ok(Verdict::Granted),
        }
    }
}

/// How long a verdict counts. A client may ask before each of its calls.
const GRANTED: Duration = Duration::from_secs(10 * 60);
// Short, so that a newly admitted shop need not wait.
const REFUSED: Duration = Duration::from_secs(60);
const FAILED: Duration = Duration::from_secs(1);
/// One exchange takes at most 6 s, and its caller may first wait as long for the exchange of another caller.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(12);
const MOST_SHOPS: usize = 128;
// An error of Sezzle's takes some hundred bytes.
const MAX_KEPT: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shop(url: Value, platform: &'static str) -> Option<Shop> {
        Shop::new(Some(url), Some(HeaderValue::from_static(platform)))
    }

    #[test]
    fn a_shop_is_known_by_all_that_is_said_of_it() {
        assert!(shop(Value::Null, "").is_none() && shop(json!(""), "").is_none());
        let shops = [
            shop(json!("https://a.example"), ""),
            shop(json!("https://b.example"), ""),
            shop(json!("https://a.example"), "x"),
            shop(Value::Null, "x"),
            shop(Value::Null, "\"https://a.example\""),
        ];
        let ids: Vec<Id> = shops.iter().map(|shop| shop.as_ref().and_then(Shop::id).expect("a shop")).collect();
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == id), Some(at));
        }
        let named: Vec<bool> = shops.iter().flatten().map(Shop::is_named).collect();
        assert_eq!(named, [true, true, true, false, false]);
    }

    #[test]
    fn what_is_sezzles_own_word() {
        let errors = r#" [{"code":"unauthed_checkout_url","message":"https://checkout.example/1"}]"#;
        for (status, body, is_final, is_of_shop) in [
            (401, errors, true, true),
            (422, errors, true, true),
            (401, r#"[{"code":"unauthorized"}]"#, true, false),
            (403, "<html>blocked</html>", false, false),
            (429, errors, false, false),
            (500, errors, false, false),
            (404, "", false, false),
            (400, "[", true, false),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let refusal =
                RefusedExchange { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
            assert_eq!((refusal.is_final(), refusal.is_of_shop()), (is_final, is_of_shop), "{status} {body}");
        }
    }
}
