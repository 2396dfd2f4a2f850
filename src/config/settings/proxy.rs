//! The section `proxy`: the listener that services call.

use std::net::SocketAddr;

use super::listen::is_loopback;
use super::proxy_tls::{self, TlsSettings};
use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Addresses to listen on; at least one.
    pub listen: Vec<Address>,
    /// Whether everybody who reaches an address that is not loopback may call.
    pub allow_remote: bool,
    pub socket_mode: u32,
    /// Further `Host` values that callers may use, with or without a port.
    pub hosts: Vec<String>,
    /// Whether `X-Sezzle-Request-Id` and `Idempotency-Key` are read as `Sezzle-Request-Id`.
    pub normalise_request_id: bool,
    /// Whether the sidecar forwards the call that returns card data.
    pub card_data: Passage,
    /// Whether the sidecar forwards calls below `/v1/`.
    pub v1: Passage,
    /// `None` for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Threads that serve requests; at least one.
    pub workers: usize,
}

impl ProxySettings {
    /// The addresses to which other machines may connect.
    pub fn remote(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.iter().filter_map(Address::tcp).filter(|address| !is_loopback(*address))
    }
}

/// The treatment of calls that most services never make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    Refuse,
    Forward,
}

/// Also returns the addresses by themselves, for sections that are checked against them.
pub(super) fn read(r: &mut Reader<'_>, cores: usize) -> (Option<ProxySettings>, Option<Vec<Address>>) {
    // Both loopback addresses, because `localhost` may mean either.
    let listen = r.list("proxy.listen", r#"["127.0.0.1:8080", "[::1]:8080"]"#, parse::address);
    // The service's group, and nobody else.
    let socket_mode = r.value("proxy.socket_mode", "0660", parse::socket_mode);
    let allow_remote = r.on_reload().value("proxy.allow_remote", "false", parse::boolean);
    let hosts = r.on_reload().list("proxy.hosts", "[]", parse::host);
    // Sezzle knows neither name, so without this a write that its sender wants once could happen twice.
    let normalise_request_id = r.on_reload().value("proxy.normalise_request_id", "true", parse::boolean);
    // Card data brings the service, and this process with it, into the scope of PCI DSS.
    let card_data = r.on_reload().value("proxy.card_data", "refuse", passage());
    // No client needs these calls for a payment, and nobody has published what each of them does.
    let v1 = r.on_reload().value("proxy.v1", "refuse", passage());
    let workers = r.value("proxy.workers", &default_workers(cores).to_string(), parse::count(1..=256));
    let tls = proxy_tls::read(r, listen.as_deref());

    if let Some([]) = listen.as_deref() {
        r.refuse("proxy.listen", "expected at least one address");
    }
    let listen = listen.filter(|addresses| !addresses.is_empty());
    let remote: Vec<SocketAddr> =
        listen.iter().flatten().filter_map(Address::tcp).filter(|address| !is_loopback(*address)).collect();
    // With both, the sidecar tells the callers of a network apart, and nobody reads their secrets on the way.
    let is_guarded = matches!(tls, Some(Some(_))) && r.has_tables("callers");
    let refused = allow_remote == Some(false) && !remote.is_empty() && !is_guarded;
    if refused {
        for address in remote {
            r.conflict(
                "proxy.listen",
                &format!(
                    "{address} is not a loopback address, and everybody who reaches it can move money; set \
                     proxy.tls and [[callers]], or accept that by proxy.allow_remote = true"
                ),
            );
        }
    }
    let settings = || {
        let (hosts, workers, tls) = (hosts?, workers?, tls?);
        let (normalise_request_id, card_data, v1) = (normalise_request_id?, card_data?, v1?);
        let (listen, socket_mode) = (listen.clone()?, socket_mode?);
        Some(ProxySettings {
            listen,
            allow_remote: allow_remote?,
            socket_mode,
            hosts,
            normalise_request_id,
            card_data,
            v1,
            tls,
            workers,
        })
    };
    let settings = settings();
    // Consequences of a refused address are not reported as further mistakes.
    (settings, listen.filter(|_| !refused))
}

fn passage() -> impl Fn(&str) -> parse::Parsed<Passage> {
    parse::choice([("refuse", Passage::Refuse), ("forward", Passage::Forward)])
}

/// The default of `proxy.workers`. A sidecar leaves most of the machine to the service beside it, and two threads serve
/// more calls than Sezzle answers.
fn default_workers(cores: usize) -> usize {
    cores.clamp(1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_by_cores() {
        assert_eq!([0, 1, 2, 64].map(default_workers), [1, 1, 2, 2]);
    }
}
