//! The sidecar sends keys and tokens only to a gateway that has proven its name.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use sezzle_sidecar::app::StartError;
use sezzle_sidecar::simulator::{Options, Rule, Simulator};
use tokio::time::Instant;

use crate::support::client::Answer;
use crate::support::peer::{Conduct, Peer};
use crate::support::tls::{Authority, self_signed};
use crate::support::{Harness, Session, Setup, eventually};

fn setup(server: Arc<ServerConfig>, host: &'static str) -> Setup {
    Setup::default().gateway(|gateway| gateway.tls = Some(server)).gateway_host(host)
}

async fn works(setup: Setup, what: &str) {
    let harness = setup.start().await;
    let session = Session::order(&harness.gateway).path;
    assert_eq!(harness.get(&session).await.status, 200, "{what}");
    assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200, "{what}");
    assert_eq!(harness.gateway.connections(), 1, "{what}: the connection is kept");
    harness.stop().await;
}

/// Without a proof the sidecar is not ready, callers get a clear answer, the errors are counted as `kind`, and only a
/// handshake crosses the wire.
async fn refused(server: Arc<ServerConfig>, host: &'static str, trust: &str, kind: &str, what: &str) {
    let peer = Peer::start(Conduct::Relay).await;
    let harness = Setup::default()
        .gateway(|gateway| gateway.tls = Some(server))
        .set("GATEWAY__URL", format!("https://{host}:{}", peer.address().port()))
        .set("GATEWAY__CA_FILE", trust)
        // The time that a caller waits for the token.
        .set("GATEWAY__WRITE_TIMEOUT", "200ms")
        .start_with(|gateway| peer.lead_to(gateway.addr()))
        .await;
    unproven(&harness, &peer, kind, what).await;
    assert!(harness.gateway.connections() >= 1, "{what}: it was tried");
    assert!(harness.gateway.journal().is_empty(), "{what}: the keys were sent");
    harness.stop().await;
}

/// As `refused`, for a peer that answers by itself.
async fn refused_peer(conduct: Conduct, kind: &str, what: &str) {
    let peer = Peer::start(conduct).await;
    let harness = Setup::default()
        .set("GATEWAY__URL", format!("https://localhost:{}", peer.address().port()))
        .set("GATEWAY__CONNECT_TIMEOUT", "100ms")
        .set("GATEWAY__WRITE_TIMEOUT", "200ms")
        .start_unready()
        .await;
    unproven(&harness, &peer, kind, what).await;
    harness.stop().await;
}

async fn unproven(harness: &Harness, peer: &Peer, kind: &str, what: &str) {
    let errors = format!("upstream_errors_total{{kind=\"{kind}\"}}");
    let began = Instant::now();
    eventually(what, async || harness.metric(&errors).await >= 1.0).await;
    // A connection attempt takes 5 s at most, and the machine may be slow.
    assert!(began.elapsed() < Duration::from_secs(7), "{what}: after {:?}", began.elapsed());
    let readiness = harness.client.get(harness.ops, "/readyz").await;
    assert_eq!(readiness.status, 503, "{what}");
    let reason = format!("not ready: the token exchange failed and is tried again: {kind}: ");
    assert!(readiness.text().starts_with(&reason), "{what}: {}", readiness.text());
    assert_eq!(harness.metric("upstream_connections_opened_total").await, 0.0, "{what}");

    let answer = harness.post("/v2/session", "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"), "{what}");
    assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=proxy_internal_error", "{what}");
    no_address(&answer);
    only_handshakes(&peer.received(), what);
}

fn no_address(answer: &Answer) {
    let shown = format!("{}{:?}", answer.text(), answer.headers);
    assert!(!shown.contains("localhost") && !shown.contains("127.0.0.1"), "{shown}");
}

fn only_handshakes(connections: &[Vec<u8>], what: &str) {
    assert!(!connections.is_empty(), "{what}: it was tried");
    for bytes in connections {
        assert!(!carries_data(bytes), "{what}: more than a handshake");
        for secret in ["sz_p", "Bearer", "/v2/"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{what}: {secret}");
        }
    }
}

/// Whether a record of data stands among those of the handshake. A TLS 1.3 alert may look like data, but is shorter
/// than any request.
fn carries_data(connection: &[u8]) -> bool {
    const ALERT: usize = 40;
    let mut rest = connection;
    while let [kind, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(0x14..=0x16).contains(kind) && (*kind != 0x17 || length > ALERT) {
            return true;
        }
        rest = after.get(length..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn a_gateway_of_the_extra_authority_is_trusted() {
    let ca = Authority::new();
    for (host, names) in [
        ("localhost", &["localhost"][..]),
        ("127.0.0.1", &["127.0.0.1"]),
        ("localhost", &["other.example", "localhost", "127.0.0.1"]),
    ] {
        let setup = setup(ca.server(names), host).set("GATEWAY__CA_FILE", ca.file());
        works(setup, &format!("{host}, {names:?}")).await;
    }
    let bundle = ca.write("bundle.pem", &format!("{}# another\n{}", Authority::new().pem(), ca.pem()));
    works(setup(ca.server(&["localhost"]), "localhost").set("GATEWAY__CA_FILE", bundle), "a bundle").await;
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let ca = Authority::new();
    for version in [&TLS12, &TLS13] {
        let setup = setup(ca.only(version, &["localhost"]), "localhost").set("GATEWAY__CA_FILE", ca.file());
        works(setup, &format!("{version:?}")).await;
    }
}

#[tokio::test]
async fn a_chain_over_an_intermediate_authority_is_trusted() {
    let ca = Authority::new();
    let server = ca.intermediate(true, &["localhost"]);
    works(setup(server, "localhost").set("GATEWAY__CA_FILE", ca.file()), "an intermediate").await;
}

#[tokio::test]
async fn a_gateway_that_does_not_prove_its_name_gets_no_key() {
    let (ca, other) = (Authority::new(), Authority::new());
    let (host, trust, kind) = (&["localhost"][..], ca.file(), "tls_certificate");
    refused(ca.server(host), "localhost", "", kind, "the extra authority is not named").await;
    refused(other.server(host), "localhost", &trust, kind, "another authority").await;
    refused(self_signed(host), "localhost", &trust, kind, "its own authority").await;
    refused(ca.intermediate(false, host), "localhost", &trust, kind, "a link of the chain is missing").await;
    refused(ca.by_a_leaf(host), "localhost", &trust, kind, "signed by no authority").await;
    refused(ca.server(&["other.example"]), "localhost", &trust, kind, "another host").await;
    refused(ca.server(&["*.localhost"]), "localhost", &trust, kind, "a wildcard is for names below").await;
    refused(ca.server(host), "127.0.0.1", &trust, kind, "a name is not an address").await;
    refused(ca.expired(host), "localhost", &trust, kind, "expired").await;
    refused(ca.early(host), "localhost", &trust, kind, "not yet valid").await;
    refused(other.only(&TLS12, host), "localhost", &trust, kind, "another authority over TLS 1.2").await;
}

#[tokio::test]
async fn a_gateway_without_proper_tls_gets_no_key() {
    // A ServerHello of TLS 1.1: version, random, no session, RSA with AES-128-CBC, no compression.
    const TLS11: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02\
        01234567890123456789012345678901\x00\x00\x2f\x00";
    refused_peer(Conduct::Answer(TLS11), "tls", "TLS 1.1").await;
    refused_peer(Conduct::Answer(b"\x15\x03\x01\x00\x02\x02\x46"), "tls", "an alert: protocol version").await;
    refused_peer(Conduct::Answer(b"220 smtp.example ESMTP\r\n"), "tls", "another protocol").await;
    refused_peer(Conduct::Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "tls", "plain HTTP").await;
    refused_peer(Conduct::Close(b""), "connection_failed", "closes").await;
    refused_peer(Conduct::Close(b"\x16\x03\x03\x00\x7a\x02"), "connection_failed", "closes within a record").await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_given_up() {
    refused_peer(Conduct::Answer(b""), "connect_timeout", "silent").await;
    refused_peer(Conduct::Answer(b"\x16\x03\x03\x00\x7a\x02"), "connect_timeout", "half a record").await;
}

#[tokio::test]
async fn an_impostor_that_appears_later_gets_no_token() {
    let (ca, other, peer) = (Authority::new(), Authority::new(), Peer::start(Conduct::Relay).await);
    let harness = Setup::default()
        .gateway(|gateway| gateway.tls = Some(ca.server(&["localhost"])))
        .set("GATEWAY__URL", format!("https://localhost:{}", peer.address().port()))
        .set("GATEWAY__CA_FILE", ca.file())
        .start_with(|gateway| peer.lead_to(gateway.addr()))
        .await;
    harness.ready().await;
    let options = Options { tls: Some(other.server(&["localhost"])), ..Options::default() };
    let impostor = Simulator::start(options).await.expect("starts");
    let close = HeaderValue::from_static("close");
    harness.gateway.script(Rule::path("/v2/orders/report").set_header(CONNECTION, close));
    assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200);
    let genuine = peer.received().len();
    assert!(peer.received().iter().all(|bytes| carries_data(bytes)), "calls are seen where there are some");
    peer.lead_to(impostor.addr());

    let answer = harness.post("/v2/session", "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=tls_certificate_error");
    no_address(&answer);
    assert!(impostor.connections() >= 1 && impostor.journal().is_empty());
    only_handshakes(&peer.received()[genuine..], "an impostor");
    harness.stop().await;
    impostor.stop().await;
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_an_error_that_names_it() {
    let ca = Authority::new();
    let broken = ca.pem().replacen("\nMII", "\n!!!", 1);
    assert_ne!(broken, ca.pem());
    for file in [
        ca.write("empty.pem", ""),
        ca.write("text.pem", "no certificate\n"),
        ca.write("key.pem", &ca.pem().replace("CERTIFICATE", "PRIVATE KEY")),
        ca.write("broken.pem", &broken),
        ca.write("no-certificate.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ca.file().replace("ca.pem", "missing.pem"),
        ca.file().replace("/ca.pem", ""),
    ] {
        let started = setup(ca.server(&["localhost"]), "localhost").set("GATEWAY__CA_FILE", &file).try_start().await;
        let error = started.err().unwrap_or_else(|| panic!("{file} is accepted"));
        assert!(matches!(error, StartError::Tls(_)), "{error}");
        assert!(error.to_string().starts_with(&format!("gateway.ca_file: {file}: ")), "{error}");
    }
}
