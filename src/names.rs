//! Names to addresses, by the system's resolver or by asking name servers.
//!
//! The system's resolver blocks, so it runs on threads of its own. When the system can start no thread, lookups share the
//! ones that there are, and a lookup that cannot be made is an error.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::time::timeout;
use tower_service::Service;

use crate::threads::Threads;

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Way);

#[derive(Clone)]
enum Way {
    System(Threads),
    NameServers(Box<TokioResolver>),
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Way::System(_) => "Resolver(system)",
            Way::NameServers(_) => "Resolver(dns)",
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the name {name} was not resolved")]
pub struct DnsError {
    name: String,
    #[source]
    cause: io::Error,
}

impl Resolver {
    /// The system's resolver. Starts the first thread.
    pub fn start() -> io::Result<Self> {
        Ok(Self(Way::System(Threads::start("names", MOST)?)))
    }

    /// Asks these name servers, and never reads `/etc/hosts`. Fails if the resolver cannot be built.
    pub fn asking(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = MOST_NAMES;
        options.negative_max_ttl = Some(NO_ADDRESS_TTL);
        options.timeout = SERVER_TIMEOUT;
        options.attempts = ATTEMPTS;
        Ok(Self(Way::NameServers(Box::new(builder.build()?))))
    }
}

// A lookup takes milliseconds, or ten seconds where no name server answers. Its callers wait for 5 s.
const MOST: usize = 64;
// The sidecar knows the gateway and perhaps a proxy. The rest is for chains of aliases.
const MOST_NAMES: u64 = 32;
// The name of a new gateway is found soon after it was made known, whatever its zone says of names that it lacks.
const NO_ADDRESS_TTL: Duration = Duration::from_secs(5);
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 2;
// Leaves a connection that may take 5 s some time for TCP and TLS.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let way = self.0.clone();
        Box::pin(async move {
            let found = match way {
                Way::System(threads) => by_system(&threads, name.clone()).await,
                Way::NameServers(resolver) => by_name_servers(&resolver, name.as_str()).await,
            };
            found.map_err(|cause| DnsError { name: name.as_str().to_owned(), cause })
        })
    }
}

async fn by_system(threads: &Threads, name: Name) -> io::Result<vec::IntoIter<SocketAddr>> {
    let found = threads.run(move || (name.as_str(), 0).to_socket_addrs()).await;
    found.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The addresses of both families, IPv6 first: a connection tries both.
async fn by_name_servers(resolver: &TokioResolver, name: &str) -> io::Result<vec::IntoIter<SocketAddr>> {
    // The dot at its end keeps the name from being completed by a search list.
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no name server answered in time");
    let found = timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(absolute)).await.map_err(|_| late())?;
    let found = found.map_err(|error| io::Error::other(error.to_string()))?;
    let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses.into_iter())
}

/// The name servers of a `resolv.conf`, at most three as in resolv.conf(5). A server with a scope (`fe80::1%eth0`) is left
/// out: without its scope, no packet reaches it.
pub fn listed(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| -> Option<SocketAddr> {
        let address: IpAddr = line.trim_start().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok()?;
        Some(SocketAddr::new(address, DNS_PORT))
    };
    resolv_conf.lines().filter_map(server).take(3).collect()
}

pub const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_system() {
        let text = "# nameserver 1.1.1.1\nsearch a.example\nnameserver fe80::1%eth0\nnameserver 10.0.0.1\n  nameserver\tfd00::1 ; x\n\
                    nameserver none\nnameserver 10.0.0.3\nnameserver 10.0.0.4\noptions ndots:5\n";
        let found: Vec<String> = listed(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.3:53"]);
        assert!(listed("").is_empty());
    }
}
