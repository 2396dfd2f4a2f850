//! Remarks on the process itself: connections, log, configuration and tasks.

use std::time::Duration;

use super::condition::Condition;
use super::remark::Remark;
use crate::status::snapshot::Snapshot;
use crate::status::words::{ago, count, counted, duration};
use crate::telemetry::metrics::ConfigReload;

/// One remark for each listener that is almost full.
pub(super) fn connections(s: &Snapshot) -> impl Iterator<Item = Remark> {
    // Above four fifths of the limit, as for the alert.
    let near = s.listeners.iter().filter(|one| one.connections.saturating_mul(5) > one.limit.saturating_mul(4));
    near.map(|one| {
        let text = format!(
            "The {} listener is almost full: {} of {} connections are open. Further ones get 503.",
            one.name,
            count(one.connections),
            count(one.limit)
        );
        Remark::notice(Condition::ConnectionsNearLimit, text)
    })
}

pub(super) fn log_lost(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(15);
    let text = format!(
        "The log lost {} in the last {}: the reader of standard output is too slow, or has stopped.",
        counted(lately.log_lost, "line", "lines"),
        duration(length)
    );
    (lately.log_lost > 0).then(|| Remark::notice(Condition::LogLost, text))
}

pub(super) fn reload(s: &Snapshot) -> Option<Remark> {
    let failed = s.configuration.last.filter(|(_, how)| *how == ConfigReload::Failed).map(|(when, _)| {
        let text = format!(
            "The last reload failed, {}: the configuration before it stays in force. The log has every mistake.",
            ago(when, s.now)
        );
        Remark::notice(Condition::ReloadFailed, text)
    });
    failed.or_else(|| {
        let keys = s.configuration.waiting.join(", ");
        let text = format!("Changes of these keys wait for a restart: {keys}.");
        (!keys.is_empty()).then(|| Remark::notice(Condition::RestartNeeded, text))
    })
}

pub(super) fn restarted(s: &Snapshot) -> Option<Remark> {
    let restarts = s.hour.total.task_restarts;
    let text = format!(
        "{} panicked in the last hour and started again. The log has the reason; please report it.",
        counted(restarts, "task", "tasks")
    );
    (restarts > 0).then(|| Remark::notice(Condition::TaskRestarted, text))
}

/// One remark for each certificate that ends soon, or has ended.
pub(super) fn certificates(s: &Snapshot) -> impl Iterator<Item = Remark> {
    let soon = s.certificates.iter().filter(|one| one.not_after.since(s.now) < SOON);
    soon.map(|one| {
        let text = match one.not_after.since(s.now) {
            left if left.is_zero() => format!("The certificate {} of {} has ended.", one.subject, one.whose),
            left => format!("The certificate {} of {} ends in {}.", one.subject, one.whose, duration(left)),
        };
        Remark::notice(Condition::CertificateEnds, text)
    })
}

pub(super) fn certificate_not_used(s: &Snapshot) -> Option<Remark> {
    let text = "The files of proxy.tls have changed, and the sidecar cannot use them. Callers see the certificate from \
                before; the log has the reason.";
    s.tls_files_unusable.then(|| Remark::notice(Condition::CertificateNotUsed, text.to_owned()))
}

// Enough time to replace a certificate by hand. Public certificates are usually replaced about then.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
