//! A connection's bytes, with a bound on what the server may send unasked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Anything that carries bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Fails once the server has sent more than [`MOST`] bytes since the last question. The codec keeps a whole reply in
/// memory, and every program that may write to the server can make a reply of any length.
pub struct Bounded {
    inner: Box<dyn Duplex>,
    read: usize,
}

impl Bounded {
    pub fn new(inner: impl Duplex + 'static) -> Self {
        Self { inner: Box::new(inner), read: 0 }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.read = self.read.saturating_add(buffer.filled().len().saturating_sub(before));
        Poll::Ready(if self.read > MOST { Err(io::Error::other("the reply is too large")) } else { Ok(()) })
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.read = 0;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

// A page of 5000 entries takes 512 KiB, and a shared body 256 KiB. Several questions may be under way at once.
const MOST: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn each_question_makes_room_for_a_reply() {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let mut stream = Bounded::new(near);
        let server = tokio::spawn(async move {
            let mut question = [0];
            for size in [MOST, MOST, MOST + 1] {
                far.read_exact(&mut question).await.expect("a question");
                far.write_all(&vec![b'x'; size]).await.expect("a reply");
            }
        });
        let mut reply = vec![0; MOST];
        for _ in 0..2 {
            stream.write_all(b"?").await.expect("asked");
            stream.read_exact(&mut reply).await.expect("answered");
        }
        stream.write_all(b"?").await.expect("asked");
        reply.push(0);
        let error = stream.read_exact(&mut reply).await.expect_err("too large");
        assert_eq!(error.to_string(), "the reply is too large");
        drop(stream);
        server.await.expect("no panic");
    }
}
