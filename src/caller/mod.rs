//! The caller of a request: what its connection tells, and whether the request may come from it at all.
//!
//! Without `[[callers]]`, every program that reaches the proxy listener can move money, and every program that reaches
//! the control listener can control the process. A web page must not be able to use a visitor's browser for that.

mod browser;
mod hosts;
mod overflow_uid;

use std::net::SocketAddr;
use std::sync::Arc;

pub use self::browser::{FROM_BROWSER, SEC_FETCH_MODE, check_navigation, is_browser_header};
pub use self::hosts::Hosts;
pub use self::overflow_uid::overflow_uid;

/// The facts that a connection reveals about its caller.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The address the caller connected to; none on a Unix socket.
    pub local: Option<SocketAddr>,
    /// The address the caller connected from, for the log; none on a Unix socket.
    pub remote: Option<SocketAddr>,
    /// Whether the caller connected to a Unix socket, which no browser can do.
    pub unix: bool,
    /// The process at the other end of a Unix socket, as the kernel knows it.
    pub peer: Option<Peer>,
    /// Whether the connection speaks TLS.
    pub tls: bool,
    /// The DNS names, in lower case, and the URIs of the caller's certificate, which has been verified; `None` without
    /// one.
    pub certificate: Option<Arc<[String]>>,
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user id at the time of the connection.
    pub uid: u32,
    /// The process id at that time, if the kernel tells.
    pub pid: Option<i32>,
}

impl Peer {
    /// The user id, if one user alone has it. `overflow` is [`overflow_uid`], which stands for many users.
    pub fn own_uid(&self, overflow: u32) -> Option<u32> {
        Some(self.uid).filter(|uid| *uid != overflow)
    }
}

/// Why a request is refused before anything in it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The authority is missing, repeated, contradictory or malformed; the text says which.
    Malformed(&'static str),
    /// The authority names another host.
    Misdirected,
    /// The scheme is not served here; the text names the schemes that are.
    Scheme(&'static str),
    Browser,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_many_users_is_that_of_nobody() {
        let peer = |uid| Peer { uid, pid: None };
        assert_eq!([0, 1000, 65534].map(|uid| peer(uid).own_uid(65534)), [Some(0), Some(1000), None]);
        assert_eq!(peer(65534).own_uid(7), Some(65534));
    }
}
