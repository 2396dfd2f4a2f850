//! Opens the sockets of all listeners.

use std::io;
use std::net::SocketAddr;

use super::error::StartError;
use crate::address::Address;
use crate::config::Settings;
use crate::server::socket::{self, Socket};
use crate::systemd::sockets::PassedSockets;

/// The open sockets of each listener.
pub(super) struct Sockets {
    pub proxy: Vec<Socket>,
    pub control: Vec<Socket>,
    pub webhooks: Vec<Socket>,
    pub ops: Vec<Socket>,
}

impl Sockets {
    pub fn open(settings: &Settings, mut passed: PassedSockets) -> Result<Self, StartError> {
        let Settings { proxy, control, ops, webhooks, .. } = settings;
        let ops = [Address::Tcp(ops.listen)];
        let (control, webhooks) = (control.listen.as_slice(), webhooks.listen.as_slice());
        // The check comes first, because an address cannot be opened that a passed socket with a wrong name already
        // has.
        passed.check(&[("proxy", &proxy.listen), ("control", control), ("webhooks", webhooks), ("ops", &ops)])?;
        let mut bind = |name, addresses, mode| socket::bind(name, addresses, mode, &mut passed);
        Ok(Self {
            proxy: bind("proxy", &proxy.listen, proxy.socket_mode)?,
            control: bind("control", control, CONTROL_MODE)?,
            webhooks: bind("webhooks", webhooks, proxy.socket_mode)?,
            ops: bind("ops", &ops, CONTROL_MODE)?,
        })
    }
}

// Only the user that runs the sidecar may control it.
const CONTROL_MODE: u32 = 0o600;

/// The addresses of the listeners, with the ports that the system chose.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub proxy: Vec<Address>,
    pub control: Option<Address>,
    pub webhooks: Option<Address>,
    pub ops: SocketAddr,
}

impl Addresses {
    pub(super) fn new(sockets: &Sockets, settings: &Settings) -> io::Result<Self> {
        let all = |sockets: &[Socket]| sockets.iter().map(Socket::address).collect::<io::Result<Vec<_>>>();
        Ok(Self {
            proxy: all(&sockets.proxy)?,
            control: all(&sockets.control)?.pop(),
            webhooks: all(&sockets.webhooks)?.pop(),
            ops: all(&sockets.ops)?.iter().find_map(Address::tcp).unwrap_or(settings.ops.listen),
        })
    }

    /// The addresses of each open listener, by its name in metrics.
    pub(super) fn by_listener(&self) -> Vec<(&'static str, Vec<String>)> {
        let ops = [Address::Tcp(self.ops)];
        let listeners = [
            ("proxy", self.proxy.as_slice()),
            ("webhooks", self.webhooks.as_slice()),
            ("control", self.control.as_slice()),
            ("ops", &ops),
        ];
        let open = listeners.into_iter().filter(|(_, addresses)| !addresses.is_empty());
        open.map(|(name, addresses)| (name, addresses.iter().map(ToString::to_string).collect())).collect()
    }
}
