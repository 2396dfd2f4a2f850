//! What a pool knows of its connections, and whom they go to.

use std::collections::VecDeque;
use std::iter;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{POOL_IDLE, Place, Pool};
use crate::clock::Mono;
use crate::upstream::channel::{Channel, Sender, Stream};
use crate::upstream::connector::Life;
use crate::upstream::error::UpstreamError;
use crate::upstream::http2;

#[derive(Default)]
pub(super) struct State {
    /// HTTP/1.1, in the order of their last use. Empty while somebody waits.
    idle: Vec<Idle>,
    /// HTTP/2. Those at the front are used first, so that the others grow idle.
    shared: Vec<Shared>,
    /// Calls that wait for a connection or a stream, oldest first. May hold cancelled ones.
    pub(super) waiting: VecDeque<oneshot::Sender<Result<Channel, UpstreamError>>>,
    /// How many connections are being made.
    connecting: usize,
    /// Whether the connection that came last speaks HTTP/2.
    http2: bool,
    /// How many streams the gateway allows on one connection, by what it said last.
    streams: Option<usize>,
    pub(super) sweeping: bool,
    made: u64,
}

/// A connection that carries nothing.
struct Idle {
    channel: Channel,
    /// When it was last used.
    since: Mono,
}

/// A connection that carries many calls at once.
struct Shared {
    sender: http2::Sender,
    life: Life,
    id: u64,
    used: bool,
    /// When it was last used.
    since: Mono,
}

impl State {
    pub(super) fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty()
    }

    /// Whether the gateway allows no further stream on any connection there is.
    pub(super) fn is_full(&self) -> bool {
        self.shared.iter().any(|shared| shared.sender.limit().is_some())
    }

    /// One that can carry a call now. A process that was stopped for a while finds what no sweep has seen.
    pub(super) fn take(&mut self, now: Mono, pool: &Pool) -> Option<Channel> {
        if let Some(channel) = self.stream(now, pool) {
            return Some(channel);
        }
        let mut idle = iter::from_fn(|| self.idle.pop()).find(|idle| idle.is_usable(now))?;
        idle.channel.kept = true;
        Some(idle.channel)
    }

    /// A free stream.
    fn stream(&mut self, now: Mono, pool: &Pool) -> Option<Channel> {
        self.shared.retain_mut(|shared| shared.is_usable(now));
        let shared = self.shared.iter_mut().find(|shared| shared.sender.has_room())?;
        let kept = shared.used;
        (shared.since, shared.used) = (now, true);
        let place = Place::new(pool, &shared.sender.calls, shared.id);
        let stream = Box::new(Stream { sender: shared.sender.clone(), place: Some(place) });
        Some(Channel::new(Sender::Http2(stream), shared.life, kept, shared.id))
    }

    /// Gives free streams to the calls that wait.
    pub(super) fn serve(&mut self, now: Mono, pool: &Pool) {
        while !self.waiting.is_empty() {
            let Some(channel) = self.stream(now, pool) else { return };
            // Calls that waited may have gone.
            let taken = iter::from_fn(|| self.waiting.pop_front()).try_fold(channel, |channel, waiting| match waiting
                .send(Ok(channel))
            {
                Err(Ok(refused)) => Ok(refused),
                Ok(()) | Err(Err(_)) => Err(()),
            });
            if let Ok(Channel { sender: Sender::Http2(stream), .. }) = taken
                && let Some(place) = stream.place
            {
                place.give_up();
            }
        }
    }

    /// A stream of this connection has become free.
    pub(super) fn freed(&mut self, id: u64, now: Mono) {
        if let Some(shared) = self.shared.iter_mut().find(|shared| shared.id == id) {
            shared.since = now;
        }
    }

    /// The gateway has stated how many streams it allows on a connection.
    pub(super) fn limited(&mut self, id: u64) {
        let shared = self.shared.iter().find(|shared| shared.id == id);
        self.streams = shared.and_then(|shared| shared.sender.limit()).or(self.streams);
    }

    /// Counts the connections that are to be made now, for the calls that wait.
    pub(super) fn begin(&mut self) -> usize {
        let missing = self.missing();
        self.connecting += missing;
        missing
    }

    fn missing(&self) -> usize {
        let each = match self.streams {
            _ if !self.http2 => 1,
            // Where none is allowed, further connections are of no use.
            Some(0) if !self.shared.is_empty() => return 0,
            Some(streams) => streams.max(1),
            None => usize::MAX,
        };
        // A connection whose gateway has not stated a limit yet may soon carry more.
        let untold = self.shared.iter().filter(|shared| shared.sender.limit().is_none()).count();
        let missing = self.waiting.len().div_ceil(each).saturating_sub(self.connecting + untold);
        let room = if self.http2 { MOST_SHARED.saturating_sub(self.shared.len() + self.connecting) } else { missing };
        missing.min(room)
    }

    /// One connection less is being made: HTTP/1.1 has come of it.
    pub(super) fn made_http1(&mut self) -> u64 {
        self.connecting = self.connecting.saturating_sub(1);
        self.http2 = false;
        self.made += 1;
        self.made
    }

    /// One connection less is being made: HTTP/2 has come of it. It is kept if it is of use.
    pub(super) fn made_http2(&mut self, sender: http2::Sender, life: Life) -> Option<u64> {
        self.connecting = self.connecting.saturating_sub(1);
        self.http2 = true;
        // Before the first limit is known: the connection that is there will probably carry all calls that wait.
        let room = self.streams.is_some() && self.shared.len() < MOST_SHARED;
        let wanted = self.shared.is_empty() || room && !self.waiting.is_empty();
        wanted.then(|| {
            self.made += 1;
            self.shared.push(Shared { sender, life, id: self.made, used: false, since: life.made });
            self.made
        })
    }

    /// Gives a connection of HTTP/1.1 to the call that has waited longest, or keeps it for the next.
    pub(super) fn offer(&mut self, mut channel: Channel, max_idle: usize, now: Mono) {
        while let Some(waiting) = self.waiting.pop_front() {
            // The call may have gone.
            let Err(Ok(kept)) = waiting.send(Ok(channel)) else { return };
            channel = kept;
        }
        if self.idle.len() < max_idle {
            self.idle.push(Idle { channel, since: now });
        }
    }

    /// One connection less is being made: none has come of it. Tells the calls for which no other connection is being made
    /// and no stream can become free, the oldest first.
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

    /// Gives a shared connection no further call.
    pub(super) fn retire(&mut self, id: u64) {
        self.shared.retain(|shared| shared.id != id);
    }

    /// Closes what is not to be used any more. Returns when the next will have been idle for too long, if any is left.
    pub(super) fn sweep(&mut self, now: Mono) -> Option<Duration> {
        self.idle.retain(|idle| idle.is_usable(now));
        self.shared.retain_mut(|shared| shared.is_usable(now));
        let shared = self.shared.iter().map(|shared| if shared.is_busy() { now } else { shared.since });
        let oldest = self.idle.iter().map(|idle| idle.since).chain(shared).min()?;
        Some(oldest.plus(POOL_IDLE).since(now))
    }
}

impl Idle {
    /// Whether it is open, and neither too old nor idle for so long that what lies between may have forgotten it.
    fn is_usable(&self, now: Mono) -> bool {
        let closed = match &self.channel.sender {
            Sender::Http1(sender) => sender.requests.is_closed(),
            Sender::Http2(..) => true,
        };
        !closed && now.since(self.since) < POOL_IDLE && now < self.channel.life.retire
    }
}

impl Shared {
    fn is_busy(&self) -> bool {
        self.sender.calls.load(Ordering::Relaxed) > 0
    }

    /// Whether it is open, and neither too old nor idle for so long that what lies between may have forgotten it.
    fn is_usable(&mut self, now: Mono) -> bool {
        let rested = !self.is_busy() && now.since(self.since) >= POOL_IDLE;
        !rested && now < self.life.retire && !self.sender.is_closed()
    }
}

// For each worker. A gateway that allows 100 streams so carries more calls than there may be.
const MOST_SHARED: usize = 16;
