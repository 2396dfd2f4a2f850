//! Relays connections and keeps all bytes of both sides, for a test to count. Runs as long as the test's runtime.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream, tcp};

pub struct Relay {
    pub addr: SocketAddr,
    connections: Arc<Mutex<Vec<Both>>>,
}

/// All bytes of one connection, by side.
#[derive(Clone, Default)]
struct Both {
    asked: LabelValue,
    answered: LabelValue,
}

type LabelValue = Arc<Mutex<Vec<u8>>>;

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Server {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl From<SocketAddr> for Server {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl Server {
    /// Relays a connection to the server. A caller whose server is gone has its connection closed.
    async fn joined(&self, caller: TcpStream, both: impl FnOnce() -> Both) -> io::Result<()> {
        let (from_caller, to_caller) = caller.into_split();
        match self {
            Self::Tcp(addr) => {
                let (from_server, to_server) = TcpStream::connect(addr).await?.into_split();
                let both = both();
                tokio::spawn(pass(from_caller, to_server, both.asked, reset));
                tokio::spawn(pass(from_server, to_caller, both.answered, reset));
            }
            Self::Unix(path) => {
                let (from_server, to_server) = UnixStream::connect(path).await?.into_split();
                let both = both();
                // A Unix socket has no reset.
                tokio::spawn(pass(from_caller, to_server, both.asked, |_| ()));
                tokio::spawn(pass(from_server, to_caller, both.answered, reset));
            }
        }
        Ok(())
    }
}

impl Relay {
    pub async fn before(server: impl Into<Server>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (connections, server) = (Arc::<Mutex<Vec<Both>>>::default(), server.into());
        let kept = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let both = || {
                    let both = Both::default();
                    kept.lock().expect("not poisoned").push(both.clone());
                    both
                };
                let _ = server.joined(caller, both).await;
            }
        });
        Self { addr, connections }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.connections.lock().expect("not poisoned").len()
    }

    /// How many requests were sent so far, and how many final answers were begun.
    pub fn requests_and_answers(&self) -> (usize, usize) {
        let connections = self.connections.lock().expect("not poisoned");
        let count = |said: &LabelValue, line: &str| {
            let said = said.lock().expect("not poisoned");
            String::from_utf8_lossy(&said).matches(line).count()
        };
        let requests = connections.iter().map(|both| count(&both.asked, " HTTP/1.1\r\n")).sum();
        let answers =
            connections.iter().map(|both| count(&both.answered, "HTTP/1.1 ") - count(&both.answered, "HTTP/1.1 100 "));
        (requests, answers.sum())
    }
}

async fn pass<W: AsyncWrite + Unpin>(
    mut from: impl AsyncRead + Unpin,
    mut to: W,
    said: LabelValue,
    reset: impl Fn(&W),
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece).await {
            Ok(read @ 1..) => {
                said.lock().expect("not poisoned").extend_from_slice(&piece[..read]);
                if to.write_all(&piece[..read]).await.is_err() {
                    return;
                }
            }
            Ok(0) => break,
            // A reset is relayed as a reset.
            Err(_) => return reset(&to),
        }
    }
    let _ = to.shutdown().await;
}

fn reset(to: &tcp::OwnedWriteHalf) {
    let _ = to.as_ref().set_zero_linger();
}
