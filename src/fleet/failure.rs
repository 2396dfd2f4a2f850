//! The failures of connections to the fleet's server, in words for an operator. Pure.

use std::time::Duration;

use super::refusal::Refusal;
use crate::address::HostPort;
use crate::text::printable;

/// Why the link has no connection, or gives one up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A file that a connection needs cannot be used.
    #[error("{0}")]
    Files(String),
    #[error("{at} cannot be reached: {cause}")]
    Unreachable { at: String, cause: String },
    #[error("{at} is not trusted, or refuses this sidecar: {cause}")]
    Tls { at: String, cause: String },
    /// A step has taken longer than this limit.
    #[error("the server did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The server or a proxy closed the connection, or sent something that is no reply.
    #[error("the connection is lost: {0}")]
    Lost(String),
    #[error("the server answered {0}")]
    Refused(ErrorReply),
    /// The server sent a reply of a form that the reply to this command does not have.
    #[error("the server's reply to {0} has an unknown form")]
    Malformed(&'static str),
    /// The server is a replica of another.
    #[error("the server is a replica")]
    Replica,
    #[error("no Sentinel names the server {primary}: {cause}")]
    NoPrimary { primary: String, cause: String },
    /// The Sentinels name another server now.
    #[error("the Sentinels name another server")]
    Replaced,
}

/// An error that the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The first word.
    code: String,
    rest: String,
}

impl ErrorReply {
    pub fn new(code: &str, rest: Option<&str>) -> Self {
        Self { code: printable(code, LONGEST_CODE), rest: printable(rest.unwrap_or_default(), LONGEST_TEXT) }
    }

    /// The error without its text, which may repeat the command.
    pub fn code_alone(self) -> Self {
        Self { rest: String::new(), ..self }
    }

    pub fn refusal(&self) -> Refusal {
        Refusal::of(&self.code)
    }

    /// The node that has the keys.
    pub fn moved_to(&self) -> Option<HostPort> {
        let text = self.to_string();
        Refusal::moved_to(&text).map(|(host, port)| HostPort { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, rest } = self;
        if rest.is_empty() { f.write_str(code) } else { write!(f, "{code} {rest}") }
    }
}

impl Failure {
    pub fn lost(why: &str) -> Self {
        Self::Lost(printable(why, LONGEST_TEXT))
    }

    /// The operator's next step, if the failure tells it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Refused(error) => match error.refusal() {
                Refusal::Denied => Some(
                    "check fleet.username and fleet.password_file, and that the server's ACL allows the commands and \
                     keys of docs/fleet.md",
                ),
                Refusal::Full => {
                    Some("the server has no memory left: raise maxmemory, or give the fleet a server of its own")
                }
                Refusal::Unfit | Refusal::Moved | Refusal::Other => None,
            },
            Self::Tls { .. } => Some("check fleet.ca_file, the name in fleet.url, and fleet.client_certificate_file"),
            Self::Replica => Some("name the primary in fleet.url, or let fleet.sentinels find it"),
            Self::NoPrimary { .. } => Some("check fleet.sentinels and fleet.primary"),
            Self::Files(_)
            | Self::Unreachable { .. }
            | Self::Late(_)
            | Self::Lost(_)
            | Self::Malformed(_)
            | Self::Replaced => None,
        }
    }

    /// Whether two failures are the same news for an operator.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused(one), Self::Refused(another)) => one.code == another.code,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

const LONGEST_CODE: usize = 32;
const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_server_is_shown_without_what_could_harm_a_log() {
        let error = ErrorReply::new("NOPERM", Some("User a\nhas\u{1b} no permissions"));
        assert_eq!(
            Failure::Refused(error.clone()).to_string(),
            "the server answered NOPERM User a?has? no permissions"
        );
        assert_eq!(error.clone().code_alone().to_string(), "NOPERM");
        assert_eq!((error.refusal(), error.moved_to()), (Refusal::Denied, None));
        assert_eq!(ErrorReply::new(&"x".repeat(100), Some(&"y".repeat(1000))).to_string().len(), 32 + 1 + 200);
        let moved = ErrorReply::new("MOVED", Some("3999 127.0.0.1:6381"));
        assert_eq!(
            (moved.refusal(), moved.moved_to()),
            (Refusal::Moved, Some(HostPort { host: "127.0.0.1".to_owned(), port: 6381 }))
        );
    }

    #[test]
    fn a_failure_that_an_operator_can_end_says_how() {
        let refused = |code| Failure::Refused(ErrorReply::new(code, None));
        for failure in [refused("NOAUTH"), refused("OOM"), Failure::Replica] {
            assert!(failure.advice().is_some(), "{failure}");
        }
        for failure in [refused("LOADING"), Failure::Late(Duration::from_secs(1)), Failure::Replaced] {
            assert_eq!(failure.advice(), None, "{failure}");
        }
    }

    #[test]
    fn failures_of_one_kind_are_said_once() {
        let refused = |code, rest| Failure::Refused(ErrorReply::new(code, Some(rest)));
        assert!(refused("LOADING", "1 s left").is_like(&refused("LOADING", "2 s left")));
        assert!(!refused("LOADING", "").is_like(&refused("READONLY", "")));
        assert!(!refused("LOADING", "").is_like(&Failure::Replica));
        assert!(Failure::Lost("a".to_owned()).is_like(&Failure::Lost("b".to_owned())));
    }
}
