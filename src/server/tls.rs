//! TLS at a listener: the certificate that the listener shows, and the certificates that it accepts from callers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic_micros;

/// The offer of a listener to callers that speak TLS. The offer can change. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    offers: ArcSwap<Offers>,
    /// The time of the last log line about a failed handshake, in microseconds of the monotonic clock; 0 for none.
    logged: AtomicU64,
}

/// The offer in force, as new connections get it.
pub(super) struct Offers {
    pub serving: Arc<ServerConfig>,
    /// For connections over the limit: HTTP/1.1 alone, because the refusal is written in that protocol.
    pub refusing: Arc<ServerConfig>,
    /// Cancelled when the callers' authorities have changed, so that callers' certificates have to be verified again.
    pub outdated: CancellationToken,
}

/// A certificate with its key and, if callers are asked for certificates, the authorities of these.
pub struct Offer {
    config: ServerConfig,
    /// Whether callers may resume their TLS sessions.
    resumes: bool,
}

/// Prints nothing of the key.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offer(..)")
    }
}

impl Offer {
    /// `chain` begins with the listener's own certificate. Fails if the key belongs to another certificate, or if TLS
    /// does not use keys of its kind.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        callers: Option<RootCertStore>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let resumes = callers.is_none();
        let builder = match callers {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
                // A caller without a certificate may have another proof, which only the request shows.
                let verifier = verifier.allow_unauthenticated().build();
                builder.with_client_cert_verifier(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        // Data before the end of the handshake could be replayed, and a replayed capture moves money again.
        config.max_early_data_size = 0;
        // A resumed session keeps the caller's certificate from its beginning, which may have ended since, or have been
        // renewed. Only after the handshake is it known whose session a ticket has resumed, when the connection could
        // only be cut.
        if !resumes {
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Self { config, resumes })
    }
}

pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

impl Tls {
    pub fn new(offer: Offer) -> Result<Self, rustls::Error> {
        let offers = ArcSwap::from_pointee(offers(offer, None)?);
        Ok(Self(Arc::new(Shared { offers, logged: AtomicU64::new(0) })))
    }

    /// Makes new connections get another offer. Open connections go on. But if the callers' authorities have changed,
    /// a connection with a caller's certificate ends after its requests under way, because the new authorities may not
    /// vouch for that certificate.
    pub fn change(&self, offer: Offer, same_authorities: bool) -> Result<(), rustls::Error> {
        let before = self.0.offers.load_full();
        self.0.offers.store(Arc::new(offers(offer, same_authorities.then_some(&before))?));
        if !same_authorities {
            // After the store: a handshake that began before still has the token that is cancelled here.
            before.outdated.cancel();
        }
        Ok(())
    }

    /// The offer to a new connection.
    pub(super) fn offers(&self) -> Arc<Offers> {
        self.0.offers.load_full()
    }

    /// Decides whether to log a failed handshake, and notes the time if so: one line in [`LOG_INTERVAL`].
    pub(super) fn take_log_turn(&self) -> bool {
        let (now, last) = (monotonic_micros(), self.0.logged.load(Ordering::Relaxed));
        let may = last == 0 || Duration::from_micros(now.saturating_sub(last)) >= LOG_INTERVAL;
        if may {
            self.0.logged.store(now, Ordering::Relaxed);
        }
        may
    }
}

/// Makes both configurations of an offer. The TLS sessions and the connections of `before` go on.
fn offers(
    Offer { config: mut serving, resumes }: Offer,
    before: Option<&Arc<Offers>>,
) -> Result<Offers, rustls::Error> {
    if resumes {
        // The ticketer seals tickets with keys that it changes every six hours. No memory is needed for each caller.
        serving.ticketer = match before {
            Some(before) => Arc::clone(&before.serving.ticketer),
            None => Ticketer::new()?,
        };
    }
    let outdated = before.map(|before| before.outdated.clone()).unwrap_or_default();
    let mut refusing = serving.clone();
    refusing.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(Offers { serving: Arc::new(serving), refusing: Arc::new(refusing), outdated })
}

const LOG_INTERVAL: Duration = Duration::from_secs(10);
