//! What a connection is doing: told by its socket and its answers, asked by its alarm.

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
use super::socket::Stream;

/// What a connection is doing, and since when.
///
/// hyper bounds the reading of a head only, and takes an idle connection for one that reads a head. So the phases are
/// told apart here, and each has its own deadline.
pub(super) struct PhaseClock {
    origin: Instant,
    /// Only in HTTP/1 do bytes that come between requests begin one (in HTTP/2 they may be a ping just as well), and
    /// only there are bytes that look like an answer to a request always one.
    http1: bool,
    phase: AtomicU8,
    /// When it began: nanoseconds since `origin`, or [`JUST_NOW`].
    since: AtomicU64,
    /// Requests being answered.
    open: AtomicU32,
    /// Nanoseconds since `origin` at which a write first could not go on, plus one; 0 when none is held up.
    write_held_up: AtomicU64,
    /// Whether all that was written before the next request has left, so that what follows is an answer of hyper's own.
    /// Never so in HTTP/2.
    flushed: AtomicBool,
    /// Whether the last request had a body, which may not have been read to its end.
    had_body: AtomicBool,
    /// Whether only a reset tells the caller that the answer being sent has broken off.
    resets: AtomicBool,
    /// Whether the last answer broke off.
    broke_off: AtomicBool,
}

// A clock takes longer to read than a phase to change, and a connection that is woken passes through all of them: when the
// last one began is noted once, when the connection has nothing more to do.
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
        // In HTTP/2 others than the connection's task end answers, and do not wake it.
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

    /// A request is being answered. `resets` says that closing the connection would end the answer, as over HTTP/1.0: a
    /// caller would take what came for all of it.
    pub fn answers(&self, resets: bool) {
        self.resets.store(resets, Ordering::Relaxed);
    }

    /// The answer being sent has broken off.
    pub fn broke_off(&self) {
        self.broke_off.store(true, Ordering::Relaxed);
    }

    /// Whether the last request had a body and was answered just now, so that its caller may still be sending it.
    fn may_get_more_of_a_body(&self) -> bool {
        // What began just now lies ahead.
        let answered = self.nanos(Instant::now()).saturating_sub(self.since.load(Ordering::Relaxed));
        self.had_body.load(Ordering::Relaxed) && Duration::from_nanos(answered) < FAREWELL
    }

    /// When the connection is cut unless something happens before, and for what.
    pub fn deadline(&self, timeouts: Timeouts, closing_since: Option<Instant>, now: Instant) -> (Instant, Cut) {
        let at = |nanos: u64| self.origin.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.origin);
        let after = |since: Instant, limit: Duration| since.checked_add(limit).unwrap_or(since);
        // Whatever else it does: an answer is on its way, though hyper has taken all of it and waits for the socket.
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
            // The handler keeps its own deadlines.
            _ => (after(now, NO_DEADLINE), Cut::Write),
        };
        match closing_since {
            Some(closing) if phase != BUSY => {
                // Its last answer may have been given just now, and still be on its way.
                let since = closing.max(since);
                (since.checked_add(DRAIN_PATIENCE).unwrap_or(since).min(deadline), Cut::Drain)
            }
            Some(_) | None => (deadline, cut),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(JUST_NOW - 1)
    }
}

// Re-armed whenever it rings, so that a busy connection wakes its task once in this while.
const NO_DEADLINE: Duration = Duration::from_secs(60);
// What a caller with half a head gets when the listener closes.
pub(super) const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// Marks a connection busy until the answer's body is gone.
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

/// An answer's body with what is to be dropped when hyper is done with it.
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

/// The socket, telling the phase clock what passes through it.
pub(super) struct WatchedIo {
    io: TokioIo<Stream>,
    clock: Arc<PhaseClock>,
    /// What was read of the connection before hyper had it.
    ahead: Bytes,
    /// What is still to be written in place of so many bytes of hyper's.
    instead: Option<(Bytes, usize)>,
    /// Since the sending side was closed: how long and how much is still read and thrown away.
    farewell: Option<(Pin<Box<Sleep>>, usize)>,
}

impl WatchedIo {
    pub fn new(stream: Stream, ahead: Bytes, clock: Arc<PhaseClock>) -> Self {
        Self { io: TokioIo::new(stream), clock, ahead, instead: None, farewell: None }
    }

    /// Replaces an answer of hyper's own, which it gives to what it could not parse, by one that says something.
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

    /// Whether something has come that nobody will read; throws some of it away.
    fn has_unread(&mut self, context: &mut Context<'_>) -> bool {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        let read = Pin::new(&mut self.io).poll_read(context, buffer.unfilled());
        matches!(read, Poll::Ready(Ok(()))) && !buffer.filled().is_empty()
    }

    /// Reads what is left and throws it away: closed with something unread, the connection would be reset, and the
    /// answer lost with it.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (until, left) = self.farewell.get_or_insert_with(|| (Box::pin(sleep(FAREWELL)), FAREWELL_BYTES));
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

// An answer with a session is 2 KB.
const SMALL: usize = 4096;

const FAREWELL: Duration = Duration::from_secs(1);
// Twice the largest body that is accepted by default, so that a caller that is answered early can finish its sending.
const FAREWELL_BYTES: usize = 2 * 1024 * 1024;

impl Drop for WatchedIo {
    fn drop(&mut self) {
        let resets = self.clock.broke_off.load(Ordering::Relaxed) && self.clock.resets.load(Ordering::Relaxed);
        if resets && let Either::Left(tcp) = self.io.inner() {
            // Closed without lingering, a TCP connection is reset. Where that cannot be set, it is closed as ever.
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
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.farewell.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            // A request behind the last one that is answered may have come, too.
            if self.instead.is_none() && !self.clock.may_get_more_of_a_body() && !self.has_unread(context) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_farewell(context).map(Ok)
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
        // One piece goes through the kernel faster than two, by more than it takes to put them together.
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

    /// What arrives of bytes that are written while nothing is answered.
    async fn written(http1: bool, bytes: &[u8]) -> String {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut io = TokioIo::new(WatchedIo::new(Either::Right(near), Bytes::new(), PhaseClock::new(http1)));
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
        // A part of some answer's body, whose frame was begun before.
        assert_eq!(written(false, bare.as_bytes()).await, bare);
    }
}
