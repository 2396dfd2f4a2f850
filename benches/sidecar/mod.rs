//! A sidecar that a benchmark starts in front of its simulated gateway, and a way to call it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sezzle_sidecar::simulator::{Options, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A running sidecar. Dropping the handle ends it.
pub struct Sidecar {
    pub child: Child,
    pub proxy: SocketAddr,
    pub ops: SocketAddr,
}

impl Sidecar {
    /// Starts a sidecar with these variables beside its own, and waits until it is ready.
    pub async fn start(gateway: &Simulator, variables: &[(&str, String)]) -> Self {
        let (proxy, ops) = (free_address(), free_address());
        let options = Options::default();
        let own = [
            ("GATEWAY__ENVIRONMENT", "sandbox".to_owned()),
            ("GATEWAY__URL", gateway.url()),
            ("CREDENTIALS__PUBLIC_KEY", options.public_key),
            ("CREDENTIALS__PRIVATE_KEY", options.private_key),
            ("PROXY__LISTEN", proxy.to_string()),
            ("OPS__LISTEN", ops.to_string()),
            ("LOG__LEVEL", "warn".to_owned()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_sezzle-sidecar"));
        command.arg("run").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        for (name, value) in own.iter().chain(variables) {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        let sidecar = Self { child: command.spawn().expect("starts"), proxy, ops };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !sidecar.is_ready().await {
            assert!(Instant::now() < deadline, "not ready in time");
            sleep(Duration::from_millis(10)).await;
        }
        sidecar
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.ops).await else { return false };
        let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let mut answer = String::new();
        let sent = stream.write_all(request.as_bytes()).await;
        sent.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200 ")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Both calls fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request, and returns the body of its answer. The answer must be a 200 that states its length.
pub async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("is taken");
    let mut read = Vec::with_capacity(4096);
    loop {
        assert!(stream.read_buf(&mut read).await.expect("an answer") > 0, "closed");
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() >= length.parse().expect("a number") {
                return body.to_owned();
            }
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
