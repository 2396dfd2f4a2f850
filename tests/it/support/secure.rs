//! A caller that speaks TLS, and looks at the handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Answer, check};

const LIMIT: Duration = Duration::from_secs(30);

/// Trusts one authority. All connections share their sessions.
#[derive(Clone)]
pub struct Secure(Arc<ClientConfig>);

/// The facts that a caller learns by a handshake.
#[derive(Debug)]
pub struct Handshake {
    pub version: ProtocolVersion,
    pub kind: HandshakeKind,
    pub protocol: Option<String>,
    /// The certificate that the sidecar has shown.
    pub certificate: Vec<u8>,
}

impl Secure {
    pub fn new(authority: &str) -> Self {
        Self::with(authority, rustls::ALL_VERSIONS, None)
    }

    /// A caller that speaks this version of TLS only.
    pub fn only(authority: &str, version: &'static SupportedProtocolVersion) -> Self {
        Self::with(authority, &[version], None)
    }

    /// A caller that shows a certificate. Both are files in PEM.
    pub fn showing(authority: &str, (certificate, key): &(String, String)) -> Self {
        Self::with(authority, rustls::ALL_VERSIONS, Some((certificate, key)))
    }

    pub fn with(
        authority: &str,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<(&String, &String)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for one in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(one.expect("a certificate")).expect("an authority");
        }
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        Self(Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(Own::read(own))),
        }))
    }

    /// A caller whose certificate can be renewed. Its sessions go on.
    pub fn renewing(
        authority: &str,
        version: &'static SupportedProtocolVersion,
        (certificate, key): &(String, String),
    ) -> (Self, Arc<Own>) {
        let own = Arc::new(Own::read((certificate, key)));
        let mut config = ClientConfig::clone(&Self::only(authority, version).0);
        config.client_auth_cert_resolver = Arc::clone(&own) as Arc<dyn ResolvesClientCert>;
        (Self(Arc::new(config)), own)
    }

    /// The same caller, which offers these protocols by ALPN.
    pub fn offering(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connecting =
            TlsConnector::from(Arc::clone(&self.0)).connect("localhost".try_into().expect("a name"), stream);
        timeout(LIMIT, connecting).await.expect("a handshake in time")
    }

    /// GET over a connection of its own, which is closed afterwards.
    pub async fn try_get(&self, address: SocketAddr, path: &str) -> io::Result<(Answer, Handshake)> {
        let stream = self.connect(address).await?;
        let handshake = handshake(&stream);
        let io = TokioIo::new(stream);
        let failed = |error: hyper::Error| io::Error::other(error.to_string());
        let exchange = async {
            let answer = if handshake.protocol.as_deref() == Some("h2") {
                let uri = format!("https://localhost{path}");
                let request = Request::get(uri).body(Empty::<Bytes>::new()).expect("a request");
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(failed)?;
                tokio::spawn(connection);
                sender.send_request(request).await.map_err(failed)?
            } else {
                let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new());
                let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
                tokio::spawn(connection);
                sender.send_request(request.expect("a request")).await.map_err(failed)?
            };
            let (head, body) = answer.into_parts();
            check(&head.headers);
            let body = body.collect().await.map_err(failed)?.to_bytes();
            Ok((Answer { status: head.status.as_u16(), headers: head.headers, body }, handshake))
        };
        timeout(LIMIT, exchange).await.expect("an answer in time")
    }

    pub async fn get(&self, address: SocketAddr, path: &str) -> (Answer, Handshake) {
        self.try_get(address, path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// The certificate that a caller shows.
#[derive(Debug)]
pub struct Own(Mutex<Arc<CertifiedKey>>);

impl Own {
    fn read(files: (&String, &String)) -> Self {
        Self(Mutex::new(Self::pair(files)))
    }

    /// Shows the certificate of these files from now on.
    pub fn renew(&self, (certificate, key): &(String, String)) {
        *self.0.lock().expect("no panic") = Self::pair((certificate, key));
    }

    fn pair((certificate, key): (&String, &String)) -> Arc<CertifiedKey> {
        let chain = CertificateDer::pem_file_iter(certificate).expect("a file");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        Arc::new(CertifiedKey::from_der(chain, key, &provider()).expect("a pair"))
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().expect("no panic")))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The facts of a handshake that is over.
pub fn handshake(stream: &TlsStream<TcpStream>) -> Handshake {
    let (_, connection) = stream.get_ref();
    let protocol = connection.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
    let shown = connection.peer_certificates().and_then(|chain| chain.first());
    Handshake {
        version: connection.protocol_version().expect("the handshake is over"),
        kind: connection.handshake_kind().expect("the handshake is over"),
        protocol,
        certificate: shown.map(|certificate| certificate.to_vec()).unwrap_or_default(),
    }
}
