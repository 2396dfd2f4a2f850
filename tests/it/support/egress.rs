//! An HTTP proxy that makes tunnels, or fails to make them in ways that a test chooses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::peer::relay;

/// The proxy's reaction to a CONNECT.
#[derive(Clone, Copy)]
pub enum Conduct {
    /// Makes a tunnel.
    Tunnel,
    /// Makes a tunnel and confirms it with this head.
    TunnelWith(&'static str),
    /// Makes a tunnel if the request's head holds this line, and answers 407 if not.
    Wants(&'static str),
    /// Answers with these bytes and keeps the connection open.
    Answer(&'static str),
    /// Answers with these bytes and closes.
    Close(&'static str),
    /// Answers with a head that never ends.
    Endless,
}

/// A running proxy. Dropping the handle stops it.
pub struct EgressProxy {
    address: SocketAddr,
    shared: Arc<ProxyState>,
    accepting: JoinHandle<()>,
}

struct ProxyState {
    conduct: Conduct,
    /// The end of every tunnel, whatever address was asked for.
    gateway: Mutex<Option<SocketAddr>>,
    heads: Mutex<Vec<String>>,
    /// The bytes after the heads, tunnelled or not.
    rest: Mutex<Vec<u8>>,
    tunnels: AtomicUsize,
}

impl EgressProxy {
    pub async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(ProxyState {
            conduct,
            gateway: Mutex::default(),
            heads: Mutex::default(),
            rest: Mutex::default(),
            tunnels: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { serve(stream, &shared).await });
            }
        });
        Self { address, shared, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the end of tunnels that are made from now on.
    pub fn lead_to(&self, gateway: SocketAddr) {
        *self.shared.gateway.lock().expect("not poisoned") = Some(gateway);
    }

    /// Closes the proxy's port. Open tunnels stay.
    pub async fn stop_accepting(&mut self) {
        self.accepting.abort();
        assert!((&mut self.accepting).await.is_err_and(|error| error.is_cancelled()));
    }

    /// The heads that the proxy received.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("not poisoned").clone()
    }

    /// The bytes that the proxy received after those heads.
    pub fn rest(&self) -> Vec<u8> {
        self.shared.rest.lock().expect("not poisoned").clone()
    }

    /// How many tunnels the proxy made.
    pub fn tunnels(&self) -> usize {
        self.shared.tunnels.load(Ordering::SeqCst)
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: &ProxyState) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head of text");
    shared.heads.lock().expect("not poisoned").push(head.clone());
    match shared.conduct {
        Conduct::Tunnel => tunnel(stream, shared, ESTABLISHED).await,
        Conduct::TunnelWith(head) => tunnel(stream, shared, head).await,
        Conduct::Wants(line) if head.lines().any(|found| found == line) => tunnel(stream, shared, ESTABLISHED).await,
        Conduct::Wants(_) => {
            let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\
                          content-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.ok()?;
            record(stream, shared).await
        }
        Conduct::Answer(answer) => {
            stream.write_all(answer.as_bytes()).await.ok()?;
            record(stream, shared).await
        }
        Conduct::Close(answer) => stream.write_all(answer.as_bytes()).await.ok(),
        Conduct::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            loop {
                stream.write_all(b"x-more: and more and more and more\r\n").await.ok()?;
                sleep(Duration::from_micros(100)).await;
            }
        }
    }
}

/// Keeps all bytes until the end of the connection.
async fn record(mut stream: TcpStream, shared: &ProxyState) -> Option<()> {
    loop {
        let byte = stream.read_u8().await.ok()?;
        shared.rest.lock().expect("not poisoned").push(byte);
    }
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

async fn tunnel(mut stream: TcpStream, shared: &ProxyState, head: &str) -> Option<()> {
    let gateway = shared.gateway.lock().expect("not poisoned").expect("known by now");
    stream.write_all(head.as_bytes()).await.ok()?;
    shared.tunnels.fetch_add(1, Ordering::SeqCst);
    relay(stream, gateway, &shared.rest).await
}
