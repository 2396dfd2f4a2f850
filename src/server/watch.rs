//! Tracks the phase of a connection. The socket and the responses report progress; the alarm asks for the deadline.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::either::Either;

use super::cut::{Cut, Timeouts};
use super::refusal;
use super::socket::Connection;

/// The phase of a connection and its beginning.
///
/// hyper limits only the time to read a head, and counts an idle connection as one that reads a head. So this type
/// distinguishes the phases, and each has its own deadline.
pub(super) struct PhaseClock {
    origin: Instant,
    /// Whether the connection speaks HTTP/1. Only there do bytes between requests begin a request (in HTTP/2 they may
    /// be a ping), and only there are bytes that look like a response always one.
    http1: bool,
    phase: AtomicU8,
    /// The beginning of the phase, in nanoseconds since `origin`, or [`JUST_NOW`].
    since: AtomicU64,
    /// Number of requests being answered.
    open: AtomicU32,
    /// When a write was first held up, in nanoseconds since `origin` plus one; 0 when no write is held up.
    write_held_up: AtomicU64,
    /// Whether everything written before the next request has been flushed, so that the next bytes are a response of
    /// hyper's own. Always false in HTTP/2.
    flushed: AtomicBool,
    /// Whether the last request had a body, which may not have been read to its end.
    had_body: AtomicBool,
    /// Whether only a reset can tell the caller that the response being sent has broken off.
    resets: AtomicBool,
    broke_off: AtomicBool,
}

// Reading a clock takes longer than changing a phase, and a connection that is woken passes through all phases. So the
// beginning of the last phase is recorded once, when the connection has nothing more to do.
const JUST_NOW: u64 = u64::MAX;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

impl PhaseClock {
    pub fn new(http1: bool) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            http1,
            phase: AtomicU8::new(IDLE),
            since: AtomicU64::new(0),
            open: AtomicU32::new(0),
            write_held_up: AtomicU64::new(0),
            flushed: AtomicBool::new(http1),
            had_body: AtomicBool::new(false),
            resets: AtomicBool::new(false),
            broke_off: AtomicBool::new(false),
        })
    }

    fn enter(&self, phase: u8) {
        // In HTTP/2 a response can end in another task, which does not wake the connection's task.
        let since = if self.http1 { JUST_NOW } else { self.nanos(Instant::now()) };
        self.since.store(since, Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn received(&self) {
        if self.http1 && self.phase.load(Ordering::Relaxed) == IDLE {
            self.enter(HEAD);
        }
    }

    fn written(&self, pending: bool) {
        let held_up = self.write_held_up.load(Ordering::Relaxed);
        if pending && held_up == 0 {
            self.write_held_up.store(self.nanos(Instant::now()).saturating_add(1), Ordering::Relaxed);
        } else if !pending && held_up != 0 {
            self.write_held_up.store(0, Ordering::Relaxed);
        }
    }

    fn flushed(&self) {
        if self.http1 && self.phase.load(Ordering::Relaxed) != BUSY {
            self.flushed.store(true, Ordering::Relaxed);
        }
    }

    /// Records that a request is being answered. `resets` says that closing the connection would end the response, as
    /// over HTTP/1.0: a caller would take a partial body for the whole.
    pub fn answers(&self, resets: bool) {
        self.resets.store(resets, Ordering::Relaxed);
    }

    /// Records that the response being sent has broken off.
    pub fn broke_off(&self) {
        self.broke_off.store(true, Ordering::Relaxed);
    }

    /// Whether the last request had a body and was answered so recently that its caller may still be sending that body.
    fn may_get_more_of_a_body(&self) -> bool {
        // [`JUST_NOW`] lies in the future, so the difference is 0.
        let answered = self.nanos(Instant::now()).saturating_sub(self.since.load(Ordering::Relaxed));
        self.had_body.load(Ordering::Relaxed) && Duration::from_nanos(answered) < LINGER
    }

    /// The time at which the connection is cut unless something happens first, and the reason.
    pub fn deadline(&self, timeouts: Timeouts, closing_since: Option<Instant>, now: Instant) -> (Instant, Cut) {
        let at = |nanos: u64| self.origin.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.origin);
        let after = |since: Instant, limit: Duration| since.checked_add(limit).unwrap_or(since);
        // Before the phase: hyper may have buffered a whole response that is still on its way to the socket.
        let held_up = self.write_held_up.load(Ordering::Relaxed);
        if held_up != 0 {
            return (after(at(held_up), timeouts.write), Cut::Write);
        }
        let since = match self.since.load(Ordering::Relaxed) {
            JUST_NOW => {
                self.since.store(self.nanos(now), Ordering::Relaxed);
                now
            }
            nanos => at(nanos),
        };
        let phase = self.phase.load(Ordering::Relaxed);
        let (deadline, cut) = match phase {
            IDLE => (after(since, timeouts.idle), Cut::Idle),
            HEAD => (after(since, timeouts.head), Cut::Head),
            // The handler has deadlines of its own.
            _ => (after(now, NO_DEADLINE), Cut::Write),
        };
        match closing_since {
            Some(closing) if phase != BUSY => {
                // The last response may have ended just now and still be on its way.
                let since = closing.max(since);
                (since.checked_add(DRAIN_TIMEOUT).unwrap_or(since).min(deadline), Cut::Drain)
            }
            // Over HTTP/2 another task ends the last response and wakes nobody, so the connection looks again soon.
            Some(_) => (after(now, DRAIN_TIMEOUT), Cut::Drain),
            None => (deadline, cut),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(JUST_NOW - 1)
    }
}

// The alarm is reset whenever it rings, so a busy connection wakes its task once in this time.
const NO_DEADLINE: Duration = Duration::from_secs(60);
// Time that a caller with an incomplete head gets when the listener closes.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Marks a connection busy until the response's body is dropped.
pub(super) struct Busy(Arc<PhaseClock>);

impl Busy {
    pub fn begin(clock: &Arc<PhaseClock>, has_body: bool) -> Self {
        clock.open.fetch_add(1, Ordering::Relaxed);
        clock.enter(BUSY);
        clock.flushed.store(false, Ordering::Relaxed);
        clock.had_body.store(has_body, Ordering::Relaxed);
        Self(Arc::clone(clock))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(IDLE);
        }
    }
}

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
        if self.instead.is_none() && self.clock.flushed.load(Ordering::Relaxed) {
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
        let resets = self.clock.broke_off.load(Ordering::Relaxed) && self.clock.resets.load(Ordering::Relaxed);
        let tcp = match self.io.inner() {
            Either::Left(Either::Left(tcp)) => tcp,
            Either::Right(tls) => tls.get_ref().0,
            Either::Left(Either::Right(_)) => return,
        };
        if resets {
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
            if self.instead.is_none() && !self.clock.may_get_more_of_a_body() && !self.has_unread(context) {
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
