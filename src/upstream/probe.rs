//! Makes one connection to the gateway to learn how it is secured and which certificate is presented.
//!
//! The connection is made like every other one. The certificate is recorded before it is verified, so that a refused
//! certificate can be described; recording changes nothing about trust.

use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme};

use super::certificate::Certificate;
use super::connector::Connector;
use super::error::UpstreamError;
use super::tls::{self, TlsError, Trust};

/// The certificate that was presented last, trusted or not.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificate(Arc<Mutex<Option<Certificate>>>);

impl PeerCertificate {
    /// The recorded certificate, if one was presented and can be read.
    pub fn certificate(&self) -> Option<Certificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secured {
    /// The version of TLS: `1.2` or `1.3`.
    pub version: &'static str,
    pub http2: bool,
}

/// Connects, and closes the connection again. `None` for a gateway without TLS.
pub async fn connect(connector: &Connector, gateway: Uri) -> Result<Option<Secured>, UpstreamError> {
    let connected = connector.connect(gateway).await;
    let connection = connected.map_err(|error| UpstreamError::from_connecting(error.as_ref()))?;
    Ok(connection.tls().map(|tls| Secured {
        version: match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        },
        http2: connection.is_http2(),
    }))
}

/// The TLS settings of [`tls::client_config`], and where the presented certificate will be recorded.
pub fn client_config(trust: &Trust) -> Result<(ClientConfig, PeerCertificate), TlsError> {
    let recorded = PeerCertificate::default();
    let mut config = tls::client_config(trust)?;
    let provider = Arc::clone(config.crypto_provider());
    let refused = |cause: String| TlsError::Refused(rustls::Error::General(cause));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&trust.roots), provider).build();
    let verifier = verifier.map_err(|error| refused(error.to_string()))?;
    config.dangerous().set_certificate_verifier(Arc::new(RecordingVerifier { verifier, recorded: recorded.clone() }));
    Ok((config, recorded))
}

/// Records the certificate that a verifier is given, and leaves every decision to the verifier.
#[derive(Debug)]
struct RecordingVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    recorded: PeerCertificate,
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.recorded.0.lock().unwrap_or_else(PoisonError::into_inner) = Certificate::read(end_entity);
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
