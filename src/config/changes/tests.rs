//! Each key by itself: that a change of it is seen, that it is seen as one of it alone, and what it takes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::fs;

use super::*;
use crate::config::source::SECRETS;
use crate::config::{Loaded, Problems, load};

/// Something is set in every section, so that everything can be changed by itself.
const BASE: &str = r#"
    gateway.environment = "sandbox"
    gateway.url = "https://gateway.example"
    gateway.resolver = "dns"
    gateway.egress_proxy = "http://proxy:3128"
    gateway.egress_proxy_credentials_file = "/run/egress"
    credentials.public_key_file = "/run/public"
    credentials.private_key_file = "/run/private"
    proxy.tls.certificate_file = "/run/proxy.pem"
    proxy.tls.key_file = "/run/proxy.key"
    proxy.tls.client_ca_file = "/run/callers.pem"
    links.base_url = "http://localhost"
    webhooks.listen = "127.0.0.1:8082"
    webhooks.forward_to = "http://127.0.0.1:3000"
    webhooks.forward_secret_file = "/run/forward"
    webhooks.public_url = "https://shop.example/webhooks"
    audit.file = "/run/audit.log"
    fleet.username = "sidecar"
    fleet.password_file = "/run/fleet"
    fleet.client_certificate_file = "/run/certificate"
    fleet.client_key_file = "/run/key"
"#;

/// The two ways to name the server of a fleet, which exclude each other.
const BY_URL: &str = "fleet.url = 'rediss://cache'";
const BY_SENTINELS: &str = "fleet.sentinels = ['a:26379']\nfleet.primary = 'primary'";

fn settings(texts: &[&str], variables: &[(&str, &str)]) -> Settings {
    load_texts(texts, variables).unwrap().settings
}

fn load_texts(texts: &[&str], variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..texts.len()).map(|index| folder.path().join(format!("{index}.toml"))).collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).unwrap();
    }
    let named = |(name, value): &(&str, &str)| (format!("SEZZLE_SIDECAR__{name}").into(), OsString::from(value));
    load(&files, variables.iter().map(named))
}

/// Other values that [`other`] does not find.
const OTHERS: [(&str, &str); 5] = [
    ("gateway.resolver", "'system'"),
    ("gateway.nameservers", "['10.0.0.53']"),
    ("proxy.socket_mode", "'0600'"),
    ("proxy.hosts", "['payments']"),
    ("fleet.sentinels", "['b:26379']"),
];

/// Another value of a key, as TOML: `value` is the one in `config/reference.toml`.
fn other(key: &str, value: &toml::Value) -> toml::Value {
    if let Some((_, other)) = OTHERS.iter().find(|(known, _)| *known == key) {
        return other.parse().unwrap();
    }
    match value {
        toml::Value::Boolean(flag) => (!flag).into(),
        toml::Value::Integer(number) => (number + 1).into(),
        toml::Value::Array(items) => vec![other(key, &items[0])].into(),
        toml::Value::String(text) => another_word(key, text).unwrap_or_else(|| another_text(text)).into(),
        _ => panic!("{key}: say another value of it in OTHERS"),
    }
}

/// Another of the few words that a key takes, if it takes nothing else. The message of a refusal lists them.
fn another_word(key: &str, word: &str) -> Option<String> {
    let refused = load_texts(&[BASE, BY_URL, &format!("{key} = 'no-such-word'")], &[]).err()?.to_string();
    let words = refused.split_once("expected one of ")?.1.split('"').skip(1).step_by(2);
    words.map(str::to_owned).find(|other| other != word)
}

/// A text with its first number after the last colon one higher: another duration, size or port. Else a longer text.
fn another_text(text: &str) -> String {
    let begin = text.rfind(':').map_or(0, |colon| colon + 1);
    let (before, rest) = text.split_at(begin);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u64>() {
        Ok(number) => format!("{before}{}{}", number + 1, rest.split_at(digits.len()).1),
        Err(_) => format!("{text}x"),
    }
}

/// Every key that a file may hold, with its value in `config/reference.toml`. The keys of a list have a test of their
/// own.
fn keys() -> Vec<(&'static str, AppliedBy, toml::Value)> {
    let shown = crate::config::tests::shown_in_reference();
    let keys = reference().into_iter().filter(|doc| !doc.key.starts_with("callers."));
    keys.map(|doc| (doc.key, doc.applied_by, shown[doc.key].clone())).collect()
}

#[test]
fn a_change_of_each_key_is_one_of_it_alone() {
    for (key, applied_by, value) in keys() {
        let by = if matches!(key, "fleet.sentinels" | "fleet.primary") { BY_SENTINELS } else { BY_URL };
        let base = settings(&[BASE, by], &[]);
        if key == "otlp.endpoint" && !cfg!(feature = "otlp") {
            // A mistake in a build that exports no spans.
            continue;
        }
        let new = settings(&[BASE, by, &format!("{key} = {}", other(key, &value))], &[]);
        let changes = diff(&base, &base, &new);
        // By itself this key changes nothing, so nothing is to be said of it.
        let keys = if key == "proxy.allow_remote" { vec![] } else { vec![key] };
        let expected = match applied_by {
            AppliedBy::Reload => Changes { applied: keys, need_restart: vec![] },
            AppliedBy::Restart => Changes { applied: vec![], need_restart: keys },
        };
        assert_eq!(changes, expected, "{key}");
        assert_eq!(
            rules().filter(|(ruled, _)| *ruled == key).collect::<Vec<_>>(),
            [(key, applied_by)],
            "one rule each"
        );
    }
}

#[test]
fn a_change_of_a_caller_is_one_of_its_key() {
    let with = |caller: &str| settings(&[BASE, BY_URL, "proxy.listen = ['127.0.0.1:1', 'unix:/a']", caller], &[]);
    let of = |keys: &str| format!("[[callers]]\nname = 'a'\ntoken_file = '/a'\nallow = ['read']\n{keys}");
    let base = with(&of(""));
    let pair = "public_key = 'p'\nprivate_key_file = '/b'";
    for (changed, keys) in [
        (of("").replace("'a'", "'b'"), &["callers.name"][..]),
        (of("").replace("/a", "/b"), &["callers.token_file"]),
        (of(pair), &["callers.public_key", "callers.private_key_file"]),
        (of("uid = 7"), &["callers.uid"]),
        (of("certificate = 'spiffe://a/b'"), &["callers.certificate"]),
        (of("").replace("read", "all"), &["callers.allow"]),
        (of("max_amount = ['1 USD']"), &["callers.max_amount"]),
        (of(""), &[]),
    ] {
        let changes = diff(&base, &base, &with(&changed));
        assert_eq!(changes, Changes { applied: keys.to_vec(), need_restart: vec![] }, "{changed}");
    }
}

#[test]
fn a_secret_of_a_variable_takes_a_restart() {
    let files = [
        "gateway.egress_proxy = 'http://proxy:3128'\ngateway.environment = 'sandbox'",
        "webhooks = { listen = '127.0.0.1:8082', forward_to = 'http://127.0.0.1:3000' }",
        BY_URL,
    ];
    let names = SECRETS.map(|key| key.replace('.', "__").to_ascii_uppercase());
    let old: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "old")).collect();
    let base = settings(&files, &old);
    for (index, key) in SECRETS.into_iter().enumerate() {
        assert!(rules().any(|rule| rule == (key, AppliedBy::Restart)), "{key}");
        let mut new = old.clone();
        new.get_mut(index).unwrap().1 = "new";
        let changes = diff(&base, &base, &settings(&files, &new));
        assert_eq!(changes, Changes { applied: vec![], need_restart: vec![key] });
    }
}

#[test]
fn another_way_to_write_a_value_is_no_change() {
    let base = settings(&[BASE, BY_URL], &[]);
    let new = settings(&[BASE, BY_URL, "cache = { max_ttl = '1m', max_bytes = 33554432 }\nlog.level = 'info'"], &[]);
    assert_eq!(diff(&base, &base, &new), Changes::default());
}

#[test]
fn what_needs_a_restart_is_told_until_there_was_one() {
    let started = settings(&[BASE, BY_URL], &[]);
    let first = settings(&[BASE, BY_URL, "proxy.workers = 7\nlog.level = 'warn'"], &[]);
    let needs = |applied| Changes { applied, need_restart: vec!["proxy.workers"] };
    assert_eq!(diff(&started, &started, &first), needs(vec!["log.level"]));
    assert_eq!(diff(&started, &first, &first), needs(vec![]), "still, though the configuration did not change again");
    let back = diff(&started, &first, &started);
    assert_eq!(back, Changes { applied: vec!["log.level"], need_restart: vec![] });
}

#[test]
fn the_value_in_force_is_that_of_the_start_or_of_the_last_reload() {
    let started = settings(&[BASE, BY_URL, "cache.max_ttl = '50s'\nops.listen = '127.0.0.1:1'"], &[]);
    let reloaded = settings(&[BASE, BY_URL, "cache.max_ttl = '42s'\nops.listen = '127.0.0.1:2'"], &[]);
    let in_force = in_force(&started, &reloaded);
    let value = |key: &str| in_force.iter().find(|entry| entry.key == key).unwrap().value.clone().unwrap();
    assert_eq!((value("cache.max_ttl").as_str(), value("ops.listen").as_str()), ("\"42s\"", "\"127.0.0.1:1\""));
    assert_eq!(waiting(&started, &reloaded), ["ops.listen"]);
    assert_eq!(waiting(&started, &started), [""; 0]);
    let keys: Vec<_> = in_force.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, reloaded.effective.iter().map(|entry| entry.key).collect::<Vec<_>>());
    assert!(!in_force.iter().any(|entry| entry.value.as_ref().is_some_and(|value| value.contains("sz_pr"))));
}
