//! The connections that one worker holds to the gateway: who is given one, when another is made, when one is let go.
//!
//! Over HTTP/1.1 a connection carries one request at a time, and the one that was used last is used next, so that those
//! that are not needed grow old. Over HTTP/2 one carries all. A request that finds none waits for the first that comes: the
//! one that is made for it, or one that another request has done with.
//!
//! hyper-util's `legacy::Client` is made for any number of hosts, which every request pays for, and sends a request again by
//! itself. This one knows one host, and says what became of a request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::iter;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_util::either::Either;

use super::connector::{Connector, Life};
use super::error::{ConnectTimeout, ErrorKind, Sent, UpstreamError};
use crate::clock::{Clock, Mono};

/// A pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    gateway: Uri,
    max_idle: usize,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// HTTP/1.1, in the order of their last use. Empty while somebody waits.
    idle: Vec<Idle>,
    /// HTTP/2.
    shared: Option<Idle>,
    /// Those without a connection, in the order of their coming, and some who have gone: no more than there may be requests.
    waiting: VecDeque<oneshot::Sender<Result<Channel, UpstreamError>>>,
    /// How many connections are being made. One for each that waits, or one for all if HTTP/2 is what came last.
    connecting: usize,
    http2: bool,
    sweeping: bool,
    made: u64,
}

struct Idle {
    channel: Channel,
    /// When it was last used.
    since: Mono,
}

/// The way into one connection.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    /// When it was made, and when it is to carry no further request.
    pub life: Life,
    /// Whether it was kept for a while, in which the gateway may have closed it.
    pub kept: bool,
    /// Tells it from others of its pool.
    id: u64,
    /// Set for each request: to put one off is cheaper than to make one.
    alarm: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// How long a connection may be idle. Shorter than the keep-alive of any load balancer in front of a gateway, so that this
/// side closes first.
pub const POOL_IDLE: Duration = Duration::from_secs(15);
// At least so long after another.
const SWEEP: Duration = Duration::from_secs(1);

impl Pool {
    /// A pool that keeps so many idle connections.
    pub fn new(connector: Connector, gateway: Uri, max_idle: usize, clock: Clock) -> Self {
        Self(Arc::new(Inner { connector, gateway, max_idle, clock, state: Mutex::default() }))
    }

    /// An open connection, as soon as there is one.
    ///
    /// # Errors
    /// Why none could be made, or that it took too long.
    pub async fn channel(&self, now: Mono, deadline: Instant) -> Result<Channel, UpstreamError> {
        let waiting = {
            let mut state = self.0.lock();
            if let Some(channel) = state.take(now) {
                return Ok(channel);
            }
            // What is being made for whoever has gone is for this one.
            state.waiting.retain(|waiting| !waiting.is_closed());
            let (sender, waiting) = oneshot::channel();
            state.waiting.push_back(sender);
            self.connect(&mut state);
            waiting
        };
        match timeout_at(deadline, waiting).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(none(ErrorKind::ConnectionFailed, "the process ends")),
            Err(_) => Err(none(ErrorKind::ConnectTimeout, "no connection in time")),
        }
    }

    /// Takes back a connection that has given the head of an answer. It is used again when the rest has been read.
    pub fn give_back(&self, mut channel: Channel, now: Mono) {
        channel.kept = true;
        match &mut channel.sender {
            Sender::Http1(sender) if sender.is_ready() => self.keep(&mut self.0.lock(), channel, now),
            Sender::Http1(_) => {
                let pool = self.clone();
                // Ends with the answer, whose body has a deadline and takes the connection along when it is dropped.
                tokio::spawn(async move {
                    if let Sender::Http1(sender) = &mut channel.sender
                        && sender.ready().await.is_ok()
                    {
                        let now = pool.0.clock.mono();
                        pool.keep(&mut pool.0.lock(), channel, now);
                    }
                });
            }
            // It has stayed where it is.
            Sender::Http2(_) => {}
        }
    }

    /// Gives a connection no further request. Those it has go on, and the last closes it.
    pub fn retire(&self, channel: &Channel) {
        self.0.lock().shared.take_if(|shared| shared.channel.id == channel.id);
    }

    /// Has as many connections made as are waited for.
    fn connect(&self, state: &mut State) {
        while state.connecting < state.waiting.len() && !(state.http2 && state.connecting > 0) {
            state.connecting += 1;
            tokio::spawn(self.clone().make());
        }
    }

    /// Makes a connection, under the connector's deadline. It is finished even if nobody waits for it any more, and kept for
    /// the next.
    async fn make(self) {
        let inner = Arc::clone(&self.0);
        // A task of its own, so that one that panics is one that failed.
        let made = tokio::spawn(async move { inner.handshake().await }).await;
        let made = made.unwrap_or_else(|_| Err(none(ErrorKind::ConnectionFailed, "the attempt broke off")));
        let mut state = self.0.lock();
        state.connecting = state.connecting.saturating_sub(1);
        match made {
            Ok((sender, life)) => {
                state.http2 = matches!(sender, Sender::Http2(_));
                state.made += 1;
                let channel = Channel::new(sender, life, state.made);
                self.keep(&mut state, channel, life.made);
                // More than that, if HTTP/2 was expected and did not come.
                self.connect(&mut state);
            }
            Err(error) => state.failed(&error),
        }
    }

    fn keep(&self, state: &mut State, channel: Channel, now: Mono) {
        state.offer(channel, self.0.max_idle, now);
        if !state.sweeping && !state.is_empty() {
            state.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

/// There is no connection.
fn none(kind: ErrorKind, detail: &str) -> UpstreamError {
    UpstreamError { kind, sent: Sent::No, detail: detail.to_owned() }
}

/// Closes what has been idle for too long, until nothing is left, or nobody has the pool any more.
async fn sweep(pool: Weak<Inner>) {
    let mut wait = POOL_IDLE;
    loop {
        sleep(wait).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.lock();
        let Some(next) = state.sweep(pool.clock.mono()) else {
            state.sweeping = false;
            return;
        };
        wait = next.max(SWEEP);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic left is no worse than before it: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handshake(&self) -> Result<(Sender, Life), UpstreamError> {
        let connected = self.connector.connect(self.gateway.clone()).await;
        let io = connected.map_err(|error| UpstreamError::from_connecting(error.as_ref()))?;
        let life = io.life();
        let unusable = |error: hyper::Error| UpstreamError::from_connecting(&error);
        let sender = if io.is_http2() {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_header_list_size(HTTP2_HEADER_LIST)
                .initial_stream_window_size(HTTP2_STREAM_WINDOW)
                .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
                .keep_alive_interval(HTTP2_PING_INTERVAL)
                .keep_alive_timeout(HTTP2_PING_TIMEOUT);
            let late = |_| UpstreamError::from_connecting(&ConnectTimeout(HTTP2_PREFACE));
            let greeted = timeout(HTTP2_PREFACE, builder.handshake(io)).await.map_err(late)?;
            let (sender, connection) = greeted.map_err(unusable)?;
            // Ends with the last way into it, or when the gateway closes it.
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) =
                http1::Builder::new().max_buf_size(MAX_ANSWER_HEAD).handshake(io).await.map_err(unusable)?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok((sender, life))
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_none()
    }

    /// One that can carry a request now. A process that was stopped for a while finds what no sweep has seen.
    fn take(&mut self, now: Mono) -> Option<Channel> {
        self.shared.take_if(|shared| !shared.is_usable(now));
        if let Some(shared) = &mut self.shared {
            (shared.since, shared.channel.kept) = (now, true);
            return shared.channel.another();
        }
        let mut idle = iter::from_fn(|| self.idle.pop()).find(|idle| idle.is_usable(now))?;
        idle.channel.kept = true;
        Some(idle.channel)
    }

    /// Gives a connection to those who wait, or keeps it for those who come.
    fn offer(&mut self, mut channel: Channel, max_idle: usize, now: Mono) {
        if channel.is_http2() {
            self.shared.take_if(|shared| !shared.is_usable(now));
            for waiting in self.waiting.drain(..) {
                if let Some(another) = channel.another() {
                    let _ = waiting.send(Ok(another));
                }
            }
            self.shared.get_or_insert(Idle { channel, since: now });
            return;
        }
        while let Some(waiting) = self.waiting.pop_front() {
            // Whoever waited may have gone.
            let Err(Ok(kept)) = waiting.send(Ok(channel)) else { return };
            channel = kept;
        }
        if self.idle.len() < max_idle {
            self.idle.push(Idle { channel, since: now });
        }
    }

    /// Tells those for whom no other connection is being made, the oldest first. Over HTTP/2 one is made for all.
    fn failed(&mut self, error: &UpstreamError) {
        if self.http2 && self.connecting > 0 {
            return;
        }
        self.waiting.retain(|waiting| !waiting.is_closed());
        let uncovered = self.waiting.len().saturating_sub(self.connecting);
        for waiting in self.waiting.drain(..uncovered) {
            let _ = waiting.send(Err(error.clone()));
        }
    }

    /// Closes what is not to be used any more. Returns when the next will have been idle for too long, if any is left.
    fn sweep(&mut self, now: Mono) -> Option<Duration> {
        self.idle.retain(|idle| idle.is_usable(now));
        self.shared.take_if(|shared| !shared.is_usable(now));
        let oldest = self.idle.iter().chain(&self.shared).map(|idle| idle.since).min()?;
        Some(oldest.plus(POOL_IDLE).since(now))
    }
}

impl Idle {
    /// Whether it is open, and neither too old nor idle for so long that what lies between may have forgotten it.
    fn is_usable(&self, now: Mono) -> bool {
        let closed = match &self.channel.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        };
        !closed && now.since(self.since) < POOL_IDLE && now < self.channel.life.retire
    }
}

impl Channel {
    fn new(sender: Sender, life: Life, id: u64) -> Self {
        Self { sender, life, kept: false, id, alarm: Box::pin(sleep(POOL_IDLE)) }
    }

    /// Sends a request, and waits for the head of its answer. `None` if it does not come in time.
    ///
    /// # Errors
    /// Why there was none, with the request if nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Option<Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> {
        let mut answer = pin!(match &mut self.sender {
            Sender::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Sender::Http2(sender) => Either::Right(sender.try_send_request(request)),
        });
        let alarm = &mut self.alarm;
        alarm.as_mut().reset(deadline);
        poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Whether HTTP/2 is spoken.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Another way into the same connection, if it can carry more than one request.
    fn another(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                let another = Self::new(Sender::Http2(sender.clone()), self.life, self.id);
                Some(Self { kept: self.kept, ..another })
            }
        }
    }
}

const MAX_ANSWER_HEAD: usize = 64 * 1024;
const HTTP2_HEADER_LIST: u32 = 64 * 1024;
// What one answer, and all of them together, may leave in memory when callers read slowly. The second is many times the
// first, or a few slow callers would hold up all others.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
// Only while answers are waited for: a gateway may take pings on an idle connection for an attack.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(10);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);
// It is written into an empty buffer.
const HTTP2_PREFACE: Duration = Duration::from_secs(1);
