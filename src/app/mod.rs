//! The composition root: the only module that knows every part.

pub mod callers;
mod certificate_keeper;
mod check_online;
mod drain;
mod error;
mod fleet;
mod fleet_files;
mod fleet_link;
mod from_settings;
mod handlers;
mod initial;
mod listeners;
mod looks;
mod materials;
pub mod reload;
mod sezzle;
mod sockets;
mod tls_files;
pub mod warnings;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::callers::{CallersInForce, Watched};
pub use self::check_online::online_check;
pub use self::drain::DrainEnd;
pub use self::error::StartError;
#[cfg(feature = "otlp")]
use self::from_settings::exporter;
pub use self::from_settings::{BUILD, forwarded, policy};
use self::from_settings::{
    about, config_keys, connect_options, forward, link_rewriter, proxy_options, session_options,
};
use self::initial::create_series;
pub use self::materials::{Blocking, Materials, check_proxy_tls, open_audit};
pub use self::sockets::Addresses;
use self::sockets::Sockets;
pub use self::tls_files::Mistake;
use self::warnings::log_warnings;
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
use crate::drift;
use crate::fleet::pod::Pod;
use crate::ops::{Ops, Unready};
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
use crate::upstream::{Upstream, tls};
use crate::webhook::Webhooks;
use crate::webhook::subscription::Parts as SubscriptionParts;

/// A running sidecar.
pub struct App {
    proxy: Arc<ArcSwap<Proxy>>,
    sessions: Arc<Sessions>,
    tokens: Arc<TokenManager>,
    ops: Ops,
    status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub addresses: Addresses,
    /// The configuration of the start, whose values hold for keys that need a restart. Boxed, because the app is moved.
    started: Box<Settings>,
    /// The configuration of the last reload.
    reloaded: Box<Settings>,
    /// The names under which the ops listener serves the status page.
    page_hosts: Arc<ArcSwap<Hosts>>,
    /// The callers in force. A new value makes the task that reads the secrets of callers read the files of that value.
    callers: watch::Sender<CallersInForce>,
    caller_rules: Rules,
    clock: Clock,
    /// The key files in force. A new value, even an equal one, makes the refresher read them.
    key_files: watch::Sender<KeyFiles>,
    stop: Stop,
    side_stop: Stop,
    connections: TaskTracker,
    writes: Writes,
    /// `None` if no file is configured.
    audit: Option<Arc<Audit>>,
    /// Fetches that continue without their callers, and webhooks that are being forwarded.
    work: TaskTracker,
    background: TaskTracker,
    background_stop: CancellationToken,
    pub supervisor: Supervisor,
    blocking: Blocking,
    /// `None` for a sidecar that is in no fleet.
    pod: Option<Arc<Pod>>,
}

/// The parts that exist before an app starts, besides its settings.
#[derive(Debug)]
pub struct Parts {
    pub workers: Workers,
    /// Sockets that a service manager passed. Each is used for its address, which is then not opened.
    pub passed: PassedSockets,
    pub blocking: Blocking,
    pub materials: Materials,
    /// The file of `audit.file`.
    pub audit: Option<OpenFile>,
}

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
        let gateway = &settings.gateway;
        log_warnings(settings, &materials);
        let tls_files = materials.tls.take();
        let Materials { keys, trust, .. } = &materials;
        if let Some(file) = &gateway.ca_file {
            let (certificates, issuers) = (trust.issuers.len(), trust.issuers.join(", "));
            tracing::info!(file = %file.display(), certificates, issuers, "the sidecar also trusts gateway.ca_file");
        }
        let connect = connect_options(gateway, tls::client_config(trust)?, &materials, &blocking)?;
        let connector = Connector::new(connect, clock.clone(), Arc::clone(&metrics));
        let certificate = connector.certificate();
        let upstream = Upstream::new(&gateway.url, connector, workers.count(), clock.clone(), Arc::clone(&metrics))?;
        let forward = forward(settings, &materials, &blocking)?;
        #[cfg(feature = "otlp")]
        let exporter = exporter(settings, &materials, &blocking, &metrics.spans)?;

        let sockets = Sockets::open(settings, passed)?;
        let addresses = Addresses::new(&sockets, settings)?;

        let merchant = settings.credentials.merchant_uuid.clone();
        let tokens = TokenManager::new(keys.clone(), merchant, clock.clone(), Arc::clone(&metrics));
        let work = TaskTracker::new();
        let pod = fleet::pod(settings, &clock, &metrics);
        let in_fleet = pod.as_ref().and_then(|pod| fleet::in_fleet(settings, pod));
        let sessions =
            SessionCache::new(session_options(settings, in_fleet), work.clone(), clock.clone(), Arc::clone(&metrics));
        let writes = Writes::default();
        let required = settings.audit.required;
        let audit = audit.map(|file| Audit::start(file, required, clock.clone(), Arc::clone(&metrics)));
        let audit = audit.transpose().map_err(StartError::Thread)?;
        let (drift, drift_watch) = drift::drift(Arc::clone(&metrics));
        let dependencies = Dependencies {
            sessions: Arc::clone(&sessions),
            upstream: upstream.clone(),
            tokens: Arc::clone(&tokens),
            links: link_rewriter(settings, &addresses.proxy),
            writes: writes.clone(),
            audit: audit.clone(),
            drift: drift.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        let caller_rules = callers::rules(settings, workers.count());
        let none = CallersInForce::default();
        let callers = CallersInForce::new(&settings.callers, materials.callers.clone(), &caller_rules, &none, &clock);
        callers.create_series(&metrics);
        let proxy = Proxy::new(workers.count(), proxy_options(settings, &callers), dependencies);
        let proxy = Arc::new(ArcSwap::from_pointee(proxy));
        let proxy_now = Arc::clone(&proxy);
        let forget = move || proxy_now.load().reset();
        let control = Control::new(Arc::clone(&sessions), forget, Arc::clone(&metrics));
        let webhooks = Webhooks::new(
            settings.webhooks.path.clone(),
            forward,
            Arc::clone(&sessions),
            Arc::clone(&tokens),
            (work.clone(), drift),
            clock.clone(),
            Arc::clone(&metrics),
        );
        let observed = (Arc::clone(&proxy), pod.clone());
        let ops = Ops::new(Arc::clone(&metrics), Arc::clone(&tokens), move || {
            observed.0.load().observe();
            observed.1.iter().for_each(|pod| pod.observe());
        });
        let about = about(settings, trust, &addresses);
        let keys = config_keys(in_force(settings, settings));
        let certificates = (certificate, SeenCertificate::default());
        let shown = certificates.1.clone();
        let status = Status::new(about, keys, ops.clone(), Arc::clone(&tokens), certificates, clock.clone());
        status.set_callers(callers.states());
        let status = Arc::new(status);
        let (key_files, new_key_files) = watch::channel(materials.files.clone());
        let (callers, new_callers) = watch::channel(callers);
        let background = TaskTracker::new();
        let supervisor = Supervisor::new(background.clone(), metrics.task_restarts.clone());

        let app = Self {
            proxy,
            sessions,
            tokens: Arc::clone(&tokens),
            ops,
            status: Arc::clone(&status),
            metrics,
            addresses,
            started: Box::new(settings.clone()),
            reloaded: Box::new(settings.clone()),
            page_hosts: Arc::new(ArcSwap::from_pointee(Hosts::new(&settings.proxy.hosts))),
            callers,
            caller_rules,
            clock: clock.clone(),
            key_files,
            stop: Stop::default(),
            side_stop: Stop::default(),
            connections: TaskTracker::new(),
            writes,
            audit,
            work,
            background,
            background_stop: CancellationToken::new(),
            supervisor,
            blocking,
            pod,
        };
        sezzle::keep_drift_watch(&app.supervisor, &app.background_stop, drift_watch);
        let parts = SubscriptionParts::new(&upstream, &tokens, &clock, &app.metrics);
        sezzle::keep_subscription(&app.supervisor, &app.background_stop, settings, parts);
        app.run_refresher(upstream, new_key_files);
        let watched = Watched { in_force: new_callers, threads: app.blocking.files.clone(), clock: clock.clone() };
        callers::keep(&app.supervisor, watched, &app.metrics, &app.background_stop);
        let tls = tls_files.map(|files| app.keep_certificate(files, shown, clock.clone())).transpose()?;
        app.join_fleet(settings, materials.fleet, materials.fleet_keys);
        #[cfg(feature = "otlp")]
        if let Some(exporter) = exporter {
            app.keep_exporter(exporter);
        }
        let (watched, stop) = (Arc::clone(&status), app.background_stop.clone());
        app.supervisor.keep("status_history", None, move |_| Arc::clone(&watched).watch(stop.clone()));
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

    #[cfg(feature = "otlp")]
    fn keep_exporter(&self, exporter: Exporter) {
        let (exporter, stop) = (Arc::new(tokio::sync::Mutex::new(exporter)), self.background_stop.clone());
        self.supervisor.keep("span_exporter", None, move |_| {
            let (exporter, stop) = (Arc::clone(&exporter), stop.clone());
            async move { exporter.lock().await.run(stop).await }
        });
    }

    /// Opens `audit.file` anew and writes to the file that has this name now, so that the file can be rotated.
    pub fn reopen_audit(&self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// Why the sidecar is not ready; `None` if it is.
    pub fn unready(&self) -> Option<Unready> {
        self.ops.unready()
    }

    /// Waits for the first token, which is the last condition of readiness.
    pub async fn first_token(&self) {
        self.tokens.first_token().await;
    }
}
