//! Names to addresses, by the system's resolver or by asking name servers.
//!
//! The system's resolver blocks, so it runs on threads of its own. When the system can start no further thread, lookups
//! share the running threads, and a lookup for which there is no room is an error.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::threads::Threads;

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Backend);

#[derive(Clone)]
enum Backend {
    System(Threads),
    NameServers(NameServers),
}

/// Name servers, with caches of their answers that all clones share.
#[derive(Clone)]
struct NameServers {
    /// One for each server, in their order. hickory asks several servers at once and lets the fastest decide, even one
    /// that only refuses to answer.
    resolvers: Arc<[TokioResolver]>,
    cache: Arc<Mutex<CacheState>>,
}

/// Decides when the caches are cleared, and knows which of them has the last answer.
#[derive(Debug, Default)]
struct CacheState {
    /// Whether a connection to an address from the caches has failed since they were cleared.
    failed: bool,
    cleared: Option<Instant>,
    /// The server that gave the last addresses, and until when its cache keeps them.
    last: Option<(usize, Instant)>,
}

impl CacheState {
    /// Returns whether the caller must clear the caches before a lookup, and notes that they are clear then. Two clears
    /// are at least [`CLEAR_INTERVAL`] apart.
    fn begin_clear(&mut self, now: Instant) -> bool {
        let is_due = self.cleared.is_none_or(|cleared| now.duration_since(cleared) >= CLEAR_INTERVAL);
        let clears = self.failed && is_due;
        if clears {
            *self = Self { cleared: Some(now), ..Self::default() };
        }
        clears
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Backend::System(_) => "Resolver(system)",
            Backend::NameServers(_) => "Resolver(dns)",
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
        Ok(Self(Backend::System(Threads::start("names", MOST)?)))
    }

    /// A resolver that asks these name servers and never reads `/etc/hosts`.
    pub fn with_name_servers(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let resolvers = servers.iter().map(|server| resolver_of(*server)).collect::<Result<_, _>>()?;
        Ok(Self(Backend::NameServers(NameServers { resolvers, cache: Arc::default() })))
    }

    /// Takes note that no address of a name led to the expected peer. The next lookup then asks the name servers again,
    /// in place of the caches.
    pub fn note_failure(&self) {
        if let Backend::NameServers(NameServers { cache, .. }) = &self.0 {
            cache.lock().unwrap_or_else(PoisonError::into_inner).failed = true;
        }
    }
}

fn resolver_of(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let config =
        ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections.to_vec())]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = MOST_NAMES;
    options.positive_max_ttl = Some(LONGEST_TTL);
    options.negative_max_ttl = Some(NO_ADDRESS_TTL);
    options.timeout = SERVER_TIMEOUT;
    options.attempts = ATTEMPTS;
    builder.build()
}

// A lookup takes milliseconds, or ten seconds where no name server answers. Nobody waits longer than 5 s for a lookup.
const MOST: usize = 64;
// The sidecar knows the gateway and perhaps a proxy. The rest is for chains of aliases.
const MOST_NAMES: u64 = 32;
// A name that is new in its zone is found soon, whatever time the zone states for names that it lacks.
const NO_ADDRESS_TTL: Duration = Duration::from_secs(5);
// A wrong answer ends after this time, whatever its time to live. A connection to the gateway lives as long.
const LONGEST_TTL: Duration = Duration::from_secs(5 * 60);
// While the gateway is down, every call fails to connect. Each failure must not become a query to the name servers.
const CLEAR_INTERVAL: Duration = Duration::from_secs(1);
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 2;
// A healthy server answers sooner, also when it has to ask others.
const HEAD_START: Duration = Duration::from_millis(500);
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
        let backend = self.0.clone();
        Box::pin(async move {
            let found = match backend {
                Backend::System(threads) => by_system(&threads, name.clone()).await,
                Backend::NameServers(servers) => by_name_servers(&servers, name.as_str()).await,
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
async fn by_name_servers(servers: &NameServers, name: &str) -> io::Result<vec::IntoIter<SocketAddr>> {
    let NameServers { resolvers, cache } = servers;
    let (now, lock) = (Instant::now(), || cache.lock().unwrap_or_else(PoisonError::into_inner));
    if lock().begin_clear(now) {
        resolvers.iter().for_each(TokioResolver::clear_cache);
    }
    let cached = lock().last.filter(|(_, until)| now < *until).map(|(server, _)| server);
    // With a dot at its end, no search list completes the name.
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no name server answered in time");
    let asked = timeout(LOOKUP_TIMEOUT, ask_in_order(resolvers, cached, &absolute));
    let (server, found) = asked.await.map_err(|_| timed_out())??;
    lock().last = Some((server, Instant::from_std(found.valid_until())));
    let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses.into_iter())
}

/// Asks one name server after the other, the next one as soon as one fails or has been silent for [`HEAD_START`]. The
/// server whose cache has the answer comes first. The first addresses count, or the answer that the name does not exist.
/// If no server has addresses, the error is that of the server that failed first.
async fn ask_in_order(resolvers: &[TokioResolver], cached: Option<usize>, name: &str) -> io::Result<(usize, LookupIp)> {
    let mut left: VecDeque<_> = resolvers.iter().cloned().enumerate().collect();
    if let Some(first) = cached.and_then(|server| left.remove(server)) {
        left.push_front(first);
    }
    let (mut asked, mut failure) = (JoinSet::new(), None);
    loop {
        if let Some((server, resolver)) = left.pop_front() {
            let name = name.to_owned();
            asked.spawn(async move { (server, resolver.lookup_ip(name).await) });
        }
        let patience = if left.is_empty() { LOOKUP_TIMEOUT } else { HEAD_START };
        let Ok(ended) = timeout(patience, asked.join_next()).await else { continue };
        let (is_answer, error) = match ended {
            Some(Ok((server, Ok(found)))) => return Ok((server, found)),
            Some(Ok((_, Err(error)))) => (error.is_nx_domain(), io::Error::other(error.to_string())),
            Some(Err(broken_off)) => (false, io::Error::other(broken_off)),
            None => return Err(failure.unwrap_or_else(|| io::Error::other("there is no name server to ask"))),
        };
        if is_answer {
            return Err(error);
        }
        failure.get_or_insert(error);
    }
}

/// The name servers in the text of a `resolv.conf`, at most three as in resolv.conf(5). A server with a scope
/// (`fe80::1%eth0`) is left out: without its scope, no packet reaches the server.
pub fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| -> Option<SocketAddr> {
        let address: IpAddr = line.trim_start().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok()?;
        Some(SocketAddr::new(address, DNS_PORT))
    };
    text.lines().filter_map(server).take(3).collect()
}

pub const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    #[test]
    fn a_failure_clears_the_cache_with_a_pause_in_between() {
        let now = Instant::now();
        let mut cache = CacheState::default();
        assert!(!cache.begin_clear(now), "nothing has failed");
        cache.failed = true;
        assert!(cache.begin_clear(now));
        assert!(!cache.begin_clear(now + 2 * CLEAR_INTERVAL), "the new answers have not failed");
        let mut cache = CacheState { failed: true, cleared: Some(now), ..CacheState::default() };
        assert!(!cache.begin_clear(now + CLEAR_INTERVAL / 2));
        assert!(cache.begin_clear(now + CLEAR_INTERVAL), "an early failure clears the cache later");
        assert!(!cache.begin_clear(now + 2 * CLEAR_INTERVAL));
    }

    /// Answers one question: 127.0.0.1, for as long as a record may last.
    async fn answer_one(server: UdpSocket) {
        let mut question = [0; 512];
        let (length, from) = server.recv_from(&mut question).await.expect("a question");
        let name = question.iter().skip(12).position(|byte| *byte == 0).expect("the end of the name") + 1;
        let mut answer = question.get(..2).expect("an id").to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend(question.get(12..(12 + name + 4).min(length)).expect("a question"));
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 4, 127, 0, 0, 1]);
        server.send_to(&answer, from).await.expect("sent");
    }

    #[tokio::test]
    async fn no_answer_is_kept_for_longer_than_some_minutes() {
        let server = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let resolver = Resolver::with_name_servers(&[server.local_addr().expect("an address")]).expect("a resolver");
        let Backend::NameServers(NameServers { resolvers, .. }) = resolver.0 else { panic!("name servers") };
        let (found, ()) = tokio::join!(resolvers[0].ipv4_lookup("gateway.example."), answer_one(server));
        let left = found.expect("an answer").valid_until().duration_since(std::time::Instant::now());
        assert!(left <= LONGEST_TTL && left > LONGEST_TTL / 2, "{left:?}");
    }

    #[test]
    fn name_servers_of_the_system() {
        let text = "# nameserver 1.1.1.1\nsearch a.example\nnameserver fe80::1%eth0\nnameserver 10.0.0.1\n  nameserver\tfd00::1 ; x\n\
                    nameserver none\nnameserver 10.0.0.3\nnameserver 10.0.0.4\noptions ndots:5\n";
        let found: Vec<String> = parse_resolv_conf(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.3:53"]);
        assert!(parse_resolv_conf("").is_empty());
    }
}
