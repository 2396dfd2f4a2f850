//! Translates the settings into the options of each part of the sidecar.

use std::path::Path;

use super::callers::CallersInForce;
use super::error::StartError;
use super::materials::{Blocking, Materials};
use super::sockets::Addresses;
use crate::address::Address;
use crate::caller::Hosts;
use crate::config::settings::{GatewaySettings, OriginCacheControl, Passage};
use crate::config::{Effective, Settings, ShownTo};
use crate::file::{self, Pipes};
use crate::names::Resolver;
use crate::proxy;
use crate::proxy::links::LinkRewriter;
use crate::proxy::pressure;
use crate::session;
use crate::session::announce::InFleet;
use crate::session::freshness::Policy;
use crate::status::snapshot::{About, CertificateState, ConfigKey};
#[cfg(feature = "otlp")]
use crate::telemetry::spans::Spans;
#[cfg(feature = "otlp")]
use crate::telemetry::spans::export::Exporter;
use crate::upstream::connector;
use crate::upstream::egress::EgressProxy;
use crate::upstream::tls::{self, Trust};
use crate::webhook::forward::Forward;

/// The version, commit and compiler.
pub const BUILD: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("SEZZLE_SIDECAR_COMMIT"), ", ", env!("SEZZLE_SIDECAR_RUSTC"), ")");

pub fn policy(settings: &Settings) -> Policy {
    let cache = &settings.cache;
    Policy {
        max_ttl: cache.max_ttl,
        untokenized_ttl: cache.untokenized_ttl,
        expiration_margin: cache.expiration_margin,
        honor_origin: cache.origin_cache_control == OriginCacheControl::Honor,
        stale_if_error: cache.stale_if_error,
    }
}

pub(super) fn session_options(settings: &Settings, fleet: Option<InFleet>) -> session::Options {
    session::Options {
        max_bytes: settings.cache.max_bytes,
        max_flights: pressure::fetches(settings.limits.in_flight),
        rules: session_rules(settings),
        fleet,
    }
}

pub(super) fn session_rules(settings: &Settings) -> session::Rules {
    session::Rules {
        policy: policy(settings),
        // A fetch has a deadline for its permit, its head and its body. A caller waits no longer than their sum.
        lookup_timeout: pressure::QUEUE_WAIT + settings.gateway.read_timeout.saturating_add(proxy::READ_BODY),
    }
}

/// `callers` has the callers in force.
pub(super) fn proxy_options(settings: &Settings, callers: &CallersInForce) -> proxy::Options {
    let limits = proxy::Limits {
        in_flight: settings.limits.in_flight,
        body: settings.limits.body,
        read: settings.gateway.read_timeout,
        write: settings.gateway.write_timeout,
        report: settings.gateway.report_timeout,
    };
    let hosts = Hosts::new(&settings.proxy.hosts);
    let normalise_request_id = settings.proxy.normalise_request_id;
    let (forwarded, sample_hits) = (forwarded(settings), settings.log.sample_hits);
    let callers = callers.table.clone();
    proxy::Options { hosts, limits, normalise_request_id, forwarded, sample_hits, callers }
}

pub fn forwarded(settings: &Settings) -> proxy::Forwarded {
    let is_forwarded = |passage| passage == Passage::Forward;
    proxy::Forwarded { card_data: is_forwarded(settings.proxy.card_data), version_1: is_forwarded(settings.proxy.v1) }
}

/// The facts about this process that the status page shows and that do not change.
pub(super) fn about(settings: &Settings, trust: &Trust, addresses: &Addresses) -> About {
    let authorities = trust.authorities.iter().map(|one| CertificateState::new("gateway.ca_file", one));
    About {
        host: host_name(std::env::var("HOSTNAME").ok()),
        build: BUILD,
        forward_to: settings.webhooks.forward.as_ref().map(|forward| forward.url.clone()),
        authorities: authorities.collect(),
        environment: settings.gateway.environment.as_str(),
        gateway: settings.gateway.url.clone(),
        cache_bytes: settings.cache.max_bytes,
        listeners: addresses.by_listener(),
        fleet: settings.fleet.as_ref().map(|fleet| fleet.server.to_string()),
    }
}

/// The name of the pod or of the container, which the variable `HOSTNAME` holds, or else the name of the machine.
fn host_name(variable: Option<String>) -> String {
    let of_machine = || {
        let content = file::read(Path::new("/proc/sys/kernel/hostname"), 256, Pipes::Refuse).ok()?;
        Some(String::from_utf8_lossy(&content.bytes).trim().to_owned())
    };
    let named = variable.or_else(of_machine).filter(|name| !name.is_empty());
    named.map_or_else(|| "an unnamed host".to_owned(), |name| name.chars().take(253).collect())
}

/// The keys of a configuration as the status page shows them.
pub(super) fn config_keys(effective: Vec<Effective>) -> Vec<ConfigKey> {
    let shown = |Effective { key, value, origin, shown_to }| {
        let is_for_operators = shown_to == ShownTo::Operators;
        ConfigKey { key, value, source: origin, is_for_operators }
    };
    effective.into_iter().map(shown).collect()
}

pub(super) fn connect_options(
    gateway: &GatewaySettings,
    tls: rustls::ClientConfig,
    materials: &Materials,
    blocking: &Blocking,
) -> Result<connector::Options, StartError> {
    let egress = gateway.egress_proxy.as_ref();
    let egress = egress.map(|proxy| EgressProxy::new(&proxy.url, materials.egress.as_ref())).transpose()?;
    let resolver = match materials.name_servers.as_slice() {
        [] => blocking.resolver.clone(),
        servers => Resolver::with_name_servers(servers).map_err(|error| StartError::Resolver(error.to_string()))?,
    };
    let unfollowed = ignored_trust(|variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty()));
    Ok(connector::Options { tls, unfollowed, resolver, tcp: gateway.connect_timeout, egress, http2: gateway.http2 })
}

/// A variable of the environment that names certificates to trust, if one is set. Other programs follow such variables,
/// and the sidecar does not.
pub(super) fn ignored_trust(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
        .into_iter()
        .find(|variable| is_set(variable))
}

pub(super) fn forward(
    settings: &Settings,
    materials: &Materials,
    blocking: &Blocking,
) -> Result<Option<Forward>, StartError> {
    let Some(forward) = &settings.webhooks.forward else { return Ok(None) };
    let tls = tls::client_config(&materials.trust)?;
    Ok(Some(Forward::new(&forward.url, materials.forward.as_ref(), tls, blocking.resolver.clone())?))
}

/// The span exporter, if an endpoint is configured.
#[cfg(feature = "otlp")]
pub(super) fn exporter(
    settings: &Settings,
    materials: &Materials,
    blocking: &Blocking,
    spans: &Spans,
) -> Result<Option<Exporter>, StartError> {
    let Some(endpoint) = &settings.otlp.endpoint else { return Ok(None) };
    let tls = tls::client_config(&materials.trust)?;
    Ok(Some(Exporter::new(endpoint, tls, blocking.resolver.clone(), spans, settings.otlp.sample)?))
}

pub(super) fn link_rewriter(settings: &Settings, bound: &[Address]) -> Option<LinkRewriter> {
    links_lead_to(settings, bound).map(|base_url| LinkRewriter::new(&settings.gateway.url, base_url))
}

/// The URL to which the sidecar points links; `None` if the sidecar does not change links.
pub(super) fn links_lead_to(settings: &Settings, bound: &[Address]) -> Option<String> {
    let base_url = match &settings.links.base_url {
        Some(url) => url.clone(),
        None => {
            let scheme = if settings.proxy.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", bound.iter().find_map(Address::tcp)?)
        }
    };
    settings.links.rewrite.then_some(base_url)
}
