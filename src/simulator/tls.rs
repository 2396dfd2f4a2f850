//! A certificate and its key out of files, for a simulated gateway that speaks TLS.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or is no PEM, or has nothing of the kind in it.
    #[error("{file}: {cause}")]
    Unreadable {
        /// Which one.
        file: String,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// They are no pair, or not of a kind that TLS uses.
    #[error("{certificate} with {key}: {cause}")]
    Refused {
        /// The file with the certificate.
        certificate: String,
        /// The file with the key.
        key: String,
        /// What is wrong with them.
        cause: rustls::Error,
    },
}

/// Reads a chain of certificates, the server's own first, and the key to that one. Both files are PEM.
///
/// # Errors
/// When a file cannot be read, or they do not belong together.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unreadable = |path: &Path, cause| TlsError::Unreadable { file: path.display().to_string(), cause };
    let refused = |cause| {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        TlsError::Refused { certificate, key, cause }
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|cause| unreadable(certificate, cause))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| unreadable(key, cause))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(refused)?.with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(chain, private).map_err(refused)?))
}
