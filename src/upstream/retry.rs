//! Decides whether a request is sent again, and when. Pure.
//!
//! The decision depends on the effect of sending the request twice. A 401 is handled elsewhere: Sezzle did not process
//! such a request, so it is sent again with a new token, whatever the call.

use std::time::Duration;

use http::StatusCode;

use super::error::{ErrorKind, Sent};
use super::window::Window;
use crate::clock::Mono;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetrySafety {
    /// A safe method (RFC 9110, 9.2.1): no effect, however often the call is sent.
    Safe,
    /// A write with `Sezzle-Request-Id`, to a call that documents this header: one effect, however often sent.
    Keyed,
    /// Any other write: the effect may occur each time the call is sent.
    Unkeyed,
    /// A read that deletes what it returns: a second one finds nothing.
    DestructiveRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no response, or an incomplete one.
    Error(ErrorKind, Sent),
    /// The gateway answered that it, or a server behind it, cannot answer now; with its `Retry-After`.
    Status(StatusCode, Option<Duration>),
}

impl Failure {
    /// Reads a response's status. Some statuses mean that the answer may differ in a moment.
    pub fn of_status(status: StatusCode, retry_after: impl FnOnce() -> Option<Duration>) -> Option<Self> {
        matches!(status.as_u16(), 502..=504).then(|| Self::Status(status, retry_after()))
    }

    /// Whether the failed attempt may have had its effect.
    pub fn may_have_had_effect(self) -> bool {
        match self {
            Self::Error(_, sent) => sent == Sent::Maybe,
            // The status comes from a load balancer, which may not know what the gateway behind it did or will do.
            Self::Status(..) => true,
        }
    }

    /// The failure's value in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error(kind, _) => kind.as_str(),
            Self::Status(StatusCode::BAD_GATEWAY, _) => "bad_gateway",
            Self::Status(StatusCode::GATEWAY_TIMEOUT, _) => "gateway_timeout",
            Self::Status(..) => "unavailable",
        }
    }

    /// The value of every failure after which a call may be sent again.
    pub fn reasons() -> impl Iterator<Item = &'static str> {
        let statuses = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let statuses = statuses.map(|status| Self::Status(status, None));
        let errors = ErrorKind::ALL.map(|kind| Self::Error(kind, Sent::No));
        errors.into_iter().chain(statuses).filter(|failure| failure.may_pass()).map(Self::as_str)
    }

    /// Whether the next attempt may succeed.
    fn may_pass(self) -> bool {
        match self {
            Self::Error(kind, _) => match kind {
                ErrorKind::Dns
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionFailed
                | ErrorKind::ConnectTimeout
                | ErrorKind::EgressProxy
                | ErrorKind::Reset
                | ErrorKind::Body => true,
                // The peer is not, or no longer, the trusted gateway.
                ErrorKind::TlsCertificate | ErrorKind::Tls => false,
                // The call's time is over.
                ErrorKind::Timeout | ErrorKind::StreamLimit => false,
                // A peer that violates the protocol may be anything.
                ErrorKind::Protocol => false,
                // The next response would be as large.
                ErrorKind::HeadTooLarge => false,
            },
            // A longer wait than the sidecar's own is for the caller to decide.
            Self::Status(_, retry_after) => retry_after.is_none_or(|wait| wait <= LONGEST_WAIT),
        }
    }
}

/// Whether the call is sent again after its attempt number `attempt`, counted from 1, failed.
pub fn is_repeated(retry_safety: RetrySafety, failure: Failure, attempt: u32) -> bool {
    let harmless = match retry_safety {
        RetrySafety::Safe | RetrySafety::Keyed => true,
        RetrySafety::Unkeyed | RetrySafety::DestructiveRead => !failure.may_have_had_effect(),
    };
    harmless && attempt < ATTEMPTS && failure.may_pass()
}

/// The wait before the next attempt when number `attempt` failed; `random` lies in 0 … 1. The whole wait is random, so
/// that callers who failed together do not return together.
pub fn back_off(attempt: u32, failure: Failure, random: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    let wait = doubled.min(LONGEST_WAIT).mul_f64(random.clamp(0.0, 1.0));
    match failure {
        Failure::Status(_, Some(retry_after)) => wait.max(retry_after),
        Failure::Status(_, None) | Failure::Error(..) => wait,
    }
}

/// How much of its time a call must still have when it is sent. With less, no response can be expected in time, and a
/// write would end with an unknown outcome. `total` is the time of the whole call.
pub fn reserve(total: Duration) -> Duration {
    LEAST.min(total / 4)
}

const LEAST: Duration = Duration::from_millis(250);

/// How often a call is sent at most, not counting the replay after a 401.
pub const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Limits the load that retries add to a failing gateway: at most a fifth of the requests of the last ten seconds,
/// and 3 more for each second, may be repeated.
#[derive(Debug, Default)]
pub struct Budget(Window);

impl Budget {
    /// Counts a request that is sent for the first time.
    pub fn deposit(&mut self, now: Mono) {
        self.0.count(now, false);
    }

    /// Reserves one retry, if there is room.
    pub fn withdraw(&mut self, now: Mono) -> bool {
        let sums = self.0.sums(now);
        let requests = sums.all.saturating_sub(sums.marked);
        let allowed = sums.marked < ALWAYS.saturating_add(requests / SHARE);
        if allowed {
            self.0.count(now, true);
        }
        allowed
    }
}

const ALWAYS: u32 = 30;
const SHARE: u32 = 5;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const CALLS: [RetrySafety; 4] =
        [RetrySafety::Safe, RetrySafety::Keyed, RetrySafety::Unkeyed, RetrySafety::DestructiveRead];

    /// All failures, and which of [`CALLS`] are repeated after each.
    fn table() -> Vec<(Failure, [bool; 4])> {
        use ErrorKind as Kind;
        let (all, none, harmless) = ([true; 4], [false; 4], [true, true, false, false]);
        let status = |code, retry_after: Option<u64>| {
            let status = StatusCode::from_u16(code).expect("a status");
            Failure::of_status(status, || retry_after.map(Duration::from_secs)).expect("a failure")
        };
        vec![
            (Failure::Error(Kind::Dns, Sent::No), all),
            (Failure::Error(Kind::ConnectionRefused, Sent::No), all),
            (Failure::Error(Kind::ConnectionFailed, Sent::No), all),
            (Failure::Error(Kind::ConnectTimeout, Sent::No), all),
            (Failure::Error(Kind::EgressProxy, Sent::No), all),
            (Failure::Error(Kind::TlsCertificate, Sent::No), none),
            (Failure::Error(Kind::Tls, Sent::No), none),
            (Failure::Error(Kind::StreamLimit, Sent::No), none),
            (Failure::Error(Kind::Timeout, Sent::No), none),
            (Failure::Error(Kind::Timeout, Sent::Maybe), none),
            (Failure::Error(Kind::Reset, Sent::No), all),
            (Failure::Error(Kind::Reset, Sent::Maybe), harmless),
            (Failure::Error(Kind::Body, Sent::Maybe), harmless),
            (Failure::Error(Kind::HeadTooLarge, Sent::Maybe), none),
            (Failure::Error(Kind::Protocol, Sent::No), none),
            (Failure::Error(Kind::Protocol, Sent::Maybe), none),
            (status(502, None), harmless),
            (status(503, None), harmless),
            (status(504, None), harmless),
            (status(503, Some(0)), harmless),
            (status(503, Some(1)), harmless),
            (status(503, Some(2)), none),
            (status(502, Some(3600)), none),
        ]
    }

    #[test]
    fn every_call_failure_and_attempt() {
        for (failure, repeated) in table() {
            for (call, repeated) in CALLS.into_iter().zip(repeated) {
                for attempt in 1..=4 {
                    let expected = repeated && attempt < 3;
                    assert_eq!(is_repeated(call, failure, attempt), expected, "{call:?} {failure:?} attempt {attempt}");
                }
            }
        }
    }

    #[test]
    fn a_write_without_a_key_is_never_repeated_once_it_may_have_had_its_effect() {
        for (failure, _) in table() {
            if failure.may_have_had_effect() {
                assert!(!is_repeated(RetrySafety::Unkeyed, failure, 1), "{failure:?}");
                assert!(!is_repeated(RetrySafety::DestructiveRead, failure, 1), "{failure:?}");
            }
        }
    }

    #[test]
    fn what_is_repeated_has_a_series_from_the_start() {
        let repeated = table().into_iter().filter(|(failure, _)| is_repeated(RetrySafety::Safe, *failure, 1));
        let reasons: HashSet<&str> = repeated.map(|(failure, _)| failure.as_str()).collect();
        assert_eq!(reasons, Failure::reasons().collect());
    }

    #[test]
    fn other_answers_are_answers() {
        for code in [100, 200, 201, 204, 304, 400, 401, 404, 408, 409, 422, 429, 500, 501, 505] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(Failure::of_status(status, || None), None, "{code}");
        }
    }

    #[test]
    fn waits_grow_and_are_all_random() {
        let failure = Failure::Error(ErrorKind::Reset, Sent::Maybe);
        let longest: Vec<u128> =
            (1..8).chain([40, u32::MAX]).map(|attempt| back_off(attempt, failure, 1.0).as_millis()).collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1000, 1000, 1000, 1000]);
        assert_eq!(back_off(7, failure, 0.0), Duration::ZERO);
        assert_eq!(back_off(1, failure, 0.5), Duration::from_millis(25));
        let told = Failure::Status(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(1)));
        assert_eq!(back_off(1, told, 0.0), Duration::from_secs(1));
    }

    #[test]
    fn a_call_keeps_time_for_its_answer() {
        let milliseconds = [0, 100, 900, 1000, 1001, 30_000];
        let reserved = milliseconds.map(|total| reserve(Duration::from_millis(total)).as_millis());
        assert_eq!(reserved, [0, 25, 225, 250, 250, 250]);
    }

    #[test]
    fn repeating_is_bounded_by_the_traffic() {
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let mut budget = Budget::default();
        let withdrawn = |budget: &mut Budget, now| (0..1000).take_while(|_| budget.withdraw(at(now))).count();
        assert_eq!(withdrawn(&mut budget, 0), 30, "without any traffic, 3 for each second");
        for _ in 0..100 {
            budget.deposit(at(5));
        }
        assert_eq!(withdrawn(&mut budget, 5), 20, "and a fifth of the requests");
        assert_eq!(withdrawn(&mut budget, 10), 30, "what is ten seconds old is forgotten");
        assert_eq!(withdrawn(&mut budget, 15), 0, "and the requests with it, but not what was repeated since");
        assert_eq!(withdrawn(&mut budget, 20), 30);
    }
}
