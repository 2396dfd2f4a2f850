//! Every parser: what it takes, and what it refuses.
#![allow(clippy::unwrap_used)]

use super::*;

fn accepts<T: PartialEq + std::fmt::Debug>(parse: impl Fn(&str) -> Parsed<T>, table: &[(&str, T)]) {
    for (text, expected) in table {
        assert_eq!(parse(text).as_ref(), Ok(expected), "{text:?}");
    }
}

fn refuses<T: std::fmt::Debug>(parse: impl Fn(&str) -> Parsed<T>, table: &[&str]) {
    for text in table {
        assert!(parse(text).is_err(), "{text:?} gave {:?}", parse(text));
    }
}

#[test]
fn booleans() {
    refuses(boolean, &["", "yes", "1", "True", " true"]);
    accepts(boolean, &[("true", true), ("false", false)]);
}

#[test]
fn choices() {
    let parse = choice([("json", 1), ("text", 2)]);
    assert_eq!(parse("JSON").unwrap_err(), "expected one of \"json\", \"text\"");
    accepts(parse, &[("json", 1), ("text", 2)]);
}

#[test]
fn counts() {
    refuses(count(1..=256), &["", "0", "257", "-1", "1.5", "1e2", "99999999999999999999999", "two"]);
    accepts(count(1..=256), &[("1", 1), ("256", 256)]);
}

#[test]
fn sizes() {
    let parse = size(1024..=64 << 20);
    refuses(&parse, &["", "1023", "65MiB", "1.5KiB", "2 KiB"]);
    assert_eq!(parse("1").unwrap_err(), "expected a size from 1KiB to 64MiB");
    assert!(parse("x").unwrap_err().starts_with("expected a size such as \"32MiB\": a whole number"));
    accepts(&parse, &[("1KiB", 1024), ("1024", 1024), ("1MB", 1_000_000)]);
    accepts(length(1024..=4096), &[("4KiB", 4096)]);
    refuses(length(1024..=4096), &["5KiB", "x"]);
}

#[test]
fn durations() {
    let parse = duration(Duration::from_millis(1)..=Duration::from_secs(600));
    refuses(&parse, &["", "0s", "5", "11m", "1m 30s"]);
    assert_eq!(parse("0s").unwrap_err(), "expected a duration from 1ms to 10m");
    assert!(parse("5").unwrap_err().ends_with("a whole number and one of ms, s, m, h, d"));
    let table = [("30s", 30_000), ("1500ms", 1500), ("90s", 90_000), ("10m", 600_000)];
    accepts(&parse, &table.map(|(text, millis)| (text, Duration::from_millis(millis))));
}

#[test]
fn addresses() {
    refuses(address, &["", "8080", ":8080", "localhost:8080", "127.0.0.1", "127.0.0.1:99999", "::1:8080"]);
    refuses(address, &["unix:", "unix:run/a.sock", "unix:@a", "unix:/run/", "unix:/a\0b", "UNIX:/a"]);
    refuses(address, &[&format!("unix:/{}", "a".repeat(107))]);
    for text in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0", "unix:/run/a b.sock"] {
        assert_eq!(address(text).unwrap().to_string(), text);
    }
    refuses(tcp_address, &["", "8080", "unix:/run/a.sock"]);
    accepts(tcp_address, &[("[::1]:1", "[::1]:1".parse().unwrap())]);
}

#[test]
fn modes_of_sockets() {
    refuses(socket_mode, &["", "0", "0060", "0400", "0700", "0661", "1660", "rw", "-600", "0o600", "99999999999"]);
    accepts(socket_mode, &[("0660", 0o660), ("600", 0o600), ("0666", 0o666)]);
}

#[test]
fn paths_and_identifiers() {
    refuses(path, &["", "  ", "a\nb", "a\0b"]);
    accepts(path, &[("/run/secrets/key", PathBuf::from("/run/secrets/key"))]);
    refuses(identifier, &["", "a b", "a/b", &"a".repeat(65)]);
    accepts(identifier, &[("00123456", "00123456".to_owned())]);
    refuses(word, &["", "a b", "a/b", "{a}", "ä", &"a".repeat(65)]);
    accepts(word, &[("my-Primary_1.a", "my-Primary_1.a".to_owned())]);
}

#[test]
fn hosts() {
    refuses(
        host,
        &["", "*", "a b", "user@host", "host:", "host:0", "host:99999", "http://host", "host/path", "[host]"],
    );
    let table = ["payments.internal", "payments.internal:8080", "10.0.0.1", "[fd00::1]:80"];
    accepts(host, &table.map(|text| (text, text.to_owned())));
    accepts(host, &[("Payments", "payments".to_owned())]);
}

#[test]
fn gateway_urls() {
    let wrong = [
        "",
        "gateway.sezzle.com",
        "ftp://gateway.sezzle.com",
        "https://",
        "https://:443",
        "https://user@host",
        "https://user:pass@host",
        "https://host/v2",
        "https://host//",
        "https://host?",
        "https://host/?a=b",
        "https://host#a",
        "https://host:0",
        "https://host:x",
        "https://host:70000",
        "https://*",
        "https://a b",
        "http://host",
        "http://10.0.0.1",
        "http://128.0.0.1",
        "http://[::2]",
        "http://localhost.evil.test",
        "http://127.0.0.1.evil.test",
        "http://localhost@evil.test",
        "http://0.0.0.0:80",
        "https://[host]",
    ];
    refuses(gateway_url, &wrong);
    let right = [
        ("https://gateway.sezzle.com", "https://gateway.sezzle.com"),
        ("https://gateway.sezzle.com/", "https://gateway.sezzle.com"),
        ("HTTPS://Gateway.Sezzle.COM:8443", "https://gateway.sezzle.com:8443"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("http://127.255.0.1", "http://127.255.0.1"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://LOCALHOST:9000", "http://localhost:9000"),
    ];
    accepts(gateway_url, &right.map(|(text, url)| (text, url.to_owned())));
}

#[test]
fn urls_and_paths_of_webhooks() {
    let wrong = ["", "127.0.0.1:1", "unix:/a", "http://host/a", "http://10.0.0.1/", "https://a:b@host/"];
    refuses(forward_to, &wrong);
    refuses(forward_to, &["https://host/a?b", "https://host/#a", "https://host/\"", "ftp://127.0.0.1/", "https://"]);
    let right = [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/"),
        ("http://LOCALHOST:3000/Hooks/", "http://localhost:3000/Hooks/"),
        ("http://[::1]:3000/a", "http://[::1]:3000/a"),
        ("https://payments.example/hooks/sezzle", "https://payments.example/hooks/sezzle"),
    ];
    accepts(forward_to, &right.map(|(text, url)| (text, url.to_owned())));
    refuses(url_path, &["", "a", "http://a/", "/a?b", "/a#b", "/a b", "/\u{e9}", &"/a".repeat(600)]);
    accepts(url_path, &["/", "/webhooks/sezzle", "/a%20b/"].map(|text| (text, text.to_owned())));
}

#[test]
fn base_urls() {
    let wrong = [
        "",
        "localhost:8080",
        "http://",
        "http://host/",
        "http://host/a/",
        "http://host?a",
        "http://host#a",
        "http://u@host",
        "unix:/a",
        "http://host/\"",
        "http://host/a\\b",
        "http://host/<a>",
        "http://host/a b",
    ];
    refuses(base_url, &wrong);
    let right = ["http://host", "http://host:8080", "https://host/a/b", "http://[::1]:8080", "http://10.0.0.1/Sezzle"];
    accepts(base_url, &right.map(|text| (text, text.to_owned())));
}
