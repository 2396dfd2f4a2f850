//! Remarks on the answers to callers, whether the sidecar, Sezzle or a caller is the cause.

use super::condition::Condition;
use super::remark::Remark;
use crate::status::counts::Timed;
use crate::status::quantile::{Quantile, quantile};
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, counted, duration};

pub(super) fn lookups_failing(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(5);
    let text = format!(
        "{} of {} lookups of the last {} were answered 500, 502, 503 or 504, by the sidecar or by Sezzle.",
        count(lately.failed_reads.into()),
        count(lately.reads.into()),
        duration(length)
    );
    // Of fewer than 3 lookups a minute, a share of failures tells nothing.
    let is_share = lately.reads >= 15 && lately.failed_reads.saturating_mul(20) > lately.reads;
    is_share.then(|| Remark::notice(Condition::LookupsFailing, text))
}

/// One remark for each kind of call whose callers wait long.
pub(super) fn slow(s: &Snapshot) -> impl Iterator<Item = Remark> {
    let (lately, length) = s.hour.lately(5);
    SLOW.into_iter().filter_map(move |(timed, limit)| {
        let within = quantile(&lately.durations(timed), 0.99)?;
        let (Quantile::About(seconds) | Quantile::Above(seconds)) = within;
        let text = format!(
            "One in a hundred took {within} or longer in the last {}: {}.",
            duration(length),
            timed.as_str().to_lowercase()
        );
        (seconds > limit).then(|| Remark::notice(Condition::SlowAnswers, text))
    })
}

/// Refused requests: a service is set up wrongly, or somebody tries calls that are not allowed. As for the alert, a few
/// such requests need no attention.
pub(super) fn refused(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(15);
    let text = format!(
        "In the last {} the sidecar refused {} of unknown callers, and {} that known callers may not make.",
        duration(length),
        counted(lately.unknown_callers, "request", "requests"),
        counted(lately.forbidden_calls, "call", "calls"),
    );
    let refused = lately.unknown_callers.saturating_add(lately.forbidden_calls);
    (refused > 2).then(|| Remark::notice(Condition::CallersRefused, text))
}

pub(super) fn secrets_not_used(s: &Snapshot) -> Option<Remark> {
    let text = format!(
        "The secrets of {} have changed, and the sidecar cannot use them. Those before them stay in use; the log has the \
         reason.",
        counted(s.caller_secrets_unusable, "caller", "callers"),
    );
    (s.caller_secrets_unusable > 0).then(|| Remark::notice(Condition::CallerSecretsNotUsed, text))
}

/// The kinds of calls with the longest usual time of each, in seconds. Reports may take minutes.
const SLOW: [(Timed, f64); 3] = [(Timed::Lookups, 5.0), (Timed::Reads, 5.0), (Timed::Writes, 15.0)];
