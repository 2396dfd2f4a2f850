//! The loader as a whole: sources in, settings or the list of mistakes out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tracing::level_filters::LevelFilter;

use super::settings::{Environment as Gateway, FleetTimes, OriginCacheControl, Subscription};
use super::*;
use crate::secret::{Secret, SecretSource};
use crate::telemetry::log::Format;

const VALID: &str = r#"
    gateway.environment = "sandbox"
    credentials.public_key_file = "/run/public"
    credentials.private_key_file = "/run/private"
"#;

/// Loads texts as files `0.toml`, `1.toml` and so on, in which messages and origins have no folder.
fn attempt(texts: &[&str], variables: &[(&str, &str)]) -> (Result<Loaded, Problems>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..texts.len()).map(|index| folder.path().join(format!("{index}.toml"))).collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).unwrap();
    }
    (load(&files, environment(variables)), folder)
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(key, value)| (format!("SEZZLE_SIDECAR__{key}").into(), value.into())).collect()
}

fn loaded(texts: &[&str], variables: &[(&str, &str)]) -> Loaded {
    attempt(texts, variables).0.unwrap()
}

fn rendered(texts: &[&str], variables: &[(&str, &str)]) -> String {
    let (result, folder) = attempt(texts, variables);
    result.unwrap().render().replace(&format!("{}/", folder.path().display()), "")
}

fn refused(texts: &[&str], variables: &[(&str, &str)]) -> String {
    let (result, folder) = attempt(texts, variables);
    result.unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "")
}

/// A valid file and one more line.
fn refused_line(line: &str) -> String {
    refused(&[VALID, line], &[])
}

#[test]
fn a_prefix_with_one_underscore_is_a_mistake_unless_kubernetes_sets_it() {
    let set = |name: &str| load(&[], [(name.into(), "canary".into())]).unwrap_err().to_string();
    let mistyped = set("SEZZLE_SIDECAR_LOG__LEVEL");
    assert!(mistyped.contains("a variable that sets a key begins with SEZZLE_SIDECAR__"), "{mistyped}");
    assert!(!mistyped.contains("canary"), "{mistyped}");
    for name in ["SEZZLE_SIDECAR_PORT_8080_TCP_ADDR", "SEZZLE_SIDECAR_SERVICE_HOST", "OTHER_LOG__LEVEL"] {
        assert!(!set(name).contains(name), "{name}");
    }
}

#[test]
fn a_refused_address_is_one_mistake() {
    let problems = load(&[], [("SEZZLE_SIDECAR__PROXY__LISTEN".into(), "0.0.0.0:8080".into())]).unwrap_err();
    let of_the_address = problems.iter().filter(|problem| problem.to_string().contains("0.0.0.0")).count();
    assert_eq!(of_the_address, 1, "{problems}");
}

#[test]
fn nothing_at_all_lacks_what_is_required() {
    let expected = "gateway.environment: required, expected one of \"sandbox\", \"production\", \"sandbox-eu\", \
         \"production-eu\"\n\
         credentials.public_key_file: required, unless the variable SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY is set\n\
         credentials.private_key_file: required, unless the variable SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY is set";
    assert_eq!(refused(&[], &[]), expected);
}

#[test]
fn five_mistakes_are_five_lines() {
    let text = r#"
        [gatway]
        environment = "sandbox"
        [gateway]
        environment = "sandbox"
        connect_timeout = "soon"
        [credentials]
        public_key_file = "/run/public"
        private_key_file = "/run/private"
        [proxy]
        listen = ["127.0.0.1:8080", "localhost:8080"]
        [limits]
        head = "1KiB"
        [links]
        rewrite = 1
    "#;
    let expected = "gateway.connect_timeout: expected a duration such as \"500ms\", \"30s\" or \"5m\": a whole number \
         and one of ms, s, m, h, d, found \"soon\" (0.toml)\n\
         proxy.listen: expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \
         \"unix:/run/sidecar.sock\", found \"localhost:8080\" \
         (0.toml)\n\
         limits.head: expected a size from 8KiB to 1MiB, found \"1KiB\" (0.toml)\n\
         links.rewrite: expected true or false, found \"1\" (0.toml)\n\
         gatway.environment: unknown key; did you mean gateway.environment? (0.toml)";
    assert_eq!(refused(&[text], &[]), expected);
}

#[test]
fn every_source_is_checked_even_if_one_cannot_be_read() {
    let text = refused(&["[gateway\nenvironment = \"sandbox\"", "log.level = \"loud\""], &[("LOG__FORMAT", "xml")]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("0.toml:1: not valid TOML: "), "{text}");
    assert_eq!(lines[1], "log.format: expected one of \"json\", \"text\", found \"xml\" (SEZZLE_SIDECAR__LOG__FORMAT)");
    assert!(lines[2].starts_with("log.level: "), "{text}");

    let problems = load(&[PathBuf::from("/nowhere/a.toml")], environment(&[("LOG__LEVL", "info")])).unwrap_err();
    assert_eq!(problems.iter().count(), 2, "{problems}");
}

#[test]
fn defaults() {
    let Settings {
        gateway,
        credentials,
        proxy,
        callers,
        drain,
        limits,
        control,
        ops,
        cache,
        links,
        webhooks,
        audit,
        fleet,
        log,
        otlp,
        values: _,
        effective: _,
    } = loaded(&[VALID], &[]).settings;
    assert_eq!(gateway.environment, Gateway::Sandbox);
    assert_eq!(gateway.url, "https://sandbox.gateway.sezzle.com");
    assert_eq!(gateway.ca_file, None);
    let timeouts = [gateway.connect_timeout, gateway.read_timeout, gateway.write_timeout, gateway.report_timeout];
    assert_eq!(timeouts, [2, 10, 30, 60].map(Duration::from_secs));
    assert_eq!(credentials.public_key, SecretSource::File("/run/public".into()));
    assert_eq!(credentials.merchant_uuid, None);
    assert_eq!(proxy.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:8080", "[::1]:8080"]);
    assert!(callers.is_empty());
    assert!(proxy.hosts.is_empty() && (1..=2).contains(&proxy.workers));
    assert_eq!([drain.grace, drain.timeout], [5, 40].map(Duration::from_secs));
    assert_eq!([limits.connections, limits.in_flight, limits.body, limits.head], [10_000, 512, 1 << 20, 32 << 10]);
    assert_eq!((proxy.socket_mode, control.listen), (0o660, None));
    assert_eq!(ops.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(cache.max_bytes, 32 << 20);
    assert_eq!([cache.max_ttl, cache.untokenized_ttl, cache.expiration_margin], [60, 30, 5].map(Duration::from_secs));
    assert_eq!((cache.origin_cache_control, cache.stale_if_error), (OriginCacheControl::Honor, Duration::ZERO));
    assert!(links.rewrite && links.base_url.is_none());
    assert_eq!((webhooks.listen, webhooks.path.as_str()), (None, "/webhooks/sezzle"));
    assert!(webhooks.forward.is_none() && webhooks.public_url.is_none());
    assert_eq!(webhooks.subscription, Subscription::Off);
    assert_eq!((audit.file, audit.required), (None, false));
    assert!(fleet.is_none());
    assert_eq!((log.format, log.level, log.sample_hits), (Format::Json, LevelFilter::INFO, 1));
    assert_eq!((otlp.endpoint, otlp.sample), (None, 1));
}

#[test]
fn each_environment_has_its_gateway() {
    for (environment, url) in [
        ("sandbox", "https://sandbox.gateway.sezzle.com"),
        ("production", "https://gateway.sezzle.com"),
        ("sandbox-eu", "https://sandbox.gateway.eu.sezzle.com"),
        ("production-eu", "https://gateway.eu.sezzle.com"),
    ] {
        assert_eq!(loaded(&[VALID], &[("GATEWAY__ENVIRONMENT", environment)]).settings.gateway.url, url);
    }
}

#[test]
fn later_files_win_and_variables_win_over_files() {
    let files = [VALID, "[log]\nlevel = 'warn'\nformat = 'text'\n[drain]\ngrace = '1s'", "[log]\nlevel = 'error'"];
    let settings = loaded(&files, &[("LOG__FORMAT", "json")]).settings;
    assert_eq!((settings.log.level, settings.log.format), (LevelFilter::ERROR, Format::Json));
    assert_eq!(settings.drain.grace, Duration::from_secs(1));
}

#[test]
fn a_mistake_that_a_later_file_covers_does_no_harm_unless_its_key_is_unknown() {
    loaded(&["log.level = 'loud'", VALID, "log.level = 'info'"], &[]);
    assert_eq!(
        refused(&["log = 1", VALID, "log.level = 'info'"], &[]),
        "log: expected a table of keys, found a value (0.toml)"
    );
}

#[test]
fn variables_set_every_kind_of_value() {
    let settings = loaded(
        &[VALID],
        &[
            ("LINKS__REWRITE", "false"),
            ("PROXY__ALLOW_REMOTE", "true"),
            ("PROXY__LISTEN", "0.0.0.0:80, [::1]:81"),
            ("PROXY__HOSTS", "[\"payments\", \"payments.internal:8080\"]"),
            ("PROXY__WORKERS", "3"),
            ("CACHE__MAX_BYTES", "2097152"),
            ("CACHE__UNTOKENIZED_TTL", "0s"),
            ("CACHE__STALE_IF_ERROR", "0s"),
            ("LIMITS__BODY", "2MiB"),
            ("CREDENTIALS__MERCHANT_UUID", "00123456"),
        ],
    )
    .settings;
    assert!(!settings.links.rewrite);
    assert_eq!(settings.proxy.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:80", "[::1]:81"]);
    assert_eq!(settings.proxy.hosts, ["payments", "payments.internal:8080"]);
    assert_eq!((settings.proxy.workers, settings.limits.body), (3, 2 << 20));
    assert_eq!((settings.cache.max_bytes, settings.cache.untokenized_ttl), (2 << 20, Duration::ZERO));
    assert_eq!(settings.credentials.merchant_uuid.as_deref(), Some("00123456"));
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let keys: Vec<String> = reference().iter().map(|doc| doc.key.replace('.', "__").to_ascii_uppercase()).collect();
    let secrets = source::SECRETS.map(|key| key.replace('.', "__").to_ascii_uppercase());
    let also = ["GATEWAY__NO_SUCH_KEY", "", "lower__case"];
    let names = keys.iter().chain(&secrets).map(String::as_str).chain(also);
    let empty: Vec<(&str, &str)> = names.map(|name| (name, "")).collect();
    assert!(empty.len() > 50, "{}", empty.len());
    assert_eq!(rendered(&[VALID], &empty), rendered(&[VALID], &[]));
}

#[test]
fn secrets_come_from_a_file_or_a_variable_but_not_both() {
    let gateway = "gateway.environment = 'sandbox'";
    let variables = [("CREDENTIALS__PUBLIC_KEY", "00123456"), ("CREDENTIALS__PRIVATE_KEY_FILE", "/run/private")];
    let credentials = loaded(&[gateway], &variables).settings.credentials;
    let name = "SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY".to_owned();
    assert_eq!(credentials.public_key, SecretSource::Variable { name, value: Secret::new("00123456".to_owned()) });
    assert_eq!(credentials.private_key, SecretSource::File("/run/private".into()));

    assert_eq!(
        refused(&[VALID], &[("CREDENTIALS__PUBLIC_KEY", "x")]),
        "credentials.public_key_file: set twice: also by the variable SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY; \
         keep one of them (0.toml)"
    );
    assert_eq!(
        refused(&[gateway], &[("CREDENTIALS__PUBLIC_KEY", " "), ("CREDENTIALS__PRIVATE_KEY_FILE", "/run/private")]),
        "credentials.public_key: empty (SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY)"
    );
    assert_eq!(
        refused(&[gateway, "credentials = { public_key = 'canary', private_key_file = '/run/private' }"], &[]),
        "credentials.public_key: a secret does not belong in a configuration file; use credentials.public_key_file or \
         the variable SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY (1.toml)"
    );
}

#[test]
fn what_a_key_refuses() {
    let table = [
        ("gateway.environment = 'staging'", "gateway.environment: expected one of "),
        ("gateway.environment = 1", "gateway.environment: expected a string, found \"1\""),
        ("gateway.url = 'http://gateway.sezzle.com'", "gateway.url: expected https, since http is for a loopback"),
        ("gateway.url = 'https://gateway.sezzle.com/v2'", "gateway.url: expected scheme and host only"),
        ("gateway.resolver = 'hosts'", "gateway.resolver: expected one of \"system\", \"dns\""),
        ("gateway.nameservers = ['10.0.0.1']", "gateway.nameservers: gateway.resolver is \"system\", so nobody asks "),
        (
            "gateway.resolver = 'dns'\ngateway.nameservers = ['ns.example']",
            "gateway.nameservers: expected the IP address of a name server, such as ",
        ),
        ("gateway.ca_file = ''", "gateway.ca_file: expected the path of a file"),
        ("gateway.connect_timeout = '6s'", "gateway.connect_timeout: expected a duration from 1ms to 5s"),
        ("gateway.connect_timeout = 5", "gateway.connect_timeout: expected a duration such as \"500ms\", \"30s\""),
        ("gateway.connect_timeout = '1 5s'", "gateway.connect_timeout: expected a duration such as \"500ms\", \"30s\""),
        ("cache.max_ttl = '1M'", "cache.max_ttl: expected a duration such as \"500ms\", \"30s\" or \"5m\""),
        (
            "limits.body = '1mb'",
            "limits.body: expected a size such as \"32MiB\": a whole number, and nothing or one of",
        ),
        ("limits.body = 1e6", "limits.body: expected a size such as \"32MiB\""),
        ("gateway.read_timeout = '0s'", "gateway.read_timeout: expected a duration from 1ms to 10m"),
        ("gateway.report_timeout = ['1s']", "gateway.report_timeout: expected one value, found a list"),
        ("proxy.listen = []", "proxy.listen: expected at least one address"),
        ("proxy.listen = ''", "proxy.listen: expected at least one address"),
        ("proxy.listen = [8080]", "proxy.listen: expected a list of strings"),
        ("proxy.listen = 8080", "proxy.listen: expected a list of strings"),
        ("proxy.listen = '[::1]:1,[::1]:1'", "proxy.listen: listed twice, found \"[::1]:1\""),
        (
            "proxy.listen = 'unix:run/a'",
            "proxy.listen: expected an absolute path after \"unix:\", found \"unix:run/a\"",
        ),
        ("proxy.socket_mode = '0777'", "proxy.socket_mode: expected the octal mode of a socket, such as \"0660\""),
        ("proxy.listen = '10.0.0.1:80'", "proxy.listen: 10.0.0.1:80 is not a loopback address, "),
        ("proxy.listen = '[::ffff:127.0.0.1]:80'", "proxy.listen: expected the form of IPv4, \"127.0.0.1:80\", found "),
        ("ops.listen = '[::ffff:0.0.0.0]:80'", "ops.listen: expected the form of IPv4, \"0.0.0.0:80\", found "),
        ("control.listen = '[::FFFF:7f00:1]:80'", "control.listen: expected the form of IPv4, \"127.0.0.1:80\""),
        ("proxy.hosts = ['*']", "proxy.hosts: expected a host such as "),
        ("proxy.tls.certificate_file = '/a'", "proxy.tls.key_file: required with proxy.tls.certificate_file"),
        ("proxy.tls = { key_file = '/a' }", "proxy.tls.certificate_file: required with proxy.tls.key_file"),
        (
            "proxy = { listen = 'unix:/a', tls = { certificate_file = '/a', key_file = '/b' } }\nlinks.rewrite = false",
            "proxy.tls.certificate_file: proxy.listen has no TCP address, and Unix sockets have no TLS",
        ),
        ("proxy.tls.key = '/a'", "proxy.tls.key: unknown key; did you mean proxy.tls.key_file? "),
        ("proxy.tls = 1", "proxy.tls: expected a table of keys, found a value"),
        ("proxy.workers = 0", "proxy.workers: expected a whole number from 1 to 256"),
        ("proxy.workers = 1.0", "proxy.workers: expected a whole number from 1 to 256"),
        ("drain.timeout = '4s'\ngateway.write_timeout = '1s'", "drain.timeout: 4s is shorter than drain.grace (5s)"),
        (
            "gateway.write_timeout = '40s'",
            "drain.timeout: 40s would cut off writes; expected more than drain.grace (5s) and gateway.write_timeout",
        ),
        ("limits.connections = 0", "limits.connections: expected a whole number from 1"),
        ("limits.in_flight = -1", "limits.in_flight: expected a whole number from 1"),
        ("limits.body = '65MiB'", "limits.body: expected a size from 1KiB to 64MiB"),
        ("limits.head = 8191", "limits.head: expected a size from 8KiB to 1MiB"),
        ("ops.listen = '[::1]:8080'", "ops.listen: [::1]:8080 is taken by proxy.listen"),
        ("cache.max_bytes = '1023KiB'", "cache.max_bytes: expected a size from 1MiB"),
        ("cache.max_ttl = '0s'", "cache.max_ttl: expected a duration from 1ms to 1d"),
        ("cache.expiration_margin = '11m'", "cache.expiration_margin: expected a duration from 0s to 10m"),
        ("cache.origin_cache_control = 'obey'", "cache.origin_cache_control: expected one of \"honor\", \"ignore\""),
        ("cache.stale_if_error = '25h'", "cache.stale_if_error: expected a duration from 0s to 1d"),
        (
            "control.listen = '0.0.0.0:1'",
            "control.listen: expected a Unix socket or a loopback address, because this listener controls the process",
        ),
        ("ops.listen = '0.0.0.0:8080'", "ops.listen: 0.0.0.0:8080 is taken by proxy.listen"),
        (
            "gateway.egress_proxy = 'http://a:1'\ngateway.egress_proxy_credentials_file = 'user:canary'",
            "gateway.egress_proxy_credentials_file: expected the path of a file that holds the secret",
        ),
        ("control.listen = '[::1]:8080'", "control.listen: [::1]:8080 is taken by proxy.listen"),
        ("control.listen = '127.0.0.1:9464'", "ops.listen: 127.0.0.1:9464 is taken by control.listen"),
        (
            "proxy.listen = 'unix:/run/a'",
            "links.base_url: required, because callers cannot follow links to a Unix socket; set a URL by which",
        ),
        ("gateway.egress_proxy = 'http://a'", "gateway.egress_proxy: expected \"http://host:port\" "),
        ("gateway.egress_proxy = 'https://a:1'", "gateway.egress_proxy: expected \"http://host:port\" "),
        ("gateway.egress_proxy = 'a:1'", "gateway.egress_proxy: expected \"http://host:port\" "),
        ("gateway.egress_proxy = 'http://a:1/b'", "gateway.egress_proxy: expected \"http://host:port\" "),
        (
            "gateway.egress_proxy = 'http://user:password@a:1'",
            "gateway.egress_proxy: user and password do not belong here: put \"user:password\" into a file, and its \
             path into gateway.egress_proxy_credentials_file ",
        ),
        (
            "gateway.egress_proxy = 'http://a:1'\ngateway.url = 'http://localhost:1'",
            "gateway.egress_proxy: the sidecar uses a proxy for https only, and gateway.url is http ",
        ),
        (
            "gateway.http2 = true\ngateway.url = 'http://localhost:1'",
            "gateway.http2: HTTP/2 needs TLS, and gateway.url is http ",
        ),
        (
            "gateway.egress_proxy_credentials_file = '/a'",
            "gateway.egress_proxy_credentials_file: gateway.egress_proxy is not set, so no proxy needs these \
             credentials ",
        ),
        (
            "gateway.egress_proxy_credentials = 'canary'",
            "gateway.egress_proxy_credentials: a secret does not belong in a configuration file; use \
             gateway.egress_proxy_credentials_file or the variable SEZZLE_SIDECAR__GATEWAY__EGRESS_PROXY_CREDENTIALS ",
        ),
        ("webhooks.listen = 'localhost:1'", "webhooks.listen: expected an address such as "),
        ("webhooks.listen = '[::1]:8080'", "webhooks.listen: [::1]:8080 is taken by proxy.listen"),
        ("webhooks.listen = '127.0.0.1:9464'", "webhooks.listen: 127.0.0.1:9464 is taken by ops.listen"),
        (
            "webhooks.listen = 'unix:/a'\ncontrol.listen = 'unix:/a'",
            "webhooks.listen: unix:/a is taken by control.listen",
        ),
        ("webhooks.path = 'a'", "webhooks.path: expected a path such as \"/webhooks/sezzle\""),
        (
            "webhooks.forward_to = 'http://a'",
            "webhooks.forward_to: expected https, since http is for a loopback address only ",
        ),
        ("webhooks.forward_to = 'unix:/a'", "webhooks.forward_to: expected a URL such as "),
        (
            "webhooks.forward_to = 'https://a'",
            "webhooks.forward_to: webhooks.listen is not set, so no webhook arrives that could be forwarded",
        ),
        (
            "webhooks = { listen = '127.0.0.1:1', forward_to = 'http://127.0.0.1:1/webhooks/sezzle' }",
            "webhooks.forward_to: this is the address of the webhook listener itself",
        ),
        (
            "webhooks = { listen = '127.0.0.1:1', forward_secret_file = '/a' }",
            "webhooks.forward_secret_file: webhooks.forward_to is not set, so there are no webhooks to sign ",
        ),
        (
            "webhooks.forward_secret = 'canary'",
            "webhooks.forward_secret: a secret does not belong in a configuration file; use \
             webhooks.forward_secret_file or the variable SEZZLE_SIDECAR__WEBHOOKS__FORWARD_SECRET ",
        ),
        ("fleet.url = 'http://a'", "fleet.url: expected a URL such as \"rediss://cache.internal:6379/0\""),
        (
            "fleet.url = 'rediss://user:canary@a'",
            "fleet.url: user and password do not belong here: set fleet.username, and put the password into the file \
             of fleet.password_file ",
        ),
        (
            "fleet = { url = 'redis://a', password_file = '/b' }",
            "fleet.url: everybody on the way could read the password; use rediss, or accept that by fleet.insecure = \
             true ",
        ),
        ("fleet.poll = '100ms'", "fleet.url: required, because fleet.poll is set; or set fleet.sentinels"),
        ("fleet.key_file = '/a'", "fleet.url: required, because fleet.key_file is set; or set fleet.sentinels"),
        ("fleet = { url = 'redis://a', sentinels = ['a:1'], primary = 'b' }", "fleet.sentinels: fleet.url is set too"),
        ("fleet = { url = 'redis://a', primary = 'b' }", "fleet.primary: fleet.sentinels is not set, so nobody knows"),
        ("fleet.sentinels = ['a:1']", "fleet.primary: required with fleet.sentinels"),
        ("fleet = { sentinels = ['a'], primary = 'b' }", "fleet.sentinels: expected a host and a port such as "),
        ("fleet = { sentinels = ['a:1'], primary = 'b c' }", "fleet.primary: expected a word of at most 64 letters"),
        ("fleet = { url = 'redis://a', username = 'b' }", "fleet.username: fleet.password_file is not set, and a user"),
        ("fleet = { url = 'redis://a', ca_file = '/b' }", "fleet.ca_file: the connection has no TLS; use rediss"),
        (
            "fleet = { url = 'rediss://a', client_certificate_file = '/b' }",
            "fleet.client_key_file: required with fleet.client_certificate_file",
        ),
        (
            "fleet = { url = 'rediss://a', client_key_file = '/b' }",
            "fleet.client_certificate_file: required with fleet.client_key_file",
        ),
        ("fleet = { url = 'redis://a', name = '' }", "fleet.name: expected a word of at most 64 letters, digits"),
        ("fleet = { url = 'redis://a', poll = '19ms' }", "fleet.poll: expected a duration from 20ms to 1s"),
        ("fleet = { url = 'redis://a', poll = '151ms' }", "fleet.lease: 300ms is less than twice fleet.poll (151ms)"),
        ("fleet = { url = 'redis://a', lease = '199ms' }", "fleet.lease: 199ms is less than twice fleet.poll (100ms)"),
        ("fleet = { url = 'redis://a', timeout = '51ms' }", "fleet.timeout: expected a duration from 1ms to 50ms"),
        ("fleet = { url = 'redis://a', write_wait = '2s' }", "fleet.write_wait: expected a duration from 0s to 1s"),
        ("fleet = { url = 'redis://a', flight_wait = '2s' }", "fleet.flight_wait: expected a duration from 0s to 1s"),
        (
            "fleet = { url = 'redis://a', password = 'canary' }",
            "fleet.password: a secret does not belong in a configuration file; use fleet.password_file or the \
             variable SEZZLE_SIDECAR__FLEET__PASSWORD ",
        ),
        ("links.base_url = 'http://a/'", "links.base_url: expected a URL such as "),
        (
            "proxy = { listen = '[::]:80', allow_remote = true }",
            "links.base_url: required, because callers cannot follow ",
        ),
        ("log.level = 'INFO'", "log.level: expected one of "),
        ("log.levels = 'info'", "log.levels: unknown key; did you mean log.level? "),
        ("log.level.x = 'info'", "log.level.x: unknown key; did you mean log.level? "),
        ("log.level = {}", "log.level: expected a value, found an empty table"),
        ("limit.bodies = 1", "limit.bodies: unknown key; did you mean limits.body? "),
        ("workers = 1", "workers: unknown key; did you mean proxy.workers? "),
        ("'log.level' = 'info'", "[name withheld]: unknown key; "),
        ("gateway = 5", "gateway: expected a table of keys, found a value"),
        ("telemetry = {}", "telemetry: unknown key; "),
    ];
    for (line, expected) in table {
        let text = match line.starts_with("gateway = ") {
            true => refused(&[VALID.trim_start().split_once('\n').unwrap().1, line], &[]),
            false => refused_line(line),
        };
        assert!(text.starts_with(expected), "{line}\n{text}");
        assert_eq!(text.lines().count(), 1, "{line}\n{text}");
    }
}

#[test]
fn combinations_that_are_allowed() {
    for line in [
        "links.rewrite = false\nproxy = { listen = '0.0.0.0:80', allow_remote = true }",
        "links.base_url = 'http://payments/sezzle'\nproxy = { listen = '0.0.0.0:80', allow_remote = true }",
        "proxy = { listen = '10.0.0.1:80', allow_remote = true }",
        "ops.listen = '0.0.0.0:9464'",
        "gateway = { resolver = 'dns', nameservers = ['10.0.0.1', '[fd00::1]:5353', 'fd00::2'] }",
        "gateway.resolver = 'dns'",
        "[proxy.tls]",
        "proxy = { listen = '10.0.0.1:80', tls = { certificate_file = '/a', key_file = '/b' } }\n\
         [[callers]]\nname = 'a'\ntoken_file = '/a'\nallow = ['read']",
        "proxy.tls = { certificate_file = '/a', key_file = '/b', client_ca_file = '/c' }\n\
         [[callers]]\nname = 'a'\ncertificate = 'spiffe://a/b'\nallow = ['read']",
        "proxy.tls = { certificate_file = '/a', key_file = '/b', client_ca_file = '/c' }",
        "webhooks = { listen = '0.0.0.0:8082', forward_to = 'http://localhost:3000' }",
        "webhooks = { listen = '127.0.0.1:1', forward_to = 'http://127.0.0.1:1/a', forward_secret_file = '/b' }",
        "proxy.listen = '127.0.0.1:0'\nops.listen = '127.0.0.1:0'",
        "gateway.url = 'http://127.0.0.1:9000'",
        "drain = { grace = '0s', timeout = '31s' }",
        "[log]\n[proxy]\n[fleet]",
        "fleet.url = 'redis://a'",
        "fleet = { url = 'redis://127.0.0.1:1/3', password_file = '/a', username = 'b' }",
        "fleet = { url = 'redis://a', password_file = '/a', insecure = true }",
        "fleet = { url = 'unix:/a', password_file = '/a', alone_ttl = '0s', lease = '200ms' }",
        "fleet = { sentinels = ['a:1', '[::1]:2'], primary = 'b', ca_file = '/a', password_file = '/a' }",
        "fleet = { sentinels = ['a:1'], primary = 'b', password_file = '/a', insecure = true }",
    ] {
        loaded(&[VALID, line], &[]);
    }
}

/// A server that speaks without TLS is for this machine, or was asked for.
#[test]
fn a_fleet_has_tls_by_its_url_or_unless_it_is_insecure() {
    let fleet = |line: &str| loaded(&[VALID, line], &[]).settings.fleet.unwrap();
    for (line, tls) in [
        ("fleet.url = 'rediss://a'", true),
        ("fleet = { url = 'rediss://a', insecure = true }", true),
        ("fleet.url = 'redis://a'", false),
        ("fleet.url = 'unix:/a'", false),
        ("fleet = { sentinels = ['a:1'], primary = 'b' }", true),
        ("fleet = { sentinels = ['a:1'], primary = 'b', insecure = true }", false),
    ] {
        assert_eq!(fleet(line).tls.is_some(), tls, "{line}");
    }
    for (line, shown) in [
        ("fleet.url = 'rediss://[::1]/2'", "[::1]:6379"),
        ("fleet.url = 'unix:/a'", "unix:/a"),
        ("fleet = { sentinels = ['a:1', 'b:2'], primary = 'c' }", "c, as the Sentinels say: a:1, b:2"),
    ] {
        assert_eq!(fleet(line).server.to_string(), shown);
    }
    let FleetTimes { poll, lease, alone_ttl, timeout, write_wait, flight_wait } =
        fleet("fleet.url = 'redis://a'").times;
    let times = [poll, lease, alone_ttl, timeout, write_wait, flight_wait];
    assert_eq!(times, [100, 300, 60_000, 25, 50, 0].map(Duration::from_millis));
}

#[test]
fn a_section_without_effect_shows_no_values() {
    let text = rendered(&[VALID], &[]);
    assert!(text.contains("# url is not set") && text.contains("# alone_ttl is not set"), "{text}");
    assert!(rendered(&[VALID, "fleet.url = 'redis://a'"], &[]).contains("alone_ttl = \"60s\" # default"));
    let refused = refused(&[VALID], &[("FLEET__PASSWORD", "canary")]);
    assert_eq!(refused, "fleet.url: required, because fleet.password is set; or set fleet.sentinels");
}

#[test]
fn rendering_names_every_key_and_its_origin() {
    let text = rendered(&[VALID], &[("LOG__LEVEL", "warn"), ("PROXY__LISTEN", "127.0.0.1:80")]);
    for line in [
        "[gateway]",
        "environment = \"sandbox\" # 0.toml",
        "url = \"https://sandbox.gateway.sezzle.com\" # default",
        "# ca_file is not set",
        "public_key_file = \"/run/public\" # 0.toml",
        "listen = [\"127.0.0.1:80\"] # SEZZLE_SIDECAR__PROXY__LISTEN",
        "allow_remote = false # default",
        "connections = 10000 # default",
        "max_bytes = \"32MiB\" # default",
        "base_url = \"http://127.0.0.1:80\" # default",
        "level = \"warn\" # SEZZLE_SIDECAR__LOG__LEVEL",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    // A list is shown as it is, without the keys that its tables could have.
    for KeyDoc { key, .. } in reference().into_iter().filter(|doc| !doc.key.starts_with("callers.")) {
        assert!(text.contains(key.split_once('.').unwrap().1), "{key}");
    }
}

const CALLERS: &str = r#"
    [[callers]]
    name = "till"
    token_file = "/run/till/token"
    allow = ["read", "checkout", "capture"]
    max_amount = ["500.00 USD", "400 CAD"]
    [[callers]]
    name = "back-office"
    public_key = "sz_pub_office"
    private_key_file = "/run/office/key"
    uid = 1000
    allow = ["all"]
"#;

/// With a Unix socket, so that a uid can be told.
const SOCKET: &str = "proxy.listen = ['127.0.0.1:8080', 'unix:/run/a']";

#[test]
fn callers_are_read_and_shown() {
    let loaded = loaded(&[VALID, SOCKET, CALLERS], &[]);
    let [till, office] = loaded.settings.callers.as_slice() else { panic!("two callers") };
    assert_eq!((till.name.as_str(), till.allow.shown().as_str()), ("till", "read, checkout, capture"));
    assert_eq!(till.max_amount.as_ref().unwrap().to_string(), "500.00 USD, 400.00 CAD");
    assert_eq!((office.uid, office.allow.shown().as_str()), (Some(1000), "all"));
    assert_eq!(office.pair.as_ref().unwrap().public_key, "sz_pub_office");
    assert!(office.max_amount.is_none() && office.token_file.is_none());
    let text = loaded.render();
    for block in [
        "\n[[callers]]\nname = \"till\" # ",
        "\n[[callers]]\nname = \"back-office\" # ",
        "\npublic_key = \"[redacted]\" # ",
        "\nuid = 1000 # ",
        "\nallow = [\"read\", \"checkout\", \"capture\"] # ",
    ] {
        assert!(text.contains(block), "{block}\n{text}");
    }
    assert!(!text.contains("sz_pub_office") && !format!("{:?}", loaded.settings.effective).contains("sz_pub_office"));
    assert!(self::loaded(&[VALID], &[]).settings.callers.is_empty());
    assert!(self::loaded(&[VALID, "callers = []"], &[]).settings.callers.is_empty());
    assert!(
        self::loaded(&[VALID, SOCKET, CALLERS, "callers = []"], &[]).settings.callers.is_empty(),
        "a list is whole"
    );
    let rendered = loaded.render();
    let again = self::loaded(&[&rendered], &[]);
    assert_eq!(again.settings.callers.len(), 2);
}

#[test]
fn every_mistake_in_callers_is_reported_at_once() {
    let mistakes = refused(
        &[
            VALID,
            r#"
            [[callers]]
            name = "a b"
            token_file = "/a"
            allow = ["order.reed", "read", "read"]
            [[callers]]
            name = "till"
            allow = []
            max_amount = ["500 dollars", "1.00 USD", "2.00 USD"]
            [[callers]]
            token_file = "sz_pr_canary"
            public_key = "p"
            uid = -1
            tokn_file = "/a"
            [[callers]]
            name = "office"
            certificate = "office.shop"
            private_key_file = "/b"
            uid = 7
            allow = "read"
            "#,
        ],
        &[],
    );
    let lines: Vec<&str> = mistakes.lines().map(|line| line.trim_end_matches(" (1.toml)")).collect();
    let expected = [
        "callers.name: caller 1: expected a word of at most 32 letters, digits, hyphens, underscores and dots, found \"a b\"",
        "callers.allow: caller 1: expected a word for what a caller may do; did you mean \"order.read\"?, found \"order.reed\"",
        "callers.allow: caller 1: listed twice, found \"read\"",
        "callers.allow: caller \"till\": empty, so the caller could do nothing; expected at least one word",
        "callers.max_amount: caller \"till\": expected an amount and its currency, such as \"500.00 USD\", found \"500 dollars\"",
        "callers.name: caller \"till\": nothing tells this caller from others; set token_file, public_key with private_key_file, certificate or uid",
        "callers.name: caller 3: required",
        "callers.token_file: caller 3: this value is one of Sezzle's keys and does not belong here",
        "callers.private_key_file: caller 3: required with public_key",
        "callers.uid: caller 3: expected the number of a user, from 0 to 4294967294, found \"-1\"",
        "callers.allow: caller 3: required, a list such as [\"read\", \"checkout\"]",
        "callers.public_key: caller \"office\": required with private_key_file",
        "callers.certificate: caller \"office\": proxy.tls.client_ca_file is not set, so no certificate of a caller is verified",
        "callers.uid: caller \"office\": proxy.listen has no Unix socket, and nothing else tells the uid of a caller",
        "callers.allow: caller \"office\": expected a list of strings",
        "callers.tokn_file: unknown key; did you mean callers.token_file?",
    ];
    for line in expected {
        assert!(lines.contains(&line), "{line}\n{mistakes}");
    }
    assert_eq!(lines.len(), expected.len(), "{mistakes}");
    assert!(!mistakes.contains("canary"));
}

#[test]
fn callers_must_differ() {
    let caller = |name: &str, more: &str| format!("[[callers]]\nname = '{name}'\nallow = ['read']\n{more}\n");
    let pair = "public_key = 'p'\nprivate_key_file = '/a'";
    for (one, other, key) in [
        (caller("a", "token_file = '/a'"), caller("a", "token_file = '/b'"), "callers.name"),
        (caller("a", "uid = 1"), caller("b", "uid = 1"), "callers.uid"),
        (caller("a", pair), caller("b", pair), "callers.public_key"),
    ] {
        let text = refused(&[VALID, SOCKET, &format!("{one}{other}")], &[]);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with(&format!("{key}: caller ")) && text.contains("another caller has the same"), "{text}");
        // Another mistake of the same callers hides none.
        let wrong = refused(&[VALID, SOCKET, &format!("{one}{other}").replace("'read'", "'reed'")], &[]);
        assert_eq!(wrong.lines().count(), 3, "{wrong}");
        assert!(wrong.contains(&text), "{wrong}");
    }
    let many: String = (0..101).map(|number| caller(&format!("c{number}"), "token_file = '/a'")).collect();
    assert!(refused(&[VALID, &many], &[]).starts_with("callers: expected at most 100 callers, found 101"));
    for (wrong, expected) in [
        ("callers = 1", "callers: expected a table of keys, found a value"),
        ("callers = ['a']", "callers: expected a table of keys, found a value"),
        ("[callers]\nname = 'a'", "callers: expected a list: write [[callers]] in place of [callers]"),
        ("[callers]", "callers: expected a list: write [[callers]] in place of [callers]"),
    ] {
        assert!(refused_line(wrong).contains(expected), "{wrong}: {}", refused_line(wrong));
    }
    assert!(refused(&[VALID], &[("CALLERS__NAME", "a")]).contains("write [[callers]] in place of [callers]"));
}

#[test]
fn links_lead_to_the_scheme_of_the_listener() {
    let variables = [("PROXY__TLS__CERTIFICATE_FILE", "/a"), ("PROXY__TLS__KEY_FILE", "/b")];
    let text = rendered(&[VALID], &variables);
    assert!(text.contains("base_url = \"https://127.0.0.1:8080\" # default"), "{text}");
    assert!(text.contains("tls.key_file = \"/b\" # SEZZLE_SIDECAR__PROXY__TLS__KEY_FILE"), "{text}");
}

#[test]
fn what_was_rendered_loads_again() {
    let variables = [
        ("PROXY__LISTEN", "127.0.0.1:80,[::1]:80"),
        ("LINKS__BASE_URL", "http://a"),
        ("PROXY__TLS__CERTIFICATE_FILE", "/a"),
        ("PROXY__TLS__KEY_FILE", "/b"),
    ];
    let first = loaded(&[VALID], &variables);
    let second = loaded(&[&first.render()], &[]);
    // The origins differ, since each value of the second stands in its file.
    let values = |loaded: Loaded| format!("{:?}", Settings { effective: Vec::new(), ..loaded.settings });
    assert_eq!(values(first), values(second));
}

#[test]
fn a_secret_shows_nowhere() {
    let secrets = [("CREDENTIALS__PUBLIC_KEY", "canary-1"), ("CREDENTIALS__PRIVATE_KEY", "canary-2")];
    let egress =
        [("GATEWAY__EGRESS_PROXY", "http://proxy:3128"), ("GATEWAY__EGRESS_PROXY_CREDENTIALS", "user:canary-3")];
    let webhooks = [
        ("WEBHOOKS__LISTEN", "127.0.0.1:8082"),
        ("WEBHOOKS__FORWARD_TO", "http://127.0.0.1:3000"),
        ("WEBHOOKS__FORWARD_SECRET", "canary-4"),
    ];
    let fleet = [("FLEET__URL", "rediss://cache"), ("FLEET__PASSWORD", "canary-5")];
    let variables = [&secrets[..], &egress, &webhooks, &fleet].concat();
    let right = loaded(&["gateway.environment = 'sandbox'"], &variables);
    let text = format!("{}{right:?}", right.render());
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("private_key = \"[redacted]\" # SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY"), "{text}");
    right.render().parse::<toml::Table>().unwrap();

    for line in [
        "credentials.private_key = 'canary'",
        "credentials.private_key = ['canary']",
        "credentials.private_key.canary_is_no_name_but = 1\ncredentials.private_key.x = 'canary'",
        "credentials.private_key_file = 'sz_pr_canary'",
        "credentials.merchant_uuid = 'canary secret'",
        "credentials.privat_key = 'canary'",
        "credentials.sz_pr_canary = 1",
        "'canary secret' = 1",
        "sz_pub_canary.x = 1",
        "key = 'canary'",
        "[unknown.table]\nkeys = ['canary']",
        "log.level = 'sz_pr_canary'",
        "proxy.hosts = ['sz_pr_canary']",
        "gateway.ca_file = 'sz_pr_canary'",
        "gateway.url = 'https://user:canary@host'",
        "gateway.url = 'https://host/?key=canary'",
        "links.base_url = 'https://host/#canary'",
        "gateway.egress_proxy = 'http://user:canary@host'",
        "gateway.egress_proxy = 'http://user:canary@host:1'",
        "gateway.egress_proxy = 'canary'",
        "gateway.egress_proxy_credentials = 'user:canary'",
        "gateway.egress_proxy_credentials_file = 'user:canary'",
        "webhooks.forward_secret = 'canary'",
        "webhooks.forward_to = 'https://user:canary@host'",
        "fleet.url = 'rediss://:canary@host'",
        "fleet.url = 'rediss://host?password=canary'",
        "fleet.sentinels = ['user:canary@host:1']",
        "fleet.password = 'canary'",
        "fleet.key_file = 'canary='",
        "fleet.key_file = 'a/canary='",
        "webhooks.forward_to = 'https://host/?key=canary'",
        "credentials.private_key = canary",
        "credentials.private_key = 'canary",
        "credentials.private_key 'canary'",
        "credentials.private_key = \"\\canary\"",
        "canary",
        "[canary",
        "x = 1\nx = 'canary'",
        "x = 1\nx.canary = 2",
    ] {
        let (result, _folder) = attempt(&["gateway.environment = 'sandbox'", line], &secrets);
        let problems = result.unwrap_err();
        let text = format!("{problems}{problems:?}").replace("canary_is_no_name_but", "");
        assert!(!text.contains("canary"), "{line}\n{text}");
    }
    for (variable, value) in [
        ("CREDENTIALS__PRIVAT_KEY", "canary"),
        ("CREDENTIALS__PRIVATE_KEY__X", "canary"),
        ("Credentials__Private_Key", "canary"),
        ("CREDENTIALS", "canary"),
        ("SZ_PR_CANARY", "canary"),
        ("GATEWAY__EGRESS_PROXY", "http://user:canary@host"),
        ("", "canary"),
    ] {
        let problems = attempt(&[VALID], &[(variable, value)]).0.unwrap_err();
        let text = format!("{problems}{problems:?}").to_lowercase();
        assert!(!text.contains("canary"), "{variable}\n{text}");
    }
}

#[test]
fn shipped_files_are_valid() {
    for (name, environment) in [
        ("sandbox.toml", Gateway::Sandbox),
        ("production.toml", Gateway::Production),
        ("reference.toml", Gateway::Sandbox),
    ] {
        let loaded = load(&[shipped(name)], []).unwrap();
        assert_eq!(loaded.settings.gateway.environment, environment);
    }
}

#[test]
fn keys_that_identify_or_tell_callers_apart_are_for_operators_alone() {
    let keys = reference().into_iter().filter(|doc| doc.shown_to == ShownTo::Operators).map(|doc| doc.key);
    assert_eq!(
        keys.collect::<BTreeSet<_>>(),
        BTreeSet::from([
            "callers.certificate",
            "callers.max_amount",
            "callers.private_key_file",
            "callers.token_file",
            "callers.uid",
            "credentials.merchant_uuid",
            "webhooks.forward_to",
            "webhooks.public_url",
        ])
    );
    let loaded = loaded(&[VALID, SOCKET, CALLERS], &[]);
    let uid = loaded.settings.effective.iter().find(|entry| entry.key == "callers.uid").unwrap();
    assert_eq!(uid.shown_to, ShownTo::Operators);
}

#[test]
fn reference_file_has_every_key_with_its_default() {
    let written: toml::Table = fs::read_to_string(shipped("reference.toml")).unwrap().parse().unwrap();
    let complete = complete_reference();
    // One of them is a mistake in a build that lacks what it is for, and one goes with Sentinels in place of a URL.
    let lacking = |line: &&str| {
        let needs_listener = line.starts_with("uid = ") || line.starts_with("certificate = ");
        needs_listener || line.starts_with("endpoint = ") && !cfg!(feature = "otlp")
    };
    let usable: Vec<&str> = complete.lines().filter(|line| !lacking(line) && !line.starts_with("primary = ")).collect();
    loaded(&[&usable.join("\n")], &[]);

    let shown = shown_in_reference();
    let expected = reference();
    let keys: BTreeSet<&str> = expected.iter().map(|doc| doc.key).collect();
    assert_eq!(shown.keys().map(String::as_str).collect::<BTreeSet<_>>(), keys);
    for KeyDoc { key, default, required, .. } in expected {
        assert_eq!(leaves(&written).contains_key(key), required, "{key} is to be commented exactly if it is optional");
        if let Some(default) = default {
            assert_eq!(shown[key], default.parse().unwrap(), "{key}");
        }
    }
}

#[test]
fn a_name_of_any_depth_is_survived() {
    let name = "A__".repeat(40_000);
    assert!(refused(&[VALID], &[(&name, "x")]).contains("unknown key"));
    let text = "a.".repeat(40_000);
    assert!(refused_line(&format!("{text}b = 1")).contains("not valid TOML"));
    assert!(refused_line(&format!("a = {}", "[".repeat(40_000))).contains("not valid TOML"));
    assert!(refused(&[VALID], &[("PROXY__LISTEN", &"[".repeat(40_000))]).contains("proxy.listen"));
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// The reference file with every key set.
fn complete_reference() -> String {
    let text = fs::read_to_string(shipped("reference.toml")).unwrap();
    text.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// The value of every key in the reference file.
pub(super) fn shown_in_reference() -> BTreeMap<String, toml::Value> {
    leaves(&complete_reference().parse().unwrap())
}

/// A line `# key = value` without its comment sign; prose stays a comment.
fn uncommented(line: &str) -> &str {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
    let name = |text: &str| !text.is_empty() && text.chars().all(plain);
    match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with("[[") => rest,
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| name(key)) => rest,
        _ => line,
    }
}

fn leaves(table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let pairs = |(name, value): (&String, &toml::Value)| {
        // A list of tables shows its keys by one table.
        let first = value.as_array().and_then(|list| list.first()).filter(|first| first.is_table());
        match first.unwrap_or(value).as_table() {
            Some(inner) => leaves(inner).into_iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect(),
            None => vec![(name.clone(), value.clone())],
        }
    };
    table.iter().flat_map(pairs).collect()
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".*") {
        let _ = attempt(&[VALID, &text], &[]);
    }

    #[test]
    fn any_mixture_of_toml_is_survived_and_keeps_its_secret(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "gateway", "credentials", "private_key", "listen", "proxy", ".", "=", "[", "]", "{", "}", ",", "\"",
                "'", "'''", "\n", " ", "#", "1", "-", "\\", "true", "1979-05-27", "sz_pr_canary",
                "'sz_pr_canary'", "\u{7f}",
            ]),
            0..24,
        ),
    ) {
        if let Err(problems) = attempt(&[VALID, &words.concat()], &[]).0 {
            let text = format!("{problems}{problems:?}");
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(!text.contains("canary"), "{}", text);
        }
    }

    #[test]
    fn any_variable_is_survived(name in "[A-Z_]{0,20}", value in ".*", listen in "[\\[\\]\",0-9:.]{0,30}") {
        let variables: [(&str, &str); 3] = [(&name, &value), ("PROXY__LISTEN", &listen), ("GATEWAY__URL", &value)];
        if let Err(problems) = attempt(&[VALID], &variables).0 {
            prop_assert!(problems.iter().count() > 0);
        }
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_that_exports_no_spans_says_so() {
    let line = refused_line("otlp.endpoint = 'http://collector:4318'");
    assert_eq!(line, "otlp.endpoint: this build cannot export spans; use a build with the feature otlp (1.toml)");
}
