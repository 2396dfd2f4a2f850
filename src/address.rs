//! Addresses of listeners and of servers.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address in `*.listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The path of a Unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A server's name or IP address, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// In lower case; an IPv6 address has no brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The address of the fleet's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    Tcp {
        at: HostPort,
        database: u16,
    },
    Unix(PathBuf),
    /// Sentinels, each of which can name the server's address. The list is never empty.
    Sentinels {
        sentinels: Vec<HostPort>,
        /// The name by which the Sentinels know the server.
        primary: String,
    },
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { at, .. } => at.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Sentinels { sentinels, primary } => {
                let sentinels: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
                write!(f, "{primary}, as the Sentinels say: {}", sentinels.join(", "))
            }
        }
    }
}
