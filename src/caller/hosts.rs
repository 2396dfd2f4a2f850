//! Checks that a request names an authority of this sidecar, and is no browser's.

use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Version};

use super::browser::is_browser_header;
use super::{Caller, Refusal};

/// Hosts that callers may name besides loopback names and the address they connected to.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Takes names with or without a port. A name without a port is accepted with every port.
    pub fn new(hosts: &[String]) -> Self {
        Self(hosts.iter().map(|host| without_root(&host.to_ascii_lowercase())).collect())
    }

    /// Checks that a request names an authority of this sidecar and has no header that only browsers send. Without the
    /// first check a web page could point a name of its own at this address and call it (DNS rebinding).
    pub fn check(&self, head: &Parts, caller: &Caller) -> Result<(), Refusal> {
        self.check_host(head, caller)?;
        if head.headers.keys().any(is_browser_header) { Err(Refusal::Browser) } else { Ok(()) }
    }

    /// Checks only that a request names an authority of this sidecar.
    pub fn check_host(&self, head: &Parts, caller: &Caller) -> Result<(), Refusal> {
        if !is_plainly_loopback(head) {
            if caller.unix {
                check_any_host(head)?;
            } else if !self.is_ours(&named_host(head)?, caller.local) {
                return Err(Refusal::Misdirected);
            }
        }
        let http2 = head.version == Version::HTTP_2;
        match (head.uri.scheme(), head.uri.authority()) {
            (None, None) => Ok(()),
            // A TLS terminator in front of the sidecar that passes bytes through leaves the caller's scheme as it was.
            (Some(scheme), _) if http2 && *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS => {
                Err(Refusal::Scheme(":scheme must be http or https"))
            }
            (Some(scheme), _) if !http2 && !caller.tls && *scheme != Scheme::HTTP => {
                Err(Refusal::Scheme("a target in absolute form must begin with http://"))
            }
            (Some(scheme), _) if !http2 && caller.tls && *scheme != Scheme::HTTPS => {
                Err(Refusal::Scheme("a target in absolute form must begin with https:// on a connection with TLS"))
            }
            // [`check_any_host`] has already checked the form of this authority.
            (Some(_), Some(_)) if http2 && caller.unix => Ok(()),
            (Some(_), Some(authority)) if self.is_ours(authority, caller.local) => Ok(()),
            (_, _) => Err(Refusal::Misdirected),
        }
    }

    fn is_ours(&self, authority: &Authority, local: Option<SocketAddr>) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = without_root(&authority.host().to_ascii_lowercase());
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // DNS rebinding needs a name, so an IP address is safe: loopback, or the address the caller connected to.
            Ok(address) if address.is_loopback() || local.is_some_and(|local| address == local.ip()) => return true,
            Ok(_) => {}
            Err(_) if host == "localhost" => return true,
            Err(_) => {}
        }
        let named = without_root(&authority.as_str().to_ascii_lowercase());
        self.0.iter().any(|known| *known == host || *known == named)
    }
}

/// A name, with or without a port, without the trailing dot that stands for the DNS root.
fn without_root(name: &str) -> String {
    match name.split_once(".:") {
        Some((host, port)) => format!("{host}:{port}"),
        None => name.strip_suffix('.').unwrap_or(name).to_owned(),
    }
}

/// On a Unix socket any well-formed host is accepted, and so is an empty one: clients have to send some host.
fn check_any_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let pseudo = head.uri.authority().filter(|_| head.version == Version::HTTP_2);
    let is_host =
        |text: &[u8]| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte));
    match (hosts.next(), hosts.next(), pseudo) {
        (Some(host), None, None) if is_host(host.as_bytes()) => Ok(()),
        (None, None, Some(authority)) if is_host(authority.as_str().as_bytes()) => Ok(()),
        (Some(host), None, Some(authority)) if *host == authority.as_str() => Ok(()),
        (Some(_), None, Some(_)) => Err(Refusal::Malformed("Host and :authority differ")),
        (Some(_), None, None) | (None, None, Some(_)) => Err(NO_HOST),
        (_, _, _) => Err(ONE_HOST),
    }
}

/// Fast path: whether a request has a single `Host` that is a usual loopback name, with or without a port. Nearly all
/// requests do, and then no parser is needed.
fn is_plainly_loopback(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (Some(host), None, None) = (hosts.next(), hosts.next(), head.uri.authority()) else { return false };
    let names: [&[u8]; 3] = [b"127.0.0.1", b"localhost", b"[::1]"];
    match names.into_iter().find_map(|name| host.as_bytes().strip_prefix(name)) {
        Some([]) => true,
        Some([b':', port @ ..]) => {
            port.iter().all(u8::is_ascii_digit)
                && ((1..=4).contains(&port.len()) || (port.len() == 5 && port <= &b"65535"[..]))
        }
        Some(_) | None => false,
    }
}

/// The host that a request names: in exactly one `Host`; over HTTP/2 also in `:authority`, alone or beside an equal
/// `Host` (RFC 9113, 8.3.1).
fn named_host(head: &Parts) -> Result<Authority, Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let pseudo = head.uri.authority().filter(|_| head.version == Version::HTTP_2);
    match (hosts.next(), hosts.next(), pseudo) {
        (Some(host), None, None) => parsed(host),
        (None, None, Some(authority)) if has_port_or_none(authority) => Ok(authority.clone()),
        (Some(host), None, Some(authority)) if parsed(host)? == *authority => Ok(authority.clone()),
        (Some(_), None, Some(_)) => Err(Refusal::Malformed("Host and :authority differ")),
        (None, None, Some(_)) => Err(NO_HOST),
        (_, _, _) => Err(ONE_HOST),
    }
}

fn parsed(host: &HeaderValue) -> Result<Authority, Refusal> {
    let authority = host.to_str().ok().and_then(|host| host.parse().ok());
    authority.filter(has_port_or_none).ok_or(NO_HOST)
}

const ONE_HOST: Refusal = Refusal::Malformed("the request must have exactly one Host header");
const NO_HOST: Refusal = Refusal::Malformed("the Host header is not a host with an optional port");

/// Whether the host is followed by a valid port or none. The parser of authorities does not check that.
fn has_port_or_none(authority: &Authority) -> bool {
    let text = authority.as_str();
    let named = text.rsplit_once('@').map_or(text, |(_, named)| named);
    authority.port_u16().is_some() || matches!(named.strip_prefix(authority.host()), Some("" | ":"))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn check(target: &str, version: Version, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::get(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("valid").into_parts();
        let hosts = Hosts::new(&["sidecar.internal".to_owned(), "Named:8080".to_owned()]);
        let caller = Caller { local: Some("10.1.2.3:8080".parse().expect("valid")), ..Caller::default() };
        hosts.check(&head, &caller)
    }

    fn named(host: &str) -> Result<(), Refusal> {
        check("/", Version::HTTP_11, &[("host", host)])
    }

    #[test]
    fn hosts_that_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:9",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
            "localhost:",
            "10.1.2.3:8080",
            "sidecar.internal",
            "sidecar.internal:1",
            "named:8080",
            "sidecar.internal.",
            "Sidecar.Internal.:1",
            "named.:8080",
            "localhost.",
            "localhost.:8080",
        ] {
            assert_eq!(named(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.1.2.4",
            "named:8081",
            "user@localhost",
            "127.0.0.1.nip.io",
            "sidecar.internal..",
            "named.:8081",
            ".",
        ] {
            assert_eq!(named(host), Err(Refusal::Misdirected), "{host}");
        }
        for hosts in [
            &[][..],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "a b")],
            &[("host", "")],
            &[("host", "localhost:x")],
            &[("host", "[::1]:70000")],
        ] {
            assert!(matches!(check("/", Version::HTTP_11, hosts), Err(Refusal::Malformed(_))), "{hosts:?}");
        }
    }

    #[test]
    fn a_tcp_caller_without_an_address_is_not_one_on_a_unix_socket() {
        let (head, ()) = Request::get("/").header(HOST, "unix").body(()).expect("valid").into_parts();
        assert_eq!(Hosts::default().check(&head, &Caller::default()), Err(Refusal::Misdirected));
    }

    #[test]
    fn a_unix_socket_takes_any_one_host() {
        let check = |target: &str, version, hosts: &[&str]| {
            let mut request = Request::get(target).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (head, ()) = request.body(()).expect("valid").into_parts();
            Hosts::default().check(&head, &Caller { unix: true, ..Caller::default() })
        };
        let http1 = |hosts: &[&str]| check("/", Version::HTTP_11, hosts);
        for host in ["localhost", "unix", "", "evil.example:99", "10.1.2.3", "[::1]", "%2Frun%2Fsezzle.sock", "a_b"] {
            assert_eq!(http1(&[host]), Ok(()), "{host}");
        }
        for hosts in [&[][..], &["unix", "unix"], &["", ""], &["a b"], &["/run/sezzle.sock"], &["u@unix"], &["\u{e9}"]]
        {
            assert!(matches!(http1(hosts), Err(Refusal::Malformed(_))), "{hosts:?}");
        }
        for (target, hosts, taken) in [
            ("http://unix/", &[][..], true),
            ("https://unix:8/", &["unix:8"], true),
            ("http://unix/", &["other"], false),
            ("http://u@unix/", &[], false),
            ("/", &[], false),
        ] {
            assert_eq!(check(target, Version::HTTP_2, hosts).is_ok(), taken, "{target} {hosts:?}");
        }
        let absolute = |target| check(target, Version::HTTP_11, &["unix"]);
        assert_eq!(absolute("http://localhost/"), Ok(()));
        assert_eq!(absolute("http://gateway.sezzle.com/"), Err(Refusal::Misdirected), "it is no way to elsewhere");
    }

    #[test]
    fn absolute_targets_must_be_ours() {
        let host = [("host", "localhost")];
        assert_eq!(check("http://127.0.0.1:8080/", Version::HTTP_11, &host), Ok(()));
        assert_eq!(check("http://gateway.sezzle.com/", Version::HTTP_11, &host), Err(Refusal::Misdirected));
        for target in ["https://localhost/", "ftp://localhost/"] {
            assert!(matches!(check(target, Version::HTTP_11, &host), Err(Refusal::Scheme(_))), "{target}");
        }
    }

    #[test]
    fn absolute_targets_have_the_scheme_of_the_connection() {
        let check = |target: &str, version, tls| {
            let request = Request::get(target).version(version).header(HOST, "localhost");
            let (head, ()) = request.body(()).expect("valid").into_parts();
            Hosts::default().check(&head, &Caller { tls, ..Caller::default() })
        };
        assert_eq!(check("https://localhost/", Version::HTTP_11, true), Ok(()));
        assert_eq!(check("https://gateway.sezzle.com/", Version::HTTP_11, true), Err(Refusal::Misdirected));
        for target in ["http://localhost/", "ftp://localhost/"] {
            assert!(matches!(check(target, Version::HTTP_11, true), Err(Refusal::Scheme(_))), "{target}");
        }
        for target in ["http://localhost/", "https://localhost/"] {
            assert_eq!(check(target, Version::HTTP_2, true), Ok(()), "{target}");
        }
    }

    #[test]
    fn http_2_names_its_authority_in_a_field_of_its_own() {
        let check = |target, headers| check(target, Version::HTTP_2, headers);
        assert_eq!(check("http://localhost:8080/", &[]), Ok(()));
        assert_eq!(check("http://localhost:8080/", &[("host", "localhost:8080")]), Ok(()));
        assert_eq!(check("http://evil.example/", &[]), Err(Refusal::Misdirected));
        assert_eq!(check("https://localhost/", &[]), Ok(()));
        assert_eq!(check("https://evil.example/", &[]), Err(Refusal::Misdirected));
        assert_eq!(check("ftp://localhost/", &[]), Err(Refusal::Scheme(":scheme must be http or https")));
        assert!(matches!(check("http://localhost/", &[("host", "evil.example")]), Err(Refusal::Malformed(_))));
        assert!(matches!(check("http://localhost:x/", &[]), Err(Refusal::Malformed(_))));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert!(matches!(check("http://localhost/", &twice), Err(Refusal::Malformed(_))));
        assert!(matches!(check("/", &[]), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn browsers_are_refused_and_nodes_fetch_is_not() {
        let with = |mark| check("/", Version::HTTP_11, &[("host", "localhost"), mark]);
        for name in ["origin", "sec-fetch-site", "sec-fetch-dest", "sec-fetch-user", "sec-fetch-storage-access"] {
            assert_eq!(with((name, "x")), Err(Refusal::Browser), "{name}");
        }
        for mode in ["cors", "no-cors", "same-origin", "navigate", ""] {
            assert_eq!(with(("sec-fetch-mode", mode)), Ok(()), "{mode}");
        }
    }

    proptest! {
        #[test]
        fn what_needs_no_parser_passes_it(name in "(127\\.0\\.0\\.1|localhost|\\[::1\\])", port in ":?[0-9]{0,6}") {
            let host = format!("{name}{port}");
            let (head, ()) = Request::get("/").header(HOST, &host).body(()).expect("valid").into_parts();
            if is_plainly_loopback(&head) {
                let named = named_host(&head).expect("a host");
                prop_assert!(Hosts::default().is_ours(&named, None), "{host}");
            }
        }

        #[test]
        fn arbitrary_hosts_never_panic(host in "[ -~]{0,40}") {
            let _ = named(&host);
        }
    }
}
