//! Peers that begin a handshake and do not finish it keep no caller out.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::support::secure::Secure;
use crate::support::tls::Authority;
use crate::support::wire::Wire;
use crate::support::{Setup, eventually};

/// The first message of a handshake.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut hello = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("begins");
    connection.write_tls(&mut hello).expect("writes");
    hello
}

#[tokio::test]
async fn handshakes_that_do_not_go_on_keep_no_caller_out() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    let under_way = r#"tls_handshakes_under_way{listener="proxy"}"#;
    let cut = r#"connections_refused_total{listener="proxy",reason="handshake_timeout"}"#;
    let hello = client_hello();
    for (what, begins) in [("half a message", &hello[..50]), ("a whole one", &hello)] {
        let before = harness.metric(cut).await;
        let mut held = Vec::new();
        for _ in 0..600 {
            let mut wire = Wire::connect(harness.proxy).await;
            wire.send(begins).await;
            held.push(wire);
        }
        eventually("they have begun", async || harness.metric(under_way).await >= 512.0).await;
        assert_eq!(Secure::new(&ca.pem()).get(harness.proxy, "/v2/customer").await.0.status, 200);
        // The caller did not have to wait until one of the others was cut at its deadline.
        assert_eq!(harness.metric(cut).await, before, "{what}");
        drop(held);
        eventually("they have ended", async || harness.metric(under_way).await == 0.0).await;
    }
    harness.stop().await;
}
