//! Each key by itself: that a change of it is seen, that it is seen as one of it alone, and what it takes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use super::*;
use crate::config::source::SECRETS;
use crate::config::{load, reference};

/// Something is set in every section, so that everything can be changed by itself.
const BASE: &str = r#"
    gateway.environment = "sandbox"
    gateway.url = "https://gateway.example"
    gateway.egress_proxy = "http://proxy:3128"
    gateway.egress_proxy_credentials_file = "/run/egress"
    credentials.public_key_file = "/run/public"
    credentials.private_key_file = "/run/private"
    links.base_url = "http://localhost"
    webhooks.listen = "127.0.0.1:8082"
    webhooks.forward_to = "http://127.0.0.1:3000"
    webhooks.forward_secret_file = "/run/forward"
"#;

fn settings(texts: &[&str], variables: &[(&str, &str)]) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..texts.len()).map(|index| folder.path().join(format!("{index}.toml"))).collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).unwrap();
    }
    let named = |(name, value): &(&str, &str)| (format!("SEZZLE_SIDECAR__{name}").into(), OsString::from(value));
    load(&files, variables.iter().map(named)).unwrap().settings
}

/// Another value of each key that a file may hold.
const OTHERS: [(&str, &str, Takes); 46] = [
    ("gateway.environment", "'production'", Takes::Restart),
    ("gateway.url", "'https://other.example'", Takes::Restart),
    ("gateway.ca_file", "'/run/ca'", Takes::Restart),
    ("gateway.connect_timeout", "'1s'", Takes::Restart),
    ("gateway.read_timeout", "'11s'", Takes::Reload),
    ("gateway.write_timeout", "'31s'", Takes::Reload),
    ("gateway.report_timeout", "'61s'", Takes::Reload),
    ("gateway.http2", "true", Takes::Restart),
    ("gateway.egress_proxy", "'http://proxy:3129'", Takes::Restart),
    ("gateway.egress_proxy_credentials_file", "'/run/other'", Takes::Restart),
    ("credentials.public_key_file", "'/run/other'", Takes::Reload),
    ("credentials.private_key_file", "'/run/other'", Takes::Reload),
    ("credentials.merchant_uuid", "'a'", Takes::Restart),
    ("proxy.listen", "['127.0.0.1:8081']", Takes::Restart),
    ("proxy.socket_mode", "'0600'", Takes::Restart),
    ("proxy.hosts", "['payments']", Takes::Reload),
    ("proxy.normalise_request_id", "false", Takes::Reload),
    ("proxy.card_data", "'forward'", Takes::Reload),
    ("proxy.workers", "3", Takes::Restart),
    ("drain.grace", "'6s'", Takes::Reload),
    ("drain.timeout", "'41s'", Takes::Reload),
    ("limits.connections", "1", Takes::Restart),
    ("limits.in_flight", "1", Takes::Restart),
    ("limits.body", "'2MiB'", Takes::Reload),
    ("limits.head", "'16KiB'", Takes::Restart),
    ("control.listen", "'unix:/run/control.sock'", Takes::Restart),
    ("ops.listen", "'127.0.0.1:9465'", Takes::Restart),
    ("ops.status_page", "true", Takes::Restart),
    ("cache.max_bytes", "'1MiB'", Takes::Restart),
    ("cache.max_ttl", "'61s'", Takes::Reload),
    ("cache.untokenized_ttl", "'31s'", Takes::Reload),
    ("cache.expiration_margin", "'6s'", Takes::Reload),
    ("cache.origin_cache_control", "'ignore'", Takes::Reload),
    ("cache.stale_if_error", "'1s'", Takes::Reload),
    ("links.rewrite", "false", Takes::Restart),
    ("links.base_url", "'http://other'", Takes::Restart),
    ("webhooks.listen", "'127.0.0.1:8083'", Takes::Restart),
    ("webhooks.path", "'/other'", Takes::Restart),
    ("webhooks.forward_to", "'http://127.0.0.1:3001'", Takes::Restart),
    ("webhooks.forward_secret_file", "'/run/other'", Takes::Restart),
    ("log.format", "'text'", Takes::Restart),
    ("log.level", "'warn'", Takes::Reload),
    ("log.sample_hits", "2", Takes::Reload),
    ("otlp.endpoint", "'http://127.0.0.1:4318'", Takes::Restart),
    ("otlp.sample", "2", Takes::Restart),
    // By itself it changes nothing, so nothing is to be said of it.
    ("proxy.allow_remote", "true", Takes::Reload),
];

#[test]
fn every_key_has_a_rule_and_every_rule_a_key() {
    let ruled: BTreeSet<&str> = rules().map(|(key, _)| key).collect();
    let known: BTreeSet<&str> = reference().iter().map(|doc| doc.key).chain(SECRETS).collect();
    assert_eq!(ruled, known, "say in config/changes/mod.rs what it takes for a change of the key to take effect");
    assert_eq!(ruled.len(), rules().count(), "one rule each");
    let tried: BTreeSet<&str> = OTHERS.iter().map(|(key, ..)| *key).chain(SECRETS).collect();
    assert_eq!(tried, known, "and give another value of it here");
}

#[test]
fn a_change_of_each_key_is_one_of_it_alone() {
    let base = settings(&[BASE], &[]);
    for (key, value, takes) in OTHERS {
        if key == "otlp.endpoint" && !cfg!(feature = "otlp") {
            // A mistake in a build that exports no spans.
            continue;
        }
        let new = settings(&[BASE, &format!("{key} = {value}")], &[]);
        let changes = diff(&base, &base, &new);
        let keys = if key == "proxy.allow_remote" { vec![] } else { vec![key] };
        let expected = match takes {
            Takes::Reload => Changes { applied: keys, need_restart: vec![] },
            Takes::Restart => Changes { applied: vec![], need_restart: keys },
        };
        assert_eq!(changes, expected, "{key}");
        assert!(rules().any(|rule| rule == (key, takes)), "{key}");
    }
}

#[test]
fn a_secret_of_a_variable_takes_a_restart() {
    let files = [
        "gateway.egress_proxy = 'http://proxy:3128'\ngateway.environment = 'sandbox'",
        "webhooks = { listen = '127.0.0.1:8082', forward_to = 'http://127.0.0.1:3000' }",
    ];
    let names = SECRETS.map(|key| key.replace('.', "__").to_ascii_uppercase());
    let old: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "old")).collect();
    let base = settings(&files, &old);
    for (index, key) in SECRETS.into_iter().enumerate() {
        let mut new = old.clone();
        new.get_mut(index).unwrap().1 = "new";
        let changes = diff(&base, &base, &settings(&files, &new));
        assert_eq!(changes, Changes { applied: vec![], need_restart: vec![key] });
    }
}

#[test]
fn another_way_to_write_a_value_is_no_change() {
    let base = settings(&[BASE], &[]);
    let new = settings(&[BASE, "cache = { max_ttl = '1m', max_bytes = 33554432 }\nlog.level = 'info'"], &[]);
    assert_eq!(diff(&base, &base, &new), Changes::default());
}

#[test]
fn what_needs_a_restart_is_told_until_there_was_one() {
    let started = settings(&[BASE], &[]);
    let first = settings(&[BASE, "proxy.workers = 7\nlog.level = 'warn'"], &[]);
    let needs = |applied| Changes { applied, need_restart: vec!["proxy.workers"] };
    assert_eq!(diff(&started, &started, &first), needs(vec!["log.level"]));
    assert_eq!(diff(&started, &first, &first), needs(vec![]), "still, though the configuration did not change again");
    let back = diff(&started, &first, &started);
    assert_eq!(back, Changes { applied: vec!["log.level"], need_restart: vec![] });
}
