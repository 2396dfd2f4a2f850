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
