//! Checks of the addresses of listeners.

use std::net::SocketAddr;

use crate::address::Address;

/// Whether another listener has the address. Port 0 stands for another port each time, and 0.0.0.0 takes the port at
/// every address of its family.
pub(super) fn is_taken(address: &Address, by: Option<&[Address]>) -> bool {
    let collides = |other: &Address| match (address.tcp(), other.tcp()) {
        (Some(one), Some(two)) if one.port() == two.port() && one.is_ipv4() == two.is_ipv4() => {
            one.port() != 0 && (one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified())
        }
        (Some(_), Some(_)) => false,
        (_, _) => address == other,
    };
    by.is_some_and(|others| others.iter().any(collides))
}

pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
