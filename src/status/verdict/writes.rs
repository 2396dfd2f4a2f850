//! Remarks on writes.

use super::condition::Condition;
use super::remark::Remark;
use crate::status::snapshot::Snapshot;
use crate::status::words::{counted, duration};

pub(super) fn unknown(s: &Snapshot) -> Option<Remark> {
    let writes = counted(s.hour.total.unknown, "write", "writes");
    let text = format!(
        "The outcome of {writes} of the last hour is not known (outcome_unknown). Find out what became of each \
         before anybody repeats it under another key."
    );
    (s.hour.total.unknown > 0).then(|| Remark::trouble(Condition::OutcomeUnknown, text))
}

pub(super) fn in_doubt(s: &Snapshot) -> Option<Remark> {
    let writes = counted(s.hour.total.in_doubt, "write", "writes");
    let text = format!(
        "In the last hour {writes} did not succeed after an attempt that may have had its effect (refused_in_doubt)."
    );
    (s.hour.total.in_doubt > 0).then(|| Remark::notice(Condition::RefusedInDoubt, text))
}

/// Writes that were not sent for want of a permit: trouble while the alert may fire, and a notice for the rest of the
/// hour.
pub(super) fn shed(s: &Snapshot) -> Option<Remark> {
    let calls = counted(s.hour.total.money_shed, "call that moves money was", "calls that move money were");
    let text = format!("{calls} turned away in the last hour: callers got 503, and nothing was sent.");
    let say = if s.hour.lately(5).0.money_shed > 0 { Remark::trouble } else { Remark::notice };
    (s.hour.total.money_shed > 0).then(|| say(Condition::MoneyShed, text))
}

/// Writes without a line in the audit, and writes that were refused because their line could not be written.
pub(super) fn unaudited(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(15);
    let text = format!(
        "The audit file did not get {} of the last {} in time. The log says why.",
        counted(lately.audit_missing, "line", "lines"),
        duration(length)
    );
    (lately.audit_missing > 0).then(|| Remark::trouble(Condition::AuditFailing, text))
}

/// Writes that the sidecar answered with a 503 of its own, for any reason.
pub(super) fn not_sent(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(5);
    let text = format!(
        "Callers got 503 for {} of the last {}, and Sezzle has received none of them.",
        counted(lately.writes_not_sent, "write", "writes"),
        duration(length)
    );
    (lately.writes_not_sent > 0).then(|| Remark::trouble(Condition::WritesNotSent, text))
}
