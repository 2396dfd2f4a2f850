//! The connections that a caller with TLS may have open when its right to call ends.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::secure::Secure;
use super::{Harness, arrived};

pub const CUSTOMER: &str = "/v2/customer";

// Time for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Open connections of one caller.
pub struct OpenConnections {
    /// Has sent nothing.
    silent: TlsStream<TcpStream>,
    /// Was served.
    idle: TlsStream<TcpStream>,
    /// Waits for the gateway, until the gate is released.
    busy: TlsStream<TcpStream>,
    gate: Gate,
    /// Was served over HTTP/2.
    http2: JoinHandle<hyper::Result<()>>,
    /// Without a sender the caller would end the connection over HTTP/2 itself.
    _sender: SendRequest<Empty<Bytes>>,
}

impl OpenConnections {
    pub async fn of(caller: &Secure, harness: &Harness) -> Self {
        let connect = async |caller: &Secure| caller.connect(harness.proxy).await.expect("connects");
        let (silent, mut idle, mut busy) = (connect(caller).await, connect(caller).await, connect(caller).await);
        let h2 = TokioIo::new(connect(&caller.offering(&["h2"])).await);
        let (mut sender, h2) = http2::handshake(TokioExecutor::new(), h2).await.expect("speaks HTTP/2");
        let http2 = tokio::spawn(h2);
        let request = Request::get(format!("https://localhost{CUSTOMER}")).body(Empty::<Bytes>::new());
        assert_eq!(sender.send_request(request.expect("a request")).await.expect("answered").status(), 200);
        assert!(is_served(&mut idle).await);
        let gate = Gate::new();
        harness.gateway.script(Rule::path("/v2/webhooks").gate(&gate));
        busy.write_all(b"GET /v2/webhooks HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("writes");
        arrived(&gate, 1).await;
        Self { silent, idle, busy, gate, http2, _sender: sender }
    }

    /// The connections without a request under way close within `limit`, and the request under way is answered.
    pub async fn end(mut self, limit: Duration) {
        // Nobody has spoken HTTP yet over this one, so it just ends.
        let read = timeout(limit, self.silent.read(&mut [0; 16])).await.expect("closes in time");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        let read = timeout(limit, self.idle.read(&mut [0; 16])).await.expect("closes in time");
        assert_eq!(read.expect("closes as TLS says"), 0);
        timeout(limit, self.http2).await.expect("closes in time").expect("no panic").expect("closes gracefully");
        self.gate.release();
        let mut rest = Vec::new();
        timeout(limit, self.busy.read_to_end(&mut rest)).await.expect("closes in time").expect("closes as TLS says");
        assert!(rest.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&rest));
    }
}

/// Whether a request over this connection is answered, with 200. `false` if the connection has ended.
pub async fn is_served(stream: &mut TlsStream<TcpStream>) -> bool {
    let request = format!("GET {CUSTOMER} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut answer = [0; 16_384];
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    match timeout(LIMIT, stream.read(&mut answer)).await.expect("in time") {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            assert!(answer[..count].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..count]));
            true
        }
    }
}
