//! A circuit breaker: decides whether calls are still sent to a failing gateway. Pure.
//!
//! A closed breaker counts the results of calls. Too many failures open the breaker, and no call is sent for a while.
//! Then the breaker is half-open: one call, the trial, is let through, and its result closes the breaker or opens it
//! again for longer.

use std::time::Duration;

use http::StatusCode;

use super::error::{ErrorKind, Sent, UpstreamError};
use super::window::Window;
use crate::clock::Mono;

/// The breaker of one class of calls.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
    window: Window,
    /// Number of calls in a row that found no connection.
    unreached: u32,
    /// How often the breaker has opened since a call last closed it.
    opened: u32,
    /// Number of changes of state. The result of a call that was let through before the last change is ignored.
    epoch: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Closed,
    /// Calls are refused until this time.
    Open(Mono),
    /// One call is let through as a trial.
    HalfOpen { trying: bool },
}

/// A call's permission. `Breaker::ended` takes it back with the call's result.
#[derive(Debug)]
pub struct BreakerPermit {
    epoch: u64,
    trial: bool,
}

/// The result of a call, as evidence of the gateway's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Success,
    Failure,
    /// No connection to the gateway could be made.
    Unreached,
    /// The call says nothing about the gateway's health: the caller left, or the gateway only asked for fewer calls.
    Neutral,
}

impl Signal {
    /// The result of an exchange, by the status of its response or its error.
    pub fn from_result(answer: Result<StatusCode, &UpstreamError>) -> Self {
        match answer {
            Ok(StatusCode::TOO_MANY_REQUESTS) => Self::Neutral,
            Ok(status) if status.is_server_error() => Self::Failure,
            Ok(_) => Self::Success,
            Err(error) if is_of_connecting(error.kind) => Self::Unreached,
            // The call's time was over before the call was sent.
            Err(UpstreamError { kind: ErrorKind::Timeout | ErrorKind::StreamLimit, sent: Sent::No, .. }) => {
                Self::Neutral
            }
            Err(_) => Self::Failure,
        }
    }
}

fn is_of_connecting(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Dns
        | ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionFailed
        | ErrorKind::ConnectTimeout
        | ErrorKind::EgressProxy
        | ErrorKind::TlsCertificate
        | ErrorKind::Tls => true,
        ErrorKind::StreamLimit
        | ErrorKind::Timeout
        | ErrorKind::Reset
        | ErrorKind::HeadTooLarge
        | ErrorKind::Protocol
        | ErrorKind::Body => false,
    }
}

impl BreakerPermit {
    /// Whether the call is the trial. A trial is sent once.
    pub fn is_trial(&self) -> bool {
        self.trial
    }
}

impl Breaker {
    pub fn state(&self) -> State {
        self.state
    }

    /// How long a call should wait if it came now; `None` if it would be let through.
    pub fn refuses(&self, now: Mono) -> Option<Duration> {
        match self.state {
            State::Closed | State::HalfOpen { trying: false } => None,
            State::Open(until) => Some(until.since(now)).filter(|left| !left.is_zero()),
            State::HalfOpen { trying: true } => Some(TRIAL_WAIT),
        }
    }

    /// Asks permission for a call. A refusal says how long the call should wait.
    pub fn admit(&mut self, now: Mono) -> Result<BreakerPermit, Duration> {
        if let Some(wait) = self.refuses(now) {
            return Err(wait);
        }
        let trial = self.state != State::Closed;
        if trial {
            self.turn(State::HalfOpen { trying: true });
        }
        Ok(BreakerPermit { epoch: self.epoch, trial })
    }

    /// Records the end of an admitted call. `jitter`, between 0 and 1, spreads a fleet of sidecars over ± 10 %.
    pub fn ended(&mut self, permit: &BreakerPermit, signal: Signal, now: Mono, jitter: f64) {
        if permit.epoch != self.epoch {
            return;
        }
        match (self.state, signal) {
            (State::Closed, Signal::Success) => {
                self.window.count(now, false);
                self.unreached = 0;
            }
            (State::Closed, Signal::Failure | Signal::Unreached) => {
                self.window.count(now, true);
                self.unreached = if signal == Signal::Unreached { self.unreached.saturating_add(1) } else { 0 };
                if self.unreached >= UNREACHED || self.is_failing(now) {
                    self.open(now, jitter);
                }
            }
            (State::HalfOpen { .. }, Signal::Success) => self.reset(),
            (State::HalfOpen { .. }, Signal::Failure | Signal::Unreached) => self.open(now, jitter),
            (State::HalfOpen { .. }, Signal::Neutral) => self.turn(State::HalfOpen { trying: false }),
            (State::Closed, Signal::Neutral) | (State::Open(_), _) => {}
        }
    }

    /// Closes the breaker as it was at the start. Results of calls that were let through before are ignored.
    pub fn reset(&mut self) {
        let epoch = self.epoch;
        *self = Self { epoch, ..Self::default() };
        self.turn(State::Closed);
    }

    fn is_failing(&self, now: Mono) -> bool {
        let recent = self.window.sums(now);
        recent.all >= ENOUGH && recent.marked.saturating_mul(2) >= recent.all
    }

    fn open(&mut self, now: Mono, jitter: f64) {
        let wait = SHORTEST.saturating_mul(1 << self.opened.min(4)).min(LONGEST);
        let wait = wait.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
        self.opened = self.opened.saturating_add(1);
        self.turn(State::Open(now.plus(wait)));
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.saturating_add(1);
    }
}

// The breaker opens if half of at least this many calls in the last ten seconds failed.
const ENOUGH: u32 = 20;
// The breaker opens after this many calls in a row found no connection. A gateway that cannot be reached is detected
// sooner than one that fails now and then.
const UNREACHED: u32 = 5;
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
// The suggested wait during a trial: its result is known as soon as Sezzle answers.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
