//! A gateway that carries out every write and then answers badly. The write names the bad answer, as the id of its
//! order or as its `reference_id`. Lookups are answered well.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::eventually;
use super::scripted::{TOKEN, request};

/// Longer than any deadline of a test.
const NEVER: Duration = Duration::from_secs(300);

/// How the gateway answers a write that it has carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A head that promises 4000 bytes, and the end of the connection.
    HeadOnly,
    /// A head that promises 4000 bytes of JSON, and the end of the connection.
    JsonHeadOnly,
    HalfHead,
    /// The end of the connection without a byte.
    Close,
    Reset,
    /// Half of the promised body, and the end of the connection.
    HalfText,
    HalfJson,
    NoHttp,
    /// No byte; the connection stays open.
    Nothing,
    /// Half of the JSON; the connection stays open.
    HalfJsonThenNothing,
    /// A good answer, once [`Doer::release`] was called.
    Late,
}

impl Way {
    /// The ways that end the connection without waiting for the sidecar.
    pub const BROKEN: [Self; 8] = [
        Self::HeadOnly,
        Self::JsonHeadOnly,
        Self::HalfHead,
        Self::Close,
        Self::Reset,
        Self::HalfText,
        Self::HalfJson,
        Self::NoHttp,
    ];

    const ALL: [Self; 11] = {
        let [a, b, c, d, e, f, g, h] = Self::BROKEN;
        [a, b, c, d, e, f, g, h, Self::Nothing, Self::HalfJsonThenNothing, Self::Late]
    };

    /// The word by which a write names this way.
    pub fn word(self) -> String {
        format!("{self:?}")
    }

    fn named(target: &str, body: &str) -> Self {
        let named = |way: &Self| {
            let word = way.word();
            target.contains(&format!("/v2/order/{word}/")) || body.contains(&format!(r#""reference_id":"{word}""#))
        };
        Self::ALL.into_iter().find(named).unwrap_or_else(|| panic!("{target} {body} names no way"))
    }
}

/// A handle to the gateway, which runs as long as the test's runtime does.
pub struct Doer {
    pub addr: SocketAddr,
    shared: Arc<DoerState>,
}

#[derive(Default)]
struct DoerState {
    /// The way, target and key of each write.
    writes: Mutex<Vec<(Way, String, Option<String>)>>,
    released: CancellationToken,
}

impl Doer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(DoerState::default());
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&serving), stream));
            }
        });
        Self { addr, shared }
    }

    /// How often a call took effect: once for each of its keys, and once for each time it came without a key.
    pub fn effects(&self, way: Way, target: &str) -> usize {
        let writes = self.shared.writes.lock().expect("not poisoned");
        let keys = writes.iter().filter(|(its_way, its_target, _)| (*its_way, its_target.as_str()) == (way, target));
        let keys: Vec<&Option<String>> = keys.map(|(.., key)| key).collect();
        let named: BTreeSet<&String> = keys.iter().filter_map(|key| key.as_ref()).collect();
        named.len() + keys.iter().filter(|key| key.is_none()).count()
    }

    /// Waits for the first write.
    pub async fn written(&self) {
        eventually("a write at the gateway", async || !self.shared.writes.lock().expect("not poisoned").is_empty())
            .await;
    }

    /// Lets [`Way::Late`] answer.
    pub fn release(&self) {
        self.shared.released.cancel();
    }
}

async fn serve(shared: Arc<DoerState>, mut stream: TcpStream) {
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await {
        let line = head.lines().next().unwrap_or_default();
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        if target == "/v2/authentication" {
            let _ = stream.write_all(&answer("201 Created", "application/json", TOKEN.len(), TOKEN)).await;
        } else if line.starts_with("GET ") {
            let _ = stream.write_all(&answer("200 OK", "application/json", 2, "[]")).await;
        } else {
            let key = head.lines().find_map(|line| line.strip_prefix("sezzle-request-id: ")).map(str::to_owned);
            let way = Way::named(&target, &body);
            shared.writes.lock().expect("not poisoned").push((way, target, key));
            if !misbehave(way, &shared, &mut stream).await {
                return;
            }
        }
    }
}

/// Returns whether the connection stays open.
async fn misbehave(way: Way, shared: &DoerState, stream: &mut TcpStream) -> bool {
    let text = "a,b\n1,2\n";
    let json = r#"{"uuid":"u","amount":"#;
    let bytes = match way {
        Way::HeadOnly => answer("200 OK", "text/plain", 4000, ""),
        Way::JsonHeadOnly => answer("200 OK", "application/json", 4000, ""),
        Way::HalfHead => b"HTTP/1.1 200 OK\r\nConte".to_vec(),
        Way::Close | Way::Reset | Way::Nothing => Vec::new(),
        Way::HalfText => answer("200 OK", "text/csv", 4000, text),
        Way::HalfJson | Way::HalfJsonThenNothing => answer("200 OK", "application/json", 4000, json),
        Way::NoHttp => b"SSH-2.0-server\r\n".to_vec(),
        Way::Late => {
            shared.released.cancelled().await;
            answer("200 OK", "application/json", 2, "{}")
        }
    };
    let _ = stream.write_all(&bytes).await;
    match way {
        Way::Reset => stream.set_zero_linger().expect("an open socket"),
        // The sidecar gives up first.
        Way::Nothing | Way::HalfJsonThenNothing => sleep(NEVER).await,
        _ => (),
    }
    way == Way::Late
}

fn answer(status: &str, kind: &str, length: usize, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}
