//! All facts on the page, at one moment.

use std::time::Duration;

use super::history::Hour;
use crate::clock::Wall;
use crate::telemetry::metrics::ConfigReload;
use crate::telemetry::recent_errors::RecentError;
use crate::telemetry::unknown_writes::UnknownWrite;
use crate::upstream::certificate::Certificate;

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub now: Wall,
    /// Time since the process started.
    pub uptime: Duration,
    pub about: About,
    /// Whether this snapshot has the identifiers of the merchant, of requests and of orders.
    pub has_identifiers: bool,
    /// The merchant that the keys belong to, once known.
    pub merchant: Option<String>,
    /// Why the sidecar is not ready; `None` if it is.
    pub unready: Option<String>,
    pub draining: bool,
    pub token: TokenState,
    /// Why the pair in the changed key files is not in use, as a word of `secret_reloads_total`; `None` if the pair is
    /// in use.
    pub unused_keys: Option<&'static str>,
    /// Sezzle's clock less this machine's, in seconds.
    pub clock_skew: i64,
    pub classes: Vec<ClassState>,
    /// The listeners that are open.
    pub listeners: Vec<ListenerState>,
    pub sessions: u64,
    pub session_bytes: u64,
    pub in_flight: u64,
    pub process: ProcessState,
    pub hour: Hour,
    pub log_level: &'static str,
    pub configuration: Configuration,
    pub upstream: UpstreamConnections,
    /// `None` without the webhook listener.
    pub webhooks: Option<WebhookState>,
    /// Whether Sezzle had our webhook subscription at the last look; `None` if `webhooks.subscription` is `off`.
    pub subscribed: Option<bool>,
    /// The certificates of the gateway, if it showed any, of `gateway.ca_file`, and of `proxy.tls`.
    pub certificates: Vec<CertificateState>,
    /// Whether the files of `proxy.tls` cannot be used, and those before them stay in use.
    pub tls_files_unusable: bool,
    /// Callers whose changed secrets cannot be used, so that those before them stay in use.
    pub caller_secrets_unusable: u32,
    /// The latest writes whose outcome is unknown, the latest first.
    pub unknown_writes: Vec<UnknownWrite>,
    /// Empty without `[[callers]]`.
    pub known_callers: Vec<CallerState>,
    /// `None` for a sidecar that is in no fleet.
    pub fleet: Option<FleetLink>,
    /// Recent errors, the latest first.
    pub recent_errors: Vec<RecentError>,
}

impl Snapshot {
    /// Removes the facts that only operators may see: the identifiers of the merchant, of requests and of orders, the
    /// path of the service to which webhooks go, which may hold a token, and the marks and bounds of callers.
    pub fn without_identifiers(mut self) -> Self {
        self.has_identifiers = false;
        self.merchant = None;
        for entry in self.configuration.keys.iter_mut().filter(|entry| entry.is_for_operators) {
            entry.value = entry.value.as_ref().map(|_| format!("{LEFT_OUT:?}"));
        }
        if let Some(url) = self.webhooks.as_mut().and_then(|webhooks| webhooks.forward_to.as_mut()) {
            url.truncate(origin(url).len());
        }
        for caller in &mut self.known_callers {
            LEFT_OUT.clone_into(&mut caller.told_by);
            caller.max_amount = caller.max_amount.as_ref().map(|_| LEFT_OUT.to_owned());
        }
        self.recent_errors.iter_mut().for_each(|error| error.request_id = None);
        for write in &mut self.unknown_writes {
            (write.order, write.sezzle_request_id) = (None, None);
            write.request_id.clear();
        }
        self
    }
}

const LEFT_OUT: &str = "[left out]";

/// A URL up to its path.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + "://".len());
    let path = url.get(host..).and_then(|rest| rest.find('/'));
    path.and_then(|at| url.get(..host + at)).unwrap_or(url)
}

/// Facts that do not change while the process runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The name of the pod or of the machine.
    pub host: String,
    /// Version, commit and compiler.
    pub build: &'static str,
    /// `gateway.environment`.
    pub environment: &'static str,
    /// `gateway.url`.
    pub gateway: String,
    /// `cache.max_bytes`.
    pub cache_bytes: u64,
    /// `webhooks.forward_to`.
    pub forward_to: Option<String>,
    /// The certificates of `gateway.ca_file`.
    pub authorities: Vec<CertificateState>,
    /// The addresses of each open listener, by the words of `connections`.
    pub listeners: Vec<(&'static str, Vec<String>)>,
    /// The server of `fleet.url`, or the Sentinels that know it; `None` without a fleet.
    pub fleet: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// Resident memory in bytes.
    pub resident: u64,
    pub open_files: u64,
    /// How many files may be open.
    pub most_files: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Time left and time of expiry; `None` without a live token.
    pub left: Option<(Duration, Wall)>,
    /// How the last token exchange failed; `None` if the exchange succeeded.
    pub failure: Option<String>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Every key, in the order of the sections. Secrets are redacted.
    pub keys: Vec<ConfigKey>,
    /// When the last reload was, and how it ended; `None` without a reload.
    pub last: Option<(Wall, ConfigReload)>,
    /// Keys that a reload has changed and that keep their values until a restart.
    pub waiting: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    pub key: &'static str,
    /// The value as TOML; `None` if the key is not set.
    pub value: Option<String>,
    /// The file or the variable that sets the value, or `default`.
    pub source: String,
    /// Whether only operators may see the value.
    pub is_for_operators: bool,
}

/// Connections to Sezzle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamConnections {
    pub open: u64,
    /// Calls under way on these connections.
    pub active: u64,
    /// Calls that wait for a connection.
    pub waiting: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookState {
    /// The time of the last webhook that Sezzle signed; `None` without one since the start.
    pub last: Option<Wall>,
    pub forward_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateState {
    /// `the gateway`, or the key of the configuration that names the file.
    pub whose: &'static str,
    pub subject: String,
    pub issuer: String,
    pub not_after: Wall,
}

/// A caller of the configuration. The counts begin at the start, or at the reload that brought the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerState {
    pub name: String,
    /// The caller's marks, in words.
    pub told_by: String,
    /// The words of `allow`.
    pub allow: String,
    /// `max_amount`, if there is one.
    pub max_amount: Option<String>,
    /// Calls that the caller may not make.
    pub not_allowed: u64,
    /// Calls over the caller's `max_amount`.
    pub over_limit: u64,
}

/// A listener and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerState {
    pub name: &'static str,
    pub addresses: Vec<String>,
    pub connections: u64,
    /// Connections that may be open at once.
    pub limit: u64,
}

/// The link to the fleet's server. The counts begin at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetLink {
    pub server: String,
    pub state: &'static str,
    /// Time since the last poll that confirmed memory, or since the start without one.
    pub age: Duration,
    /// Entries that other sidecars may not know.
    pub unpublished: u64,
    /// Time for which there has been an entry that other sidecars may not know.
    pub unpublished_for: Duration,
    pub rejoins: u64,
    /// Lookups that were answered from memory that was not confirmed.
    pub unconfirmed: u64,
}

/// The limits of one class of calls, and whether its calls are held back from Sezzle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassState {
    pub class: &'static str,
    /// Permits that calls to Sezzle have taken, and all permits.
    pub permits: (u64, u64),
    /// Calls that wait for a permit, and the most that may wait.
    pub queue: (u64, u64),
    /// `None` for a class without a breaker, such as `money`.
    pub breaker: Option<Breaker>,
    /// The end of the hold after a 429 of Sezzle; `None` without a hold.
    pub held_until: Option<Wall>,
}

impl ClassState {
    /// Whether the breaker holds calls of the class back, or lets them through as trials only.
    pub fn is_broken(&self) -> bool {
        self.breaker.is_some_and(|breaker| breaker != Breaker::Closed)
    }
}

/// State of a circuit breaker, read from its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    Closed,
    Open,
    /// One call is sent as a trial.
    HalfOpen,
}

impl CertificateState {
    pub fn new(whose: &'static str, certificate: &Certificate) -> Self {
        let Certificate { subject, issuer, not_after, .. } = certificate.clone();
        Self { whose, subject, issuer, not_after }
    }
}
