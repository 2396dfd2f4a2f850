//! The composition root: the one file that knows every part.

mod handlers;
mod online;
mod parts;
pub mod reload;
mod sockets;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::InvalidUri;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::handlers::{ControlHandler, OpsHandler, ProxyHandler, WebhookHandler};
pub use self::online::contact;
#[cfg(feature = "otlp")]
use self::parts::exporter;
pub use self::parts::{BUILD, forwards_card_data, policy};
use self::parts::{about, connect_options, forward, key_sources, link_rewriter, proxy_options, session_options};
use self::reload::InForce;
use self::sockets::{Sockets, addresses};
use crate::address::Address;
use crate::caller::Hosts;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::DrainSettings;
use crate::control::Control;
use crate::credentials::TokenManager;
use crate::credentials::keeper::Keeper;
use crate::credentials::keys::{KeyError, KeySources};
use crate::ops::Ops;
use crate::proxy::error::ProxyError;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Forwarder;
use crate::proxy::{Proxy, Sessions, Writes, pressure};
use crate::server::connection::Timeouts;
use crate::server::socket::{BindError, Socket};
use crate::server::workers::Workers;
use crate::server::{Handler, Listener, Stop, files};
use crate::session::SessionCache;
use crate::status::{Status, StatusPage};
use crate::systemd::sockets::{PassedError, PassedSockets};
use crate::telemetry::log::millis;
use crate::telemetry::metrics::{Metrics, gauge};
#[cfg(feature = "otlp")]
use crate::telemetry::spans::export::EndpointError;
use crate::upstream::connector::Connector;
use crate::upstream::egress::EgressProxyError;
use crate::upstream::tls::{self, TlsError};
use crate::upstream::{AddressError, Upstream};
use crate::webhook::Webhooks;

/// The sidecar could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key could not be loaded.
    #[error("credentials: {0}")]
    Key(#[from] KeyError),
    /// The egress proxy's credentials could not be loaded.
    #[error("gateway.egress_proxy_credentials: {0}")]
    EgressKey(#[source] KeyError),
    /// The egress proxy cannot be used as it is described.
    #[error("gateway.egress_proxy: {0}")]
    EgressProxy(#[from] EgressProxyError),
    /// The trust anchors could not be set up.
    #[error("gateway.ca_file: {0}")]
    Tls(#[from] TlsError),
    /// The gateway's address cannot be used.
    #[error("gateway.url: {0}")]
    Address(#[from] AddressError),
    /// The secret that webhooks are handed on with could not be loaded.
    #[error("webhooks.forward_secret: {0}")]
    WebhookKey(#[source] KeyError),
    /// The service's address cannot be used.
    #[error("webhooks.forward_to: {0}")]
    ForwardTo(#[from] InvalidUri),
    /// A listener could not be opened.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// A socket that was passed does not fit the configuration.
    #[error("{0}")]
    Passed(#[from] PassedError),
    /// Spans cannot be exported to where they are to go.
    #[cfg(feature = "otlp")]
    #[error("otlp.endpoint: {0}")]
    Otlp(#[from] EndpointError),
    /// A metric is not valid.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A socket that was opened does not know its address.
    #[error("listener: {0}")]
    Socket(#[from] std::io::Error),
}

/// A running sidecar.
pub struct App {
    proxy: Arc<ArcSwap<Proxy>>,
    sessions: Arc<Sessions>,
    tokens: Arc<TokenManager>,
    ops: Ops,
    metrics: Arc<Metrics>,
    proxy_addresses: Vec<Address>,
    control_address: Option<Address>,
    webhooks_address: Option<Address>,
    ops_address: SocketAddr,
    configuration: InForce,
    /// By which names the status page may be asked for on the ops listener.
    page_hosts: Arc<ArcSwap<Hosts>>,
    /// Sent anew, the key files are looked at.
    key_sources: watch::Sender<KeySources>,
    stop: Stop,
    side_stop: Stop,
    /// Connections of callers.
    connections: TaskTracker,
    writes: Writes,
    /// Fetches that go on without their callers, and webhooks that are handed on.
    work: TaskTracker,
    background: TaskTracker,
    background_stop: CancellationToken,
}

impl App {
    /// Builds every part in the order of their needs, and starts serving, on the runtime that runs.
    ///
    /// # Errors
    /// The first thing that stands in the way.
    pub fn start(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(Workers::none(), PassedSockets::default(), settings, clock)
    }

    /// As [`Self::start`], with workers that serve the callers, and on sockets that were passed where there is one for an
    /// address.
    ///
    /// # Errors
    /// The first thing that stands in the way.
    pub fn start_with(
        workers: Workers,
        passed: PassedSockets,
        settings: &Settings,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::by(clock.clone())?);
        let sources = key_sources(settings);
        let keys = sources.load()?;
        sources.warn_of_readers();
        let gateway = &settings.gateway;
        let connect = connect_options(gateway, tls::client_config(gateway.ca_file.as_deref())?)?;
        let connector = Connector::new(connect, clock.clone(), Arc::clone(&metrics));
        let upstream = Upstream::new(&gateway.url, connector, workers.count(), clock.clone(), Arc::clone(&metrics))?;
        let forward = forward(settings)?;
        #[cfg(feature = "otlp")]
        let exporter = exporter(settings, &metrics.spans)?;

        let sockets = Sockets::open(settings, passed)?;
        let proxy_addresses = addresses(&sockets.proxy)?;
        let control_address = addresses(&sockets.control)?.pop();
        let webhooks_address = addresses(&sockets.webhooks)?.pop();
        let ops_address = addresses(&sockets.ops)?.iter().find_map(Address::tcp).unwrap_or(settings.ops.listen);

        let merchant = settings.credentials.merchant_uuid.clone();
        let tokens = TokenManager::new(keys, merchant, clock.clone(), Arc::clone(&metrics));
        let work = TaskTracker::new();
        let sessions = SessionCache::new(session_options(settings), work.clone(), clock.clone(), Arc::clone(&metrics));
        let links = link_rewriter(settings, &proxy_addresses);
        let exchange = Exchange::new(upstream.clone(), Arc::clone(&tokens), clock.clone(), Arc::clone(&metrics));
        let writes = Writes::default();
        let proxy = Arc::new(ArcSwap::from_pointee(Proxy::new(
            workers.count(),
            proxy_options(settings),
            Arc::clone(&sessions),
            Forwarder::new(exchange, links),
            writes.clone(),
            clock.clone(),
            Arc::clone(&metrics),
        )));
        let control = Control::new(Arc::clone(&sessions), Arc::clone(&metrics));
        let webhooks = Webhooks::new(
            settings.webhooks.path.clone(),
            forward,
            Arc::clone(&sessions),
            Arc::clone(&tokens),
            work.clone(),
            Arc::clone(&metrics),
        );
        let observed = Arc::clone(&proxy);
        let ops = Ops::new(Arc::clone(&metrics), Arc::clone(&tokens), move || observed.load().observe());
        let status = Arc::new(Status::new(about(settings), ops.clone(), Arc::clone(&tokens), clock));
        let (key_sources, sources) = watch::channel(sources);

        let app = Self {
            proxy,
            sessions,
            tokens: Arc::clone(&tokens),
            ops,
            metrics,
            proxy_addresses,
            control_address,
            webhooks_address,
            ops_address,
            configuration: InForce::new(settings),
            page_hosts: Arc::new(ArcSwap::from_pointee(Hosts::new(&settings.proxy.hosts))),
            key_sources,
            stop: Stop::default(),
            side_stop: Stop::default(),
            connections: TaskTracker::new(),
            writes,
            work,
            background: TaskTracker::new(),
            background_stop: CancellationToken::new(),
        };
        app.background.spawn(Keeper::new(tokens, upstream, sources).run(app.background_stop.clone()));
        #[cfg(feature = "otlp")]
        if let Some(exporter) = exporter {
            app.background.spawn(exporter.run(app.background_stop.clone()));
        }
        app.background.spawn(Arc::clone(&status).watch(app.background_stop.clone()));
        app.serve(sockets, control, webhooks, status, settings, workers);
        Ok(app)
    }

    /// Where services call.
    pub fn proxy_addresses(&self) -> &[Address] {
        &self.proxy_addresses
    }

    /// Where the process is steered, if it can be.
    pub fn control_address(&self) -> Option<&Address> {
        self.control_address.as_ref()
    }

    /// Where Sezzle's webhooks are received, if they are.
    pub fn webhooks_address(&self) -> Option<&Address> {
        self.webhooks_address.as_ref()
    }

    /// Where operators look.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Why it is not ready; `None` if it is.
    pub fn unready(&self) -> Option<&'static str> {
        self.ops.unready()
    }

    /// Waits until there was a token once, which is what readiness waits for.
    pub async fn first_token(&self) {
        self.tokens.first_token().await;
    }

    /// From [`Self::drain`] to its hard end.
    pub fn drain_timeout(&self) -> Duration {
        self.configuration.drain().timeout
    }

    /// Everything that is measured.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stops: not ready at once, no new connections after the grace period, and the end when the last answer has
    /// been sent and the last write has ended, or at the deadline.
    pub async fn drain(self) {
        self.drain_until(pending()).await;
    }

    /// As [`Self::drain`], but at once when `stop` says so. Returns whether it did not.
    pub async fn drain_until(self, stop: impl Future<Output = ()>) -> bool {
        let DrainSettings { grace, timeout: limit } = *self.configuration.drain();
        let began = Instant::now();
        let hard_end = began.checked_add(limit).unwrap_or(began);
        self.ops.drain();
        self.proxy.load().drain();
        tracing::info!(grace_ms = millis(grace), timeout_ms = millis(limit), "draining");
        let quiet = async {
            sleep(grace).await;
            self.stop_serving();
            self.connections.wait().await;
            self.writes.ended().await;
            self.work.wait().await;
        };
        let (quiet, stopped) = tokio::select! {
            quiet = timeout_at(hard_end, quiet) => (quiet.is_ok(), false),
            () = stop => (false, true),
        };
        if quiet {
            tracing::info!(took_ms = millis(began.elapsed()), "drained");
        } else {
            let (connections, writes) = (self.connections.len(), self.writes.under_way());
            tracing::warn!(connections, writes, "what was still under way is cut");
            self.stop_serving();
            self.writes.cut().await;
            // Callers of the writes that were cut are told so, where they still listen.
            let _ = timeout(LAST_WORD, self.connections.wait()).await;
        }

        self.background_stop.cancel();
        self.side_stop.accepting.cancel();
        self.side_stop.closing.cancel();
        self.background.close();
        // Both only have to notice; a scrape that hangs must not hold the process.
        let _ = timeout(Duration::from_secs(1), self.background.wait()).await;
        !stopped
    }

    /// Accepts nothing more, and closes what is idle.
    fn stop_serving(&self) {
        self.stop.accepting.cancel();
        self.stop.closing.cancel();
        self.connections.close();
        self.work.close();
    }

    fn serve(
        &self,
        sockets: Sockets,
        control: Control<ProxyError>,
        webhooks: Webhooks<ProxyError>,
        status: Arc<Status>,
        settings: &Settings,
        workers: Workers,
    ) {
        let proxy = Listener {
            name: "proxy",
            http2: true,
            max_head: settings.limits.head,
            timeouts: PROXY_TIMEOUTS,
            places: Arc::new(Semaphore::new(files::room_for_connections(
                settings.limits.connections,
                pressure::places_in_all(settings.limits.in_flight),
            ))),
            stop: self.stop.clone(),
            workers,
            connections: self.connections.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        // For operators: neither is part of what a drain waits for, and both go on until it is over.
        let side = |name| Listener {
            name,
            http2: false,
            max_head: SIDE_HEAD,
            timeouts: SIDE_TIMEOUTS,
            places: Arc::new(Semaphore::new(SIDE_CONNECTIONS)),
            stop: self.side_stop.clone(),
            workers: Workers::none(),
            connections: self.background.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        // Sezzle's requests are drained like a caller's.
        let webhook = Listener {
            name: "webhooks",
            timeouts: WEBHOOK_TIMEOUTS,
            stop: self.stop.clone(),
            connections: self.connections.clone(),
            ..side("webhooks")
        };
        self.listen(sockets.webhooks, &webhook, &WebhookHandler(webhooks));
        self.listen(sockets.proxy, &proxy, &ProxyHandler(Arc::clone(&self.proxy)));
        let page = |hosts| StatusPage::new(Arc::clone(&status), hosts);
        self.listen(sockets.control, &side("control"), &ControlHandler(control, page(Arc::default())));
        // It may be reached by other names than those of loopback.
        let exposed = settings.ops.status_page.then(|| page(Arc::clone(&self.page_hosts)));
        self.listen(sockets.ops, &side("ops"), &OpsHandler(self.ops.clone(), exposed, proxy.workers.clone()));
    }

    fn listen<H: Handler>(&self, sockets: Vec<Socket>, listener: &Listener, handler: &H) {
        if !sockets.is_empty() {
            let limit = self.metrics.connections_limit.with_label_values(&[listener.name]);
            limit.set(gauge(listener.places.available_permits()));
        }
        for socket in sockets {
            self.background.spawn(listener.clone().serve(socket, handler.clone()));
        }
    }
}

const LAST_WORD: Duration = Duration::from_millis(250);

// Callers' pools keep idle connections for 90 s and less; longer here, so that they close first and none is closed at
// the moment of its reuse.
const PROXY_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(5), idle: Duration::from_secs(120), write: Duration::from_secs(30) };
// Probes and scrapes come seldom; connections that only stand there must not keep a probe out.
const SIDE_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(5), idle: Duration::from_secs(5), write: Duration::from_secs(10) };
// Load balancers keep idle connections for 60 s; longer here, so that they close first.
const WEBHOOK_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(10), idle: Duration::from_secs(65), write: Duration::from_secs(10) };
const SIDE_CONNECTIONS: usize = 64;
const SIDE_HEAD: usize = 16 * 1024;
