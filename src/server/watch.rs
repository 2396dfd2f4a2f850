//! A socket and a response's body that report their progress to the phase clock.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::time::{Sleep, sleep};
use tokio_util::either::Either;

use super::phase::PhaseClock;
use super::refusal;
use super::socket::Connection;

/// A response's body with a guard that is dropped when hyper has finished with the body.
pub(super) struct WatchedBody<B, G> {
    pub body: B,
    pub _guard: G,
}

impl<B: Body + Unpin, G: Unpin> Body for WatchedBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that reports its reads and writes to the phase clock.
pub(super) struct WatchedIo {
    io: TokioIo<Connection>,
    clock: Arc<PhaseClock>,
    /// Bytes that were read from the connection before hyper got it.
    ahead: Bytes,
    /// Bytes still to be written, and the number of hyper's bytes that they replace.
    instead: Option<(Bytes, usize)>,
    /// Set once the sending side is closed: the time and the number of bytes left for reading and discarding.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl WatchedIo {
    pub fn new(stream: Connection, ahead: Bytes, clock: Arc<PhaseClock>) -> Self {
        Self { io: TokioIo::new(stream), clock, ahead, instead: None, lingering: None }
    }

    /// Replaces hyper's own response to bytes that it could not parse by one with a body.
    fn poll_replace(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Option<io::Result<usize>>> {
        if self.instead.is_none() && self.clock.may_replace() {
            self.instead = refusal::in_place_of(bytes).map(|answer| (answer, bytes.len()));
        }
        let Some((answer, replaced)) = &mut self.instead else { return Poll::Ready(None) };
        while !answer.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, answer));
            match written {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(count) => answer.advance(count.min(answer.len())),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(Some(Ok((*replaced).min(bytes.len()))))
    }

    /// Whether bytes have arrived that nobody will read. Discards some of them.
    fn has_unread(&mut self, context: &mut Context<'_>) -> bool {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        let read = Pin::new(&mut self.io).poll_read(context, buffer.unfilled());
        matches!(read, Poll::Ready(Ok(()))) && !buffer.filled().is_empty()
    }

    /// Discards the remaining bytes: a close with unread bytes would reset the connection and lose the response.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (until, left) = self.lingering.get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        loop {
            let mut space = [0; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(context, buffer.unfilled()) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                    if *left == 0 {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return until.as_mut().poll(context),
            }
        }
    }
}

// A response with a session has 2 KB.
const SMALL: usize = 4096;

const LINGER: Duration = Duration::from_secs(1);
// Twice the largest request body of the default, so that a caller that is answered early can finish sending.
const LINGER_BYTES: usize = 2 * 1024 * 1024;

impl Drop for WatchedIo {
    fn drop(&mut self) {
        let tcp = match self.io.inner() {
            Either::Left(Either::Left(tcp)) => tcp,
            Either::Right(tls) => tls.get_ref().0,
            Either::Left(Either::Right(_)) => return,
        };
        if self.clock.has_to_reset() {
            // With a linger time of zero, closing resets the TCP connection. If the option cannot be set, the
            // connection is closed as usual.
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Read for WatchedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(count));
            self.clock.received();
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.clock.received();
        }
        read
    }
}

impl Write for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = ready!(self.poll_replace(context, bytes)) {
            return Poll::Ready(written);
        }
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.clock.written(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if flushed.is_ready() {
            self.clock.flushed();
        }
        // TLS takes more bytes than the socket does, and only a flush tells that these are held up.
        if matches!(self.io.inner(), Either::Right(_)) {
            self.clock.written(flushed.is_pending());
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            // The caller may also have sent a further request after the last one that was answered.
            if self.instead.is_none() && !self.clock.may_get_more_of_a_body(LINGER) && !self.has_unread(context) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(context).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if let Some(written) = ready!(self.poll_replace(context, first)) {
            return Poll::Ready(written);
        }
        // Writing one piece is faster in the kernel than writing two, by more than copying them together costs.
        let mut space = [MaybeUninit::uninit(); SMALL];
        let mut whole = tokio::io::ReadBuf::uninit(&mut space);
        let written = if bytes.iter().fold(0_usize, |sum, slice| sum.saturating_add(slice.len())) <= SMALL {
            bytes.iter().for_each(|slice| whole.put_slice(slice));
            Pin::new(&mut self.io).poll_write(context, whole.filled())
        } else {
            Pin::new(&mut self.io).poll_write_vectored(context, bytes)
        };
        self.clock.written(written.is_pending());
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// The bytes that arrive when `bytes` are written while no request is being answered.
    async fn written(http1: bool, bytes: &[u8]) -> String {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut io =
            TokioIo::new(WatchedIo::new(Either::Left(Either::Right(near)), Bytes::new(), PhaseClock::new(http1)));
        io.write_all(bytes).await.expect("writes");
        io.flush().await.expect("writes");
        drop(io);
        let mut arrived = String::new();
        far.read_to_string(&mut arrived).await.expect("text");
        arrived
    }

    #[tokio::test]
    async fn only_in_http_1_there_is_an_answer_to_replace() {
        let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        assert!(written(true, bare.as_bytes()).await.contains("sidecar.bad_request"));
        // These bytes may be part of a response's body whose frame began earlier.
        assert_eq!(written(false, bare.as_bytes()).await, bare);
    }
}
