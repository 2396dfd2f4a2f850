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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn open_until(millis: u64) -> State {
        State::Open(at(millis))
    }

    /// Lets a call through and ends it at once.
    fn call(breaker: &mut Breaker, signal: Signal, millis: u64) {
        let permit = breaker.admit(at(millis)).expect("let through");
        breaker.ended(&permit, signal, at(millis), 0.5);
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            call(&mut breaker, Signal::Unreached, 0);
        }
        assert_eq!(breaker.state(), open_until(5000));
        breaker
    }

    #[test]
    fn what_says_something_of_the_gateway() {
        let failed = |kind, sent| Signal::from_result(Err(&UpstreamError::new(kind, sent, "")));
        for (status, signal) in [
            (200, Signal::Success),
            (304, Signal::Success),
            (401, Signal::Success),
            (404, Signal::Success),
            (429, Signal::Neutral),
            (499, Signal::Success),
            (500, Signal::Failure),
            (503, Signal::Failure),
            (599, Signal::Failure),
        ] {
            assert_eq!(Signal::from_result(Ok(StatusCode::from_u16(status).expect("a status"))), signal, "{status}");
        }
        for (kind, sent, signal) in [
            (ErrorKind::ConnectionRefused, Sent::No, Signal::Unreached),
            (ErrorKind::Dns, Sent::No, Signal::Unreached),
            (ErrorKind::TlsCertificate, Sent::No, Signal::Unreached),
            (ErrorKind::ConnectTimeout, Sent::No, Signal::Unreached),
            (ErrorKind::Reset, Sent::No, Signal::Failure),
            (ErrorKind::Reset, Sent::Maybe, Signal::Failure),
            (ErrorKind::Timeout, Sent::Maybe, Signal::Failure),
            (ErrorKind::Timeout, Sent::No, Signal::Neutral),
            (ErrorKind::Protocol, Sent::Maybe, Signal::Failure),
        ] {
            assert_eq!(failed(kind, sent), signal, "{kind:?}");
        }
    }

    #[test]
    fn it_opens_at_five_calls_in_a_row_that_find_no_connection() {
        let mut breaker = Breaker::default();
        for last in [Signal::Success, Signal::Failure] {
            for _ in 0..4 {
                call(&mut breaker, Signal::Unreached, 0);
            }
            call(&mut breaker, last, 0);
        }
        assert_eq!(breaker.state(), State::Closed, "never five in a row");
        for now in [0, 60_000, 120_000, 180_000] {
            call(&mut breaker, Signal::Unreached, now);
            call(&mut breaker, Signal::Neutral, now);
            assert_eq!(breaker.state(), State::Closed, "however long they take");
        }
        call(&mut breaker, Signal::Unreached, 240_000);
        assert_eq!(breaker.state(), open_until(245_000));
    }

    #[test]
    fn it_opens_when_half_of_twenty_fail_within_ten_seconds() {
        let half = |all: u32, failures: u32, every: u64| {
            let mut breaker = Breaker::default();
            for n in 0..all {
                let signal = if n < all - failures { Signal::Success } else { Signal::Failure };
                call(&mut breaker, signal, u64::from(n) * every);
            }
            breaker.state() != State::Closed
        };
        assert!(half(20, 10, 0));
        assert!(!half(20, 9, 0), "less than half");
        assert!(!half(19, 19, 0), "too few to tell");
        assert!(half(20, 20, 450), "within ten seconds");
        assert!(!half(20, 20, 1000), "ten in ten seconds");
    }

    #[test]
    fn unknown_signals_count_for_nothing() {
        let mut breaker = Breaker::default();
        for _ in 0..19 {
            call(&mut breaker, Signal::Failure, 0);
            call(&mut breaker, Signal::Neutral, 0);
        }
        assert_eq!((breaker.state(), breaker.window.sums(at(0)).all), (State::Closed, 19));
    }

    #[test]
    fn it_is_tried_by_one_call_and_waits_longer_each_time() {
        let (mut breaker, mut now) = (opened(), 0);
        for wait in [5, 10, 20, 40, 60, 60, 60].map(|seconds| seconds * 1000) {
            assert_eq!(breaker.refuses(at(now + wait - 1)), Some(Duration::from_millis(1)));
            assert_eq!(breaker.admit(at(now + 1000)).err(), Some(Duration::from_millis(wait - 1000)));
            now += wait;
            assert_eq!(breaker.refuses(at(now)), None);
            let trial = breaker.admit(at(now)).expect("one");
            assert!(trial.is_trial());
            assert_eq!(breaker.refuses(at(now)), Some(TRIAL_WAIT));
            assert!(breaker.admit(at(now + 3_600_000)).is_err(), "no other while it is under way");
            now += 300;
            breaker.ended(&trial, Signal::Failure, at(now), 0.5);
        }
        let trial = breaker.admit(at(now + 60_000)).expect("one");
        breaker.ended(&trial, Signal::Success, at(now + 60_000), 0.5);
        assert_eq!(breaker.state(), State::Closed);
        for _ in 0..4 {
            call(&mut breaker, Signal::Unreached, now + 60_000);
        }
        assert_eq!(breaker.state(), State::Closed, "what was before is forgotten");
        call(&mut breaker, Signal::Unreached, now + 60_000);
        assert_eq!(breaker.state(), open_until(now + 65_000), "and so is how long it waited");
    }

    #[test]
    fn a_trial_that_does_not_tell_leaves_its_place_to_the_next() {
        let mut breaker = opened();
        let trial = breaker.admit(at(5000)).expect("one");
        breaker.ended(&trial, Signal::Neutral, at(5100), 0.5);
        let next = breaker.admit(at(5100)).expect("the next");
        assert!(next.is_trial() && breaker.admit(at(5100)).is_err());
        breaker.ended(&trial, Signal::Success, at(5200), 0.5);
        assert_eq!(breaker.state(), State::HalfOpen { trying: true }, "it has had its turn");
        breaker.ended(&next, Signal::Success, at(5200), 0.5);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn calls_of_an_earlier_state_say_nothing() {
        let mut breaker = Breaker::default();
        let early: Vec<BreakerPermit> = (0..40).map(|_| breaker.admit(at(0)).expect("let through")).collect();
        for permit in early.iter().take(20) {
            breaker.ended(permit, Signal::Failure, at(100), 0.5);
        }
        assert_eq!(breaker.state(), open_until(5100));
        breaker.ended(&early[20], Signal::Success, at(200), 0.5);
        assert_eq!(breaker.state(), open_until(5100));
        let trial = breaker.admit(at(5100)).expect("one");
        breaker.ended(&early[21], Signal::Failure, at(5100), 0.5);
        assert_eq!(breaker.state(), State::HalfOpen { trying: true });
        breaker.ended(&trial, Signal::Success, at(5200), 0.5);
        for permit in &early[22..] {
            breaker.ended(permit, Signal::Unreached, at(5300), 0.5);
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_fleet_does_not_come_back_at_once() {
        for (jitter, millis) in [(0.0, 4500), (0.5, 5000), (1.0, 5500), (-7.0, 4500), (7.0, 5500)] {
            let mut breaker = Breaker::default();
            for _ in 0..5 {
                let permit = breaker.admit(at(0)).expect("let through");
                breaker.ended(&permit, Signal::Unreached, at(0), jitter);
            }
            assert_eq!(breaker.state(), open_until(millis), "{jitter}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Call,
        End(usize, Signal, f64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let signal = prop_oneof![
            4 => Just(Signal::Failure),
            2 => Just(Signal::Unreached),
            1 => Just(Signal::Success),
            1 => Just(Signal::Neutral),
        ];
        prop_oneof![
            2 => prop_oneof![0_u64..500, 0_u64..70_000].prop_map(Step::Wait),
            5 => Just(Step::Call),
            5 => (any::<usize>(), signal, 0.0..1.0).prop_map(|(which, signal, jitter)| Step::End(which, signal, jitter)),
        ]
    }

    proptest! {
        /// In every sequence there is at most one trial, no refusal is for more than 66 s, and a refusal changes
        /// nothing.
        #[test]
        fn it_keeps_its_promises(steps in prop::collection::vec(step(), 0..400)) {
            let (mut breaker, mut now, mut under_way) = (Breaker::default(), 0, Vec::<BreakerPermit>::new());
            let mut trial = false;
            let mut refused_until: Option<u64> = None;
            for step in steps {
                match step {
                    Step::Wait(millis) => now += millis,
                    Step::Call => {
                        let before = format!("{breaker:?}");
                        match breaker.admit(at(now)) {
                            Err(wait) => {
                                prop_assert_eq!(format!("{breaker:?}"), before, "its own refusal changed it");
                                prop_assert!(!wait.is_zero() && wait <= Duration::from_secs(66));
                                prop_assert!(trial || refused_until.is_some_and(|until| now < until));
                            }
                            Ok(permit) => {
                                prop_assert!(!(permit.is_trial() && trial), "two trials");
                                prop_assert!(permit.is_trial() || before.contains("state: Closed"));
                                trial |= permit.is_trial();
                                under_way.push(permit);
                            }
                        }
                    }
                    Step::End(_, _, _) if under_way.is_empty() => {}
                    Step::End(which, signal, jitter) => {
                        let permit = under_way.swap_remove(which % under_way.len());
                        let before = breaker.state();
                        breaker.ended(&permit, signal, at(now), jitter);
                        trial &= !permit.is_trial();
                        let state = breaker.state();
                        if state != before {
                            prop_assert!(permit.is_trial() || before == State::Closed);
                            prop_assert_eq!(state == State::Closed, permit.is_trial() && signal == Signal::Success);
                            refused_until = matches!(state, State::Open(_)).then_some(now + 66_000);
                        }
                    }
                }
            }
        }
    }
}
