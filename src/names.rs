//! Names to addresses, by the system's resolver.
//!
//! The resolver blocks, so it runs on threads of its own. When the system can start no thread, lookups share the ones
//! that there are, and a lookup that cannot be made is an error.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::threads::Threads;

/// Looks names up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver(Threads);

#[derive(Debug, thiserror::Error)]
#[error("the name {name} was not resolved")]
pub struct DnsError {
    name: String,
    #[source]
    cause: io::Error,
}

impl Resolver {
    /// Starts the first thread.
    pub fn start() -> io::Result<Self> {
        Threads::start("names", MOST).map(Self)
    }
}

// A lookup takes milliseconds, or ten seconds where no name server answers. Its callers wait for 5 s.
const MOST: usize = 64;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let threads = self.0.clone();
        Box::pin(async move {
            let asked = name.clone();
            let found = threads.run(move || (asked.as_str(), 0).to_socket_addrs()).await;
            let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
            found.map_err(|cause| DnsError { name: name.as_str().to_owned(), cause })
        })
    }
}
