//! How often one call is sent to Sezzle: pure.
//!
//! [`Attempts::after`] learns each thing that happens and returns the next step. The loop in [`super::exchange`] obeys.
//! These decisions keep a write from having its effect twice.

use std::time::Duration;

use http::StatusCode;

use crate::clock::Mono;
use crate::upstream::retry::{Failure, RetrySafety, back_off, is_repeated};

/// The attempts of one call so far.
#[derive(Debug)]
pub struct Attempts {
    retry_safety: RetrySafety,
    /// An attempt that begins later has no time left for its answer.
    latest: Mono,
    /// The number of the last attempt, counted from 1. A replay keeps the number.
    number: u32,
    /// Whether the call was replayed, or would have been, after a 401.
    replayed: bool,
    /// Why the last attempt is a retry, if it is one whose result is not counted yet.
    retried: Option<&'static str>,
    /// How the first attempt failed that may have had its effect, if one did and the call was sent again.
    pub doubt: Option<&'static str>,
}

/// One thing that happened to the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// Sezzle refused the token of this generation (401). Sezzle did not process the call.
    Unauthorized(u64),
    /// Sezzle answered, with another status or without a token.
    Answered(StatusCode),
    Failed {
        failure: Failure,
        /// Whether the attempt was the trial of a half-open breaker.
        is_trial: bool,
        /// A number in 0 … 1, for the wait.
        random: f64,
    },
    Renewed,
    NotRenewed,
    /// The retry budget of the class has room for this retry, or has none.
    Budget(Retry, bool),
    /// The wait before this retry is over. The class still allows calls, or does not.
    Waited(Retry, bool),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    pub failure: Failure,
    /// The number of that attempt.
    pub number: u32,
    pub wait: Duration,
}

/// The next thing to do for the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Ask for a token that is newer than this generation.
    Renew(u64),
    /// Take room for a retry from the budget of the class.
    Withdraw(Retry),
    /// Wait, then ask the class whether calls may still be sent.
    Wait(Retry),
    Send,
    /// Give the caller the result of the last attempt.
    Stop,
}

/// The next thing to do, and the labels of `upstream_retries_total` (reason and result) to count first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub next: Next,
    pub count: Option<(&'static str, &'static str)>,
}

impl Attempts {
    /// A call that is sent for the first time, and must not be sent again later than `latest`.
    pub fn new(retry_safety: RetrySafety, latest: Mono) -> Self {
        Self { retry_safety, latest, number: 1, replayed: false, retried: None, doubt: None }
    }

    /// Decides on the next step after `event`, which happened at `now`.
    pub fn after(&mut self, event: Event, now: Mono) -> Step {
        match event {
            Event::Unauthorized(generation) if !self.replayed => {
                self.replayed = true;
                Step { next: Next::Renew(generation), count: None }
            }
            Event::Renewed if now < self.latest => Step { next: Next::Send, count: None },
            Event::Unauthorized(_) | Event::Renewed | Event::NotRenewed => self.end_attempt("success", Next::Stop),
            Event::Answered(status) if status.is_server_error() => self.end_attempt("failure", Next::Stop),
            Event::Answered(_) => self.end_attempt("success", Next::Stop),
            Event::Failed { failure, is_trial, random } => {
                let retry = Retry { failure, number: self.number, wait: back_off(self.number, failure, random) };
                // The trial of a failing gateway is sent once.
                let allowed = !is_trial && is_repeated(self.retry_safety, failure, self.number);
                let in_time = now.plus(retry.wait) <= self.latest;
                self.end_attempt("failure", if allowed && in_time { Next::Withdraw(retry) } else { Next::Stop })
            }
            Event::Budget(retry, true) => Step { next: Next::Wait(retry), count: None },
            Event::Budget(retry, false) => {
                Step { next: Next::Stop, count: Some((retry.failure.as_str(), "no_budget")) }
            }
            Event::Waited(retry, true) if now <= self.latest => {
                if retry.failure.may_have_had_effect() {
                    self.doubt.get_or_insert(retry.failure.as_str());
                }
                self.retried = Some(retry.failure.as_str());
                self.number = retry.number.saturating_add(1);
                Step { next: Next::Send, count: None }
            }
            // The time of the call is over, or its class refuses calls by now. The caller gets the result as it is.
            Event::Waited(..) => Step { next: Next::Stop, count: None },
        }
    }

    /// The step after the result of an attempt. If the attempt was a retry, the step counts it with that result.
    fn end_attempt(&mut self, result: &'static str, next: Next) -> Step {
        Step { next, count: self.retried.take().map(|reason| (reason, result)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::error::{ErrorKind as Kind, Sent};

    const CALLS: [RetrySafety; 4] =
        [RetrySafety::Safe, RetrySafety::Keyed, RetrySafety::Unkeyed, RetrySafety::DestructiveRead];
    const LATEST: Mono = Mono(Duration::from_secs(10));
    const EARLY: Mono = Mono(Duration::from_secs(1));
    const LATE: Mono = Mono(Duration::from_millis(10_001));

    const STOP: Step = Step { next: Next::Stop, count: None };
    const SEND: Step = Step { next: Next::Send, count: None };

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    /// The event of an answer as [`super::super::exchange`] makes it.
    fn answered(code: u16, retry_after: Option<u64>) -> Event {
        let failure = Failure::of_status(status(code), || retry_after.map(Duration::from_secs));
        failure.map_or(Event::Answered(status(code)), failed)
    }

    /// A failure after which the wait is half of the longest.
    fn failed(failure: Failure) -> Event {
        Event::Failed { failure, is_trial: false, random: 0.5 }
    }

    fn error(kind: Kind, sent: Sent) -> Event {
        failed(Failure::Error(kind, sent))
    }

    fn withdrawn(step: Step) -> Option<Retry> {
        if let Next::Withdraw(retry) = step.next { Some(retry) } else { None }
    }

    /// Sends the failed call again, and checks each step on the way.
    fn retried(attempts: &mut Attempts, failure: Event) -> Retry {
        let retry = withdrawn(attempts.after(failure, EARLY)).expect("a retry");
        let wait = Step { next: Next::Wait(retry), count: None };
        assert_eq!(attempts.after(Event::Budget(retry, true), EARLY), wait);
        assert_eq!(attempts.after(Event::Waited(retry, true), EARLY), SEND);
        retry
    }

    /// Each result of an attempt, whether the calls of [`CALLS`] are sent again after it, and whether the attempt may
    /// have had its effect.
    fn results() -> Vec<(Event, [bool; 4], bool)> {
        let (all, none, harmless) = ([true; 4], [false; 4], [true, true, false, false]);
        let mut results = vec![
            (answered(502, None), harmless, true),
            (answered(503, None), harmless, true),
            (answered(503, Some(0)), harmless, true),
            (answered(503, Some(1)), harmless, true),
            (answered(503, Some(2)), none, true),
            (answered(504, None), harmless, true),
        ];
        // A 401 here is one to a call without a token.
        for code in [101, 200, 201, 204, 301, 304, 400, 401, 403, 404, 408, 409, 422, 429, 500, 501, 505, 599] {
            results.push((answered(code, Some(0)), none, false));
        }
        for kind in [
            Kind::Dns,
            Kind::ConnectionRefused,
            Kind::ConnectionFailed,
            Kind::ConnectTimeout,
            Kind::EgressProxy,
            Kind::TlsCertificate,
            Kind::Tls,
            Kind::StreamLimit,
            Kind::Timeout,
            Kind::Reset,
            Kind::HeadTooLarge,
            Kind::Protocol,
            Kind::Body,
        ] {
            let passes = match kind {
                Kind::Dns | Kind::ConnectionRefused | Kind::ConnectionFailed | Kind::ConnectTimeout => true,
                Kind::EgressProxy | Kind::Reset | Kind::Body => true,
                Kind::TlsCertificate | Kind::Tls | Kind::StreamLimit | Kind::Timeout => false,
                Kind::HeadTooLarge | Kind::Protocol => false,
            };
            results.push((error(kind, Sent::No), if passes { all } else { none }, false));
            results.push((error(kind, Sent::Maybe), if passes { harmless } else { none }, true));
        }
        results
    }

    #[test]
    fn every_result_of_every_call() {
        for (event, again, effect) in results() {
            for (call, again) in CALLS.into_iter().zip(again) {
                let what = format!("{call:?} after {event:?}");
                let mut attempts = Attempts::new(call, LATEST);
                if !again {
                    assert_eq!(attempts.after(event, EARLY), STOP, "{what}");
                    assert_eq!(attempts.doubt, None, "{what}");
                    continue;
                }
                let retry = retried(&mut attempts, event);
                let reason = retry.failure.as_str();
                assert_eq!((retry.number, attempts.doubt), (1, Some(reason).filter(|_| effect)), "{what}");
                // The second attempt fails alike: its result is counted, and the call is sent a third time.
                let second = attempts.after(event, EARLY);
                assert_eq!(second.count, Some((reason, "failure")), "{what}");
                let retry = withdrawn(second).expect("a retry");
                attempts.after(Event::Budget(retry, true), EARLY);
                assert_eq!(attempts.after(Event::Waited(retry, true), EARLY), SEND, "{what}");
                let third = Step { next: Next::Stop, count: Some((reason, "failure")) };
                assert_eq!(attempts.after(event, EARLY), third, "{what}: three attempts are all");
            }
        }
    }

    #[test]
    fn a_write_without_a_key_is_not_sent_again_once_it_may_have_had_its_effect() {
        for (event, _, _) in results().into_iter().filter(|(_, _, effect)| *effect) {
            for call in [RetrySafety::Unkeyed, RetrySafety::DestructiveRead] {
                assert_eq!(Attempts::new(call, LATEST).after(event, EARLY), STOP, "{call:?} after {event:?}");
                // The same after an attempt of which nothing arrived.
                let mut attempts = Attempts::new(call, LATEST);
                retried(&mut attempts, error(Kind::ConnectionRefused, Sent::No));
                assert_eq!(attempts.after(event, EARLY).next, Next::Stop, "{call:?} after {event:?}");
                // The same after a replay.
                let mut attempts = Attempts::new(call, LATEST);
                attempts.after(Event::Unauthorized(1), EARLY);
                attempts.after(Event::Renewed, EARLY);
                assert_eq!(attempts.after(event, EARLY), STOP, "{call:?} after a replay and {event:?}");
            }
        }
    }

    #[test]
    fn a_refused_token_is_renewed_once_whatever_the_call() {
        let renew = |generation| Step { next: Next::Renew(generation), count: None };
        for call in CALLS {
            let mut attempts = Attempts::new(call, LATEST);
            assert_eq!(attempts.after(Event::Unauthorized(7), EARLY), renew(7), "{call:?}");
            assert_eq!(attempts.after(Event::Renewed, EARLY), SEND, "{call:?}");
            assert_eq!(attempts.after(Event::Unauthorized(8), EARLY), STOP, "{call:?}: a second 401");
            assert_eq!(attempts.doubt, None, "{call:?}: a refused call had no effect");

            for (event, now) in [(Event::NotRenewed, EARLY), (Event::Renewed, LATEST), (Event::Renewed, LATE)] {
                let mut attempts = Attempts::new(call, LATEST);
                attempts.after(Event::Unauthorized(7), EARLY);
                assert_eq!(attempts.after(event, now), STOP, "{call:?}: {event:?} at {now:?}");
            }
        }
    }

    #[test]
    fn a_replay_is_no_retry() {
        let unsent = error(Kind::ConnectionRefused, Sent::No);
        let counted = |result, next| Step { next, count: Some(("connection_refused", result)) };
        for (last, result) in [(200, "success"), (404, "success"), (500, "failure")] {
            let mut attempts = Attempts::new(RetrySafety::Unkeyed, LATEST);
            retried(&mut attempts, unsent);
            let renew = Step { next: Next::Renew(1), count: None };
            assert_eq!(attempts.after(Event::Unauthorized(1), EARLY), renew, "nothing is counted yet");
            assert_eq!(attempts.after(Event::Renewed, EARLY), SEND);
            assert_eq!(attempts.after(answered(last, None), EARLY), counted(result, Next::Stop), "{last}");
        }
        // Three attempts and a replay.
        let mut attempts = Attempts::new(RetrySafety::Keyed, LATEST);
        attempts.after(Event::Unauthorized(1), EARLY);
        attempts.after(Event::Renewed, EARLY);
        assert_eq!([1, 2].map(|_| retried(&mut attempts, unsent).number), [1, 2]);
        assert_eq!(attempts.after(unsent, EARLY), counted("failure", Next::Stop));
        // A retry that ends in a lasting 401 counts as a success.
        for event in [Event::Unauthorized(2), Event::NotRenewed, Event::Renewed] {
            let mut attempts = Attempts::new(RetrySafety::Safe, LATEST);
            if event == Event::Unauthorized(2) {
                attempts.after(Event::Unauthorized(1), EARLY);
                attempts.after(Event::Renewed, EARLY);
            }
            retried(&mut attempts, unsent);
            if event != Event::Unauthorized(2) {
                attempts.after(Event::Unauthorized(1), EARLY);
            }
            assert_eq!(attempts.after(event, LATE), counted("success", Next::Stop), "{event:?}");
        }
    }

    #[test]
    fn a_trial_is_sent_once() {
        for (event, _, _) in results() {
            let Event::Failed { failure, random, .. } = event else { continue };
            for call in CALLS {
                let event = Event::Failed { failure, is_trial: true, random };
                assert_eq!(Attempts::new(call, LATEST).after(event, EARLY), STOP, "{call:?} after {event:?}");
            }
        }
    }

    #[test]
    fn without_budget_permit_or_time_the_result_stands() {
        let reset = error(Kind::Reset, Sent::Maybe);
        for call in [RetrySafety::Safe, RetrySafety::Keyed] {
            let mut attempts = Attempts::new(call, LATEST);
            let retry = withdrawn(attempts.after(reset, EARLY)).expect("a retry");
            let broke = Step { next: Next::Stop, count: Some(("reset", "no_budget")) };
            assert_eq!(attempts.after(Event::Budget(retry, false), EARLY), broke);
            assert_eq!(attempts.doubt, None, "the attempt that stands says itself what it may have done");

            for (allowed, now, step) in [(true, LATEST, SEND), (true, LATE, STOP), (false, EARLY, STOP)] {
                let mut attempts = Attempts::new(call, LATEST);
                attempts.after(reset, EARLY);
                assert_eq!(attempts.after(Event::Waited(retry, allowed), now), step, "{allowed} at {now:?}");
                assert_eq!(attempts.doubt, Some("reset").filter(|_| step == SEND), "{allowed} at {now:?}");
            }
        }
    }

    #[test]
    fn a_wait_that_ends_too_late_is_not_begun() {
        let at = |millis| Mono(Duration::from_millis(millis));
        // Half of 50 ms, then half of 100 ms.
        let reset = error(Kind::Reset, Sent::Maybe);
        for (now, waits) in [(9_975, true), (9_976, false)] {
            let step = Attempts::new(RetrySafety::Safe, LATEST).after(reset, at(now));
            assert_eq!(withdrawn(step).map(|retry| retry.wait.as_millis()), waits.then_some(25), "at {now}");
        }
        let mut attempts = Attempts::new(RetrySafety::Safe, LATEST);
        retried(&mut attempts, reset);
        let late = Step { next: Next::Stop, count: Some(("reset", "failure")) };
        assert_eq!(attempts.after(reset, at(9_951)), late);
        // Sezzle's own wait counts too.
        for (now, waits) in [(9_000, true), (9_001, false)] {
            let step = Attempts::new(RetrySafety::Safe, LATEST).after(answered(503, Some(1)), at(now));
            assert_eq!(withdrawn(step).map(|retry| retry.wait.as_millis()), waits.then_some(1000), "at {now}");
        }
    }

    #[test]
    fn the_first_doubt_stays() {
        let mut attempts = Attempts::new(RetrySafety::Keyed, LATEST);
        retried(&mut attempts, error(Kind::ConnectionRefused, Sent::No));
        assert_eq!(attempts.doubt, None);
        retried(&mut attempts, answered(502, None));
        assert_eq!(attempts.doubt, Some("bad_gateway"));
        let last = Step { next: Next::Stop, count: Some(("bad_gateway", "failure")) };
        assert_eq!(attempts.after(error(Kind::Reset, Sent::Maybe), EARLY), last);
        assert_eq!(attempts.doubt, Some("bad_gateway"));
    }
}
