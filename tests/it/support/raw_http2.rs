//! HTTP/2 frame by frame, for what a client or a server library would never send.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::tls::{Authority, offering};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(30);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// A head of these fields, each a literal.
pub fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    Frame::new(HEADERS, END_HEADERS | flags, stream, block(fields)).bytes()
}

/// A header block of these fields, each a literal that goes into no table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Lengths from 127 on would take another byte.
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

pub fn data(stream: u32, flags: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    Frame::new(DATA, flags, stream, payload.as_ref()).bytes()
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    Frame::new(RST_STREAM, 0, stream, code.to_be_bytes()).bytes()
}

/// That streams up to `last` are seen to, and no others.
pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    Frame::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat()).bytes()
}

/// Settings, each by its number.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    Frame::new(SETTINGS, 0, 0, payload).bytes()
}

/// A caller that has spoken the preface. It opens no credit by itself, and answers settings and pings.
pub struct FrameCaller {
    stream: TcpStream,
    authority: String,
    next: u32,
}

/// What came of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `None` if there was no head.
    pub status: Option<u16>,
    pub body: Vec<u8>,
    pub ended: Ended,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// By END_STREAM.
    Whole,
    /// By RST_STREAM with this code.
    Reset(u32),
    /// With the connection.
    #[default]
    Closed,
}

impl FrameCaller {
    pub async fn connect(address: SocketAddr, own: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("an open socket");
        let mut caller = Self { stream, authority: address.to_string(), next: 1 };
        caller.send([PREFACE, &settings(own)].concat()).await;
        caller
    }

    /// Sends bytes. The other side may have closed, which is told by what is read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(LIMIT, self.stream.write_all(bytes.as_ref())).await.expect("is taken in time");
    }

    /// The number of the next stream.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// The bytes of a request's head.
    pub fn head(&self, stream: u32, flags: u8, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let own = [(":method", method), (":scheme", "http"), (":authority", &self.authority), (":path", path)];
        head(stream, flags, &[&own[..], more].concat())
    }

    /// The next frame that says something of a call or of the connection's end; `None` at its end.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = timeout(LIMIT, read_frame(&mut self.stream)).await.expect("a frame or the end in time")?;
            match frame.kind {
                SETTINGS if frame.flags & 1 == 0 => self.send(Frame::new(SETTINGS, 1, 0, []).bytes()).await,
                PING if frame.flags & 1 == 0 => self.send(Frame::new(PING, 1, 0, frame.payload).bytes()).await,
                DATA | HEADERS | RST_STREAM | GOAWAY => return Some(frame),
                _ => {}
            }
        }
    }

    /// Waits until a call has ended. What is said of others meanwhile is lost.
    pub async fn told(&mut self, stream: u32) -> Told {
        let mut told = Told::default();
        while let Some(frame) = self.frame().await {
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS => told.status = told.status.or_else(|| status(&frame.payload)),
                DATA => told.body.extend(&frame.payload),
                RST_STREAM => {
                    let code = frame.payload.try_into().expect("four bytes");
                    told.ended = Ended::Reset(u32::from_be_bytes(code));
                    return told;
                }
                _ => {}
            }
            if frame.flags & END_STREAM != 0 {
                told.ended = Ended::Whole;
                return told;
            }
        }
        told
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut start = [0; 9];
    stream.read_exact(&mut start).await.ok()?;
    let length = usize::from(start[0]) << 16 | usize::from(start[1]) << 8 | usize::from(start[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    let id = u32::from_be_bytes([start[5], start[6], start[7], start[8]]) & 0x7fff_ffff;
    Some(Frame { kind: start[3], flags: start[4], stream: id, payload })
}

/// The status of a header block, of which it is the first field: one of the table's, or a literal of three digits that
/// is put into no table or into the dynamic one, by Huffman's code or without it.
fn status(block: &[u8]) -> Option<u16> {
    // A change of the table's size may come before it.
    let block = if block.first()? & 0xe0 == 0x20 { block.get(1..)? } else { block };
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500].get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let (length, text) = (*block.get(1)?, block.get(2..)?);
    let text = text.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let (mut left, mut number) = (text.len() * 8, 0);
    for _ in 0..3 {
        let five = bits >> left.checked_sub(5)? & 0x1f;
        // 0, 1 and 2 take five bits, the others six.
        let (digit, taken) =
            if five < 3 { (five, 5) } else { ((bits >> left.checked_sub(6)? & 0x3f).checked_sub(22)?, 6) };
        (number, left) = (number * 10 + digit, left - taken);
    }
    u16::try_from(number).ok()
}

/// What a gateway sends for the stream that it is asked on.
pub type Script = Box<dyn Fn(u32) -> Vec<u8> + Send>;

/// A gateway that speaks HTTP/2 over TLS and answers with frames. Token exchanges, which come first on the first
/// connection, are answered as a gateway should.
pub struct FrameGateway {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    calls: Mutex<usize>,
}

impl FrameGateway {
    pub async fn start(authority: &Authority) -> Self {
        let acceptor = TlsAcceptor::from(offering(authority.server(&["localhost"]), &[b"h2"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { script: Mutex::new(Box::new(|_| Vec::new())), calls: Mutex::default() });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(&shared, stream, number == 0).await;
                    }
                });
            }
        });
        Self { addr, shared, accepting }
    }

    pub fn script(&self, script: impl Fn(u32) -> Vec<u8> + Send + 'static) {
        *self.shared.script.lock().expect("not poisoned") = Box::new(script);
        *self.shared.calls.lock().expect("not poisoned") = 0;
    }

    /// How many calls have come whole since the script was set.
    pub fn calls(&self) -> usize {
        *self.shared.calls.lock().expect("not poisoned")
    }
}

impl Drop for FrameGateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(shared: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin, is_first: bool) {
    let mut preface = [0; PREFACE.len()];
    if stream.read_exact(&mut preface).await.is_err() || stream.write_all(&settings(&[])).await.is_err() {
        return;
    }
    while let Some(frame) = read_frame(&mut stream).await {
        let answer = match frame.kind {
            SETTINGS if frame.flags & 1 == 0 => Frame::new(SETTINGS, 1, 0, []).bytes(),
            PING if frame.flags & 1 == 0 => Frame::new(PING, 1, 0, frame.payload).bytes(),
            HEADERS | DATA if frame.flags & END_STREAM != 0 && is_first && frame.stream == 1 => {
                let token = r#"{"token":"t","expiration_date":"2099-01-01T00:00:00Z","merchant_uuid":"m"}"#;
                let fields = [(":status", "201"), ("content-type", "application/json")];
                [head(1, 0, &fields), data(1, END_STREAM, token)].concat()
            }
            HEADERS | DATA if frame.flags & END_STREAM != 0 => {
                *shared.calls.lock().expect("not poisoned") += 1;
                (shared.script.lock().expect("not poisoned"))(frame.stream)
            }
            _ => continue,
        };
        if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
