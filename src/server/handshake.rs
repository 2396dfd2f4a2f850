//! The TLS handshake, which comes before a connection's first request.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::caller_certificate::{self, CallerCertificate, Validity};
use super::cut::Cut;
use super::listener::Listener;
use super::phase::DRAIN_TIMEOUT;
use super::refusal;
use super::socket::Connection;
use super::tls::{HTTP2, Tls};
use crate::clock::Clock;
use crate::telemetry::metrics::{Counted, TLS_KINDS, TLS_VERSIONS};

/// A connection after its handshake.
pub(super) struct Accepted {
    pub stream: Box<TlsStream<TcpStream>>,
    /// The DNS and URI names of the caller's certificate, which was verified; `None` without one.
    pub names: Option<Arc<[String]>>,
    /// How long the certificate counts; `None` without one.
    pub validity: Option<Validity>,
    /// Whether ALPN chose HTTP/2; `None` without ALPN.
    pub http2: Option<bool>,
}

/// Runs the handshake. `None` if the caller closes the connection before it sends a byte. The error says why the
/// connection is cut: the handshake took too long or failed.
pub(super) async fn accept(tls: &Tls, stream: TcpStream, listener: &Listener) -> Result<Option<Accepted>, Cut> {
    let offers = tls.offers();
    let (serving, outdated) = (Arc::clone(&offers.serving), offers.outdated.clone());
    drop(offers);
    let Some((stream, certificate)) = handshake(tls, stream, serving, listener).await? else { return Ok(None) };
    let http2 = stream.get_ref().1.alpn_protocol().map(|protocol| protocol == HTTP2);
    let (names, end) = certificate.map(|CallerCertificate { names, end }| (names, end)).unzip();
    Ok(Some(Accepted { stream, names, validity: end.map(|end| Validity { end, outdated }), http2 }))
}

/// A connection after its handshake, and the certificate of its caller, if there is one.
type Secured = (Box<TlsStream<TcpStream>>, Option<CallerCertificate>);

/// Runs the handshake of a connection over the limit, so that the refusal can be sent.
pub(super) async fn accept_to_refuse(
    tls: &Tls,
    stream: TcpStream,
    listener: &Listener,
) -> Result<Option<Connection>, Cut> {
    let accepted = handshake(tls, stream, Arc::clone(&tls.offers().refusing), listener).await?;
    Ok(accepted.map(|(stream, _)| Either::Right(stream)))
}

async fn handshake(
    tls: &Tls,
    stream: TcpStream,
    offer: Arc<ServerConfig>,
    listener: &Listener,
) -> Result<Option<Secured>, Cut> {
    let handshake = async {
        let mut first = [0];
        match (stream.peek(&mut first).await, first) {
            (Ok(0) | Err(_), _) => return Ok(None),
            // The first letter of an HTTP method. No handshake begins with a letter.
            (Ok(_), [b'A'..=b'Z']) => {
                let _ = timeout(PLAIN_TIMEOUT, refusal::turn_away_plain(stream)).await;
                return Err(Cut::PlainHttp);
            }
            (Ok(_), _) => {}
        }
        let under_way = listener.metrics.tls_handshakes_under_way.with_label_values(&[listener.name]);
        let _under_way = Counted::begin(under_way);
        let accepted = TlsAcceptor::from(offer).accept(stream).await;
        let accepted = accepted.map_err(|error| failed(&error, tls, listener))?;
        let (_, connection) = accepted.get_ref();
        let certificate =
            caller_certificate::of_connection(connection, Clock::system().now().wall).map_err(|malformed| {
                log(&malformed.to_string(), tls, listener);
                Cut::ClientCertificate
            })?;
        count(connection, listener);
        Ok(Some((Box::new(accepted), certificate)))
    };
    within_limits(handshake, listener).await
}

fn failed(error: &io::Error, tls: &Tls, listener: &Listener) -> Cut {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            log(&format!("the caller's certificate is not valid: {error}"), tls, listener);
            Cut::ClientCertificate
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            log(&format!("the caller ended the handshake with the alert {alert:?}"), tls, listener);
            Cut::Handshake
        }
        // A port scanner, or a caller that went away.
        Some(_) | None => Cut::Handshake,
    }
}

fn log(cause: &str, tls: &Tls, listener: &Listener) {
    if tls.take_log_turn() {
        tracing::warn!(listener = listener.name, cause, "a TLS handshake failed");
    }
}

fn count(connection: &ServerConnection, listener: &Listener) {
    let [old, new] = TLS_VERSIONS;
    let version = if connection.protocol_version() == Some(ProtocolVersion::TLSv1_2) { old } else { new };
    let [full, resumed] = TLS_KINDS;
    let kind = if connection.handshake_kind() == Some(HandshakeKind::Resumed) { resumed } else { full };
    listener.metrics.tls_handshakes.with_label_values(&[listener.name, version, kind]).inc();
}

/// Cuts a handshake at its deadline, and soon after the listener closes.
async fn within_limits<T>(work: impl Future<Output = Result<T, Cut>>, listener: &Listener) -> Result<T, Cut> {
    let mut work = pin!(work);
    let (mut until, mut cut) = (Instant::now() + HANDSHAKE_TIMEOUT, Cut::HandshakeTimeout);
    loop {
        tokio::select! {
            () = listener.stop.closing.cancelled(), if cut != Cut::Drain => {
                (until, cut) = (until.min(Instant::now() + DRAIN_TIMEOUT), Cut::Drain);
            }
            done = timeout_at(until, &mut work) => return done.unwrap_or(Err(cut)),
        }
    }
}

// As long as a head may take. A handshake takes two round trips and a millisecond of work. Only the limit of
// connections bounds the handshakes under way: with a lower bound, peers that begin handshakes and stop would keep
// others out.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
// The time for the answer to a caller that speaks plain HTTP.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(1);
