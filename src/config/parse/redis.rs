//! Parses the addresses of servers that speak Redis's protocol.

use std::path::PathBuf;

use http::Uri;
use http::uri::Authority;

use super::{Parsed, address, is_host_and_port, is_loopback, unbracketed};
use crate::address::{Address, HostPort};

/// The value of `fleet.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum RedisUrl {
    Tcp { at: HostPort, database: u16, tls: bool },
    Unix(PathBuf),
}

impl RedisUrl {
    pub(in crate::config) fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    /// Whether bytes leave this machine unencrypted.
    pub(in crate::config) fn is_readable_on_the_way(&self) -> bool {
        matches!(self, Self::Tcp { at, tls: false, .. } if !is_loopback(&at.host))
    }
}

/// The URL of a server, with the number of the database as its path.
pub(in crate::config) fn url(text: &str) -> Parsed<RedisUrl> {
    if text.starts_with("unix:") {
        return match address(text)? {
            Address::Unix(path) => Ok(RedisUrl::Unix(path)),
            Address::Tcp(_) => Err(EXPECTED.to_owned()),
        };
    }
    if text.contains('@') {
        return Err("user and password do not belong here: set fleet.username, and put the password into the file of \
                    fleet.password_file"
            .to_owned());
    }
    plain_url(text).ok_or_else(|| EXPECTED.to_owned())
}

fn plain_url(text: &str) -> Option<RedisUrl> {
    // `Uri` silently drops a fragment.
    let uri: Uri = text.parse().ok().filter(|_| !text.contains(['#', '?']))?;
    let tls = match uri.scheme_str()? {
        "rediss" => true,
        "redis" => false,
        _ => return None,
    };
    let authority = uri.authority().filter(|authority| is_host_and_port(authority))?;
    let database = match uri.path().trim_start_matches('/') {
        "" => 0,
        digits if digits.chars().all(|digit| digit.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some(RedisUrl::Tcp { at: host_and_port(authority, PORT), database, tls })
}

/// The address of a Sentinel. The text must have a port, because the default port is that of the server.
pub(in crate::config) fn sentinel(text: &str) -> Parsed<HostPort> {
    match text.parse::<Authority>() {
        Ok(authority) if authority.port().is_some() && is_host_and_port(&authority) => {
            Ok(host_and_port(&authority, PORT))
        }
        _ => Err("expected a host and a port such as \"sentinel-1.internal:26379\" or \"[fd00::1]:26379\"".to_owned()),
    }
}

fn host_and_port(authority: &Authority, default: u16) -> HostPort {
    let host = authority.host();
    let host = unbracketed(host).unwrap_or(host).to_ascii_lowercase();
    HostPort { host, port: authority.port_u16().unwrap_or(default) }
}

/// The port of a URL that names none, as in every client of Redis.
const PORT: u16 = 6379;

const EXPECTED: &str = "expected a URL such as \"rediss://cache.internal:6379/0\", \"redis://127.0.0.1\" or \
                        \"unix:/run/valkey/valkey.sock\", without user, query or fragment";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, database: u16, tls: bool) -> RedisUrl {
        RedisUrl::Tcp { at: HostPort { host: host.to_owned(), port }, database, tls }
    }

    #[test]
    fn urls() {
        let rows = [
            ("redis://cache", tcp("cache", 6379, 0, false)),
            ("redis://cache/", tcp("cache", 6379, 0, false)),
            ("rediss://Cache.Internal:6380/12", tcp("cache.internal", 6380, 12, true)),
            ("redis://127.0.0.1:1/0", tcp("127.0.0.1", 1, 0, false)),
            ("rediss://[fd00::1]", tcp("fd00::1", 6379, 0, true)),
            ("unix:/run/valkey.sock", RedisUrl::Unix("/run/valkey.sock".into())),
        ];
        for (text, expected) in rows {
            assert_eq!(url(text).as_ref(), Ok(&expected), "{text}");
        }
        for text in [
            "",
            "cache:6379",
            "http://cache",
            "redis:cache",
            "redis://",
            "redis://cache:0",
            "redis://cache:99999",
            "redis://cache/a",
            "redis://cache/+1",
            "redis://cache/0/1",
            "redis://cache/65536",
            "redis://cache?db=1",
            "redis://cache#1",
            "redis://*",
            "unix:run/valkey.sock",
            "unix:",
        ] {
            assert!(url(text).is_err(), "{text} gave {:?}", url(text));
        }
        for text in ["redis://:canary@cache", "redis://user:canary@cache"] {
            let refusal = url(text).unwrap_err();
            assert!(refusal.starts_with("user and password do not belong here") && !refusal.contains("canary"));
        }
    }

    #[test]
    fn sentinels() {
        assert_eq!(sentinel("A:26379"), Ok(HostPort { host: "a".to_owned(), port: 26379 }));
        assert_eq!(sentinel("[::1]:1"), Ok(HostPort { host: "::1".to_owned(), port: 1 }));
        for text in ["", "a", "a:", "a:0", "user@a:1", "redis://a:1", "::1:26379"] {
            assert!(sentinel(text).is_err(), "{text} gave {:?}", sentinel(text));
        }
    }

    #[test]
    fn only_unencrypted_bytes_that_leave_the_machine_can_be_read() {
        for (text, readable) in [
            ("redis://cache", true),
            ("redis://10.0.0.1", true),
            ("rediss://cache", false),
            ("redis://localhost", false),
            ("redis://127.0.0.2", false),
            ("redis://[::1]", false),
            ("unix:/a", false),
        ] {
            assert_eq!(url(text).unwrap().is_readable_on_the_way(), readable, "{text}");
        }
    }
}
