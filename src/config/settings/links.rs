//! The section `links`: rewriting of `links[].href`.

use std::net::IpAddr;

use http::Uri;

use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct LinkSettings {
    pub rewrite: bool,
    /// The base URL of rewritten links, without a trailing slash; `None` for the first bound address of `proxy.listen`.
    pub base_url: Option<String>,
}

impl LinkSettings {
    /// A remark on a base URL on loopback whose port is none of `listen`, the addresses of `proxy.listen`.
    pub fn warning(&self, listen: &[Address]) -> Option<String> {
        let url: Uri = self.base_url.as_ref().filter(|_| self.rewrite)?.parse().ok()?;
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
        let ports: Vec<u16> = listen.iter().filter_map(Address::tcp).map(|address| address.port()).collect();
        // Callers of a Unix socket do not look at the host and port of a link. The system replaces port 0 by a port
        // that nobody knows here.
        let leads_elsewhere = is_loopback && !ports.is_empty() && !ports.contains(&0) && !ports.contains(&port);
        leads_elsewhere.then(|| {
            format!(
                "port {port} of this machine is in no address of proxy.listen, so links in answers lead to no listener \
                 of the sidecar"
            )
        })
    }
}

/// `tls` says that the addresses of `proxy.listen` speak TLS.
pub(super) fn read(r: &mut Reader<'_>, listen: Option<&[Address]>, tls: bool) -> Option<LinkSettings> {
    let rewrite = r.value("links.rewrite", "true", parse::boolean);
    let base_url = r.optional("links.base_url", parse::base_url);

    if let (Some(None), Some(listen)) = (&base_url, listen) {
        let target = match listen.iter().find_map(Address::tcp) {
            None => Some("a Unix socket".to_owned()),
            Some(first) if first.ip().is_unspecified() => Some(format!("{first}, the first address of proxy.listen")),
            // With port 0 the system chooses the port at the start, so nothing can be checked here.
            Some(first) if first.port() == 0 => None,
            Some(first) => {
                r.show_derived("links.base_url", &format!("{}://{first}", if tls { "https" } else { "http" }));
                None
            }
        };
        if let Some(target) = target.filter(|_| rewrite == Some(true)) {
            let why = format!(
                "required, because callers cannot follow links to {target}; set a URL by which they reach the sidecar"
            );
            r.missing("links.base_url", why);
        }
    }
    Some(LinkSettings { rewrite: rewrite?, base_url: base_url? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_should_lead_to_a_listener() {
        let tcp = |address: &str| Address::Tcp(address.parse().expect("an address"));
        let unix = || Address::Unix("/run/proxy.sock".into());
        for (base_url, listen, warns) in [
            (Some("http://localhost"), vec![tcp("127.0.0.1:8080")], true),
            (Some("http://localhost"), vec![tcp("127.0.0.1:80")], false),
            (Some("http://localhost"), vec![unix()], false),
            (Some("http://localhost"), vec![unix(), tcp("127.0.0.1:8080")], true),
            (Some("http://127.0.0.1:8080"), vec![tcp("127.0.0.1:8080"), tcp("[::1]:8080")], false),
            (Some("http://127.0.0.1:8081"), vec![tcp("127.0.0.1:8080"), tcp("[::1]:8080")], true),
            (Some("http://[::1]:8081"), vec![tcp("127.0.0.1:8080")], true),
            (Some("http://[::1]:9"), vec![tcp("0.0.0.0:9")], false),
            (Some("https://localhost"), vec![tcp("127.0.0.1:443")], false),
            (Some("http://127.0.0.1:8081"), vec![tcp("127.0.0.1:0")], false),
            (Some("http://sidecar.internal"), vec![tcp("10.0.0.1:8080")], false),
            (None, vec![tcp("127.0.0.1:8080")], false),
        ] {
            let with = |rewrite| LinkSettings { rewrite, base_url: base_url.map(str::to_owned) };
            assert_eq!(with(true).warning(&listen).is_some(), warns, "{base_url:?} {listen:?}");
            assert_eq!(with(false).warning(&listen), None);
        }
    }
}
