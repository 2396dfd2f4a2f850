//! The section `ops`: metrics and health.

use std::net::SocketAddr;

use super::control::ControlSettings;
use super::listen::is_taken;
use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct OpsSettings {
    pub listen: SocketAddr,
    /// Whether the ops listener serves the status page, too.
    pub status_page: bool,
}

pub(super) fn read(
    r: &mut Reader<'_>,
    proxy: Option<&[Address]>,
    control: Option<&ControlSettings>,
) -> Option<OpsSettings> {
    let listen = ops_listen(r);
    // People other than operators may reach this listener, so its page leaves out identifiers.
    let status_page = r.value("ops.status_page", "true", parse::boolean);

    if let Some(address) = listen.map(Address::Tcp) {
        if is_taken(&address, proxy) {
            r.conflict("ops.listen", &format!("{address} is taken by proxy.listen"));
        }
        if is_taken(&address, control.and_then(|control| control.listen.as_ref()).map(std::slice::from_ref)) {
            r.conflict("ops.listen", &format!("{address} is taken by control.listen"));
        }
    }
    Some(OpsSettings { listen: listen?, status_page: status_page? })
}

/// Reads `ops.listen` alone, for commands that only call this listener.
pub(in crate::config) fn ops_listen(r: &mut Reader<'_>) -> Option<SocketAddr> {
    r.value("ops.listen", "127.0.0.1:9464", parse::tcp_address)
}
