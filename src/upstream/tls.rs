//! Trust: the bundled web roots, plus one extra CA file. No setting turns the check of certificates and names off.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::ca_file::{self, PemCertificate, PemError};
use super::certificate::Certificate;
use crate::file::{self, Pipes, ReadError};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: {cause}")]
    Unreadable { file: String, cause: ReadError },
    /// The CA file has a block that is not a certificate, or no certificate at all.
    #[error("{file}: {cause}")]
    Malformed { file: String, cause: PemError },
    #[error("{file}: holds no private key in PEM that is not encrypted")]
    NoKey { file: String },
    /// rustls refused the settings: the provider lacks a protocol version, or no verifier can be made.
    #[error("TLS: {0}")]
    Refused(rustls::Error),
}

/// The trust anchors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(super) roots: Arc<RootCertStore>,
    /// The subjects of the certificates in the CA file, in its order.
    pub issuers: Arc<[String]>,
    /// The certificates in the CA file that could be read.
    pub authorities: Arc<[Certificate]>,
}

impl Trust {
    /// Reads the trust anchors: the bundled web roots, and the certificates of `ca_file`.
    pub fn read(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let (issuers, authorities) = match ca_file {
            Some(path) => add_file(&mut roots, path)?,
            None => (Vec::new(), Vec::new()),
        };
        Ok(Self { roots: Arc::new(roots), issuers: issuers.into(), authorities: authorities.into() })
    }
}

/// A client certificate for the sidecar, with its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a certificate with its chain, and its key, from files in PEM.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?.into_iter().map(|found| CertificateDer::from(found.der)).collect();
        let content = file::read(key, LARGEST, Pipes::Wait);
        let content = content.map_err(|cause| TlsError::Unreadable { file: key.display().to_string(), cause })?;
        let no_key = |_| TlsError::NoKey { file: key.display().to_string() };
        Ok(Self { chain, key: PrivateKeyDer::from_pem_slice(&content.bytes).map_err(no_key)? })
    }
}

/// The client settings for TLS 1.2 and 1.3, on aws-lc.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, TlsError> {
    client_config_as(trust, None)
}

/// As [`client_config`], with an identity for a server that asks for a client certificate.
pub fn client_config_as(trust: &Trust, identity: Option<Identity>) -> Result<ClientConfig, TlsError> {
    let provider = CryptoProvider { kx_groups: GROUPS.to_vec(), ..aws_lc_rs::default_provider() };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Refused)?;
    let builder = builder.with_root_certificates(Arc::clone(&trust.roots));
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Refused),
    }
}

// rustls sends a key share for the first group; for a hybrid group it also sends one for the classical half. A server
// that prefers either group is answered in one round trip. Without rustls's default features the hybrid group would
// come last and without a share, which costs a server that prefers it another round trip.
const GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

fn certificates(path: &Path) -> Result<Vec<PemCertificate>, TlsError> {
    let file = || path.display().to_string();
    let content = file::read(path, LARGEST, Pipes::Wait);
    let content = content.map_err(|cause| TlsError::Unreadable { file: file(), cause })?;
    ca_file::certificates(&content.bytes).map_err(|cause| TlsError::Malformed { file: file(), cause })
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(Vec<String>, Vec<Certificate>), TlsError> {
    let malformed = |cause| TlsError::Malformed { file: path.display().to_string(), cause };
    let certificates = certificates(path)?;
    let count = certificates.len();
    let (mut issuers, mut authorities) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (index, PemCertificate { line, der }) in certificates.into_iter().enumerate() {
        let certificate = Certificate::read(&der);
        let name = certificate.as_ref().map(|certificate| certificate.subject.clone()).unwrap_or_default();
        authorities.extend(certificate);
        roots.add(CertificateDer::from(der)).map_err(|cause| {
            let reason = format!("certificate {} of {count} cannot be used: {}", index + 1, words(&cause));
            malformed(PemError::Block { line, reason })
        })?;
        issuers.push(if name.is_empty() { format!("certificate {}", index + 1) } else { name });
    }
    Ok((issuers, authorities))
}

/// The message without its prefix "invalid peer certificate": this certificate is not a peer's.
fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            "this is not an X.509 certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(reason) => format!("{reason:?}"),
        other => other.to_string(),
    }
}

// Largest CA file in bytes: four times the size of the operating systems' bundles.
const LARGEST: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

    use super::*;

    /// The result of a handshake with a server that takes this group alone, and the size of the first flight in bytes.
    fn handshake(group: &'static dyn SupportedKxGroup) -> (HandshakeKind, usize) {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["localhost".to_owned()]).expect("a name").self_signed(&key);
        let certificate = certificate.expect("signs").der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let trust = Trust { roots: Arc::new(roots), issuers: Vec::new().into(), authorities: Vec::new().into() };
        let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
        let server = ServerConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = server.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
        let mut server = ServerConnection::new(Arc::new(server.expect("a pair"))).expect("a server");
        let config = Arc::new(client_config(&trust).expect("a configuration"));
        let mut client = ClientConnection::new(config, "localhost".try_into().expect("a name")).expect("a client");
        let mut first = 0;
        while client.is_handshaking() || server.is_handshaking() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).expect("writes");
            }
            first = if first == 0 { flight.len() } else { first };
            server.read_tls(&mut flight.as_slice()).expect("reads");
            server.process_new_packets().expect("TLS");
            let mut flight = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut flight).expect("writes");
            }
            client.read_tls(&mut flight.as_slice()).expect("reads");
            client.process_new_packets().expect("TLS");
        }
        (client.handshake_kind().expect("done"), first)
    }

    #[test]
    fn servers_that_prefer_the_hybrid_group_or_its_half_need_one_round_trip() {
        for group in [kx_group::X25519MLKEM768, kx_group::X25519] {
            let (kind, first) = handshake(group);
            assert_eq!(kind, HandshakeKind::Full, "{group:?}");
            assert!((1200..1600).contains(&first), "{first} bytes");
        }
        assert_eq!(handshake(kx_group::SECP384R1).0, HandshakeKind::FullWithHelloRetryRequest);
    }
}
