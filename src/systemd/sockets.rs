//! Sockets that were opened before the process started: the protocol of sd_listen_fds(3).
//!
//! A passed socket replaces opening one if its name is `<name>` and its address stands in `<name>.listen`. The
//! configuration therefore always says where the sidecar listens. A socket that does not fit the configuration is an
//! error: callers of that socket would wait for ever.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::address::Address;

/// Passed sockets that are not in use yet.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    name: String,
    socket: PassedSocket,
}

#[derive(Debug)]
pub enum PassedSocket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassedError {
    /// The variables are malformed or contradict each other.
    #[error("{0}")]
    Variables(String),
    #[error("the passed descriptor {name:?} is {what}; expected a listening stream socket with an address or a path")]
    NotAListener {
        name: String,
        /// The descriptor's kind, as far as known.
        what: &'static str,
    },
    #[error("the socket passed for {address} has the name {name:?}; FileDescriptorName= must be one of {known}")]
    UnknownName { name: String, address: Address, known: String },
    #[error("{name}.listen: a socket was passed for {address}, which the key does not list, or was passed twice")]
    UnknownAddress { name: String, address: Address },
}

impl PassedSockets {
    /// Takes over the sockets passed to this process. Call this once and before a second thread exists, because it
    /// removes the variables, so that they cannot mislead a child process.
    pub fn take_over() -> Result<Self, PassedError> {
        let Some(count) = env::var_os("LISTEN_FDS") else { return Ok(Self::default()) };
        let count = count.to_str().and_then(|count| count.parse().ok()).filter(|count| *count <= MOST);
        let count: usize =
            count.ok_or_else(|| PassedError::Variables(format!("LISTEN_FDS: expected a number up to {MOST}")))?;
        let names = env::var_os("LISTEN_FDNAMES").unwrap_or_default().to_string_lossy().into_owned();
        let mut passed = ListenFd::from_env();
        if passed.len() == 0 {
            // The sockets were meant for another process, such as the parent.
            return Ok(Self::default());
        }
        let names: Vec<&str> = if names.is_empty() { vec!["unknown"; count] } else { names.split(':').collect() };
        if names.len() != count {
            let text = format!("LISTEN_FDNAMES has {} names for the {count} sockets of LISTEN_FDS", names.len());
            return Err(PassedError::Variables(text));
        }
        let sockets = names.into_iter().enumerate().map(|(index, name)| match PassedSocket::take(&mut passed, index) {
            Ok(socket) => Ok(Passed { name: name.to_owned(), socket }),
            Err(what) => Err(PassedError::NotAListener { name: name.to_owned(), what }),
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Checks that each socket fits an address of one of the `listeners`, which must be complete.
    pub fn check(&self, listeners: &[(&str, &[Address])]) -> Result<(), PassedError> {
        let mut seen = Vec::new();
        for Passed { name, socket } in &self.0 {
            let (name, address) = (name.clone(), socket.address());
            let Some((_, addresses)) = listeners.iter().find(|(listener, _)| *listener == name) else {
                let known = listeners.iter().map(|(listener, _)| *listener).collect::<Vec<_>>().join(", ");
                return Err(PassedError::UnknownName { name, address, known });
            };
            if !addresses.contains(&address) || seen.contains(&address) {
                return Err(PassedError::UnknownAddress { name, address });
            }
            seen.push(address);
        }
        Ok(())
    }

    /// Removes and returns the socket for an address of a listener.
    pub fn take(&mut self, listener: &str, address: &Address) -> Option<PassedSocket> {
        let fits = |passed: &Passed| passed.name == listener && passed.socket.address() == *address;
        let index = self.0.iter().position(fits)?;
        Some(self.0.swap_remove(index).socket)
    }
}

// More than anybody needs.
const MOST: usize = 64;

impl PassedSocket {
    /// The error names the kind of the descriptor.
    fn take(passed: &mut ListenFd, index: usize) -> Result<Self, &'static str> {
        // The call leaves a socket of another kind in place.
        if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
            check_listening(&socket)?;
            let address = socket.local_addr().map_err(|_| "a socket without an address")?;
            return Ok(Self::Tcp(socket, address));
        }
        let Ok(Some(socket)) = passed.take_unix_listener(index) else { return Err("a descriptor of another kind") };
        check_listening(&socket)?;
        let address = socket.local_addr().map_err(|_| "a socket without an address")?;
        let path = address.as_pathname().ok_or("a socket without a path")?.to_owned();
        Ok(Self::Unix(socket, path))
    }

    fn address(&self) -> Address {
        match self {
            Self::Tcp(_, address) => Address::Tcp(*address),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        }
    }
}

/// Rejects the socket of a connection, which `Accept=yes` passes to a new process for each caller.
fn check_listening(socket: &impl AsFd) -> Result<(), &'static str> {
    match SockRef::from(socket).is_listener() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err("a socket that does not listen"),
    }
}
