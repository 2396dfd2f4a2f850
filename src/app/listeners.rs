//! Starts the listeners, with limits and timeouts for each.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::App;
use super::handlers::{ControlHandler, OpsHandler, ProxyHandler, WebhookHandler};
use super::sockets::Sockets;
use crate::config::Settings;
use crate::control::Control;
use crate::proxy::error::ProxyError;
use crate::proxy::pressure;
use crate::server::cut::Timeouts;
use crate::server::socket::Socket;
use crate::server::tls::Tls;
use crate::server::workers::Workers;
use crate::server::{Handler, Listener, files};
use crate::status::Status;
use crate::status::serve::{Reader, StatusPage};
use crate::telemetry::metrics::gauge;
use crate::webhook::Webhooks;

impl App {
    /// Starts the listeners on these sockets.
    pub(super) fn serve(
        &self,
        sockets: Sockets,
        control: Control<ProxyError>,
        webhooks: Webhooks<ProxyError>,
        status: Arc<Status>,
        settings: &Settings,
        (workers, tls): (Workers, Option<Tls>),
    ) {
        let proxy = self.proxy_listener(settings, workers, tls);
        // The drain treats Sezzle's requests like those of callers.
        let webhook = Listener {
            timeouts: WEBHOOK_TIMEOUTS,
            stop: self.stop.clone(),
            connections: self.connections.clone(),
            ..self.side_listener("webhooks")
        };
        self.listen(sockets.webhooks, &webhook, &WebhookHandler(webhooks));
        self.listen(sockets.proxy, &proxy, &ProxyHandler(Arc::clone(&self.proxy)));
        let page = |hosts, reader| StatusPage::new(Arc::clone(&status), hosts, reader);
        self.listen(
            sockets.control,
            &self.side_listener("control"),
            &ControlHandler(control, page(Arc::default(), Reader::Operator)),
        );
        // Requests may reach the ops listener by other names than those of loopback.
        let exposed = settings.ops.status_page.then(|| page(Arc::clone(&self.page_hosts), Reader::Network));
        let ops = OpsHandler {
            ops: self.ops.clone(),
            page: exposed,
            workers: proxy.workers.clone(),
            supervisor: self.supervisor.clone(),
        };
        self.listen(sockets.ops, &self.side_listener("ops"), &ops);
    }

    fn proxy_listener(&self, settings: &Settings, workers: Workers, tls: Option<Tls>) -> Listener {
        let reserved = pressure::all_permits(settings.limits.in_flight);
        let connections = files::room_for_connections(settings.limits.connections, reserved);
        Listener {
            name: "proxy",
            http2: true,
            tls,
            max_head: settings.limits.head,
            timeouts: PROXY_TIMEOUTS,
            permits: Arc::new(Semaphore::new(connections)),
            stop: self.stop.clone(),
            workers,
            connections: self.connections.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// A listener for operators, which serves until the drain is over, and for which the drain does not wait.
    fn side_listener(&self, name: &'static str) -> Listener {
        Listener {
            name,
            http2: false,
            tls: None,
            max_head: SIDE_HEAD,
            timeouts: SIDE_TIMEOUTS,
            permits: Arc::new(Semaphore::new(files::room_beside(SIDE_CONNECTIONS))),
            stop: self.side_stop.clone(),
            workers: Workers::none(),
            connections: self.background.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn listen<H: Handler>(&self, sockets: Vec<Socket>, listener: &Listener, handler: &H) {
        if !sockets.is_empty() {
            let limit = self.metrics.connections_limit.with_label_values(&[listener.name]);
            limit.set(gauge(listener.permits.available_permits()));
        }
        for socket in sockets {
            // The socket outlives a task that panics, so callers wait in its queue meanwhile.
            let (socket, listener, handler) = (Arc::new(socket), listener.clone(), handler.clone());
            self.supervisor
                .keep(task(listener.name), None, move |_| listener.clone().serve(Arc::clone(&socket), handler.clone()));
        }
    }
}

/// The name of the task that accepts a listener's connections.
fn task(listener: &str) -> &'static str {
    match listener {
        "control" => "control_listener",
        "ops" => "ops_listener",
        "webhooks" => "webhooks_listener",
        _ => "proxy_listener",
    }
}

// Callers' pools keep idle connections for at most 90 s. The sidecar waits longer, so that callers close first and no
// connection closes at the moment of its reuse.
const PROXY_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(5), idle: Duration::from_secs(120), write: Duration::from_secs(30) };
// Probes and scrapes are rare; idle connections must not keep a probe out.
const SIDE_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(5), idle: Duration::from_secs(5), write: Duration::from_secs(10) };
// Load balancers keep idle connections for 60 s. The sidecar waits longer, so that they close first.
const WEBHOOK_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(10), idle: Duration::from_secs(65), write: Duration::from_secs(10) };
const SIDE_CONNECTIONS: usize = 64;
const SIDE_HEAD: usize = 16 * 1024;
