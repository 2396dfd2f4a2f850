//! A gateway that answers with the bytes of a script, unchanged. The connection then stays open, so that the sidecar
//! alone decides its end. Without a script the gateway answers well.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The gateway's answer to a token exchange.
pub const TOKEN: &str = r#"{"token":"t","expiration_date":"2099-01-01T00:00:00Z","merchant_uuid":"m"}"#;

/// The answer to everything but token exchanges.
#[derive(Clone, Debug, Default)]
pub enum Script {
    /// Sends a good answer.
    #[default]
    Good,
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these bytes, and then ends the connection.
    Last(Vec<u8>),
    /// Sends these bytes, and then the second ones again and again.
    Endless(Vec<u8>, Vec<u8>),
}

/// A handle to the gateway, which runs as long as the test's runtime does.
pub struct Scripted {
    pub addr: SocketAddr,
    shared: Arc<ScriptState>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct ScriptState {
    script: Mutex<Script>,
    /// Number of the connection, method and path of every call but token exchanges.
    calls: Mutex<Vec<(usize, String)>>,
    /// The head of each of these calls.
    heads: Mutex<Vec<String>>,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(ScriptState::default());
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                tokio::spawn(serve(Arc::clone(&serving), stream, number));
            }
        });
        Self { addr, shared, accepting: accepting.abort_handle() }
    }

    /// Refuses connections from now on, and ends each open one with its next call.
    pub fn vanish(&self) {
        self.accepting.abort();
        self.script(Script::Last(Vec::new()));
    }

    /// The head of every call so far, as it came.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("not poisoned").clone()
    }

    pub fn script(&self, script: Script) {
        *self.shared.script.lock().expect("not poisoned") = script;
    }

    /// Number of the connection, method and path of every call so far.
    pub fn calls(&self) -> Vec<(usize, String)> {
        self.shared.calls.lock().expect("not poisoned").clone()
    }
}

async fn serve(shared: Arc<ScriptState>, mut stream: TcpStream, number: usize) {
    let mut read = Vec::new();
    while let Some((head, _)) = request(&mut stream, &mut read).await {
        let line = head.lines().next().and_then(|line| line.rsplit_once(' ')).map_or("", |(line, _)| line).to_owned();
        if line.ends_with("/v2/authentication") {
            let _ = stream.write_all(&answer("201 Created", TOKEN)).await;
            continue;
        }
        let id = line.rsplit('/').next().unwrap_or_default();
        let good = answer("200 OK", &format!(r#"{{"uuid":"{id}","good":true}}"#));
        shared.heads.lock().expect("not poisoned").push(head);
        shared.calls.lock().expect("not poisoned").push((number, line));
        let script = shared.script.lock().expect("not poisoned").clone();
        let (bytes, is_last, rest) = match script {
            Script::Good => (good, false, None),
            Script::Bytes(bytes) => (bytes, false, None),
            Script::Last(bytes) => (bytes, true, None),
            Script::Endless(bytes, rest) => (bytes, false, Some(rest)),
        };
        let _ = stream.write_all(&bytes).await;
        if is_last {
            return;
        }
        while let Some(rest) = &rest {
            if stream.write_all(rest).await.is_err() {
                return;
            }
        }
    }
}

/// An answer with a JSON body.
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Head and body of the next request. The sidecar states the length of every body.
pub async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |length| length.parse().expect("a length"));
            if read.len() >= whole {
                let body = String::from_utf8_lossy(&read[end + 4..whole]).into_owned();
                read.drain(..whole);
                return Some((head, body));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
