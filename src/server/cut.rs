//! Time limits of a connection, and the reasons for refusing or cutting it.

use std::time::Duration;

use crate::telemetry::metrics::words;

/// Time limits of a connection's phases.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Between two requests, and before the first one.
    pub idle: Duration,
    /// For the caller to accept the next bytes of a response.
    pub write: Duration,
}

words! {
    /// Why a connection was refused or cut.
    pub enum Cut {
        /// The listener has as many connections as its limit allows.
        Limit = "limit",
        Head = "head_timeout",
        Idle = "idle_timeout",
        Write = "write_timeout",
        /// The listener closed while the head of a request was incomplete.
        Drain = "drain",
        /// The bytes are not the head of a request, or the head is too large.
        Malformed = "malformed",
        /// The TLS handshake took too long.
        HandshakeTimeout = "handshake_timeout",
        /// The TLS handshake failed, or the caller broke it off.
        Handshake = "handshake_failed",
        /// The caller's certificate is not valid.
        ClientCertificate = "client_certificate",
        /// The caller spoke plain HTTP where TLS is expected.
        PlainHttp = "plain_http",
    }
}
