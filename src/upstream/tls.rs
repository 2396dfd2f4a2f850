//! Trust: the bundled web roots, plus one extra CA file. Certificates and host names are always verified; there is no
//! switch that turns it off.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// Why the trust anchors could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read as PEM.
    #[error("{file}: cannot be read as PEM certificates: {cause}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        cause: pem::Error,
    },
    /// The file holds nothing to trust.
    #[error("{file}: no certificate in it")]
    Empty {
        /// The file.
        file: String,
    },
    /// A certificate cannot be a trust anchor, or the provider lacks a protocol version.
    #[error("{subject}: {cause}")]
    Refused {
        /// The file, or what was being set up.
        subject: String,
        /// Why.
        cause: rustls::Error,
    },
}

/// The client's side of TLS 1.2 and 1.3, on aws-lc.
///
/// # Errors
/// When the CA file cannot be used.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = roots(ca_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| TlsError::Refused { subject: "TLS".to_owned(), cause })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Whom to trust.
///
/// # Errors
/// When the CA file cannot be used.
pub(super) fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    Ok(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let file = || path.display().to_string();
    let unreadable = |cause| TlsError::Unreadable { file: file(), cause };
    let mut any = false;
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|cause| TlsError::Refused { subject: file(), cause })?;
        any = true;
    }
    if any { Ok(()) } else { Err(TlsError::Empty { file: file() }) }
}
