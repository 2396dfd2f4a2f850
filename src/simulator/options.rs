//! The options of a simulated gateway. Every default imitates the sandbox as merchants see it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tokio_rustls::rustls::ServerConfig;

use super::{
    CheckoutStatus, Columns, Encoding, Errors, Links, OrderReport, TokenizeExpiration, TokenizePlace, TokenizedType,
    Upcharge, span,
};

/// The options at the start of the simulator. The credentials are invented: never put in real keys.
///
/// The fields that serde does not skip are the settings of `/_simulator/settings`, which can be changed while the
/// simulator runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Options {
    /// The address to listen on. With port 0 the system chooses a port, which [`crate::simulator::Simulator::addr`]
    /// has.
    #[serde(skip)]
    pub listen: SocketAddr,
    /// The public key that `POST /v2/authentication` accepts.
    #[serde(skip)]
    pub public_key: String,
    /// The private key that `POST /v2/authentication` accepts.
    #[serde(skip)]
    pub private_key: String,
    /// The merchant of every new token. A merchant sees only its own sessions and orders.
    #[serde(deserialize_with = "text")]
    pub merchant_uuid: String,
    /// Whether authorizations without a checkout are approved: preapprovals, and orders by customer, by reauthorization
    /// and by upcharge. If not, they are answered with 200 and `approved: false`.
    pub approving: bool,
    /// How long a bearer token issued from now on is accepted.
    #[serde(with = "span::one")]
    pub token_life: Duration,
    /// How long the tokenize part of a session created from now on claims to be valid.
    #[serde(with = "span::one")]
    pub tokenize_life: Duration,
    pub tokenize_place: TokenizePlace,
    /// Fractional digits in RFC 3339 dates, 0 to 9. A bearer token's `expiration_date` always has nine.
    #[serde(deserialize_with = "digits")]
    pub expiration_digits: u8,
    pub tokenize_expiration: TokenizeExpiration,
    /// How long after a new authorization money can be captured or released.
    #[serde(with = "span::one")]
    pub authorization_life: Duration,
    /// How long the token of a new virtual card can be read.
    #[serde(with = "span::one")]
    pub card_token_life: Duration,
    /// The answer for every feature flag.
    pub feature_flags: bool,
    /// Whether `POST /v2/session/`, with a slash at its end, creates a session. If not, it is answered 405.
    pub session_slash: bool,
    /// Whether a public key alone, by `Authorization: Basic`, is enough for some calls.
    pub public_key_calls: bool,
    /// The status of a changed express checkout: 204, or 200 as an older page has it.
    #[serde(deserialize_with = "success")]
    pub checkout_update_status: u16,
    /// The status of a test webhook: 201, or 204 as the description of 2021 has it.
    #[serde(deserialize_with = "success")]
    pub webhook_test_status: u16,
    /// Whether a second subscription of one URL is answered 409.
    pub webhook_conflict: bool,
    /// The beginning of every `links[].href`: scheme and host, without a slash at the end.
    #[serde(deserialize_with = "text")]
    pub link_base: String,
    pub links: Links,
    /// Whether the tokenize part of a session has an `approval_url`, which Sezzle has deprecated.
    pub approval_url: bool,
    /// Whether a capture without the field `partial_capture` leaves the rest authorized. If not, the rest is released.
    pub capture_keeps_rest: bool,
    pub upcharge: Upcharge,
    pub checkout_status: CheckoutStatus,
    pub order_report: OrderReport,
    /// Size of the order report in bytes, rounded up to a whole row.
    pub report_bytes: u64,
    /// Whether the order report states its length. If not, it is sent in chunks.
    pub report_length: bool,
    pub settlement_columns: Columns,
    /// Whether an unknown path is answered 404 in plain text. If not, as any other refusal.
    pub plain_404: bool,
    pub errors: Errors,
    /// The URL for the shopper of a shop that may not sell. With it an exchange that has a `cancel_url` is refused.
    pub unauthed_checkout_url: Option<String>,
    pub tokenized_data_type: TokenizedType,
    pub signature_encoding: Encoding,
    /// Seconds by which this gateway's clock is ahead of the machine's; negative for a clock that is behind. The
    /// difference moves `Date` and every date in a body, but not the moment at which a token really ends.
    pub clock_skew: i64,
    /// How long a connection may be idle before the gateway closes it; `None` for ever.
    #[serde(with = "span::option")]
    pub idle_timeout: Option<Duration>,
    /// How long to wait after each failed attempt to deliver a webhook; after the last wait comes the last attempt. A
    /// thousand waits at most are used.
    #[serde(with = "span::list")]
    pub webhook_retries: Vec<Duration>,
    /// How long the receiver of a webhook may take to answer, from the start of the connection.
    #[serde(with = "span::one")]
    pub webhook_timeout: Duration,
    /// Whether the gateway speaks HTTP/2, too: by ALPN over TLS, and by prior knowledge without TLS. Over HTTP/2 a
    /// reset at any point and a body cut short reset only their stream, [`crate::simulator::Fault::Garbage`] closes the
    /// whole connection without a farewell, and [`crate::simulator::Fault::SlowHead`] delays the whole head.
    #[serde(skip)]
    pub http2: bool,
    /// The configuration of TLS; `None` for plain HTTP.
    #[serde(skip)]
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_key: "sz_pub_simulated".to_owned(),
            private_key: "sz_pr_simulated".to_owned(),
            merchant_uuid: "5f2c1ab8-90b4-4d0e-8a3c-6d1f0e7b9a24".to_owned(),
            approving: true,
            token_life: Duration::from_secs(120 * 60),
            tokenize_life: Duration::from_secs(30 * 60),
            tokenize_place: TokenizePlace::TopLevel,
            expiration_digits: 3,
            tokenize_expiration: TokenizeExpiration::Utc,
            // Sezzle sets this time per merchant; a week is the longest in Sezzle's documents.
            authorization_life: Duration::from_secs(7 * 24 * 60 * 60),
            card_token_life: Duration::from_secs(24 * 60 * 60),
            feature_flags: true,
            session_slash: true,
            public_key_calls: true,
            checkout_update_status: 204,
            webhook_test_status: 201,
            webhook_conflict: true,
            link_base: "https://sandbox.gateway.sezzle.com".to_owned(),
            links: Links::Full,
            approval_url: true,
            capture_keeps_rest: true,
            upcharge: Upcharge::Separate,
            checkout_status: CheckoutStatus::Complete,
            order_report: OrderReport::Json,
            report_bytes: 64 * 1024,
            report_length: false,
            settlement_columns: Columns::Current,
            plain_404: true,
            errors: Errors::List,
            unauthed_checkout_url: None,
            tokenized_data_type: TokenizedType::Tokenize,
            signature_encoding: Encoding::Hex,
            clock_skew: 0,
            idle_timeout: None,
            webhook_retries: RETRY_MINUTES.map(|minutes| Duration::from_secs(minutes * 60)).to_vec(),
            webhook_timeout: Duration::from_secs(10),
            http2: false,
            tls: None,
        }
    }
}

impl Options {
    pub(super) fn settings(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(settings)) => settings,
            Ok(_) | Err(_) => Map::new(),
        }
    }

    /// Changes these settings. If one cannot be changed, changes none and says why.
    pub(super) fn change(&mut self, changes: Map<String, Value>) -> Result<(), String> {
        let mut settings = self.settings();
        for (name, value) in changes {
            // Each setting is read alone first, because an error of serde's does not name the field.
            let alone = Map::from_iter([(name.clone(), value)]);
            Self::deserialize(Value::from(alone.clone())).map_err(|error| format!("{name}: {error}"))?;
            if !settings.contains_key(&name) {
                return Err(format!("unknown setting {name:?}"));
            }
            settings.extend(alone);
        }
        let changed = Self::deserialize(Value::from(settings)).map_err(|error| error.to_string())?;
        let started = self.clone();
        let Self { listen, public_key, private_key, http2, tls, .. } = started;
        *self = Self { listen, public_key, private_key, http2, tls, ..changed };
        Ok(())
    }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() { Err(D::Error::custom("expected a text that is not empty")) } else { Ok(text) }
}

fn digits<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let digits = u8::deserialize(from).ok().filter(|digits| *digits <= 9);
    digits.ok_or_else(|| D::Error::custom("expected a number from 0 to 9"))
}

fn success<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(from).ok().filter(|status| (200..300).contains(status));
    status.ok_or_else(|| D::Error::custom("expected a status from 200 to 299"))
}

/// Sezzle retries several times within the first hour, a few times that day, then one day and three days later. The
/// exact moments are not published.
const RETRY_MINUTES: [u64; 9] = [1, 5, 15, 30, 3 * 60, 6 * 60, 12 * 60, 24 * 60, 72 * 60];
