//! A simulated Sezzle gateway over real sockets, with a memory and with faults on demand.
//!
//! The demonstration commands and the integration tests use it as their backend. It shares no type with the product, so that a
//! misreading of Sezzle's interface cannot cancel itself out. [`Simulator`] is the handle; [`Options`] say how it starts,
//! [`Rule`]s bend its answers, its journal tells what it received and its deliveries what it sent by webhook. What the calls do
//! is in `gateway`.

mod bounded_log;
pub mod control;
mod delivery;
mod exchange;
mod fault;
mod gate;
mod gateway;
mod http2;
mod idle;
mod journal;
mod knobs;
mod options;
mod payload;
mod rule;
mod server;
mod span;
#[cfg(test)]
mod tests;
pub mod tls;
mod variants;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::simulator::control::Gates;
use crate::simulator::delivery::Deliveries;
use crate::simulator::gateway::Gateway;
use crate::simulator::journal::Journal;
use crate::simulator::rule::Rules;

pub use crate::simulator::delivery::{Attempt, Delivery, DeliveryState};
pub use crate::simulator::fault::Fault;
pub use crate::simulator::gate::Gate;
pub use crate::simulator::journal::Exchange;
pub use crate::simulator::options::Options;
pub use crate::simulator::rule::{Reset, Rule};
pub use crate::simulator::variants::{
    CheckoutStatus, Columns, Encoding, Errors, Links, OrderReport, TokenizeExpiration, TokenizePlace, TokenizedType,
    Upcharge,
};

/// A handle to a running simulator. Clones share it; it ends with [`Simulator::stop`] or when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Simulator {
    core: Arc<Core>,
    /// None in the handles of the simulator's own tasks, which do not keep it alive.
    _running: Option<Arc<DropGuard>>,
}

impl Simulator {
    /// Listens and serves from now on, in tasks of the current runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let tls = options.tls.clone().map(|tls| TlsAcceptor::from(http2::offer(tls, options.http2)));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let core = Arc::new(Core {
            http2: options.http2,
            addr,
            scheme,
            options: options.clone(),
            gateway: Mutex::new(Gateway::new(options)),
            journal: Mutex::default(),
            rules: Mutex::default(),
            gates: Mutex::default(),
            connections: AtomicUsize::new(0),
            deliveries: Deliveries::default(),
            stopping: CancellationToken::new(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
        });
        core.tasks.spawn(server::accept(core.clone(), listener, tls));
        let running = Arc::new(core.stopping.clone().drop_guard());
        Ok(Self { core, _running: Some(running) })
    }

    /// A handle for a task of the simulator's own.
    fn of(core: &Arc<Core>) -> Self {
        Self { core: core.clone(), _running: None }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.core.addr
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.core.scheme, self.core.addr)
    }

    /// Every request received so far, in order of arrival. Only the newest 100,000 requests and 64 MiB of bodies are kept.
    pub fn journal(&self) -> Vec<Exchange> {
        self.core.journal().entries().cloned().collect()
    }

    /// How many requests of the journal have this method and this path: matched as by
    /// [`Rule::path`].
    pub fn count(&self, method: &str, path: &str) -> usize {
        let journal = self.core.journal();
        let wanted = |entry: &&Exchange| entry.method == method && rule::path_matches(path, &entry.path);
        journal.entries().filter(wanted).count()
    }

    /// Forgets every request received so far. The numbers of those to come go on.
    pub fn clear_journal(&self) {
        self.core.journal().clear();
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.core.connections.load(Ordering::SeqCst)
    }

    /// Puts a rule in force, before all earlier ones.
    pub fn script(&self, rule: Rule) {
        self.core.rules().add(rule);
    }

    /// Puts all rules out of force. Requests they have caught already are not let go.
    pub fn clear_rules(&self) {
        self.core.rules().clear();
    }

    /// Makes every bearer token issued so far answer 401.
    pub fn revoke_tokens(&self) {
        self.core.gateway().revoke_tokens();
    }

    /// Accepts these keys from now on, and no others. Tokens issued before stay live.
    pub fn set_keys(&self, public: &str, private: &str) {
        self.core.gateway().set_keys(public, private, Duration::ZERO);
    }

    /// Creates a session of the current merchant without a request. Its order is over 100.00 USD with intent `AUTH`.
    pub fn create_session(&self, kind: SessionKind) -> SessionIds {
        self.core.gateway().create_session(kind)
    }

    /// Lets the shopper finish the checkout of an order: it becomes authorized, and captured at once for intent `CAPTURE`.
    /// `false` when there is no such order with an open checkout.
    pub fn complete_checkout(&self, order: &str) -> bool {
        self.core.act(|gateway| gateway.complete_checkout(order))
    }

    /// Lets the shopper accept the tokenize part of a session, and answers the customer's UUID. `None` when the token is unknown,
    /// already used or past its time.
    pub fn approve_token(&self, token: &str) -> Option<String> {
        self.core.act(|gateway| gateway.approve_token(token))
    }

    /// Every write to an order that took effect, in order. Repeated idempotent calls and the shopper's checkout are none.
    pub fn effects(&self, order: &str) -> Vec<Effect> {
        self.core.gateway().effects(order).unwrap_or_default()
    }

    /// Makes everything as it was at the start: settings, sessions, orders and customers, subscriptions, deliveries, rules,
    /// journal and named gates, which let go what they hold. Only bearer tokens stay live, because whoever holds one would otherwise take the
    /// next call's refusal for a fault of its own.
    pub fn reset(&self) {
        self.core.rules().clear();
        self.core.gateway().reset(self.core.options.clone());
        self.core.gates().clear();
        self.core.journal().clear();
        self.core.deliveries.reset();
    }

    /// Stops accepting, ends every connection and every request in progress, and returns once all tasks are gone.
    pub async fn stop(self) {
        self.core.stopping.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}

/// What a session is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// Only an order.
    Order,
    /// Only a customer to tokenize.
    Tokenize,
    /// Both.
    OrderAndTokenize,
}

/// The ids a new session came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionIds {
    /// The session's UUID.
    pub session: String,
    /// The order's id, an opaque string.
    pub order: Option<String>,
    /// The token of the tokenize part.
    pub token: Option<String>,
}

/// A write to an order that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// What was done.
    pub kind: EffectKind,
    /// The amount in cents; 0 where no money moves.
    pub cents: u64,
    /// The idempotency key that came with it.
    pub key: Option<String>,
}

/// The ways to write to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Its reference was changed.
    Update,
    /// Its express checkout was changed.
    UpdateCheckout,
    /// Its checkout was deleted.
    DeleteCheckout,
    /// Money was captured.
    Capture,
    /// Money was refunded.
    Refund,
    /// A part of the authorization was released.
    Release,
    /// A new order was authorized in its place.
    Reauthorize,
    /// A new order was authorized beside it.
    Upcharge,
}

/// What the tasks of a simulator share. No lock is held across a wait, nor two at once.
#[derive(Debug)]
struct Core {
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    http2: bool,
    addr: SocketAddr,
    scheme: &'static str,
    /// What it was started with.
    options: Options,
    gateway: Mutex<Gateway>,
    journal: Mutex<Journal>,
    rules: Mutex<Rules>,
    gates: Mutex<Gates>,
    connections: AtomicUsize,
    deliveries: Deliveries,
    stopping: CancellationToken,
    /// Where tasks run that a handle starts, wherever it is used.
    runtime: Handle,
    tasks: TaskTracker,
}

impl Core {
    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something at the gateway and delivers what it announces.
    fn act<T>(self: &Arc<Self>, act: impl FnOnce(&mut Gateway) -> T) -> T {
        let (done, jobs) = {
            let mut gateway = self.gateway();
            (act(&mut gateway), gateway.outbox())
        };
        delivery::dispatch(self, jobs);
        done
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
