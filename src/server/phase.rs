//! The phase of a connection, and the deadline of each phase. The socket and the responses report progress; the
//! connection asks for the deadline and sets its alarm to that time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::cut::{Cut, Timeouts};

/// The phase of a connection and its beginning.
///
/// hyper limits only the time to read a head, and counts an idle connection as one that reads a head. So this type
/// distinguishes the phases, and each has its own deadline.
pub(super) struct PhaseClock {
    origin: Instant,
    /// Whether the connection speaks HTTP/1. Only there do bytes between requests begin a request (in HTTP/2 they may
    /// be a ping), and only there are bytes that look like a response always a response.
    http1: bool,
    phase: AtomicU8,
    /// The beginning of the phase, in nanoseconds since `origin`, or [`JUST_NOW`].
    since: AtomicU64,
    /// Number of requests being answered.
    open: AtomicU32,
    /// When the connection began to close, in nanoseconds since `origin` plus one; 0 before.
    closing: AtomicU64,
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
            closing: AtomicU64::new(0),
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

    pub fn received(&self) {
        if self.http1 && self.phase.load(Ordering::Relaxed) == IDLE {
            self.enter(HEAD);
        }
    }

    pub fn written(&self, pending: bool) {
        let held_up = self.write_held_up.load(Ordering::Relaxed);
        if pending && held_up == 0 {
            self.write_held_up.store(self.nanos(Instant::now()).saturating_add(1), Ordering::Relaxed);
        } else if !pending && held_up != 0 {
            self.write_held_up.store(0, Ordering::Relaxed);
        }
    }

    pub fn flushed(&self) {
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

    /// Whether the last request had a body and was answered less than `ago` before now, so that its caller may still be
    /// sending that body.
    pub fn may_get_more_of_a_body(&self, ago: Duration) -> bool {
        // [`JUST_NOW`] lies in the future, so the difference is 0.
        let answered = self.nanos(Instant::now()).saturating_sub(self.since.load(Ordering::Relaxed));
        self.had_body.load(Ordering::Relaxed) && Duration::from_nanos(answered) < ago
    }

    /// Whether the next bytes are a response of hyper's own, because everything before them has been flushed.
    pub fn may_replace(&self) -> bool {
        self.flushed.load(Ordering::Relaxed)
    }

    /// Whether closing the connection now has to reset it, because a response has broken off and nothing else tells.
    pub fn has_to_reset(&self) -> bool {
        self.broke_off.load(Ordering::Relaxed) && self.resets.load(Ordering::Relaxed)
    }

    /// Records that the connection begins to end: its caller is told to make no further requests.
    pub fn closes(&self) {
        self.closing.store(self.nanos(Instant::now()).saturating_add(1), Ordering::Relaxed);
    }

    /// Whether a request that begins now comes too late. Over HTTP/2 a caller may make further requests until it has
    /// acknowledged that the connection ends, and a hostile one never does so.
    pub fn is_late(&self) -> bool {
        let closing = self.closing.load(Ordering::Relaxed);
        closing != 0 && Duration::from_nanos(self.nanos(Instant::now()).saturating_sub(closing)) > LAST_REQUESTS
    }

    /// The time at which the connection is cut unless something happens first, and the reason.
    pub fn deadline(&self, timeouts: Timeouts, now: Instant) -> (Instant, Cut) {
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
        match self.closing.load(Ordering::Relaxed) {
            0 => (deadline, cut),
            closing if phase != BUSY => {
                // The last response may have ended just now and still be on its way.
                let since = at(closing).max(since);
                (since.checked_add(DRAIN_TIMEOUT).unwrap_or(since).min(deadline), Cut::Drain)
            }
            // Over HTTP/2 another task ends the last response and wakes nobody, so the connection looks again soon.
            _ => (after(now, DRAIN_TIMEOUT), Cut::Drain),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(JUST_NOW - 1)
    }
}

// The alarm is reset whenever it rings, so a busy connection wakes its task once in this time.
const NO_DEADLINE: Duration = Duration::from_secs(60);
// Time in which a closing connection takes requests that a caller over HTTP/2 had sent before it learnt of the end. A
// program whose thread is busy learns of the end late.
const LAST_REQUESTS: Duration = Duration::from_secs(3);
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
