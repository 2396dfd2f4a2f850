//! Drives the simulator as its users do: over sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

mod authentication;
mod broken;
mod cards;
mod control;
mod customers;
mod deliveries;
mod faults;
mod http2;
mod orders;
mod readers;
mod reports;
mod sessions;
mod webhooks;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, rustls};

use crate::simulator::{Options, Simulator};

/// A keep-alive connection to a simulator, with the headers every request on it carries.
struct Caller {
    sender: SendRequest<Full<Bytes>>,
    headers: HeaderMap,
}

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn locations(&self) -> Vec<String> {
        let problems = self.json();
        problems.as_array().unwrap().iter().map(|problem| problem["location"].as_str().unwrap().to_owned()).collect()
    }
}

impl Caller {
    async fn connect(simulator: &Simulator) -> Self {
        let stream = TcpStream::connect(simulator.addr()).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, headers: HeaderMap::new() }
    }

    /// Connects and authenticates with the default keys.
    async fn login(simulator: &Simulator) -> Self {
        let mut caller = Self::connect(simulator).await;
        let reply = caller.authenticate().await;
        assert_eq!(reply.status, StatusCode::CREATED);
        caller.bear(&reply);
        caller
    }

    async fn authenticate(&mut self) -> Reply {
        let keys = json!({"public_key": "sz_pub_simulated", "private_key": "sz_pr_simulated"});
        self.post("/v2/authentication", &keys).await
    }

    fn bear(&mut self, reply: &Reply) {
        let bearer = format!("Bearer {}", reply.json()["token"].as_str().unwrap());
        self.headers.insert("authorization", bearer.parse().unwrap());
    }

    fn with_key(mut self, key: &str) -> Self {
        self.headers.insert("sezzle-request-id", key.parse().unwrap());
        self
    }

    async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, Bytes::new()).await.unwrap()
    }

    async fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, body.to_string().into()).await.unwrap()
    }

    async fn send(&mut self, method: &str, path: &str, body: Bytes) -> hyper::Result<Reply> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

async fn start() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// Fails a test that would hang otherwise.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("takes too long")
}

/// A server with a fresh certificate for `localhost`, and a client that trusts it and offers these protocols.
fn tls(protocols: &[&[u8]]) -> (Arc<rustls::ServerConfig>, TlsConnector) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let server =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (Arc::new(server), TlsConnector::from(Arc::new(client)))
}
