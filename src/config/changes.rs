//! What differs between two configurations, and what it takes for that to take effect: pure.
//!
//! Every key of the configuration has a rule here, and a test fails for one that is not.

use std::path::Path;

use super::Settings;
use super::settings::{EgressProxySettings, ForwardSettings};
use crate::secret::{Secret, SecretSource};

/// What it takes for a change of a key to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A reload of the running process.
    Reload,
    /// A restart.
    Restart,
}

/// The keys that differ, in the order of the sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A reload applies these.
    pub applied: Vec<&'static str>,
    /// These stay as they were when the process started.
    pub need_restart: Vec<&'static str>,
}

/// Compares what is to be with what is in force: what `started` says of keys that need a restart, and `reloaded`, the
/// configuration of the last reload or else of the start, of all others.
pub fn diff(started: &Settings, reloaded: &Settings, new: &Settings) -> Changes {
    let mut changes = Changes::default();
    for Rule(key, takes, same) in RULES {
        let (in_force, list) = match takes {
            Takes::Reload => (reloaded, &mut changes.applied),
            Takes::Restart => (started, &mut changes.need_restart),
        };
        if !same(in_force, new) {
            list.push(key);
        }
    }
    changes
}

/// Every key, and what it takes.
pub fn rules() -> impl Iterator<Item = (&'static str, Takes)> {
    RULES.iter().map(|Rule(key, takes, _)| (*key, *takes))
}

/// A key, what it takes, and whether two configurations say the same of it.
struct Rule(&'static str, Takes, fn(&Settings, &Settings) -> bool);

/// The comparison of one field.
macro_rules! same {
    ($($field:tt)+) => { |a, b| a.$($field)+ == b.$($field)+ };
}

// A key takes a restart where a part of the process is built on it once and for all: what listens, the way out and its
// connections, how much may be taken at once, and who the merchant is.
const RULES: &[Rule] = &[
    Rule("gateway.environment", Takes::Restart, same!(gateway.environment)),
    Rule("gateway.url", Takes::Restart, same!(gateway.url)),
    Rule("gateway.ca_file", Takes::Restart, same!(gateway.ca_file)),
    Rule("gateway.connect_timeout", Takes::Restart, same!(gateway.connect_timeout)),
    Rule("gateway.read_timeout", Takes::Reload, same!(gateway.read_timeout)),
    Rule("gateway.write_timeout", Takes::Reload, same!(gateway.write_timeout)),
    Rule("gateway.report_timeout", Takes::Reload, same!(gateway.report_timeout)),
    Rule("gateway.http2", Takes::Restart, same!(gateway.http2)),
    Rule("gateway.egress_proxy", Takes::Restart, |a, b| egress_proxy(a) == egress_proxy(b)),
    Rule("gateway.egress_proxy_credentials_file", Takes::Restart, |a, b| file(egress(a)) == file(egress(b))),
    Rule("gateway.egress_proxy_credentials", Takes::Restart, |a, b| variable(egress(a)) == variable(egress(b))),
    Rule("credentials.public_key_file", Takes::Reload, |a, b| file(public(a)) == file(public(b))),
    Rule("credentials.public_key", Takes::Restart, |a, b| variable(public(a)) == variable(public(b))),
    Rule("credentials.private_key_file", Takes::Reload, |a, b| file(private(a)) == file(private(b))),
    Rule("credentials.private_key", Takes::Restart, |a, b| variable(private(a)) == variable(private(b))),
    Rule("credentials.merchant_uuid", Takes::Restart, same!(credentials.merchant_uuid)),
    Rule("proxy.listen", Takes::Restart, same!(proxy.listen)),
    Rule("proxy.socket_mode", Takes::Restart, same!(proxy.socket_mode)),
    // Decides nothing but whether `proxy.listen` is a mistake, which it does whenever the configuration is read.
    Rule("proxy.allow_remote", Takes::Reload, |_, _| true),
    Rule("proxy.hosts", Takes::Reload, same!(proxy.hosts)),
    Rule("proxy.normalise_request_id", Takes::Reload, same!(proxy.normalise_request_id)),
    Rule("proxy.card_data", Takes::Reload, same!(proxy.card_data)),
    Rule("proxy.workers", Takes::Restart, same!(proxy.workers)),
    Rule("drain.grace", Takes::Reload, same!(drain.grace)),
    Rule("drain.timeout", Takes::Reload, same!(drain.timeout)),
    Rule("limits.connections", Takes::Restart, same!(limits.connections)),
    Rule("limits.in_flight", Takes::Restart, same!(limits.in_flight)),
    Rule("limits.body", Takes::Reload, same!(limits.body)),
    Rule("limits.head", Takes::Restart, same!(limits.head)),
    Rule("control.listen", Takes::Restart, same!(control.listen)),
    Rule("ops.listen", Takes::Restart, same!(ops.listen)),
    Rule("ops.status_page", Takes::Restart, same!(ops.status_page)),
    Rule("cache.max_bytes", Takes::Restart, same!(cache.max_bytes)),
    Rule("cache.max_ttl", Takes::Reload, same!(cache.max_ttl)),
    Rule("cache.untokenized_ttl", Takes::Reload, same!(cache.untokenized_ttl)),
    Rule("cache.expiration_margin", Takes::Reload, same!(cache.expiration_margin)),
    Rule("cache.origin_cache_control", Takes::Reload, same!(cache.origin_cache_control)),
    Rule("cache.stale_if_error", Takes::Reload, same!(cache.stale_if_error)),
    Rule("links.rewrite", Takes::Restart, same!(links.rewrite)),
    Rule("links.base_url", Takes::Restart, same!(links.base_url)),
    Rule("webhooks.listen", Takes::Restart, same!(webhooks.listen)),
    Rule("webhooks.path", Takes::Restart, same!(webhooks.path)),
    Rule("webhooks.forward_to", Takes::Restart, |a, b| forward_to(a) == forward_to(b)),
    Rule("webhooks.forward_secret_file", Takes::Restart, |a, b| file(forward(a)) == file(forward(b))),
    Rule("webhooks.forward_secret", Takes::Restart, |a, b| variable(forward(a)) == variable(forward(b))),
    Rule("log.format", Takes::Restart, same!(log.format)),
    Rule("log.level", Takes::Reload, same!(log.level)),
    Rule("log.sample_hits", Takes::Reload, same!(log.sample_hits)),
    Rule("otlp.endpoint", Takes::Restart, same!(otlp.endpoint)),
    Rule("otlp.sample", Takes::Restart, same!(otlp.sample)),
];

fn public(settings: &Settings) -> Option<&SecretSource> {
    Some(&settings.credentials.public_key)
}

fn private(settings: &Settings) -> Option<&SecretSource> {
    Some(&settings.credentials.private_key)
}

fn egress_proxy(settings: &Settings) -> Option<&str> {
    settings.gateway.egress_proxy.as_ref().map(|proxy| proxy.url.as_str())
}

fn egress(settings: &Settings) -> Option<&SecretSource> {
    settings.gateway.egress_proxy.as_ref().and_then(|EgressProxySettings { credentials, .. }| credentials.as_ref())
}

fn forward_to(settings: &Settings) -> Option<&str> {
    settings.webhooks.forward.as_ref().map(|forward| forward.url.as_str())
}

fn forward(settings: &Settings) -> Option<&SecretSource> {
    settings.webhooks.forward.as_ref().and_then(|ForwardSettings { secret, .. }| secret.as_ref())
}

/// Where it is a file's path that may change. What is in the file is another matter.
fn file(source: Option<&SecretSource>) -> Option<&Path> {
    match source? {
        SecretSource::File(path) => Some(path),
        SecretSource::Variable { .. } => None,
    }
}

fn variable(source: Option<&SecretSource>) -> Option<&Secret> {
    match source? {
        SecretSource::File(_) => None,
        SecretSource::Variable { value, .. } => Some(value),
    }
}

#[cfg(test)]
mod tests;
