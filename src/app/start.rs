//! The start of a sidecar, stage by stage: each stage makes the parts that the later ones need.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::callers::{self, CallersInForce, Watched};
use super::error::StartError;
#[cfg(feature = "otlp")]
use super::from_settings::exporter;
use super::from_settings::{
    about, config_keys, connect_options, forward, link_rewriter, proxy_options, session_options,
};
use super::initial::create_series;
use super::materials::{Blocking, Materials, open_audit};
use super::sockets::{Addresses, Sockets};
use super::warnings::log_warnings;
use super::{App, Parts, fleet, sezzle};
use crate::audit::{Audit, OpenFile};
use crate::caller::Hosts;
use crate::callers::table::Rules;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::changes::in_force;
use crate::control::Control;
use crate::credentials::TokenManager;
use crate::credentials::keys::KeyFiles;
use crate::credentials::refresher::{self, TokenRefresher};
use crate::drift::{self, Drift, Watch};
use crate::fleet::pod::Pod;
use crate::ops::Ops;
use crate::proxy::error::ProxyError;
use crate::proxy::{Dependencies, Proxy, Sessions, Writes};
use crate::server::Stop;
use crate::server::workers::Workers;
use crate::session::SessionCache;
use crate::status::Status;
use crate::supervisor::Supervisor;
use crate::systemd::sockets::PassedSockets;
use crate::telemetry::metrics::Metrics;
#[cfg(feature = "otlp")]
use crate::telemetry::spans::export::Exporter;
use crate::upstream::connector::{Connector, SeenCertificate};
use crate::upstream::tls::Trust;
use crate::upstream::{Upstream, tls};
use crate::webhook::Webhooks;
use crate::webhook::forward::Forward;
use crate::webhook::subscription::Parts as SubscriptionParts;

impl App {
    /// Builds the parts in the order of their dependencies, and starts to serve on the current runtime.
    pub fn start(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        let blocking = Blocking::start().map_err(StartError::Thread)?;
        let materials = Materials::read(settings)?;
        let audit = open_audit(settings)?;
        let parts = Parts { workers: Workers::none(), passed: PassedSockets::default(), blocking, materials, audit };
        Self::start_with(parts, settings, clock)
    }

    /// Like [`Self::start`], with the given parts.
    pub fn start_with(parts: Parts, settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        let Parts { workers, passed, blocking, mut materials, audit } = parts;
        let metrics = Arc::new(Metrics::with_clock(clock.clone())?);
        create_series(&metrics);
        log_warnings(settings, &materials);
        log_trust(settings, &materials.trust);

        let start = Start { settings, workers: workers.count(), clock, metrics };
        let outgoing = start.outgoing(&materials, &blocking)?;
        let sockets = Sockets::open(settings, passed)?;
        let addresses = Addresses::new(&sockets, settings)?;
        let core = start.core(&materials, audit)?;
        let (callers, caller_rules) = start.callers(&materials);
        let proxy = start.proxy(&core, &outgoing.upstream, &addresses, &callers);
        let control = start.control(&core, &proxy);
        let webhooks = start.webhooks(&core, outgoing.forward);
        let ops = start.ops(&core, &proxy);
        let own_certificate = SeenCertificate::default();
        let certificates = (outgoing.certificate, own_certificate.clone());
        let about = about(settings, &materials.trust, &addresses);
        let keys = config_keys(in_force(settings, settings));
        let status = Status::new(about, keys, ops.clone(), Arc::clone(&core.tokens), certificates, start.clock.clone());
        status.set_callers(callers.states());
        let status = Arc::new(status);

        let (key_files, new_key_files) = watch::channel(materials.files.clone());
        let (callers, new_callers) = watch::channel(callers);
        let background = TaskTracker::new();
        let app = Self {
            proxy,
            sessions: core.sessions,
            tokens: core.tokens,
            ops,
            status: Arc::clone(&status),
            supervisor: Supervisor::new(background.clone(), start.metrics.task_restarts.clone()),
            metrics: start.metrics,
            addresses,
            started: Box::new(settings.clone()),
            reloaded: Box::new(settings.clone()),
            page_hosts: Arc::new(ArcSwap::from_pointee(Hosts::new(&settings.proxy.hosts))),
            callers,
            caller_rules,
            clock: start.clock,
            key_files,
            stop: Stop::default(),
            side_stop: Stop::default(),
            connections: TaskTracker::new(),
            writes: core.writes,
            audit: core.audit,
            work: core.work,
            background,
            background_stop: CancellationToken::new(),
            blocking,
            pod: core.pod,
        };
        sezzle::keep_drift_watch(&app.supervisor, &app.background_stop, core.drift_watch);
        app.keep_subscription(&outgoing.upstream);
        app.run_refresher(outgoing.upstream, new_key_files);
        app.keep_callers(new_callers);
        let tls_files = materials.tls.take();
        let tls = tls_files.map(|files| app.keep_certificate(files, own_certificate, app.clock.clone())).transpose()?;
        app.join_fleet(settings, materials.fleet, materials.fleet_keys);
        #[cfg(feature = "otlp")]
        if let Some(exporter) = outgoing.exporter {
            app.keep_exporter(exporter);
        }
        app.keep_history();
        app.serve(sockets, control, webhooks, status, settings, (workers, tls));
        Ok(app)
    }

    /// Runs the task that renews the token, and uses each new value of `key_files`.
    fn run_refresher(&self, upstream: Upstream, key_files: watch::Receiver<KeyFiles>) {
        let (tokens, threads) = (Arc::clone(&self.tokens), self.blocking.files.clone());
        let stop = self.background_stop.clone();
        self.supervisor.keep("token_keeper", Some(refresher::HANG_TIMEOUT), move |heartbeat| {
            TokenRefresher::new(Arc::clone(&tokens), upstream.clone(), key_files.clone(), threads.clone(), heartbeat)
                .run(stop.clone())
        });
    }

    fn keep_subscription(&self, upstream: &Upstream) {
        let parts = SubscriptionParts::new(upstream, &self.tokens, &self.clock, &self.metrics);
        sezzle::keep_subscription(&self.supervisor, &self.background_stop, &self.started, parts);
    }

    fn keep_callers(&self, in_force: watch::Receiver<CallersInForce>) {
        let watched = Watched { in_force, threads: self.blocking.files.clone(), clock: self.clock.clone() };
        callers::keep(&self.supervisor, watched, &self.metrics, &self.background_stop);
    }

    /// Runs the task that records the history of the status page.
    fn keep_history(&self) {
        let (status, stop) = (Arc::clone(&self.status), self.background_stop.clone());
        self.supervisor.keep("status_history", None, move |_| Arc::clone(&status).watch(stop.clone()));
    }

    #[cfg(feature = "otlp")]
    fn keep_exporter(&self, exporter: Exporter) {
        let (exporter, stop) = (Arc::new(tokio::sync::Mutex::new(exporter)), self.background_stop.clone());
        self.supervisor.keep("span_exporter", None, move |_| {
            let (exporter, stop) = (Arc::clone(&exporter), stop.clone());
            async move { exporter.lock().await.run(stop).await }
        });
    }
}

fn log_trust(settings: &Settings, trust: &Trust) {
    if let Some(file) = &settings.gateway.ca_file {
        let (certificates, issuers) = (trust.issuers.len(), trust.issuers.join(", "));
        tracing::info!(file = %file.display(), certificates, issuers, "the sidecar also trusts gateway.ca_file");
    }
}

/// The facts that every stage needs.
struct Start<'s> {
    settings: &'s Settings,
    workers: usize,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The ways out of the sidecar.
struct Outgoing {
    upstream: Upstream,
    /// The certificate that Sezzle showed last.
    certificate: SeenCertificate,
    forward: Option<Forward>,
    #[cfg(feature = "otlp")]
    exporter: Option<Exporter>,
}

/// The parts that the services share.
struct Core {
    tokens: Arc<TokenManager>,
    work: TaskTracker,
    pod: Option<Arc<Pod>>,
    sessions: Arc<Sessions>,
    writes: Writes,
    audit: Option<Arc<Audit>>,
    drift: Drift,
    drift_watch: Watch,
}

impl Start<'_> {
    fn outgoing(&self, materials: &Materials, blocking: &Blocking) -> Result<Outgoing, StartError> {
        let (gateway, clock) = (&self.settings.gateway, &self.clock);
        let connect = connect_options(gateway, tls::client_config(&materials.trust)?, materials, blocking)?;
        let connector = Connector::new(connect, clock.clone(), Arc::clone(&self.metrics));
        let certificate = connector.certificate();
        let metrics = Arc::clone(&self.metrics);
        // As many as one class of calls may have in progress. Idle connections were all in use a while ago, and files
        // are reserved for connections in use.
        let max_idle = self.settings.limits.in_flight;
        Ok(Outgoing {
            upstream: Upstream::new(&gateway.url, connector, self.workers, max_idle, clock.clone(), metrics)?,
            certificate,
            forward: forward(self.settings, materials, blocking)?,
            #[cfg(feature = "otlp")]
            exporter: exporter(self.settings, materials, blocking, &self.metrics.spans)?,
        })
    }

    fn core(&self, materials: &Materials, audit: Option<OpenFile>) -> Result<Core, StartError> {
        let Self { settings, clock, metrics, .. } = self;
        let (work, merchant) = (TaskTracker::new(), settings.credentials.merchant_uuid.clone());
        let tokens = TokenManager::new(materials.keys.clone(), merchant, clock.clone(), Arc::clone(metrics));
        let pod = fleet::pod(settings, clock, metrics);
        let in_fleet = pod.as_ref().and_then(|pod| fleet::in_fleet(settings, pod));
        let options = session_options(settings, in_fleet);
        let sessions = SessionCache::new(options, work.clone(), clock.clone(), Arc::clone(metrics));
        let required = settings.audit.required;
        let audit = audit.map(|file| Audit::start(file, required, clock.clone(), Arc::clone(metrics)));
        let audit = audit.transpose().map_err(StartError::Thread)?;
        let (drift, drift_watch) = drift::drift(Arc::clone(metrics));
        Ok(Core { tokens, work, pod, sessions, writes: Writes::default(), audit, drift, drift_watch })
    }

    fn callers(&self, materials: &Materials) -> (CallersInForce, Rules) {
        let rules = callers::rules(self.settings, self.workers);
        let (none, secrets) = (CallersInForce::default(), materials.callers.clone());
        let callers = CallersInForce::new(&self.settings.callers, secrets, &rules, &none, &self.clock);
        callers.create_series(&self.metrics);
        (callers, rules)
    }

    fn proxy(
        &self,
        core: &Core,
        upstream: &Upstream,
        addresses: &Addresses,
        callers: &CallersInForce,
    ) -> Arc<ArcSwap<Proxy>> {
        let dependencies = Dependencies {
            sessions: Arc::clone(&core.sessions),
            upstream: upstream.clone(),
            tokens: Arc::clone(&core.tokens),
            links: link_rewriter(self.settings, &addresses.proxy),
            writes: core.writes.clone(),
            audit: core.audit.clone(),
            drift: core.drift.clone(),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let proxy = Proxy::new(self.workers, proxy_options(self.settings, callers), dependencies);
        Arc::new(ArcSwap::from_pointee(proxy))
    }

    fn control(&self, core: &Core, proxy: &Arc<ArcSwap<Proxy>>) -> Control<ProxyError> {
        let proxy = Arc::clone(proxy);
        Control::new(Arc::clone(&core.sessions), move || proxy.load().reset(), Arc::clone(&self.metrics))
    }

    fn webhooks(&self, core: &Core, forward: Option<Forward>) -> Webhooks<ProxyError> {
        Webhooks::new(
            self.settings.webhooks.path.clone(),
            forward,
            Arc::clone(&core.sessions),
            Arc::clone(&core.tokens),
            (core.work.clone(), core.drift.clone()),
            self.clock.clone(),
            Arc::clone(&self.metrics),
        )
    }

    fn ops(&self, core: &Core, proxy: &Arc<ArcSwap<Proxy>>) -> Ops {
        let (proxy, pod) = (Arc::clone(proxy), core.pod.clone());
        Ops::new(Arc::clone(&self.metrics), Arc::clone(&core.tokens), move || {
            proxy.load().observe();
            pod.iter().for_each(|pod| pod.observe());
        })
    }
}
