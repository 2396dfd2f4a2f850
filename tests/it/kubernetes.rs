//! The example in `deploy/kubernetes`: its service calls a sidecar in the same pod, and the sidecar outlives the
//! service.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use sezzle_sidecar::simulator::Options;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::client::Client;
use crate::support::process::{Ended, Folder, Process, Sidecar, free_address};
use crate::support::tls::Authority;
use crate::support::{Session, eventually};

/// Starts the example's service, which calls a sidecar at this URL.
async fn start(sidecar: &str) -> (Process, SocketAddr) {
    start_with(sidecar, &[]).await
}

/// As [`start`], with further variables.
async fn start_with(sidecar: &str, variables: &[(&str, &str)]) -> (Process, SocketAddr) {
    let shop = free_address();
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/shop.py"));
    command.env("SEZZLE_URL", sidecar).env("PORT", shop.port().to_string()).envs(variables.iter().copied());
    let service = Process::spawn(command);
    eventually("the service listens", async || TcpStream::connect(shop).await.is_ok()).await;
    (service, shop)
}

#[tokio::test]
#[ignore = "needs python3: tests/run"]
async fn the_service_of_the_example_gets_on_with_a_sidecar_beside_it() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let (service, shop) = start(&format!("http://{}", sidecar.proxy)).await;
    let client = Client::new();
    assert_eq!(client.get(shop, "/healthz").await.status, 200);

    let session = Session::order(&sidecar.gateway);
    let checkout = format!("/checkout/{}", session.uuid);
    for cache in ["sezzle-sidecar; fwd=uri-miss", "sezzle-sidecar; hit"] {
        let answer = client.get(shop, &checkout).await;
        assert_eq!((answer.status, answer.json()["order"].as_str()), (200, Some(session.order.as_str())));
        assert!(answer.json()["cache"].as_str().is_some_and(|found| found.starts_with(cache)), "{}", answer.text());
    }
    let unknown = client.get(shop, "/checkout/6c9db5d4-d09a-4224-860a-b5438ac32ca8").await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    assert_eq!(client.get(shop, "/elsewhere").await.status, 404);

    // After the order to stop, the service serves the callers that still come, and the sidecar serves the service.
    let began = Instant::now();
    service.signal("TERM");
    let mut served = 0;
    while began.elapsed().as_secs() < 2 {
        assert_eq!(client.get(shop, &checkout).await.status, 200);
        served += 1;
    }
    assert!(served > 0);
    let Ended { code, stderr, .. } = service.end().await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(sidecar.stop().await.code, Some(0));
}

#[tokio::test]
#[ignore = "needs python3: tests/run"]
async fn the_service_of_the_example_calls_over_a_unix_socket() {
    let folder = Folder::new();
    let url = format!("unix:{}", folder.path().join("proxy.sock").display());
    let listen = [("PROXY__LISTEN", url.as_str()), ("LINKS__BASE_URL", "http://localhost")];
    let sidecar = Sidecar::start(Options::default(), &listen).await;
    let (_service, shop) = start(&url).await;
    let session = Session::order(&sidecar.gateway);
    let answer = Client::new().get(shop, &format!("/checkout/{}", session.uuid)).await;
    assert_eq!((answer.status, answer.json()["order"].as_str()), (200, Some(session.order.as_str())));
    assert_eq!(sidecar.stop().await.code, Some(0));
}

#[tokio::test]
#[ignore = "needs python3: tests/run"]
async fn the_service_of_the_example_calls_over_https_once_it_trusts_the_authority() {
    let authority = Authority::new();
    let (certificate, key) = authority.files("proxy", &["localhost"]);
    let tls = [("PROXY__TLS__CERTIFICATE_FILE", certificate.as_str()), ("PROXY__TLS__KEY_FILE", key.as_str())];
    let sidecar = Sidecar::start(Options::default(), &tls).await;
    let url = format!("https://localhost:{}", sidecar.proxy.port());
    let session = Session::order(&sidecar.gateway);
    let checkout = format!("/checkout/{}", session.uuid);
    let (_trusting, shop) = start_with(&url, &[("SSL_CERT_FILE", &authority.file())]).await;
    let answer = Client::new().get(shop, &checkout).await;
    assert_eq!((answer.status, answer.json()["order"].as_str()), (200, Some(session.order.as_str())));
    let (_other, shop) = start(&url).await;
    let answer = Client::new().get(shop, &checkout).await;
    assert!(answer.status == 502 && answer.text().contains("certificate verify failed"), "{}", answer.text());
    assert_eq!(sidecar.stop().await.code, Some(0));
}

#[tokio::test]
#[ignore = "needs python3: tests/run"]
async fn the_service_of_the_example_says_when_the_sidecar_is_gone() {
    let (_service, shop) = start(&format!("http://{}", free_address())).await;
    let answer = Client::new().get(shop, "/checkout/6c9db5d4-d09a-4224-860a-b5438ac32ca8").await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("the service cannot reach the sidecar"), "{}", answer.text());
}
