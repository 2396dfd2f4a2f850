//! The status page: the facts that an operator needs first. One HTML page that loads nothing else, the same as plain
//! text, and the same as JSON.
//!
//! The page changes nothing and costs requests nothing: a task of its own reads the metrics every 30 s, and each view
//! of the page reads them once more. Read next: [`snapshot`] for every fact, [`verdict`] for the remarks on trouble,
//! [`content`] for the words, [`page`], [`text`] and [`json`] for the three forms, [`history`] for the last hour.

pub mod callers;
pub mod chart;
pub mod content;
pub mod counts;
mod elementwise;
mod gauges;
pub mod history;
pub mod html;
pub mod json;
mod lasting;
pub mod page;
pub mod quantile;
pub mod serve;
pub mod snapshot;
pub mod text;
pub mod verdict;
pub mod words;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use self::counts::Counts;
use self::history::History;
use self::lasting::Lasting;
use self::snapshot::{
    About, CallerState, CertificateState, ConfigKey, Configuration, Snapshot, TokenState, WebhookState,
};
use crate::clock::{Clock, Now};
use crate::credentials::TokenManager;
use crate::ops::Ops;
use crate::telemetry::log;
use crate::telemetry::metrics::reading::series;
use crate::telemetry::metrics::{ConfigReload, Metrics};
use crate::upstream::connector::SeenCertificate;

/// The sources of the page's facts, and the history of the last hour.
pub struct Status {
    about: About,
    ops: Ops,
    tokens: Arc<TokenManager>,
    gateway_certificate: SeenCertificate,
    /// The certificate of `proxy.tls`; empty without one.
    own_certificate: SeenCertificate,
    configuration: ArcSwap<Configuration>,
    /// The callers in force, without their counts.
    callers: ArcSwap<Vec<CallerState>>,
    observed: Mutex<Observed>,
    started: Now,
    clock: Clock,
}

/// The results of all observations so far.
struct Observed {
    history: History,
    unpublished: Lasting,
    unpublished_for: Duration,
}

impl Status {
    /// Collects facts from these parts, from now on. `keys` has the configuration in force.
    pub fn new(
        about: About,
        keys: Vec<ConfigKey>,
        ops: Ops,
        tokens: Arc<TokenManager>,
        (gateway_certificate, own_certificate): (SeenCertificate, SeenCertificate),
        clock: Clock,
    ) -> Self {
        let started = clock.now();
        let history = History::new(Counts::default(), started.mono);
        let observed =
            Mutex::new(Observed { history, unpublished: Lasting::default(), unpublished_for: Duration::ZERO });
        let configuration = ArcSwap::from_pointee(Configuration { keys, ..Configuration::default() });
        let callers = ArcSwap::default();
        Self {
            about,
            ops,
            tokens,
            gateway_certificate,
            own_certificate,
            configuration,
            callers,
            observed,
            started,
            clock,
        }
    }

    /// Reads the metrics every 30 s, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                self.clock.sleep(INTERVAL).await;
                self.observe(self.ops.fresh_metrics(), self.clock.now(), |_| ());
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// All facts on the page, with identifiers.
    pub fn snapshot(&self) -> Snapshot {
        let (now, metrics) = (self.clock.now(), self.ops.fresh_metrics());
        let live = self.tokens.live().map(|token| (token.expires.remaining(now), token.expires.wall()));
        let (hour, unpublished_for) =
            self.observe(metrics, now, |observed| (observed.history.hour(now.mono), observed.unpublished_for));
        let listeners = gauges::listeners(metrics, &self.about);
        let has_webhooks = listeners.iter().any(|listener| listener.name == "webhooks");
        let last = metrics.last_webhook.get();
        Snapshot {
            now: now.wall,
            uptime: now.since(self.started),
            about: self.about.clone(),
            has_identifiers: true,
            merchant: self.tokens.merchant(),
            unready: self.ops.unready().map(|unready| unready.to_string()),
            draining: self.ops.is_draining(),
            token: TokenState { left: live, failure: self.ops.exchange_failure().map(|failure| failure.to_string()) },
            unused_keys: self.tokens.unused_keys(),
            clock_skew: gauges::clock_skew(metrics),
            classes: gauges::classes(metrics, now.wall),
            listeners,
            sessions: gauges::size(metrics.cache_entries.get()),
            session_bytes: gauges::size(metrics.cache_bytes.get()),
            in_flight: series(&metrics.in_flight).map(|series| series.gauge()).sum(),
            process: gauges::process(),
            hour,
            log_level: log::level().unwrap_or("none"),
            configuration: Configuration::clone(&self.configuration.load()),
            upstream: gauges::upstream(metrics),
            webhooks: has_webhooks.then(|| WebhookState { last, forward_to: self.about.forward_to.clone() }),
            subscribed: series(&metrics.webhook_subscription_present).next().map(|series| series.gauge() == 1),
            certificates: self.certificates(),
            tls_files_unusable: series(&metrics.tls_files_unusable).any(|series| series.gauge() > 0),
            caller_secrets_unusable: u32::try_from(metrics.caller_secrets_unusable.get()).unwrap_or_default(),
            unknown_writes: metrics.unknown_writes.list(),
            known_callers: gauges::callers(metrics, &self.callers.load()),
            fleet: self.about.fleet.clone().map(|server| gauges::fleet(metrics, server, unpublished_for)),
            recent_errors: metrics.recent_errors.list(),
        }
    }

    /// Notes a reload of the configuration, the keys in force since then, and the keys that wait for a restart.
    pub fn reloaded(&self, how: ConfigReload, keys: Vec<ConfigKey>, waiting: Vec<&'static str>) {
        let last = Some((self.clock.now().wall, how));
        self.configuration.store(Arc::new(Configuration { keys, last, waiting }));
    }

    /// Notes the callers that are in force from now on.
    pub fn set_callers(&self, callers: Vec<CallerState>) {
        self.callers.store(Arc::new(callers));
    }

    fn certificates(&self) -> Vec<CertificateState> {
        let shown = self.gateway_certificate.get().map(|shown| CertificateState::new("the gateway", &shown));
        let own = self.own_certificate.get().map(|own| CertificateState::new("proxy.tls.certificate_file", &own));
        shown.into_iter().chain(self.about.authorities.iter().cloned()).chain(own).collect()
    }

    /// Observes the metrics once more, and reads the results.
    fn observe<T>(&self, metrics: &Metrics, now: Now, read: impl FnOnce(&Observed) -> T) -> T {
        // The counts are read under the lock: otherwise the later of two readers could bring the earlier counts.
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.history.observe(Counts::read(metrics), now.mono);
        observed.unpublished_for = observed.unpublished.observe(gauges::unpublished(metrics) > 0, now.mono);
        read(&observed)
    }
}

// Several observations fall into each part of the hour that is kept.
const INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
