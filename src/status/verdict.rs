//! The remarks on what an operator should look at. Pure.

use std::cmp::Reverse;
use std::time::Duration;

use super::history::PART;
use super::snapshot::{Breaker, Snapshot};
use super::words::{counted, duration, time};
use crate::telemetry::metrics::SHED_REASONS;
use crate::upstream::error::ErrorKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Well,
    /// Worth a look.
    Notice,
    /// The operator or Sezzle has to act.
    Trouble,
}

/// A remark on the state, in one or two sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub level: Level,
    pub text: String,
}

impl Remark {
    fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into() }
    }
}

/// All problems, the worst first.
pub fn remarks(s: &Snapshot) -> Vec<Remark> {
    let mut remarks: Vec<Remark> =
        [readiness(s), token(s), Some(gateway(s)), held(s), unknown(s), in_doubt(s), shed(s), fleet(s)]
            .into_iter()
            .flatten()
            .filter(|remark| remark.level > Level::Well)
            .collect();
    remarks.sort_by_key(|remark| Reverse(remark.level));
    remarks
}

/// The verdict on the calls to Sezzle of the last minutes.
pub fn gateway(s: &Snapshot) -> Remark {
    let lately = s.hour.latest(LATELY);
    let (calls, failed) = (lately.calls(), lately.failed());
    let minutes = PART.as_secs() / 60 * u64::try_from(LATELY).unwrap_or_default();
    let open: Vec<&str> =
        s.classes.iter().filter(|state| state.breaker != Breaker::Closed).map(|state| state.class).collect();
    let counted = match (calls, failed) {
        (0, _) => format!("No call was made in the last {minutes} minutes."),
        (1, 0) => format!("The one call of the last {minutes} minutes was answered."),
        (_, 0) => format!("All {calls} calls of the last {minutes} minutes were answered."),
        (_, _) => {
            let mut kinds: Vec<_> =
                ErrorKind::WORDS.iter().zip(lately.errors).filter(|(_, count)| *count > 0).collect();
            kinds.sort_by_key(|(_, count)| Reverse(*count));
            let why = kinds.first().map_or(String::new(), |(kind, _)| format!(", most often: {kind}"));
            format!("{failed} of {calls} calls of the last {minutes} minutes failed{why}.")
        }
    };
    if !open.is_empty() {
        let classes = open.join(", ");
        // An open breaker stays open until a call arrives that may serve as its trial.
        return if failed == 0 && lately.shed(&["circuit_open"]) == 0 {
            Remark::new(
                Level::Notice,
                format!("Calls failed earlier, and the next call of {classes} is a trial. {counted}"),
            )
        } else {
            Remark::new(Level::Trouble, format!("Sezzle fails: the circuit breaker is open for {classes}. {counted}"))
        };
    }
    let level = match failed {
        0 => Level::Well,
        _ if failed.saturating_mul(2) >= calls => Level::Trouble,
        _ => Level::Notice,
    };
    Remark::new(level, if level == Level::Well { counted } else { format!("Calls to Sezzle fail: {counted}") })
}

// The current part and the two before it: between four and six minutes.
const LATELY: usize = 3;

fn readiness(s: &Snapshot) -> Option<Remark> {
    let level = if s.draining { Level::Notice } else { Level::Trouble };
    s.unready.map(|why| Remark::new(level, format!("Not ready: {why}.")))
}

fn token(s: &Snapshot) -> Option<Remark> {
    match (s.token.left, s.token.failure) {
        (Some(_), None) => None,
        (Some((left, _)), Some(why)) => {
            let left = duration(left);
            Some(Remark::new(Level::Notice, format!("No new token: {why}. The token in use lasts another {left}.")))
        }
        // The readiness remark gives this reason already.
        (None, _) if s.unready.is_some() => None,
        (None, why) => {
            let why = why.unwrap_or("the sidecar is getting a new one");
            Some(Remark::new(Level::Trouble, format!("There is no live token, so the sidecar sends no call: {why}.")))
        }
    }
}

fn held(s: &Snapshot) -> Option<Remark> {
    let asked: Vec<String> = s
        .classes
        .iter()
        .filter_map(|state| Some(format!("{} until {}", state.class, time(state.held_until?, s.now))))
        .collect();
    let text = format!("Sezzle asked for fewer calls (429), so the sidecar sends none of class {}.", asked.join(", "));
    (!asked.is_empty()).then(|| Remark::new(Level::Notice, text))
}

fn unknown(s: &Snapshot) -> Option<Remark> {
    let writes = counted(s.hour.total.unknown, "write", "writes");
    let text = format!(
        "The outcome of {writes} of the last hour is not known (outcome_unknown). Find out what became of each \
         before anybody repeats it under another key."
    );
    (s.hour.total.unknown > 0).then(|| Remark::new(Level::Trouble, text))
}

fn in_doubt(s: &Snapshot) -> Option<Remark> {
    let writes = counted(s.hour.total.in_doubt, "write", "writes");
    let text = format!(
        "In the last hour {writes} did not succeed after an attempt that may have had its effect (refused_in_doubt)."
    );
    (s.hour.total.in_doubt > 0).then(|| Remark::new(Level::Notice, text))
}

fn fleet(s: &Snapshot) -> Option<Remark> {
    let link = s.fleet.as_ref().filter(|link| link.age >= OVERDUE)?;
    let mut text = format!(
        "The log of the fleet has not been read for {} ({}), so changes through other sidecars may show late.",
        duration(link.age),
        link.state
    );
    if link.unpublished > 0 {
        let changes = u32::try_from(link.unpublished).unwrap_or(u32::MAX);
        text.push_str(&format!(" Other sidecars may not know of {} here.", counted(changes, "change", "changes")));
    }
    Some(Remark::new(Level::Notice, text))
}

// A failover takes up to five seconds and ends by itself.
const OVERDUE: Duration = Duration::from_secs(10);

fn shed(s: &Snapshot) -> Option<Remark> {
    let shed = s.hour.total.shed(&SHED_REASONS);
    let calls = counted(shed, "call was", "calls were");
    (shed > 0).then(|| Remark::new(Level::Notice, format!("{calls} not sent in the last hour, see below.")))
}
