//! Parses text into values of the right type. The error of a parser says which text the parser expects. No parser
//! repeats its input, because the key decides whether a value may be quoted, and a parser does not know the key.

pub(super) mod caller;
pub(super) mod redis;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use rustls::pki_types::ServerName;

use crate::address::Address;
use crate::names::DNS_PORT;
use crate::units;

/// A value, or the text that was expected in its place, such as `expected true or false`.
pub(super) type Parsed<T> = Result<T, String>;

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

/// One of a few words.
pub(super) fn choice<T: Copy, const N: usize>(words: [(&'static str, T); N]) -> impl Fn(&str) -> Parsed<T> {
    move |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => Err(format!("expected one of {}", words.map(|(word, _)| format!("{word:?}")).join(", "))),
    }
}

/// The known word that is most like `text`.
pub(super) fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(text, known);
    known.max_by(|left, right| likeness(left).total_cmp(&likeness(right)))
}

/// A whole number within `range`.
pub(super) fn count(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> {
    move |text| match text.parse() {
        Ok(count) if range.contains(&count) => Ok(count),
        _ => Err(format!("expected a whole number from {} to {}", range.start(), range.end())),
    }
}

/// A number of bytes within `range`.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&str) -> Parsed<u64> {
    let (least, most) = (units::shown_size(*range.start()), units::shown_size(*range.end()));
    move |text| match units::size(text) {
        Some(bytes) if range.contains(&bytes) => Ok(bytes),
        Some(_) => Err(format!("expected a size from {least} to {most}")),
        None => Err(format!("expected {}", units::SIZE)),
    }
}

/// A number of bytes that fits memory, within `range`.
pub(super) fn length(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> {
    let size = size(*range.start() as u64..=*range.end() as u64);
    move |text| usize::try_from(size(text)?).map_err(|_| "expected a size that fits memory".to_owned())
}

/// A span of time within `range`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Parsed<Duration> {
    let (least, most) = (units::shown(*range.start()), units::shown(*range.end()));
    move |text| match units::duration(text) {
        Some(duration) if range.contains(&duration) => Ok(duration),
        Some(_) => Err(format!("expected a duration from {least} to {most}")),
        None => Err(format!("expected {}", units::DURATION)),
    }
}

/// An address to listen on: an IP address with a port, or the path of a Unix socket.
pub(super) fn address(text: &str) -> Parsed<Address> {
    let Some(path) = text.strip_prefix("unix:") else {
        let expected = "expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/sidecar.sock\"";
        return socket(text, expected).map(Address::Tcp);
    };
    // A relative path would depend on the folder in which the process was started.
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        return Err("expected an absolute path after \"unix:\"".to_owned());
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!("expected a path of at most {LONGEST_SOCKET_PATH} bytes, the system's limit for a socket"));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

/// An IP address with a port to listen on.
pub(super) fn tcp_address(text: &str) -> Parsed<SocketAddr> {
    socket(text, "expected an address such as \"127.0.0.1:9464\" or \"[::1]:9464\"")
}

/// An IP address with a port. An IPv4 address that is mapped into IPv6 is refused, because neither an IPv4 nor an IPv6
/// socket listens on it.
fn socket(text: &str, expected: &str) -> Parsed<SocketAddr> {
    let address: SocketAddr = text.parse().map_err(|_| expected.to_owned())?;
    match address.ip().to_canonical() {
        ip if ip == address.ip() => Ok(address),
        ip => Err(format!("expected the form of IPv4, \"{}\"", SocketAddr::new(ip, address.port()))),
    }
}

/// The address of a name server, with the usual port if the text has no port.
pub(super) fn name_server(text: &str) -> Parsed<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok();
    let found = with_port.or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)));
    found.ok_or_else(|| {
        "expected the IP address of a name server, such as \"10.0.0.53\" or \"10.0.0.53:5353\"".to_owned()
    })
}

/// The mode of a socket's file, in octal. Connecting needs the right to write.
pub(super) fn socket_mode(text: &str) -> Parsed<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o666 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => {
            Err("expected the octal mode of a socket, such as \"0660\": 6 for the owner, and 0 or 6 for the group and \
                 for others"
                .to_owned())
        }
    }
}

// `sun_path` of unix(7), less the NUL at its end.
const LONGEST_SOCKET_PATH: usize = 107;

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err("expected the path of a file".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// The path of a file with a secret. Text that looks like the secret itself is refused, because paths are shown.
pub(super) fn secret_file(text: &str) -> Parsed<PathBuf> {
    // A key in base64 may hold a slash, and most such keys end with this sign.
    if text.ends_with('=') || !text.contains('/') && text.contains([':', ' ', '=']) {
        return Err("expected the path of a file that holds the secret".to_owned());
    }
    path(text)
}

/// An identifier of Sezzle's. Sezzle promises no narrower form.
pub(super) fn identifier(text: &str) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("expected an identifier of letters, digits and hyphens".to_owned());
    }
    Ok(text.to_owned())
}

/// A short name that needs no quotes anywhere.
pub(super) fn word(text: &str) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > LONGEST_WORD || !text.chars().all(plain) {
        return Err(format!(
            "expected a word of at most {LONGEST_WORD} letters, digits, hyphens, underscores and dots"
        ));
    }
    Ok(text.to_owned())
}

const LONGEST_WORD: usize = 64;

/// A value of the `Host` header, in lower case since hosts are compared without regard to case.
pub(super) fn host(text: &str) -> Parsed<String> {
    match text.parse::<Authority>() {
        Ok(authority) if is_host_and_port(&authority) => Ok(text.to_ascii_lowercase()),
        _ => Err("expected a host such as \"payments.internal\" or \"payments.internal:8080\"".to_owned()),
    }
}

/// Scheme and authority of a gateway. The merchant's keys are sent there, so plain HTTP stays on this machine.
pub(super) fn gateway_url(text: &str) -> Parsed<String> {
    let Some(url) = Url::parse(text) else {
        return Err("expected \"https://host\" or \"https://host:port\", without user, query or fragment".to_owned());
    };
    if !url.path.is_empty() && url.path != "/" {
        return Err("expected scheme and host only, without a path".to_owned());
    }
    if !url.secure && !url.is_loopback {
        return Err("expected https, since http is for a loopback address only".to_owned());
    }
    Ok(url.origin)
}

/// Scheme and authority of an HTTP proxy. The text must have a port, because no port is usual for a proxy.
pub(super) fn egress_proxy(text: &str) -> Parsed<String> {
    if text.contains('@') {
        return Err("user and password do not belong here: put \"user:password\" into a file, and its path into \
                    gateway.egress_proxy_credentials_file"
            .to_owned());
    }
    match Url::parse(text) {
        Some(url) if !url.secure && url.has_port && matches!(url.path.as_str(), "" | "/") => Ok(url.origin),
        _ => Err("expected \"http://host:port\"".to_owned()),
    }
}

/// The beginning of rewritten links.
pub(super) fn base_url(text: &str) -> Parsed<String> {
    match Url::parse(text) {
        Some(url) if !text.ends_with('/') && is_plain(&url.path) => Ok(format!("{}{}", url.origin, url.path)),
        _ => Err("expected a URL such as \"http://localhost:8080\" or \"https://host/path\", without user, query, \
                  fragment or slash at its end"
            .to_owned()),
    }
}

/// A whole URL that webhooks are forwarded to. Webhooks tell of the merchant's customers, so plain HTTP is allowed on
/// this machine only.
pub(super) fn forward_to(text: &str) -> Parsed<String> {
    match Url::parse(text) {
        Some(url) if !url.secure && !url.is_loopback => {
            Err("expected https, since http is for a loopback address only".to_owned())
        }
        Some(url) if is_plain(&url.path) => {
            let path = if url.path.is_empty() { "/" } else { &url.path };
            Ok(format!("{}{path}", url.origin))
        }
        _ => Err("expected a URL such as \"http://127.0.0.1:3000/webhooks\" or \"https://host/path\", without user, \
                  query or fragment"
            .to_owned()),
    }
}

/// The URL to which spans are sent, with OTLP's usual path if the text has no path. Spans tell no more than the metrics
/// do, so plain HTTP may leave this machine.
pub(super) fn otlp_endpoint(text: &str) -> Parsed<String> {
    match Url::parse(text) {
        Some(url) if is_plain(&url.path) => {
            let path = if matches!(url.path.as_str(), "" | "/") { "/v1/traces" } else { &url.path };
            Ok(format!("{}{path}", url.origin))
        }
        _ => Err("expected a URL such as \"http://127.0.0.1:4318\" or \"https://host/path\", without user, query or \
                  fragment"
            .to_owned()),
    }
}

/// The path of a URL, compared byte for byte with that of a request.
pub(super) fn url_path(text: &str) -> Parsed<String> {
    if !text.starts_with('/') || text.len() > LONGEST_URL_PATH || !is_plain(text) {
        return Err("expected a path such as \"/webhooks/sezzle\", without query or fragment".to_owned());
    }
    Ok(text.to_owned())
}

const LONGEST_URL_PATH: usize = 1024;

/// Whether a path holds only characters that RFC 3986 allows in one. `Uri` also accepts characters that JSON would have
/// to escape, and those must not get into a body.
fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/".contains(c))
}

struct Url {
    secure: bool,
    is_loopback: bool,
    has_port: bool,
    /// Scheme and authority in lower case.
    origin: String,
    /// The path; empty if the URL has none.
    path: String,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        // `Uri` silently drops a fragment, and writes a missing path as "/".
        if text.contains(['#', '?']) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| is_host_and_port(authority))?;
        let (_, rest) = text.split_once("://")?;
        Some(Self {
            secure,
            is_loopback: is_loopback(authority.host()),
            has_port: authority.port().is_some(),
            origin: format!("{}://{authority}", if secure { "https" } else { "http" }).to_ascii_lowercase(),
            path: if rest.contains('/') { uri.path().to_owned() } else { String::new() },
        })
    }
}

fn is_host_and_port(authority: &Authority) -> bool {
    let host = authority.host();
    let host_is_valid = match unbracketed(host) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // A name that a certificate could have. `Authority` itself would let `*` and `a$b` pass.
        None => ServerName::try_from(host).is_ok(),
    };
    // This also refuses user information, which stands before the host.
    let port_is_valid = match authority.as_str().strip_prefix(host) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()).is_some_and(|port: u16| port != 0),
        None => false,
    };
    host_is_valid && port_is_valid
}

fn is_loopback(host: &str) -> bool {
    let address = unbracketed(host).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn unbracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

#[cfg(test)]
mod tests;
