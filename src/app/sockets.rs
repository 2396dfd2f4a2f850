//! Opens the sockets of all listeners.

use std::io;

use super::error::StartError;
use crate::address::Address;
use crate::config::Settings;
use crate::server::socket::{self, Socket};
use crate::systemd::sockets::PassedSockets;

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
        // The check comes first: opening an address would fail if a misnamed passed socket already has it.
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

/// The addresses as bound.
pub(super) fn addresses(sockets: &[Socket]) -> io::Result<Vec<Address>> {
    sockets.iter().map(Socket::address).collect()
}
