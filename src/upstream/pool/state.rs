//! The state of a pool: its connections, and the calls that wait for them.

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Mono;
use crate::upstream::channel::{Channel, Sender, Stream};
use crate::upstream::connector::ConnectionLifetime;
use crate::upstream::error::UpstreamError;
use crate::upstream::http2;
use crate::upstream::stream_permit::{StreamPermit, Streams};

/// How long an HTTP/1.1 connection may be idle before a safe call. Shorter than the keep-alive of common load balancers
/// in front of a gateway (60 s and more), so that this side closes first. If the gateway closes first, the call is sent
/// again.
pub const IDLE_BEFORE_READ: Duration = Duration::from_secs(50);

/// How long a connection may be idle before a write. A write that crosses with the gateway's close has an unknown
/// outcome, so this is shorter than the keep-alive of nearly all load balancers.
pub const IDLE_BEFORE_WRITE: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(super) struct State {
    /// Idle HTTP/1.1 connections, in the order of their last use. Empty while a call waits.
    idle: Vec<IdleConnection>,
    /// HTTP/2 connections. The front ones are used first, so that the others become idle.
    shared: Vec<SharedConnection>,
    /// Calls that wait for a connection or a stream, oldest first. May hold cancelled ones.
    pub(super) waiting: VecDeque<oneshot::Sender<Result<Channel, UpstreamError>>>,
    connecting: usize,
    /// Whether the latest connection speaks HTTP/2.
    http2: bool,
    /// How many streams the gateway allows on one connection, as it last stated.
    streams: Option<usize>,
    pub(super) sweeping: bool,
    made: u64,
}

/// A connection that carries no call.
struct IdleConnection {
    channel: Channel,
    /// When the connection was last used.
    since: Mono,
}

/// A connection that carries many calls at once.
struct SharedConnection {
    sender: http2::Sender,
    lifetime: ConnectionLifetime,
    id: u64,
    used: bool,
    since: Mono,
}

impl State {
    pub(super) fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty()
    }

    /// Whether the gateway has stated a limit of streams on any connection: a waiting call is then short of a stream.
    pub(super) fn is_full(&self) -> bool {
        self.shared.iter().any(|shared| shared.sender.limit().is_some())
    }

    /// A connection that can carry a call now. Each is checked here again, because a process that was suspended finds
    /// connections that no sweep has checked.
    pub(super) fn take<S: Streams>(
        &mut self,
        now: Mono,
        longest_idle: Duration,
        pool: impl Fn() -> Arc<S>,
    ) -> Option<Channel> {
        if let Some(channel) = self.stream(now, &pool) {
            return Some(channel);
        }
        let mut last = iter::from_fn(|| self.idle.pop()).find(|idle| idle.is_usable(now))?;
        if now.since(last.since) >= longest_idle {
            // The others have been idle for even longer, and all of them can still carry other calls.
            self.idle.push(last);
            return None;
        }
        last.channel.kept = true;
        Some(last.channel)
    }

    /// A free stream of an HTTP/2 connection.
    fn stream<S: Streams>(&mut self, now: Mono, pool: impl Fn() -> Arc<S>) -> Option<Channel> {
        self.shared.retain_mut(|shared| shared.is_usable(now));
        let shared = self.shared.iter_mut().find(|shared| shared.sender.has_room())?;
        let kept = shared.used;
        (shared.since, shared.used) = (now, true);
        let permit = StreamPermit::new(pool(), &shared.sender.calls, shared.id);
        let stream = Box::new(Stream { sender: shared.sender.clone(), permit: Some(permit) });
        Some(Channel::new(Sender::Http2(stream), shared.lifetime, kept, shared.id))
    }

    /// Gives free streams to waiting calls.
    pub(super) fn serve<S: Streams>(&mut self, now: Mono, pool: impl Fn() -> Arc<S>) {
        while !self.waiting.is_empty() {
            let Some(channel) = self.stream(now, &pool) else { return };
            // A waiting call may have been cancelled.
            let taken = iter::from_fn(|| self.waiting.pop_front()).try_fold(channel, |channel, waiting| match waiting
                .send(Ok(channel))
            {
                Err(Ok(refused)) => Ok(refused),
                Ok(()) | Err(Err(_)) => Err(()),
            });
            if let Ok(Channel { sender: Sender::Http2(stream), .. }) = taken
                && let Some(permit) = stream.permit
            {
                permit.give_up();
            }
        }
    }

    /// Records that a stream of this connection has become free.
    pub(super) fn freed(&mut self, id: u64, now: Mono) {
        if let Some(shared) = self.shared.iter_mut().find(|shared| shared.id == id) {
            shared.since = now;
        }
    }

    /// Records that the gateway has stated its limit of streams on a connection.
    pub(super) fn limited(&mut self, id: u64) {
        let shared = self.shared.iter().find(|shared| shared.id == id);
        self.streams = shared.and_then(|shared| shared.sender.limit()).or(self.streams);
    }

    /// Returns how many connections are to be made now for the waiting calls, and counts them as in the making.
    pub(super) fn begin(&mut self) -> usize {
        let missing = self.missing();
        self.connecting += missing;
        missing
    }

    fn missing(&self) -> usize {
        let each = match self.streams {
            _ if !self.http2 => 1,
            // If no stream is allowed, further connections are useless.
            Some(0) if !self.shared.is_empty() => return 0,
            Some(streams) => streams.max(1),
            None => usize::MAX,
        };
        // A connection without a stated limit may soon carry more calls.
        let untold = self.shared.iter().filter(|shared| shared.sender.limit().is_none()).count();
        let missing = self.waiting.len().div_ceil(each).saturating_sub(self.connecting + untold);
        let room = if self.http2 { MOST_SHARED.saturating_sub(self.shared.len() + self.connecting) } else { missing };
        missing.min(room)
    }

    /// Records that a connection was made and speaks HTTP/1.1.
    pub(super) fn made_http1(&mut self) -> u64 {
        self.connecting = self.connecting.saturating_sub(1);
        self.http2 = false;
        self.made += 1;
        self.made
    }

    /// Records that a connection was made and speaks HTTP/2. Keeps the connection if it is needed.
    pub(super) fn made_http2(&mut self, sender: http2::Sender, lifetime: ConnectionLifetime) -> Option<u64> {
        self.connecting = self.connecting.saturating_sub(1);
        self.http2 = true;
        // While no limit is known, the existing connection will probably carry all waiting calls.
        let room = self.streams.is_some() && self.shared.len() < MOST_SHARED;
        let wanted = self.shared.is_empty() || room && !self.waiting.is_empty();
        wanted.then(|| {
            self.made += 1;
            self.shared.push(SharedConnection { sender, lifetime, id: self.made, used: false, since: lifetime.made });
            self.made
        })
    }

    /// Gives an HTTP/1.1 connection to the call that has waited longest, or keeps it for the next call.
    pub(super) fn offer(&mut self, mut channel: Channel, max_idle: usize, now: Mono) {
        while let Some(waiting) = self.waiting.pop_front() {
            // The call may have been cancelled.
            let Err(Ok(kept)) = waiting.send(Ok(channel)) else { return };
            channel = kept;
        }
        if self.idle.len() < max_idle {
            self.idle.push(IdleConnection { channel, since: now });
        }
    }

    /// Records that a connection could not be made. The oldest waiting calls get the error, as far as no other
    /// connection is in the making for them and no stream can become free.
    pub(super) fn failed(&mut self, error: &UpstreamError) {
        self.connecting = self.connecting.saturating_sub(1);
        if self.http2 && (self.connecting > 0 || !self.shared.is_empty()) {
            return;
        }
        self.waiting.retain(|waiting| !waiting.is_closed());
        let uncovered = self.waiting.len().saturating_sub(self.connecting);
        for waiting in self.waiting.drain(..uncovered) {
            let _ = waiting.send(Err(error.clone()));
        }
    }

    /// Removes a shared connection, so that it gets no further calls.
    pub(super) fn retire(&mut self, id: u64) {
        self.shared.retain(|shared| shared.id != id);
    }

    /// Closes unusable connections. Returns when the next one will have been idle for too long, if any is left.
    pub(super) fn sweep(&mut self, now: Mono) -> Option<Duration> {
        self.idle.retain(|idle| idle.is_usable(now));
        self.shared.retain_mut(|shared| shared.is_usable(now));
        let idle = self.idle.iter().map(|idle| idle.since.plus(IDLE_BEFORE_READ));
        let shared = self.shared.iter().map(|shared| if shared.is_busy() { now } else { shared.since });
        let next = idle.chain(shared.map(|since| since.plus(IDLE_BEFORE_WRITE))).min()?;
        Some(next.since(now))
    }
}

impl IdleConnection {
    /// Whether the connection is open, not too old, and not idle for so long that a device on the way may have
    /// forgotten it.
    fn is_usable(&self, now: Mono) -> bool {
        let closed = match &self.channel.sender {
            Sender::Http1(sender) => sender.requests.is_closed(),
            Sender::Http2(..) => true,
        };
        !closed && now.since(self.since) < IDLE_BEFORE_READ && now < self.channel.lifetime.retire
    }
}

impl SharedConnection {
    fn is_busy(&self) -> bool {
        self.sender.calls.load(Ordering::Relaxed) > 0
    }

    /// As [`IdleConnection::is_usable`]. A connection in use is not idle.
    fn is_usable(&mut self, now: Mono) -> bool {
        let rested = !self.is_busy() && now.since(self.since) >= IDLE_BEFORE_WRITE;
        !rested && now < self.lifetime.retire && !self.sender.is_closed()
    }
}

// Most HTTP/2 connections of one worker. With 100 streams each they carry more calls than the limits allow.
const MOST_SHARED: usize = 16;
