//! A caller that speaks HTTP/2 frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frames::{
    DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, head, read_frame, settings, status,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A caller that has sent the preface. The caller opens no credit by itself, and answers settings and pings.
pub struct FrameCaller<S = TcpStream> {
    stream: S,
    authority: String,
    next: u32,
    answers_pings: bool,
}

/// The result of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `None` if no head came.
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
        Self::over(stream, address, own).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameCaller<S> {
    /// A caller over a connection to this address that is there already.
    pub async fn over(stream: S, address: SocketAddr, own: &[(u16, u32)]) -> Self {
        let mut caller = Self { stream, authority: address.to_string(), next: 1, answers_pings: true };
        caller.send([PREFACE, &settings(own)].concat()).await;
        caller
    }

    /// The same caller, which answers no ping from now on. A server does not learn that it has seen a GOAWAY.
    pub fn answering_no_ping(self) -> Self {
        Self { answers_pings: false, ..self }
    }

    /// Sends bytes. The other side may have closed; the next read shows that.
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

    /// Asks for a path, and returns the number of the stream.
    pub async fn get(&mut self, path: &str) -> u32 {
        let stream = self.stream();
        let head = self.head(stream, END_STREAM, "GET", path, &[]);
        self.send(head).await;
        stream
    }

    /// The next frame that concerns a call or the connection's end; `None` at its end.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = timeout(LIMIT, read_frame(&mut self.stream)).await.expect("a frame or the end in time")?;
            if let Some(answer) = frame.acknowledged().filter(|_| frame.kind != PING || self.answers_pings) {
                self.send(answer).await;
            }
            if matches!(frame.kind, DATA | HEADERS | RST_STREAM | GOAWAY) {
                return Some(frame);
            }
        }
    }

    /// Waits until a call has ended. Frames of other calls that come meanwhile are lost.
    pub async fn told(&mut self, stream: u32) -> Told {
        let mut told = Told::default();
        while let Some(frame) = self.frame().await {
            if frame.stream != stream {
                continue;
            }
            let ends = frame.ends();
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
            if ends {
                told.ended = Ended::Whole;
                return told;
            }
        }
        told
    }
}
