//! Certificates of gateways, sidecars and callers, from authorities of the test's own.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;

/// Signs certificates. The file of [`Self::file`] holds the authority's own certificate.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let issuer = CertifiedIssuer::self_signed(authority_params("root"), a_key()).expect("signs");
        let authority = Self { issuer, directory: tempfile::tempdir().expect("a directory") };
        authority.write("ca.pem", &authority.pem());
        authority
    }

    /// As [`Self::new`], with an authority that has ended.
    pub fn ended() -> Self {
        let mut params = authority_params("old root");
        params.not_after = date_time_ymd(2020, 1, 1);
        let issuer = CertifiedIssuer::self_signed(params, a_key()).expect("signs");
        Self { issuer, directory: tempfile::tempdir().expect("a directory") }
    }

    /// The authority's certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The path of the authority's certificate.
    pub fn file(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    /// Writes another file in the authority's folder, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("writes");
        self.path(name).display().to_string()
    }

    /// The configuration of a server with a certificate for `names` (hosts or addresses).
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.serve(params(names), rustls::ALL_VERSIONS)
    }

    /// As [`Self::server`], with a certificate that has expired.
    pub fn expired(&self, names: &[&str]) -> Arc<ServerConfig> {
        let mut params = params(names);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.serve(params, rustls::ALL_VERSIONS)
    }

    /// As [`Self::server`], with a certificate that is not valid yet.
    pub fn early(&self, names: &[&str]) -> Arc<ServerConfig> {
        let mut params = params(names);
        params.not_before = date_time_ymd(2200, 1, 1);
        params.not_after = date_time_ymd(2201, 1, 1);
        self.serve(params, rustls::ALL_VERSIONS)
    }

    /// As [`Self::server`], with a certificate by an intermediate authority, whose own is sent along only if `shown`.
    pub fn intermediate(&self, shown: bool, names: &[&str]) -> Arc<ServerConfig> {
        let intermediate =
            CertifiedIssuer::signed_by(authority_params("intermediate"), a_key(), &self.issuer).expect("signs");
        let key = a_key();
        let leaf = params(names).signed_by(&key, &intermediate).expect("signs");
        let mut chain = vec![leaf.der().clone()];
        chain.extend(shown.then(|| intermediate.der().clone()));
        server(chain, &key, rustls::ALL_VERSIONS)
    }

    /// As [`Self::server`], with a certificate that another server's certificate signed, which is no authority.
    pub fn by_a_leaf(&self, names: &[&str]) -> Arc<ServerConfig> {
        let issuer = CertifiedIssuer::signed_by(params(names), a_key(), &self.issuer).expect("signs");
        let key = a_key();
        let leaf = params(names).signed_by(&key, &issuer).expect("signs");
        server(vec![leaf.der().clone(), issuer.der().clone()], &key, rustls::ALL_VERSIONS)
    }

    /// As [`Self::server`], with one version of TLS only.
    pub fn only(&self, version: &'static SupportedProtocolVersion, names: &[&str]) -> Arc<ServerConfig> {
        self.serve(params(names), &[version])
    }

    /// Writes a certificate for `names` and its key as PEM, and returns the paths of both files.
    pub fn files(&self, name: &str, names: &[&str]) -> (String, String) {
        self.signed(name, names, |_| ())
    }

    /// As [`Self::files`], with a certificate that `change` has changed.
    pub fn signed(&self, name: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let (mut params, key) = (params(names), a_key());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let certificate = self.write(&format!("{name}.pem"), &certificate.pem());
        (certificate, self.write(&format!("{name}.key"), &key.serialize_pem()))
    }

    /// As [`Self::files`], by an intermediate authority that `change` has changed. The chain has its certificate too.
    pub fn chained(&self, name: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut between = authority_params("intermediate");
        change(&mut between);
        let between = CertifiedIssuer::signed_by(between, a_key(), &self.issuer).expect("signs");
        let key = a_key();
        let certificate = params(names).signed_by(&key, &between).expect("signs");
        let chain = self.write(&format!("{name}.pem"), &(certificate.pem() + &between.pem()));
        (chain, self.write(&format!("{name}.key"), &key.serialize_pem()))
    }

    fn serve(&self, params: CertificateParams, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let key = a_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        server(vec![certificate.der().clone()], &key, versions)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The settings by which callers speak TLS, with these files. An empty name unsets one.
pub fn tls_files<'f>(certificate: &'f str, key: &'f str, callers: &'f str) -> [(&'static str, &'f str); 3] {
    [
        ("PROXY__TLS__CERTIFICATE_FILE", certificate),
        ("PROXY__TLS__KEY_FILE", key),
        ("PROXY__TLS__CLIENT_CA_FILE", callers),
    ]
}

/// The configuration of a server with a certificate that it signed itself.
pub fn self_signed(names: &[&str]) -> Arc<ServerConfig> {
    let key = a_key();
    let certificate = params(names).self_signed(&key).expect("signs");
    server(vec![certificate.der().clone()], &key, rustls::ALL_VERSIONS)
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair"))
}

fn a_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A certificate for `names`, signed with its own key, and that key, as PEM.
pub fn self_signed_pem(names: &[&str]) -> (String, String) {
    let key = a_key();
    let certificate = params(names).self_signed(&key).expect("signs");
    (certificate.pem(), key.serialize_pem())
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("valid names")
}

/// A copy of the configuration with these ALPN protocols.
pub fn offering(server: Arc<ServerConfig>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let mut server = Arc::unwrap_or_clone(server);
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(server)
}
