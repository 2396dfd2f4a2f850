//! Remarks on webhooks.

use super::condition::Condition;
use super::remark::Remark;
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, counted, duration};
use crate::webhook::WebhookResult;

/// Webhooks without a valid signature. As for the alert, a few of them need no attention, because strangers may send
/// such requests.
pub(super) fn unsigned(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(30);
    let bad = lately.webhooks(&[WebhookResult::BadSignature]);
    let elsewhere = [WebhookResult::NotFound, WebhookResult::MethodNotAllowed, WebhookResult::Browser];
    let all = lately.webhooks(&WebhookResult::ALL).saturating_sub(lately.webhooks(&elsewhere));
    let text = format!(
        "{} of {} webhooks of the last {} had no valid signature. If Sezzle sent them, the sidecar has another key, and \
         Sezzle ends the subscription after five days.",
        count(bad.into()),
        count(all.into()),
        duration(length)
    );
    (bad > 2 && bad.saturating_mul(10) > all).then(|| Remark::notice(Condition::WebhooksUnsigned, text))
}

/// Sezzle's list lacked the subscription, or some of its events, at the last look.
pub(super) fn unsubscribed(s: &Snapshot) -> Option<Remark> {
    let text = "Sezzle's list does not have webhooks.public_url, or not with every event. Changes that do not go through \
                this sidecar show late, and the service hears of no event.";
    (s.subscribed == Some(false)).then(|| Remark::notice(Condition::WebhookUnsubscribed, text))
}

pub(super) fn not_forwarded(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(40);
    let failed = lately.webhooks(&WebhookResult::NOT_FORWARDED);
    let text = format!(
        "The service did not accept {} of the last {}. Sezzle repeats each for five days, and then ends the \
         subscription.",
        counted(failed, "webhook", "webhooks"),
        duration(length)
    );
    (failed > 0).then(|| Remark::notice(Condition::WebhooksNotForwarded, text))
}
