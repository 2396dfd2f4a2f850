//! The connections of one worker to the gateway: which call gets one, when another is made, when one is closed.
//!
//! An HTTP/1.1 connection carries one call at a time. The connection that was used last is used next, so that
//! superfluous ones grow old. An HTTP/2 connection carries as many calls as the gateway allows; when all its streams
//! are in use, another one is made. A call that finds neither waits here, where it is counted, and takes the first that
//! comes: a connection made for it, or one that another call has finished with. No part of the call is sent before.
//!
//! hyper-util's `legacy::Client` serves any number of hosts, which costs every request some time, and repeats a request
//! by itself. This pool serves one host, and reports what happened to a request.

mod state;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Uri;
use prometheus::IntGauge;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::state::State;
pub use self::state::{IDLE_BEFORE_READ, IDLE_BEFORE_WRITE};
use super::channel::{Channel, Sender};
use super::connector::{ConnectionLifetime, Connector};
use super::error::{ConnectTimeout, ErrorKind, UpstreamError};
use super::stream_permit::Streams;
use super::{http1, http2};
use crate::clock::{Clock, Mono};
use crate::telemetry::metrics::Counted;

/// A pool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    gateway: Uri,
    max_idle: usize,
    clock: Clock,
    waiting: IntGauge,
    state: Mutex<State>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

// Shortest time between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Pool {
    /// Makes a pool that keeps up to `max_idle` idle connections. `waiting` counts the calls that wait for one.
    pub fn new(connector: Connector, gateway: Uri, max_idle: usize, clock: Clock, waiting: IntGauge) -> Self {
        Self(Arc::new(Inner { connector, gateway, max_idle, clock, waiting, state: Mutex::default() }))
    }

    /// Waits for an open connection that can carry a call now. An HTTP/1.1 connection has been idle for less than
    /// `longest_idle`.
    pub async fn channel(
        &self,
        now: Mono,
        longest_idle: Duration,
        deadline: Instant,
    ) -> Result<Channel, UpstreamError> {
        let waiting = {
            let mut state = self.0.lock();
            if let Some(channel) = state.take(now, longest_idle, || self.0.clone()) {
                return Ok(channel);
            }
            // Connections in the making for cancelled calls will serve this call.
            state.waiting.retain(|waiting| !waiting.is_closed());
            let (sender, waiting) = oneshot::channel();
            state.waiting.push_back(sender);
            self.connect(&mut state);
            waiting
        };
        let _counted = Counted::begin(self.0.waiting.clone());
        match timeout_at(deadline, waiting).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(UpstreamError::unsent(ErrorKind::ConnectionFailed, "the sidecar is stopping")),
            Err(_) if self.0.lock().is_full() => {
                let why = "every HTTP/2 stream that Sezzle allows was taken until no time was left to send the call";
                Err(UpstreamError::unsent(ErrorKind::StreamLimit, why))
            }
            Err(_) => Err(UpstreamError::unsent(ErrorKind::ConnectTimeout, "no connection in time")),
        }
    }

    /// Takes back a connection that has delivered the head of a response. The connection is used again once the rest of
    /// the response has been read.
    pub fn give_back(&self, mut channel: Channel, now: Mono) {
        channel.kept = true;
        match &mut channel.sender {
            Sender::Http1(sender) if sender.requests.is_ready() => self.keep(&mut self.0.lock(), channel, now),
            Sender::Http1(_) => {
                let pool = self.clone();
                // This task ends with the response. The response's body has a deadline, and closes the connection if it
                // is dropped early.
                tokio::spawn(async move {
                    if let Sender::Http1(sender) = &mut channel.sender
                        && sender.requests.ready().await.is_ok()
                    {
                        let now = pool.0.clock.mono();
                        pool.keep(&mut pool.0.lock(), channel, now);
                    }
                });
            }
            // The pool keeps HTTP/2 connections all the time.
            Sender::Http2(..) => {}
        }
    }

    /// Gives a connection no further calls. Its current calls go on, and the last one closes it.
    pub fn retire(&self, channel: &Channel) {
        if channel.is_http2() {
            self.0.lock().retire(channel.id);
        }
    }

    /// Starts making as many connections as waiting calls need.
    fn connect(&self, state: &mut State) {
        for _ in 0..state.begin() {
            tokio::spawn(self.clone().make());
        }
    }

    /// Makes a connection, under the connector's deadline. If no call waits any more, the connection is kept.
    async fn make(self) {
        let inner = Arc::clone(&self.0);
        // A separate task, so that a panic counts as a failed attempt.
        let made = tokio::spawn(async move { inner.handshake().await }).await;
        let broke_off = || UpstreamError::unsent(ErrorKind::ConnectionFailed, "the attempt broke off");
        let made = made.unwrap_or_else(|_| Err(broke_off()));
        let mut state = self.0.lock();
        match made {
            Ok((Made::Http1(sender), lifetime)) => {
                let id = state.made_http1();
                self.keep(&mut state, Channel::new(Sender::Http1(sender), lifetime, false, id), lifetime.made);
            }
            Ok((Made::Http2(sender, connection), lifetime)) => {
                let calls = Arc::clone(&sender.calls);
                if let Some(id) = state.made_http2(sender, lifetime) {
                    tokio::spawn(drive(Arc::downgrade(&self.0), id, connection, calls));
                    self.serve(&mut state, lifetime.made);
                }
            }
            Err(error) => state.failed(&error),
        }
        // Further connections are needed if HTTP/2 was expected and not negotiated, or if this connection carries fewer
        // calls than are waiting.
        self.connect(&mut state);
    }

    /// Gives free streams to waiting calls, and starts making connections for the rest.
    fn serve(&self, state: &mut State, now: Mono) {
        state.serve(now, || self.0.clone());
        self.connect(state);
        self.watch(state);
    }

    fn keep(&self, state: &mut State, channel: Channel, now: Mono) {
        state.offer(channel, self.0.max_idle, now);
        self.watch(state);
    }

    /// Makes sure that idle connections will be closed.
    fn watch(&self, state: &mut State) {
        if !state.sweeping && !state.is_empty() {
            state.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

enum Made {
    Http1(http1::Sender),
    Http2(http2::Sender, Box<http2::Connection>),
}

/// Runs a shared connection until it ends.
async fn drive(pool: Weak<Inner>, id: u64, connection: Box<http2::Connection>, calls: Arc<AtomicUsize>) {
    let with = |change: &dyn Fn(&mut State)| {
        let Some(pool) = pool.upgrade().map(Pool) else { return };
        let now = pool.0.clock.mono();
        let mut state = pool.0.lock();
        change(&mut state);
        pool.serve(&mut state, now);
    };
    http2::drive(connection, calls, || with(&|state| state.limited(id))).await;
    with(&|state| state.retire(id));
}

/// Marks the pool as being swept while this lives, so that a panic does not stop the sweeping for good.
struct Sweeping(Weak<Inner>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.lock().sweeping = false;
        }
    }
}

/// Closes connections that have been idle for too long, until none is left or the pool is dropped.
async fn sweep(pool: Weak<Inner>) {
    let mut sweeping = Sweeping(pool.clone());
    let mut wait = IDLE_BEFORE_WRITE;
    loop {
        sleep(wait).await;
        let Some(pool) = pool.upgrade().map(Pool) else { return };
        let mut state = pool.0.lock();
        let next = state.sweep(pool.0.clock.mono());
        // Calls may be waiting for a connection that was just closed.
        pool.connect(&mut state);
        let Some(next) = next else {
            state.sweeping = false;
            // Another sweep may begin as soon as the lock is released.
            sweeping.0 = Weak::new();
            return;
        };
        wait = next.clamp(SWEEP_INTERVAL, IDLE_BEFORE_WRITE);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves the state consistent: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handshake(&self) -> Result<(Made, ConnectionLifetime), UpstreamError> {
        let connected = self.connector.connect(self.gateway.clone()).await;
        let io = connected.map_err(|error| UpstreamError::from_connecting(error.as_ref()))?;
        let lifetime = io.lifetime;
        let made = if io.is_http2() {
            let late = |_| UpstreamError::from_connecting(&ConnectTimeout(PREFACE_TIMEOUT));
            let opened = timeout(PREFACE_TIMEOUT, http2::open(io)).await.map_err(late)?;
            let (sender, connection) = opened.map_err(|error| UpstreamError::from_connecting(&error))?;
            Made::Http2(sender, Box::new(connection))
        } else {
            Made::Http1(http1::open(io).await.map_err(|error| UpstreamError::from_connecting(&error))?)
        };
        Ok((made, lifetime))
    }
}

impl Streams for Inner {
    fn freed(self: Arc<Self>, connection: u64) {
        let pool = Pool(self);
        let now = pool.0.clock.mono();
        let mut state = pool.0.lock();
        state.freed(connection, now);
        pool.serve(&mut state, now);
    }
}

// The preface is written into an empty buffer, so this takes no time.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(1);
