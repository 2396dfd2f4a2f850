//! A gateway that speaks HTTP/2 over TLS frame by frame: keeps every frame that comes, and sends whatever a test wants.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::frames::{END_STREAM, Frame, HEADERS, MAX_STREAMS, PREFACE, data, head, read_frame, settings};
use super::scripted::TOKEN;
use super::tls::{Authority, offering};

/// A frame that the gateway received.
#[derive(Clone, Debug)]
pub struct Came {
    pub at: Instant,
    /// Number of the connection.
    pub connection: usize,
    frame: Frame,
}

impl Deref for Came {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.frame
    }
}

/// How the gateway behaves.
#[derive(Clone, Copy)]
pub struct Conduct {
    /// How many streams the gateway allows on a connection; `None` states no limit.
    pub streams: Option<u32>,
    /// How long after a whole request the gateway answers; `None` for never.
    pub takes: Option<Duration>,
    /// Whether the first request on the first connection is an exchange of keys, answered with a token.
    pub is_asked_for_tokens: bool,
}

/// The frames that answer a request, once this frame has made it whole.
pub type Script = Box<dyn Fn(&Came) -> Vec<u8> + Send>;

/// A running gateway. Dropping the handle stops it.
pub struct FrameGateway {
    pub addr: SocketAddr,
    shared: Arc<FrameState>,
    accepting: AbortHandle,
}

struct FrameState {
    conduct: Conduct,
    script: Mutex<Script>,
    /// How many requests had arrived whole when the script was set.
    before: Mutex<usize>,
    frames: Mutex<Vec<Came>>,
    writers: Mutex<Vec<UnboundedSender<Vec<u8>>>>,
}

impl FrameGateway {
    /// A gateway for a whole sidecar, which answers at once.
    pub async fn start(ca: &Authority) -> Self {
        let conduct = Conduct { streams: None, takes: Some(Duration::ZERO), is_asked_for_tokens: true };
        Self::behaving(ca, conduct).await
    }

    pub async fn behaving(ca: &Authority, conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addr = listener.local_addr().expect("bound");
        let acceptor = TlsAcceptor::from(offering(ca.server(&["localhost"]), &[b"h2"]));
        let shared = Arc::new(FrameState {
            conduct,
            script: Mutex::new(Box::new(|_| Vec::new())),
            before: Mutex::default(),
            frames: Mutex::default(),
            writers: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&serving));
                let (sender, mut receiver) = unbounded_channel::<Vec<u8>>();
                shared.writers.lock().expect("not poisoned").push(sender.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (reading, mut writing) = tokio::io::split(stream);
                    let write = async {
                        while let Some(bytes) = receiver.recv().await {
                            writing.write_all(&bytes).await.ok()?;
                            writing.flush().await.ok()?;
                        }
                        Some(())
                    };
                    let _: (Option<()>, Option<()>) = tokio::join!(shared.read(reading, connection, sender), write);
                });
            }
        });
        Self { addr, shared, accepting: accepting.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// Sets the answer to all requests from now on.
    pub fn script(&self, script: impl Fn(&Came) -> Vec<u8> + Send + 'static) {
        *self.shared.script.lock().expect("not poisoned") = Box::new(script);
        *self.shared.before.lock().expect("not poisoned") = self.whole().len();
    }

    /// How many requests have arrived whole since the script was set.
    pub fn calls(&self) -> usize {
        self.whole().len() - *self.shared.before.lock().expect("not poisoned")
    }

    /// Sends bytes on a connection.
    pub fn send(&self, connection: usize, bytes: Vec<u8>) {
        let _ = self.shared.writers.lock().expect("not poisoned")[connection].send(bytes);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.writers.lock().expect("not poisoned").len()
    }

    /// Every frame so far.
    pub fn frames(&self) -> Vec<Came> {
        self.shared.frames.lock().expect("not poisoned").clone()
    }

    /// The frames that began a request, in the order they came.
    pub fn heads(&self) -> Vec<Came> {
        self.frames().into_iter().filter(|frame| frame.kind == HEADERS).collect()
    }

    /// The frames that made a request whole, in the order they came.
    pub fn whole(&self) -> Vec<Came> {
        self.frames().into_iter().filter(|frame| frame.ends()).collect()
    }
}

impl Drop for FrameGateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FrameState {
    async fn read(
        &self,
        mut stream: impl AsyncRead + Unpin,
        connection: usize,
        sender: UnboundedSender<Vec<u8>>,
    ) -> Option<()> {
        let limit: Vec<_> = self.conduct.streams.map(|streams| (MAX_STREAMS, streams)).into_iter().collect();
        let _ = sender.send(settings(&limit));
        stream.read_exact(&mut [0; PREFACE.len()]).await.ok()?;
        loop {
            let frame = read_frame(&mut stream).await?;
            let came = Came { at: Instant::now(), connection, frame };
            self.frames.lock().expect("not poisoned").push(came.clone());
            if let Some(answer) = came.acknowledged() {
                let _ = sender.send(answer);
            }
            if came.ends() {
                self.answer(&came, &sender);
            }
        }
    }

    fn answer(&self, whole: &Came, sender: &UnboundedSender<Vec<u8>>) {
        let is_exchange = self.conduct.is_asked_for_tokens && (whole.connection, whole.stream) == (0, 1);
        let Some(takes) = self.conduct.takes else { return };
        let answer = if is_exchange { token(whole.stream) } else { self.script.lock().expect("not poisoned")(whole) };
        let (sender, until) = (sender.clone(), whole.at + takes);
        tokio::spawn(async move {
            sleep_until(until).await;
            let _ = sender.send(answer);
        });
    }
}

fn token(stream: u32) -> Vec<u8> {
    let fields = [(":status", "201"), ("content-type", "application/json")];
    [head(stream, 0, &fields), data(stream, END_STREAM, TOKEN)].concat()
}
