//! Remarks on the calls to Sezzle.

use std::cmp::Reverse;
use std::time::Duration;

use super::condition::Condition;
use super::remark::{Level, Remark};
use crate::status::counts::Counts;
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, counted, duration, time};
use crate::telemetry::metrics::SHED_REASONS;
use crate::upstream::error::ErrorKind;

/// The verdict on the calls to Sezzle of the last minutes.
pub fn gateway(s: &Snapshot) -> Remark {
    let (lately, length) = s.hour.lately(LATELY);
    let (calls, failed) = (lately.calls(), lately.failed());
    let counted = summary(&lately, length);
    let open: Vec<&str> = s.classes.iter().filter(|state| state.is_broken()).map(|state| state.class).collect();
    let remark = |level, text| Remark { condition: Condition::SezzleFailing, level, text };
    if !open.is_empty() {
        let classes = open.join(", ");
        // An open breaker stays open until a call arrives that may serve as its trial.
        return if failed == 0 && lately.shed(&["circuit_open"]) == 0 {
            let text = format!("Calls failed earlier, and the next call of {classes} is a trial. {counted}");
            remark(Level::Notice, text)
        } else {
            let text = format!("Sezzle fails: the circuit breaker is open for {classes}. {counted}");
            remark(Level::Trouble, text)
        };
    }
    match failed {
        0 => remark(Level::Well, counted),
        _ if failed.saturating_mul(2) >= calls => remark(Level::Trouble, format!("Calls to Sezzle fail: {counted}")),
        _ => remark(Level::Notice, format!("Calls to Sezzle fail: {counted}")),
    }
}

// The alerts on the share of failed calls look at five minutes, too.
const LATELY: u64 = 5;

/// The calls of a time in one sentence. A 429 is an answer, and not a failure.
fn summary(counts: &Counts, length: Duration) -> String {
    let (calls, failed, throttled) = (counts.calls(), counts.failed(), counts.throttled);
    let time = format!("of the last {}", duration(length));
    match (calls, failed, throttled) {
        (0, _, _) => format!("No call was made in the last {}.", duration(length)),
        (1, 0, 0) => format!("The one call {time} was answered."),
        (1, 0, _) => format!("The one call {time} was answered 429: Sezzle asks for fewer calls."),
        (_, 0, 0) => format!("All {} calls {time} were answered.", count(calls.into())),
        (_, 0, _) => {
            let (calls, throttled) = (count(calls.into()), count(throttled.into()));
            format!("Of the {calls} calls {time}, none failed, and {throttled} got 429: Sezzle asks for fewer calls.")
        }
        (_, _, _) => {
            let mut kinds: Vec<_> = ErrorKind::WORDS.into_iter().zip(counts.errors).collect();
            kinds.push(("5xx", counts.failures));
            kinds.sort_by_key(|(_, count)| Reverse(*count));
            let why = kinds.first().map_or(String::new(), |(kind, _)| format!(", most often: {kind}"));
            let also = if throttled > 0 { format!(", and {} got 429", count(throttled.into())) } else { String::new() };
            format!("{} of {} calls {time} failed{why}{also}.", count(failed.into()), count(calls.into()))
        }
    }
}

pub(super) fn held(s: &Snapshot) -> Option<Remark> {
    let asked: Vec<String> = s
        .classes
        .iter()
        .filter_map(|state| Some(format!("{} until {}", state.class, time(state.held_until?, s.now))))
        .collect();
    let text = format!("Sezzle asked for fewer calls (429), so the sidecar sends none of class {}.", asked.join(", "));
    (!asked.is_empty()).then(|| Remark::notice(Condition::RateLimited, text))
}

/// Calls that were not sent, except for calls that move money, which have a remark of their own.
pub(super) fn shed(s: &Snapshot) -> Option<Remark> {
    let shed = s.hour.total.shed(&SHED_REASONS).saturating_sub(s.hour.total.money_shed);
    let calls = counted(shed, "call that moves no money was", "calls that move no money were");
    (shed > 0).then(|| Remark::notice(Condition::CallsShed, format!("{calls} not sent in the last hour.")))
}

/// Members of Sezzle's bodies that are missing or have another form. A member that Sezzle adds needs no attention.
pub(super) fn drift(s: &Snapshot) -> Option<Remark> {
    let text = format!(
        "In {} bodies of Sezzle's had another shape than documented in the last hour. The log names each member.",
        counted(s.hour.total.drift, "place", "places")
    );
    (s.hour.total.drift > 0).then(|| Remark::notice(Condition::ContractDrift, text))
}
