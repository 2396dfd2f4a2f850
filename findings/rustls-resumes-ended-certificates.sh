#!/usr/bin/env bash
# A rustls server resumes the session of a client whose certificate has ended.
#
# Of:       rustls 0.23.46 (Rust) with WebPkiClientVerifier, both versions of TLS, and nothing set about resumption
# Expected: the verifier looks at the client's certificate again when a session is resumed, or the session ends with the
#           certificate. A client that shows a newer certificate then gets a full handshake.
# Seen:     two hours later, and one hour after the end of the certificate, the handshake is a resumed one, the verifier
#           is not asked, and the server is told the old certificate as the client's. A server that looks at the dates
#           itself can only close the connection, so a client that keeps its sessions is locked out after it has renewed
#           its certificate.
# Needs:    cargo, a C compiler
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
rcgen = { version = "=0.14.10", default-features = false, features = ["aws_lc_rs"] }
rustls = { version = "=0.23.46", default-features = false, features = ["aws_lc_rs", "std", "tls12"] }
time = "=0.3.54"
TOML
cat >src/main.rs <<'RUST'
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// A clock that can be put forward.
#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::SeqCst))))
    }
}

fn main() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let at = |seconds: u64| time::OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(["authority".to_owned()]).unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str, end: u64| {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new([name.to_owned()]).unwrap());
        (params.not_before, params.not_after) = (at(now - 60), at(end));
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let roots = Arc::new(roots);

    for version in [&TLS12, &TLS13] {
        let clock = Arc::new(Clock(AtomicU64::new(now)));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build().unwrap();
        let (chain, key) = leaf("localhost", now + 86_400);
        let server = ServerConfig::builder_with_details(Arc::clone(&provider), clock.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        let (chain, key) = leaf("client", now + 3_600);
        let client = ClientConfig::builder_with_details(Arc::clone(&provider), clock.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain, key)
            .unwrap();
        let (server, client) = (Arc::new(server), Arc::new(client));
        for later in [0, 7_200] {
            clock.0.store(now + later, Ordering::SeqCst);
            let mut client = ClientConnection::new(Arc::clone(&client), "localhost".try_into().unwrap()).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&server)).unwrap();
            for _ in 0..8 {
                let (mut there, mut back) = (Vec::new(), Vec::new());
                while client.wants_write() {
                    client.write_tls(&mut there).unwrap();
                }
                server.read_tls(&mut there.as_slice()).unwrap();
                server.process_new_packets().unwrap();
                while server.wants_write() {
                    server.write_tls(&mut back).unwrap();
                }
                client.read_tls(&mut back.as_slice()).unwrap();
                client.process_new_packets().unwrap();
            }
            let shown = server.peer_certificates().map_or(0, |chain| chain.len());
            println!("{:?} {:?} {shown}", version.version, server.handshake_kind().unwrap());
        }
    }
}
RUST
cat >seen <<'TEXT'
TLSv1_2 Full 1
TLSv1_2 Resumed 1
TLSv1_3 Full 1
TLSv1_3 Resumed 1
TEXT
cargo run --quiet >found
diff seen found && cat found
