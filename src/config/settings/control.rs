//! The section `control`: the listener by which operators purge sessions and set the log level.

use super::listen::{is_loopback, is_taken};
use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// The address of the control listener; `None` for no such listener.
    pub listen: Option<Address>,
}

pub(super) fn read(r: &mut Reader<'_>, proxy: Option<&[Address]>) -> Option<ControlSettings> {
    let listen = control_listen(r);

    if let Some(Some(address)) = &listen {
        if address.tcp().is_some_and(|address| !is_loopback(address)) {
            r.refuse(
                "control.listen",
                "expected a Unix socket or a loopback address, because this listener controls the process",
            );
        } else if is_taken(address, proxy) {
            r.conflict("control.listen", &format!("{address} is taken by proxy.listen"));
        }
    }
    Some(ControlSettings { listen: listen? })
}

/// Reads `control.listen` alone, for commands that only call this listener.
pub(in crate::config) fn control_listen(r: &mut Reader<'_>) -> Option<Option<Address>> {
    r.optional("control.listen", parse::address)
}
