//! The section `limits`: bounds on what callers may take.

use super::bounds::MILLION;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// Open connections on the proxy listener.
    pub connections: usize,
    /// Calls of one class under way to Sezzle, and also the calls of one class whose body is being received.
    pub in_flight: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of a request's head.
    pub head: usize,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<LimitSettings> {
    let connections = r.value("limits.connections", "10000", parse::count(1..=MILLION));
    let in_flight = r.value("limits.in_flight", "512", parse::count(1..=MILLION));
    // The sidecar holds the body of each write in flight in memory.
    let body = r.on_reload().value("limits.body", "1MiB", parse::length(KIB..=64 * KIB * KIB));
    // The HTTP parser does not work with a buffer of less than 8 KiB.
    let head = r.value("limits.head", "32KiB", parse::length(8 * KIB..=KIB * KIB));

    Some(LimitSettings { connections: connections?, in_flight: in_flight?, body: body?, head: head? })
}

const KIB: usize = 1024;
