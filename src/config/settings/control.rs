//! The section `control`: the listener that steers the process.

use super::listen::{is_loopback, taken};
use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Where the process can be controlled; nowhere unless set.
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
        } else if taken(address, proxy) {
            r.conflict("control.listen", &format!("{address} is taken by proxy.listen"));
        }
    }
    Some(ControlSettings { listen: listen? })
}

/// `control.listen` alone, for commands that only call this listener.
pub(in crate::config) fn control_listen(r: &mut Reader<'_>) -> Option<Option<Address>> {
    r.optional("control.listen", parse::address)
}
