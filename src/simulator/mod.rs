//! A simulated Sezzle gateway over real sockets, with a memory and with faults on demand.
//!
//! The demonstration commands and the integration tests use the simulator as their backend. The simulator shares no
//! type with the product, so that a misreading of Sezzle's interface cannot cancel itself out. [`Simulator`] is the
//! handle, and [`Options`] has the settings. [`Rule`]s bend the answers, the journal has the received requests, and the
//! deliveries are the webhooks that were sent. `gateway` answers the calls.

mod bounded_log;
mod browser;
pub mod control;
mod delivery;
mod effect;
mod exchange;
mod fault;
mod gate;
mod gateway;
mod handle;
mod http2;
mod idle;
mod ids;
mod journal;
mod options;
mod payload;
mod rule;
mod server;
mod shared;
mod socket;
mod span;
#[cfg(test)]
mod tests;
pub mod tls;
mod variants;

use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::Deliveries;
pub use self::delivery::{Attempt, Delivery, DeliveryState};
pub use self::effect::{Effect, EffectKind};
pub use self::fault::Fault;
pub use self::gate::Gate;
use self::gateway::Gateway;
pub use self::handle::Simulator;
pub use self::ids::{SessionIds, SessionKind};
pub use self::journal::Exchange;
pub use self::options::Options;
pub use self::rule::{Reset, Rule};
use self::shared::Core;
pub use self::variants::{
    CheckoutStatus, Columns, Encoding, Errors, Links, OrderReport, TokenizeExpiration, TokenizePlace, TokenizedType,
    Upcharge,
};

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
            journal: Mutex::new(journal::empty()),
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
}
