//! A caller of the configuration.

use std::sync::Arc;

use super::amount::Bounds;
use super::permission::Permissions;

/// A caller, with its permissions and bounds.
#[derive(Debug)]
pub struct NamedCaller {
    /// A word of letters, digits, hyphens, underscores and dots, bounded in length by the configuration.
    pub name: String,
    pub allow: Permissions,
    /// `None` for a caller that may move any amount.
    pub bounds: Option<Bounds>,
    /// The caller's own public key, if it has a key pair.
    pub public_key: Option<String>,
    /// The marks of the caller, in words for operators.
    pub told_by: String,
}

/// The kind of mark by which a caller was told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The user id of the process at the other end of a Unix socket.
    Uid,
    /// A name of the verified client certificate.
    Certificate,
    /// A bearer token.
    Token,
    /// The caller's own keys, in the body of an exchange.
    Keys,
}

impl Mark {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uid => "its uid",
            Self::Certificate => "its certificate",
            Self::Token => "its token",
            Self::Keys => "its keys",
        }
    }
}

/// The caller of one request, and the mark that told it.
#[derive(Clone, Debug)]
pub struct KnownCaller {
    pub caller: Arc<NamedCaller>,
    pub mark: Mark,
}

/// Why the caller of a request is not known.
#[derive(Clone, Debug)]
pub enum Stranger {
    /// The request has no mark of any caller.
    Unmarked,
    /// The certificate has names of two callers, so it is the mark of neither.
    OfTwo(Arc<NamedCaller>, Arc<NamedCaller>),
}

impl KnownCaller {
    pub fn is_by_token(&self) -> bool {
        self.mark == Mark::Token
    }
}
