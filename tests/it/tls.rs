//! Keys and tokens go to a gateway that has proven its name, and to no other.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use sezzle_sidecar::app::StartError;
use sezzle_sidecar::simulator::{Options, SessionKind, Simulator};

use crate::support::tls::Authority;
use crate::support::{Harness, Setup, eventually};

fn setup(server: Arc<ServerConfig>, host: &'static str) -> Setup {
    Setup::default().gateway(|gateway| gateway.tls = Some(server)).gateway_host(host)
}

async fn works(setup: Setup, what: &str) {
    let harness = setup.start().await;
    let session = format!("/v2/session/{}", harness.gateway.create_session(SessionKind::Order).session);
    assert_eq!(harness.get(&session).await.status, 200, "{what}");
    assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200, "{what}");
    assert_eq!(harness.gateway.connections(), 1, "{what}: the connection is kept");
    harness.stop().await;
}

/// Not ready, and nothing was sent; the errors are counted as `kind`.
async fn refused(setup: Setup, kind: &str, what: &str) {
    let harness: Harness = setup.start_unready().await;
    let errors = format!("upstream_errors_total{{kind=\"{kind}\"}}");
    eventually(what, async || harness.metric(&errors).await >= 2.0).await;
    let readiness = harness.client.get(harness.ops, "/readyz").await;
    assert_eq!(readiness.status, 503, "{what}");
    assert_eq!(readiness.text(), "not ready: the token exchange failed and is tried again\n", "{what}");
    assert!(harness.gateway.connections() >= 1, "{what}: it was tried");
    assert!(harness.gateway.journal().is_empty(), "{what}: the keys were sent");
    assert_eq!(harness.metric("upstream_connections_opened_total").await, 0.0, "{what}");
    harness.stop().await;
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
async fn a_gateway_that_does_not_prove_its_name_gets_no_key() {
    let (ca, other) = (Authority::new(), Authority::new());
    let trusting = |server, host| setup(server, host).set("GATEWAY__CA_FILE", ca.file());
    let certificate = "tls_certificate";
    refused(setup(ca.server(&["localhost"]), "localhost"), certificate, "the extra authority is not named").await;
    refused(trusting(other.server(&["localhost"]), "localhost"), certificate, "another authority").await;
    refused(trusting(ca.server(&["other.example"]), "localhost"), certificate, "another host").await;
    refused(trusting(ca.server(&["localhost"]), "127.0.0.1"), certificate, "a name is not an address").await;
    refused(trusting(ca.expired(&["localhost"]), "localhost"), certificate, "expired").await;
}

#[tokio::test]
async fn a_gateway_without_tls_gets_no_key() {
    let plain = Simulator::start(Options::default()).await.expect("starts");
    let url = format!("https://localhost:{}", plain.addr().port());
    let harness = Setup::default().set("GATEWAY__URL", url).start_unready().await;
    eventually("it is tried", async || harness.metric(r#"upstream_errors_total{kind="tls"}"#).await >= 1.0).await;
    assert!(plain.journal().is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_learns_that_nothing_was_sent_and_no_address() {
    let ca = Authority::new();
    let harness = setup(ca.server(&["localhost"]), "localhost").start_unready().await;
    let answer = harness.post("/v2/session", "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"));
    assert_eq!(answer.header("retry-after"), "1");
    let shown = format!("{}{:?}", answer.text(), answer.headers);
    assert!(!shown.contains("localhost") && !shown.contains("127.0.0.1"), "{shown}");
    assert!(harness.gateway.journal().is_empty());
    harness.stop().await;
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
