//! Passes connections on and keeps what both sides said, so that it can be counted. Runs as long as the test's runtime.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

pub struct Relay {
    pub addr: SocketAddr,
    connections: Arc<Mutex<Vec<Both>>>,
}

/// What was said on one connection, by either side.
#[derive(Clone, Default)]
struct Both {
    asked: Said,
    answered: Said,
}

type Said = Arc<Mutex<Vec<u8>>>;

impl Relay {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                // A caller whose server is gone finds nobody, here too.
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let both = Both::default();
                kept.lock().expect("not poisoned").push(both.clone());
                let ((from_caller, to_caller), (from_server, to_server)) = (caller.into_split(), server.into_split());
                tokio::spawn(pass(from_caller, to_server, both.asked));
                tokio::spawn(pass(from_server, to_caller, both.answered));
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
        let count = |said: &Said, line: &str| {
            let said = said.lock().expect("not poisoned");
            String::from_utf8_lossy(&said).matches(line).count()
        };
        let requests = connections.iter().map(|both| count(&both.asked, " HTTP/1.1\r\n")).sum();
        let answers =
            connections.iter().map(|both| count(&both.answered, "HTTP/1.1 ") - count(&both.answered, "HTTP/1.1 100 "));
        (requests, answers.sum())
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: Said) {
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
            // A reset is passed on as one.
            Err(_) => {
                let _ = to.as_ref().set_zero_linger();
                return;
            }
        }
    }
    let _ = to.shutdown().await;
}
