//! Why an exchange with the gateway failed, and whether any part of the request was sent.

use std::error::Error;
use std::io;

use http::StatusCode;

use super::egress::EgressError;
use crate::http_client::MAX_HEAD;
use crate::names::DnsError;
use crate::telemetry::metrics::words;
use crate::text::with_causes;

/// A failed exchange. The text is for logs; the error that a caller sees is chosen elsewhere.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub struct UpstreamError {
    pub kind: ErrorKind,
    pub sent: Sent,
    /// The status of the response, if nothing more of it could be read.
    pub received: Option<StatusCode>,
    /// The library's message, with its causes.
    pub detail: String,
}

#[derive(Debug)]
pub struct Unanswered {
    pub error: UpstreamError,
    /// Whether the connection accepted nothing of the request, as when it was closed while idle.
    pub untouched: bool,
}

/// Whether Sezzle may have seen a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Provably no part of it was sent, or the gateway stated over HTTP/2 that it did not process it.
    No,
    /// The request or a part of it may have arrived.
    Maybe,
}

words! {
    /// The kind of a failure, for metrics.
    pub enum ErrorKind {
        Dns = "dns",
        /// The gateway's port is closed.
        ConnectionRefused = "connection_refused",
        /// The connection could not be made for another reason.
        ConnectionFailed = "connection_failed",
        /// The connection, TLS included, was not made in time.
        ConnectTimeout = "connect_timeout",
        /// The egress proxy could not be reached, or made no tunnel to the gateway.
        EgressProxy = "egress_proxy",
        TlsCertificate = "tls_certificate",
        /// TLS failed for another reason.
        Tls = "tls",
        /// Every stream that the gateway allows over HTTP/2 was in use until the deadline.
        StreamLimit = "stream_limit",
        /// The head of the response did not arrive in time.
        Timeout = "timeout",
        /// The connection ended before the head of the response was complete.
        Reset = "reset",
        HeadTooLarge = "head_too_large",
        /// The response is not HTTP.
        Protocol = "protocol",
        /// The response's body is incomplete.
        Body = "body",
    }
}

/// Why a body is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed, or the body violated its own framing.
    #[error("the gateway's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The HTTP/2 stream or connection failed.
    #[error("the gateway's answer broke off: {0}")]
    Reset(#[from] h2::Error),
    /// The gateway sent nothing for too long, or the waits together took too long.
    #[error("the gateway did not send all of its answer in time")]
    Silent,
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub struct ConnectTimeout(pub std::time::Duration);

impl UpstreamError {
    pub fn new(kind: ErrorKind, sent: Sent, detail: impl Into<String>) -> Self {
        Self { kind, sent, received: None, detail: detail.into() }
    }

    pub fn unsent(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self::new(kind, Sent::No, detail)
    }

    /// The head of the response is larger than [`MAX_HEAD`].
    pub fn head_too_large(received: Option<StatusCode>) -> Self {
        let status = received.map_or(String::new(), |status| format!(" with status {}", status.as_u16()));
        let detail = format!("the head of the answer{status} is larger than {MAX_HEAD} bytes");
        Self { received, ..Self::new(ErrorKind::HeadTooLarge, Sent::Maybe, detail) }
    }

    /// The head of the response cannot be read beyond its status.
    pub fn unreadable(received: Option<StatusCode>, cause: &hyper::Error) -> Self {
        if cause.is_parse_too_large() {
            return Self::head_too_large(received);
        }
        let error = Self::from_exchange(cause);
        let status = received.map_or(String::new(), |status| format!(", in an answer with status {}", status.as_u16()));
        Self { received, detail: format!("{}{status}", error.detail), ..error }
    }

    pub fn timeout(detail: String) -> Self {
        Self::new(ErrorKind::Timeout, Sent::Maybe, detail)
    }

    pub fn from_connecting(error: &(dyn Error + 'static)) -> Self {
        let kind = connect_kind(error);
        // The errors around the resolver's add only that DNS failed.
        let dns = find::<DnsError>(error).filter(|_| kind == ErrorKind::Dns);
        Self::unsent(kind, dns.map_or_else(|| with_causes(error), |dns| with_causes(dns)))
    }

    pub fn from_body(error: &BodyError) -> Self {
        let detail = with_causes(error);
        let kind = match error {
            BodyError::Silent => ErrorKind::Timeout,
            // An error of h2's own ends the connection or only the stream. A stream that violates its own rules, such
            // as by a body shorter than its stated length, counts as a body that broke off.
            BodyError::Reset(cause) if cause.is_library() && !cause.is_reset() => ErrorKind::Protocol,
            BodyError::Reset(_) => ErrorKind::Body,
            BodyError::Broken(cause) => match find::<io::Error>(cause).map(io::Error::kind) {
                Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => ErrorKind::Protocol,
                Some(_) | None => ErrorKind::Body,
            },
        };
        Self::new(kind, Sent::Maybe, detail)
    }

    pub fn from_client(error: &hyper_util::client::legacy::Error) -> Self {
        if error.is_connect() { Self::from_connecting(error) } else { Self::from_exchange(error) }
    }

    /// There was a connection, but no response came over it.
    pub fn from_exchange(error: &(dyn Error + 'static)) -> Self {
        let detail = with_causes(error);
        if let Some(cause) = find::<h2::Error>(error) {
            let kind = if cause.is_library() { ErrorKind::Protocol } else { ErrorKind::Reset };
            let sent = if is_unprocessed(cause) { Sent::No } else { Sent::Maybe };
            return Self::new(kind, sent, detail);
        }
        let kind = match find::<hyper::Error>(error) {
            Some(cause) if cause.is_parse() => ErrorKind::Protocol,
            Some(_) | None => ErrorKind::Reset,
        };
        Self::new(kind, Sent::Maybe, detail)
    }
}

/// Whether HTTP/2 guarantees that the gateway did not process a request (RFC 9113, 8.7). After a GOAWAY from the
/// gateway, h2 gives this error only to streams above the last one that the gateway processed.
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

fn connect_kind(error: &(dyn Error + 'static)) -> ErrorKind {
    // Comes first, because it has causes of the other kinds.
    if find::<EgressError>(error).is_some() {
        return ErrorKind::EgressProxy;
    }
    if find::<DnsError>(error).is_some() {
        return ErrorKind::Dns;
    }
    if find::<ConnectTimeout>(error).is_some() {
        return ErrorKind::ConnectTimeout;
    }
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => return ErrorKind::TlsCertificate,
        Some(_) => return ErrorKind::Tls,
        None => {}
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => ErrorKind::ConnectionRefused,
        Some(io::ErrorKind::TimedOut) => ErrorKind::ConnectTimeout,
        Some(_) | None => ErrorKind::ConnectionFailed,
    }
}

/// Finds the first cause of a type. `io::Error::source` does not return the wrapped error, which is read separately.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
