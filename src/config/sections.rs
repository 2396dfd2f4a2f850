//! Every key of this version with its default and its bounds, one function per section. `config/reference.toml` says
//! the same to authors of configuration files, and a test holds the two equal.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::otlp;
use super::parse;
use super::reader::Reader;
use super::settings::{
    CacheSettings, CardData, ControlSettings, CredentialSettings, DrainSettings, EgressProxySettings, Environment,
    GatewaySettings, LimitSettings, LinkSettings, LogSettings, OpsSettings, OriginCacheControl, ProxySettings,
    Settings,
};
use super::webhooks;
use crate::address::Address;
use crate::secret::SecretSource;
use crate::telemetry::log::{Format, LEVELS};
use crate::units::shown;

/// Reads all sections. `cores` is the number of the machine's processor cores.
pub(super) fn settings(r: &mut Reader<'_>, cores: usize) -> Option<Settings> {
    let (gateway, write_timeout) = gateway(r);
    let credentials = credentials(r);
    let (proxy, listen) = proxy(r, cores);
    let drain = drain(r, write_timeout);
    let limits = limits(r);
    let control = control(r, listen.as_deref());
    let ops = ops(r, listen.as_deref(), control.as_ref());
    let cache = cache(r);
    let links = links(r, listen.as_deref());
    let ops_listen = ops.as_ref().map(|ops| Address::Tcp(ops.listen));
    let others = [
        ("proxy.listen", listen.as_deref().unwrap_or_default()),
        ("control.listen", control.as_ref().map(|control| control.listen.as_slice()).unwrap_or_default()),
        ("ops.listen", ops_listen.as_slice()),
    ];
    let webhooks = webhooks::webhooks(r, &others);
    let log = log(r);
    let otlp = otlp::otlp(r);
    Some(Settings {
        gateway: gateway?,
        credentials: credentials?,
        proxy: proxy?,
        drain: drain?,
        limits: limits?,
        control: control?,
        ops: ops?,
        cache: cache?,
        links: links?,
        webhooks: webhooks?,
        log: log?,
        otlp: otlp?,
        understood: r.take_understood(),
    })
}

/// Also returns the write timeout by itself, so that the drain is checked against it even if another key of the section
/// is wrong.
fn gateway(r: &mut Reader<'_>) -> (Option<GatewaySettings>, Option<Duration>) {
    let environment = r.required(
        "gateway.environment",
        parse::choice(Environment::ALL.map(|environment| (environment.as_str(), environment))),
    );
    let url = r.optional("gateway.url", parse::gateway_url);
    if let (Some(environment), Some(None)) = (environment, &url) {
        r.derived("gateway.url", environment.url());
        r.understand("gateway.url", &environment.url());
    }
    let ca_file = r.optional("gateway.ca_file", parse::path);
    // A connection that takes longer fails soon enough for another attempt within the caller's own patience.
    let connect_timeout = r.value("gateway.connect_timeout", "2s", parse::duration(INSTANT..=seconds(5)));
    let read_timeout = r.value("gateway.read_timeout", "10s", parse::duration(TIMEOUT));
    // Longer than a read: giving up on a write leaves its outcome unknown.
    let write_timeout = r.value("gateway.write_timeout", "30s", parse::duration(TIMEOUT));
    // Reports are computed while the caller waits.
    let report_timeout = r.value("gateway.report_timeout", "60s", parse::duration(TIMEOUT));
    // One connection for all calls is one that a network can silently drop; several are the safer choice.
    let http2 = r.value("gateway.http2", "false", parse::boolean);
    if http2 == Some(true) && plain_http(&url) {
        r.conflict("gateway.http2", "HTTP/2 needs TLS, and gateway.url is http");
    }
    let egress_proxy = egress_proxy(r, plain_http(&url));

    let settings = || {
        let environment = environment?;
        Some(GatewaySettings {
            environment,
            url: url?.unwrap_or_else(|| environment.url().to_owned()),
            ca_file: ca_file?,
            connect_timeout: connect_timeout?,
            http2: http2?,
            egress_proxy: egress_proxy?,
            read_timeout: read_timeout?,
            write_timeout: write_timeout?,
            report_timeout: report_timeout?,
        })
    };
    (settings(), write_timeout)
}

/// Whether `gateway.url` is set to an http address. The URL of each environment is https.
fn plain_http(url: &Option<Option<String>>) -> bool {
    matches!(url, Some(Some(url)) if url.starts_with("http:"))
}

fn egress_proxy(r: &mut Reader<'_>, plain_http: bool) -> Option<Option<EgressProxySettings>> {
    let url = r.optional("gateway.egress_proxy", parse::egress_proxy);
    let credentials = r.optional_secret("gateway.egress_proxy_credentials", "gateway.egress_proxy_credentials_file");

    if let Some(Some(_)) = url
        && plain_http
    {
        r.conflict("gateway.egress_proxy", "the sidecar uses a proxy for https only, and gateway.url is http");
    }
    if let (Some(None), Some(Some(source))) = (&url, &credentials) {
        let key = match source {
            SecretSource::File(_) => "gateway.egress_proxy_credentials_file",
            SecretSource::Variable { .. } => "gateway.egress_proxy_credentials",
        };
        r.conflict(key, "gateway.egress_proxy is not set, so no proxy needs these credentials");
    }
    let credentials = credentials?;
    Some(url?.map(|url| EgressProxySettings { url, credentials }))
}

fn credentials(r: &mut Reader<'_>) -> Option<CredentialSettings> {
    let public_key = r.secret("credentials.public_key", "credentials.public_key_file");
    let private_key = r.secret("credentials.private_key", "credentials.private_key_file");
    let merchant_uuid = r.optional("credentials.merchant_uuid", parse::identifier);

    Some(CredentialSettings { public_key: public_key?, private_key: private_key?, merchant_uuid: merchant_uuid? })
}

/// Also returns the addresses by themselves, for sections that are checked against them.
fn proxy(r: &mut Reader<'_>, cores: usize) -> (Option<ProxySettings>, Option<Vec<Address>>) {
    // Both loopback addresses, because `localhost` may mean either.
    let listen = r.list("proxy.listen", r#"["127.0.0.1:8080", "[::1]:8080"]"#, parse::address);
    // The service's group, and nobody else.
    let socket_mode = r.value("proxy.socket_mode", "0660", parse::socket_mode);
    let allow_remote = r.value("proxy.allow_remote", "false", parse::boolean);
    let hosts = r.list("proxy.hosts", "[]", parse::host);
    // Sezzle does not know the misspelt name, so a write that its sender wants once could happen twice.
    let normalise_request_id = r.value("proxy.normalise_request_id", "true", parse::boolean);
    // Card data brings the service, and this process with it, into the scope of PCI DSS.
    let card_data = r.value(
        "proxy.card_data",
        "refuse",
        parse::choice([("refuse", CardData::Refuse), ("forward", CardData::Forward)]),
    );
    let workers = r.value("proxy.workers", &default_workers(cores).to_string(), parse::count(1..=256));

    if let Some([]) = listen.as_deref() {
        r.refuse("proxy.listen", "expected at least one address");
    }
    let listen = listen.filter(|addresses| !addresses.is_empty());
    let remote: Vec<SocketAddr> =
        listen.iter().flatten().filter_map(Address::tcp).filter(|address| !is_loopback(*address)).collect();
    let refused = allow_remote == Some(false) && !remote.is_empty();
    if refused {
        for address in remote {
            r.conflict(
                "proxy.listen",
                &format!(
                    "{address} is not a loopback address, and everybody who reaches it can move money; to accept \
                     that, set proxy.allow_remote = true"
                ),
            );
        }
    }
    let settings = || {
        let (hosts, workers) = (hosts?, workers?);
        let (normalise_request_id, card_data) = (normalise_request_id?, card_data?);
        let (listen, socket_mode) = (listen.clone()?, socket_mode?);
        Some(ProxySettings { listen, socket_mode, hosts, normalise_request_id, card_data, workers })
    };
    let settings = settings();
    // Consequences of a refused address are not reported as further mistakes.
    (settings, listen.filter(|_| !refused))
}

fn drain(r: &mut Reader<'_>, write_timeout: Option<Duration>) -> Option<DrainSettings> {
    // As long as load balancers and endpoints usually take to notice.
    let grace = r.value("drain.grace", "5s", parse::duration(Duration::ZERO..=HOUR));
    let timeout = r.value("drain.timeout", "40s", parse::duration(INSTANT..=HOUR));

    if let (Some(grace), Some(timeout)) = (grace, timeout)
        && timeout < grace
    {
        r.conflict("drain.timeout", &format!("{} is shorter than drain.grace ({})", shown(timeout), shown(grace)));
    }
    // The last write may come in at the end of the grace period.
    if let (Some(write_timeout), Some(grace), Some(timeout)) = (write_timeout, grace, timeout)
        && timeout >= grace
        && timeout <= grace.saturating_add(write_timeout)
    {
        r.conflict(
            "drain.timeout",
            &format!(
                "{} would cut off writes; expected more than drain.grace ({}) and gateway.write_timeout ({}) together",
                shown(timeout),
                shown(grace),
                shown(write_timeout)
            ),
        );
    }
    Some(DrainSettings { grace: grace?, timeout: timeout? })
}

fn limits(r: &mut Reader<'_>) -> Option<LimitSettings> {
    let connections = r.value("limits.connections", "10000", parse::count(1..=MILLION));
    let in_flight = r.value("limits.in_flight", "512", parse::count(1..=MILLION));
    // Bodies of writes are held in memory, as many as are in flight.
    let body = r.value("limits.body", "1MiB", parse::length(KIB..=64 * KIB * KIB));
    // The HTTP parser does not work with a buffer of less than 8 KiB.
    let head = r.value("limits.head", "32KiB", parse::length(8 * KIB..=KIB * KIB));

    Some(LimitSettings { connections: connections?, in_flight: in_flight?, body: body?, head: head? })
}

fn control(r: &mut Reader<'_>, proxy: Option<&[Address]>) -> Option<ControlSettings> {
    let listen = r.optional("control.listen", parse::address);

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

fn ops(r: &mut Reader<'_>, proxy: Option<&[Address]>, control: Option<&ControlSettings>) -> Option<OpsSettings> {
    let listen = ops_listen(r);
    // The page names the merchant, and others than operators may reach this listener.
    let status_page = r.value("ops.status_page", "false", parse::boolean);

    if let Some(address) = listen.map(Address::Tcp) {
        if taken(&address, proxy) {
            r.conflict("ops.listen", &format!("{address} is taken by proxy.listen"));
        }
        if taken(&address, control.and_then(|control| control.listen.as_ref()).map(std::slice::from_ref)) {
            r.conflict("ops.listen", &format!("{address} is taken by control.listen"));
        }
    }
    Some(OpsSettings { listen: listen?, status_page: status_page? })
}

/// `ops.listen` alone, for commands that only call this listener.
pub(super) fn ops_listen(r: &mut Reader<'_>) -> Option<SocketAddr> {
    r.value("ops.listen", "127.0.0.1:9464", parse::tcp_address)
}

/// Whether another listener has the address. Port 0 is another port each time, and 0.0.0.0 has the port of every address
/// of its family.
pub(super) fn taken(address: &Address, by: Option<&[Address]>) -> bool {
    let collides = |other: &Address| match (address.tcp(), other.tcp()) {
        (Some(one), Some(two)) if one.port() == two.port() && one.is_ipv4() == two.is_ipv4() => {
            one.port() != 0 && (one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified())
        }
        (Some(_), Some(_)) => false,
        (_, _) => address == other,
    };
    by.is_some_and(|others| others.iter().any(collides))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn cache(r: &mut Reader<'_>) -> Option<CacheSettings> {
    let max_bytes = r.value("cache.max_bytes", "32MiB", parse::size(1 << 20..=1 << 40));
    // Bounds how long another sidecar's write can go unnoticed here.
    let max_ttl = r.value("cache.max_ttl", "60s", parse::duration(INSTANT..=24 * HOUR));
    let untokenized_ttl = r.value("cache.untokenized_ttl", "30s", parse::duration(Duration::ZERO..=24 * HOUR));
    // Covers the way to the caller and a clock that is a little off.
    let expiration_margin = r.value("cache.expiration_margin", "5s", parse::duration(Duration::ZERO..=seconds(600)));
    let origin_cache_control = r.value(
        "cache.origin_cache_control",
        "honor",
        parse::choice([("honor", OriginCacheControl::Honor), ("ignore", OriginCacheControl::Ignore)]),
    );
    let stale_if_error = r.value("cache.stale_if_error", "0s", parse::duration(Duration::ZERO..=24 * HOUR));

    Some(CacheSettings {
        max_bytes: max_bytes?,
        max_ttl: max_ttl?,
        untokenized_ttl: untokenized_ttl?,
        expiration_margin: expiration_margin?,
        origin_cache_control: origin_cache_control?,
        stale_if_error: stale_if_error?,
    })
}

fn links(r: &mut Reader<'_>, listen: Option<&[Address]>) -> Option<LinkSettings> {
    let rewrite = r.value("links.rewrite", "true", parse::boolean);
    let base_url = r.optional("links.base_url", parse::base_url);

    if let (Some(None), Some(listen)) = (&base_url, listen) {
        let why = match listen.iter().find_map(Address::tcp) {
            None => Some("required, because callers cannot follow links to a Unix socket".to_owned()),
            Some(first) if first.ip().is_unspecified() => Some(format!(
                "required, because callers cannot follow links to {first}, the first address of proxy.listen"
            )),
            // With port 0 the system chooses the port at the start, so nothing can be checked here.
            Some(first) if first.port() == 0 => None,
            Some(first) => {
                r.derived("links.base_url", &format!("http://{first}"));
                None
            }
        };
        if let Some(why) = why.filter(|_| rewrite == Some(true)) {
            r.missing("links.base_url", why);
        }
    }
    Some(LinkSettings { rewrite: rewrite?, base_url: base_url? })
}

fn log(r: &mut Reader<'_>) -> Option<LogSettings> {
    let format = r.value("log.format", "json", parse::choice([("json", Format::Json), ("text", Format::Text)]));
    let level = r.value("log.level", "info", parse::choice(LEVELS));
    // By default every hit is logged.
    let sample_hits = r.value("log.sample_hits", "1", parse::count(1..=MILLION));

    Some(LogSettings { format: format?, level: level?, sample_hits: sample_hits? as u64 })
}

/// A sidecar leaves most of the machine to the service beside it, and two threads serve more than Sezzle answers.
fn default_workers(cores: usize) -> usize {
    cores.clamp(1, 2)
}

const KIB: usize = 1024;
const MILLION: usize = 1_000_000;
const HOUR: Duration = seconds(3600);
/// The shortest timeout that is not simply zero.
const INSTANT: Duration = Duration::from_millis(1);
/// Nobody waits longer than this for the head of an answer.
const TIMEOUT: RangeInclusive<Duration> = INSTANT..=seconds(600);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_by_cores() {
        assert_eq!([0, 1, 2, 64].map(default_workers), [1, 1, 2, 2]);
    }
}
