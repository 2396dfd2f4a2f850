//! The validated configuration: every value has its final type, and nothing in here needs checking again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::address::Address;
use crate::secret::{Secret, SecretSource};
use crate::telemetry::log::Format;
use crate::telemetry::metrics::words;

/// Everything the program can be told, after defaults were filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The way out to Sezzle.
    pub gateway: GatewaySettings,
    /// The merchant's keys.
    pub credentials: CredentialSettings,
    /// The listener that services call.
    pub proxy: ProxySettings,
    /// The end of the process after SIGTERM.
    pub drain: DrainSettings,
    /// Bounds on what callers may take.
    pub limits: LimitSettings,
    /// The listener that controls the process.
    pub control: ControlSettings,
    /// Metrics and health.
    pub ops: OpsSettings,
    /// The session cache.
    pub cache: CacheSettings,
    /// Rewriting of `links[].href`.
    pub links: LinkSettings,
    /// The listener that Sezzle posts to.
    pub webhooks: WebhookSettings,
    /// Logging.
    pub log: LogSettings,
    /// Traces.
    pub otlp: OtlpSettings,
    /// The values by key, for a comparison with another configuration.
    pub(super) understood: BTreeMap<&'static str, Understood>,
}

/// The parsed value of a key, whatever its spelling and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    /// The output of `Debug`.
    Plain(String),
    /// The secret itself, not its source.
    Secret(Secret),
}

/// `gateway.*`
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Which of Sezzle's gateways the keys belong to.
    pub environment: Environment,
    /// Scheme and authority requests are sent to, without a trailing slash: the environment's own, or the override.
    pub url: String,
    /// Further trust anchors in PEM.
    pub ca_file: Option<PathBuf>,
    /// Bound on one TCP connection attempt.
    pub connect_timeout: Duration,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// The proxy that connections are made through.
    pub egress_proxy: Option<EgressProxySettings>,
    /// Until the head of an answer to a safe call.
    pub read_timeout: Duration,
    /// Until the head of an answer to a write.
    pub write_timeout: Duration,
    /// Until the head of a report.
    pub report_timeout: Duration,
}

/// `gateway.egress_proxy*`
#[derive(Clone, Debug)]
pub struct EgressProxySettings {
    /// Scheme and authority, without a trailing slash.
    pub url: String,
    /// User and password, with a colon between them.
    pub credentials: Option<SecretSource>,
}

words! {
    /// `gateway.environment`
    pub enum Environment {
        /// US and Canada, test money.
        Sandbox = "sandbox",
        /// US and Canada.
        Production = "production",
        /// Europe, test money.
        SandboxEu = "sandbox-eu",
        /// Europe.
        ProductionEu = "production-eu",
    }
}

impl Environment {
    /// A warning about this environment, if there is one.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Sandbox | Self::Production => None,
            Self::SandboxEu | Self::ProductionEu => Some(
                "Sezzle no longer documents its European environments, and removed them from its own plugins in 2024; \
                 ask Sezzle whether this environment still serves you",
            ),
        }
    }

    /// Scheme and authority of this gateway.
    pub fn url(self) -> &'static str {
        match self {
            Self::Sandbox => "https://sandbox.gateway.sezzle.com",
            Self::Production => "https://gateway.sezzle.com",
            Self::SandboxEu => "https://sandbox.gateway.eu.sezzle.com",
            Self::ProductionEu => "https://gateway.eu.sezzle.com",
        }
    }
}

/// `credentials.*`
#[derive(Clone, Debug)]
pub struct CredentialSettings {
    /// The public half of the key pair.
    pub public_key: SecretSource,
    /// The private half of the key pair.
    pub private_key: SecretSource,
    /// The only merchant the keys may authenticate as.
    pub merchant_uuid: Option<String>,
}

/// `proxy.*`
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Addresses to listen on; at least one.
    pub listen: Vec<Address>,
    /// The mode of the files of Unix sockets.
    pub socket_mode: u32,
    /// Further `Host` values that callers may use, with or without a port.
    pub hosts: Vec<String>,
    /// Whether `X-Sezzle-Request-Id` and `Idempotency-Key` are read as `Sezzle-Request-Id`.
    pub normalise_request_id: bool,
    /// How calls that return card data are treated.
    pub card_data: CardData,
    /// Threads that serve requests; at least one.
    pub workers: usize,
}

/// `proxy.card_data`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardData {
    /// Such calls are refused.
    Refuse,
    /// Such calls are sent once, and the answer is passed on.
    Forward,
}

/// `drain.*`
#[derive(Clone, Debug)]
pub struct DrainSettings {
    /// How long connections are still accepted after SIGTERM.
    pub grace: Duration,
    /// From SIGTERM to the hard end.
    pub timeout: Duration,
}

/// `limits.*`
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// Open connections on the proxy listener.
    pub connections: usize,
    /// Calls of one class under way to Sezzle, and as many whose body is being received.
    pub in_flight: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of a request's head.
    pub head: usize,
}

/// `control.*`
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Where the process can be controlled; nowhere unless set.
    pub listen: Option<Address>,
}

/// `ops.*`
#[derive(Clone, Debug)]
pub struct OpsSettings {
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Whether the status page is served there, too.
    pub status_page: bool,
}

/// `cache.*`
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Bodies, keys and bookkeeping together, in bytes.
    pub max_bytes: u64,
    /// Longest lifetime of any entry.
    pub max_ttl: Duration,
    /// Lifetime of a session without `tokenize` for which Sezzle names no lifetime either.
    pub untokenized_ttl: Duration,
    /// How long before `tokenize.expiration` an entry becomes stale.
    pub expiration_margin: Duration,
    /// Whether the origin's `no-store`, `no-cache` and `max-age=0` are obeyed.
    pub origin_cache_control: OriginCacheControl,
    /// How long a stale entry may be served when Sezzle fails.
    pub stale_if_error: Duration,
}

/// `cache.origin_cache_control`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginCacheControl {
    /// Obey it.
    Honor,
    /// Store even answers that Sezzle marks `no-store`, `no-cache` or `max-age=0`.
    Ignore,
}

/// `links.*`
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Whether links to the gateway are rewritten.
    pub rewrite: bool,
    /// The base URL of rewritten links, without a trailing slash; `None` for the first address of `proxy.listen` as
    /// bound.
    pub base_url: Option<String>,
}

/// `webhooks.*`
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where Sezzle's posts are received; nowhere unless set.
    pub listen: Option<Address>,
    /// The only path that accepts them.
    pub path: String,
    /// The service that they are handed on to; none unless set.
    pub forward: Option<ForwardSettings>,
}

/// `webhooks.forward_*`
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// A whole URL: https, or http to a loopback address.
    pub url: String,
    /// The secret that signs webhooks that are handed on.
    pub secret: Option<SecretSource>,
}

/// `log.*`
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// One JSON object per line, or text for people.
    pub format: Format,
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// One of this many hits is logged; at least 1.
    pub sample_hits: u64,
}

/// `otlp.*`
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where spans are exported to, the whole URL; nowhere unless set.
    pub endpoint: Option<String>,
    /// One of this many requests without a trace of its caller's begins a trace; at least 1.
    pub sample: u64,
}
