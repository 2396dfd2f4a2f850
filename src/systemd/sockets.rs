//! Sockets that were opened before the process was started, and are passed to it: the protocol of sd_listen_fds(3).
//!
//! A passed socket is used in place of opening one, where `<name>.listen` has its address and `<name>` is its name. So
//! what is listened on is always what the configuration says, and a socket that does not fit it is a mistake: it would
//! be one that callers wait on for ever.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::address::Address;

/// The sockets that were passed and are not in use yet.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    name: String,
    socket: PassedSocket,
}

/// A socket that listens already.
#[derive(Debug)]
pub enum PassedSocket {
    /// On an address and port.
    Tcp(TcpListener, SocketAddr),
    /// On a path.
    Unix(UnixListener, PathBuf),
}

/// What was passed cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassedError {
    /// The variables contradict each other, or themselves.
    #[error("{0}")]
    Variables(String),
    /// One of the descriptors is nothing to accept callers on.
    #[error(
        "the descriptor {name:?} that was passed is {what}, and not a stream socket that listens on an address or a path"
    )]
    NotAListener {
        /// Its name.
        name: String,
        /// What is known of it.
        what: &'static str,
    },
    /// The name is that of no listener.
    #[error("a socket named {name:?} was passed for {address}; FileDescriptorName= has to be one of {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// Where it listens.
        address: Address,
        /// The names there are.
        known: String,
    },
    /// The listener does not listen there.
    #[error("{name}.listen: a socket was passed for {address}, which is not in it, or was passed twice")]
    UnknownAddress {
        /// The listener.
        name: String,
        /// Where the socket listens.
        address: Address,
    },
}

impl PassedSockets {
    /// Takes over what was passed to this process. To be called once, before there is a second thread, since the variables
    /// are removed lest they mislead another process.
    ///
    /// # Errors
    /// When anything of it is not to be used.
    pub fn take_over() -> Result<Self, PassedError> {
        let Some(count) = env::var_os("LISTEN_FDS") else { return Ok(Self::default()) };
        let count = count.to_str().and_then(|count| count.parse().ok()).filter(|count| *count <= MOST);
        let count: usize =
            count.ok_or_else(|| PassedError::Variables(format!("LISTEN_FDS: expected a number up to {MOST}")))?;
        let names = env::var_os("LISTEN_FDNAMES").unwrap_or_default().to_string_lossy().into_owned();
        let mut passed = ListenFd::from_env();
        if passed.len() == 0 {
            // They were meant for another process, such as the one that started this.
            return Ok(Self::default());
        }
        let names: Vec<&str> = if names.is_empty() { vec!["unknown"; count] } else { names.split(':').collect() };
        if names.len() != count {
            let text = format!("LISTEN_FDNAMES has {} names for the {count} sockets of LISTEN_FDS", names.len());
            return Err(PassedError::Variables(text));
        }
        let sockets = names.into_iter().enumerate().map(|(index, name)| Passed::take(&mut passed, index, name));
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Whether each of them is for an address of one of these listeners, which are all there are.
    ///
    /// # Errors
    /// When one is not.
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

    /// The socket that was passed for an address of a listener.
    pub fn take(&mut self, listener: &str, address: &Address) -> Option<PassedSocket> {
        let fits = |passed: &Passed| passed.name == listener && passed.socket.address() == *address;
        let index = self.0.iter().position(fits)?;
        Some(self.0.swap_remove(index).socket)
    }
}

// More than anybody has addresses to listen on.
const MOST: usize = 64;

impl Passed {
    fn take(passed: &mut ListenFd, index: usize, name: &str) -> Result<Self, PassedError> {
        let found = PassedSocket::take(passed, index);
        let refused = |what| PassedError::NotAListener { name: name.to_owned(), what };
        found.map(|socket| Self { name: name.to_owned(), socket }).map_err(refused)
    }
}

impl PassedSocket {
    /// # Errors
    /// What it is instead.
    fn take(passed: &mut ListenFd, index: usize) -> Result<Self, &'static str> {
        // Asked for as the wrong kind, a socket is left where it is.
        if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
            check_listening(&socket)?;
            let address = socket.local_addr().map_err(|_| "without an address")?;
            return Ok(Self::Tcp(socket, address));
        }
        let Ok(Some(socket)) = passed.take_unix_listener(index) else { return Err("of another kind") };
        check_listening(&socket)?;
        let address = socket.local_addr().map_err(|_| "without an address")?;
        let path = address.as_pathname().ok_or("without a path")?.to_owned();
        Ok(Self::Unix(socket, path))
    }

    fn address(&self) -> Address {
        match self {
            Self::Tcp(_, address) => Address::Tcp(*address),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        }
    }
}

/// A socket of a connection is passed with `Accept=yes`, which starts a process for each caller.
fn check_listening(socket: &impl AsFd) -> Result<(), &'static str> {
    match SockRef::from(socket).is_listener() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err("not listening"),
    }
}
