//! One connection: hyper's HTTP/1.1, and the clock that hyper does not keep.
//!
//! hyper bounds the reading of a head only, and takes an idle connection for one that reads a head. So the phases are
//! told apart here, by what the socket and the handler do, and each has its own deadline.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::{Handler, Listener};

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To send the head of a request, from its first byte.
    pub head: Duration,
    /// Between two requests, and before the first.
    pub idle: Duration,
    /// To take the next bytes of an answer.
    pub write: Duration,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The head of a request took too long.
    Head,
    /// Nothing was asked for too long.
    Idle,
    /// The caller did not take its answer.
    Write,
    /// The listener closes, and half a head was all there was.
    Drain,
    /// What came is no head of a request, or too large a one; hyper has answered 400 or 431 without a body.
    Malformed,
}

impl Cut {
    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head_timeout",
            Self::Idle => "idle_timeout",
            Self::Write => "write_timeout",
            Self::Drain => "drain",
            Self::Malformed => "malformed",
        }
    }
}

/// Serves a connection to its end.
///
/// # Errors
/// When it had to be cut. Whatever else ends a connection is the caller's business.
pub async fn serve_connection<H: Handler>(stream: TcpStream, handler: H, listener: &Listener) -> Result<(), Cut> {
    // Both can only fail when the connection is gone already.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return Ok(()) };

    let phase = Arc::new(PhaseClock::new());
    let io = WatchedIo { io: TokioIo::new(stream), phase: Arc::clone(&phase) };
    let service = service_fn(|request: Request<Incoming>| {
        let busy = Busy::begin(&phase);
        let answer = handler.handle(request, local);
        async move { Ok::<_, Infallible>(answer.await.map(|body| WatchedBody { body, _busy: busy })) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(listener.max_head)
            .max_header_size(listener.max_head)
            .max_headers(MAX_HEADERS)
            // A caller that closes its sending side after a request still gets its answer.
            .half_close(true)
            .serve_connection(io, service)
    );

    let timeouts = listener.timeouts;
    let mut closing = pin!(listener.stop.closing.cancelled());
    let mut drain_since = None;
    let mut alarm = pin!(sleep_until(phase.deadline(timeouts, None).0));
    poll_fn(|context| {
        if drain_since.is_none() && closing.as_mut().poll(context).is_ready() {
            drain_since = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            let malformed = ended.is_err_and(|error| error.is_parse());
            return Poll::Ready(if malformed { Err(Cut::Malformed) } else { Ok(()) });
        }
        loop {
            let (deadline, cut) = phase.deadline(timeouts, drain_since);
            // An alarm that is too early is put off only once it has rung: most requests never touch it.
            if deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(Err(cut));
            }
            alarm.as_mut().reset(deadline);
        }
    })
    .await
}

const MAX_HEADERS: usize = 100;
// What a caller with half a head gets when the listener closes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// What a connection is doing, and since when. Shared by its socket, its answers and its alarm, all in one task.
struct PhaseClock {
    origin: Instant,
    phase: AtomicU8,
    /// Milliseconds since `origin`.
    since: AtomicU64,
    /// Milliseconds since `origin` at which a write first could not go on, plus one; 0 when none is held up.
    write_held_up: AtomicU64,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

impl PhaseClock {
    fn new() -> Self {
        let origin = Instant::now();
        Self { origin, phase: AtomicU8::new(IDLE), since: AtomicU64::new(0), write_held_up: AtomicU64::new(0) }
    }

    fn enter(&self, phase: u8) {
        self.since.store(self.millis(), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn received(&self) {
        if self.phase.load(Ordering::Relaxed) == IDLE {
            self.enter(HEAD);
        }
    }

    fn written(&self, pending: bool) {
        let held_up = self.write_held_up.load(Ordering::Relaxed);
        if pending && held_up == 0 {
            self.write_held_up.store(self.millis().saturating_add(1), Ordering::Relaxed);
        } else if !pending && held_up != 0 {
            self.write_held_up.store(0, Ordering::Relaxed);
        }
    }

    fn deadline(&self, timeouts: Timeouts, drain_since: Option<Instant>) -> (Instant, Cut) {
        let after = |millis: u64, limit: Duration| {
            let due = self.origin.checked_add(Duration::from_millis(millis)).and_then(|since| since.checked_add(limit));
            due.unwrap_or(self.origin)
        };
        // Whatever else it does: an answer is on its way, though hyper has taken all of it and waits for the socket.
        let held_up = self.write_held_up.load(Ordering::Relaxed);
        if held_up != 0 {
            return (after(held_up, timeouts.write), Cut::Write);
        }
        let since = self.since.load(Ordering::Relaxed);
        let (deadline, cut) = match self.phase.load(Ordering::Relaxed) {
            IDLE => (after(since, timeouts.idle), Cut::Idle),
            HEAD => (after(since, timeouts.head), Cut::Head),
            // The handler keeps its own deadlines.
            _ => (after(self.millis(), NO_DEADLINE), Cut::Write),
        };
        match drain_since {
            Some(drain) if self.phase.load(Ordering::Relaxed) != BUSY => {
                (drain.checked_add(DRAIN_PATIENCE).unwrap_or(drain).min(deadline), Cut::Drain)
            }
            Some(_) | None => (deadline, cut),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

// Re-armed whenever it rings, so that a busy connection wakes its task once in this while.
const NO_DEADLINE: Duration = Duration::from_secs(60);

/// Marks a connection busy until the answer's body is gone.
struct Busy(Arc<PhaseClock>);

impl Busy {
    fn begin(phase: &Arc<PhaseClock>) -> Self {
        phase.enter(BUSY);
        Self(Arc::clone(phase))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// An answer's body; dropped when hyper is done with it.
struct WatchedBody<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for WatchedBody<B> {
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
struct WatchedIo {
    io: TokioIo<TcpStream>,
    phase: Arc<PhaseClock>,
}

impl Read for WatchedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.phase.received();
        }
        read
    }
}

impl Write for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.phase.written(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.phase.written(written.is_pending());
        written
    }
}
