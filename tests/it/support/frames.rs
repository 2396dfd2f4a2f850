//! A gateway that speaks HTTP/2 frame by frame: it keeps every frame that it is sent, and sends what a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::tls::{Authority, offering};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub at: Instant,
    /// Number of the connection.
    pub connection: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether the request of this stream is whole with it.
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// How the gateway behaves.
#[derive(Clone)]
pub struct Conduct {
    /// SETTINGS_MAX_CONCURRENT_STREAMS, unless it states none.
    pub streams: Option<u32>,
    /// How long after a whole request it answers; `None` for never.
    pub takes: Option<Duration>,
    /// The frames of the answer to a request that is whole with this frame.
    pub answer: fn(&Frame) -> Vec<u8>,
}

/// A running gateway. It ends with its handle.
pub struct Frames {
    pub address: SocketAddr,
    frames: Arc<Mutex<Vec<Frame>>>,
    writers: Arc<Mutex<Vec<UnboundedSender<Vec<u8>>>>>,
    accepting: AbortHandle,
}

impl Frames {
    pub async fn start(ca: &Authority, conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(offering(ca.server(&["localhost"]), &[b"h2"]));
        let (frames, writers): (Arc<Mutex<Vec<Frame>>>, Arc<Mutex<Vec<_>>>) = Default::default();
        let (kept, senders) = (Arc::clone(&frames), Arc::clone(&writers));
        let accepting = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                let (sender, mut receiver) = unbounded_channel::<Vec<u8>>();
                senders.lock().expect("not poisoned").push(sender.clone());
                let (acceptor, kept, conduct) = (acceptor.clone(), Arc::clone(&kept), conduct.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (mut reading, mut writing) = tokio::io::split(stream);
                    let _ = sender.send(settings(conduct.streams));
                    let read = async {
                        let mut preface = [0; 24];
                        reading.read_exact(&mut preface).await.ok()?;
                        loop {
                            let frame = read_frame(&mut reading, connection).await?;
                            obey(&frame, &conduct, &sender);
                            kept.lock().expect("not poisoned").push(frame);
                        }
                    };
                    let write = async {
                        while let Some(bytes) = receiver.recv().await {
                            writing.write_all(&bytes).await.ok()?;
                            writing.flush().await.ok()?;
                        }
                        Some(())
                    };
                    let _: (Option<()>, _) = tokio::join!(read, write);
                });
            }
        });
        Self { address, frames, writers, accepting: accepting.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Sends bytes on a connection.
    pub fn send(&self, connection: usize, bytes: Vec<u8>) {
        let _ = self.writers.lock().expect("not poisoned")[connection].send(bytes);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.writers.lock().expect("not poisoned").len()
    }

    /// Every frame so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().expect("not poisoned").clone()
    }

    /// The frames that began a request, in the order they came.
    pub fn heads(&self) -> Vec<Frame> {
        self.frames().into_iter().filter(|frame| frame.kind == HEADERS).collect()
    }

    /// The frames that made a request whole, in the order they came.
    pub fn whole(&self) -> Vec<Frame> {
        self.frames().into_iter().filter(Frame::ends).collect()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What every gateway does with a frame.
fn obey(frame: &Frame, conduct: &Conduct, sender: &UnboundedSender<Vec<u8>>) {
    match (frame.kind, frame.flags & ACK) {
        (SETTINGS, 0) => drop(sender.send(bytes(SETTINGS, ACK, 0, &[]))),
        (PING, 0) => drop(sender.send(bytes(PING, ACK, 0, &frame.payload))),
        _ => {}
    }
    if let Some(takes) = conduct.takes.filter(|_| frame.ends()) {
        let (sender, answer, until) = (sender.clone(), (conduct.answer)(frame), frame.at + takes);
        tokio::spawn(async move {
            sleep_until(until).await;
            let _ = sender.send(answer);
        });
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { at: Instant::now(), connection, kind: head[3], flags: head[4], stream, payload })
}

/// A frame.
pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS, with a limit of streams if there is one.
pub fn settings(streams: Option<u32>) -> Vec<u8> {
    let limit = streams.map_or(Vec::new(), |streams| [&[0, 3], &streams.to_be_bytes()[..]].concat());
    bytes(SETTINGS, 0, 0, &limit)
}

/// 204.
pub fn no_content(request: &Frame) -> Vec<u8> {
    bytes(HEADERS, END_STREAM | END_HEADERS, request.stream, &[0x89])
}

/// The head of a 200 whose body is still to come.
pub fn ok(stream: u32) -> Vec<u8> {
    bytes(HEADERS, END_HEADERS, stream, &[0x88])
}
