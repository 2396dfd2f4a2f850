//! The section about webhooks.

use super::block::{Block, Section};
use super::sezzle::by_word;
use crate::status::snapshot::Snapshot;
use crate::status::words::{ago, count, time};
use crate::webhook::WebhookResult;

/// The section; `None` without the webhook listener.
pub(super) fn webhooks(s: &Snapshot) -> Option<Section> {
    let webhooks = s.webhooks.as_ref()?;
    let last = match webhooks.last {
        Some(last) => format!("{} ({})", ago(last, s.now), time(last, s.now)),
        None => "none since the start".to_owned(),
    };
    let hour = &s.hour.total;
    let accepted = hour.webhooks(&[WebhookResult::Accepted, WebhookResult::Malformed]);
    let failed = hour.webhooks(&WebhookResult::NOT_FORWARDED);
    let refused = hour.webhooks(&WebhookResult::ALL).saturating_sub(accepted).saturating_sub(failed);
    let handed_on = match &webhooks.forward_to {
        Some(service) => format!("{} to {service}; {} not accepted", count(accepted.into()), count(failed.into())),
        None => "nowhere: webhooks.forward_to is not set".to_owned(),
    };
    let facts = vec![
        ("Last signed webhook", last),
        ("Accepted in the last hour", count(accepted.into())),
        ("Refused in the last hour", count(refused.into())),
        ("Handed on", handed_on),
    ];
    let results = WebhookResult::WORDS.into_iter().zip(hour.webhooks);
    let table = by_word("Webhooks of the last hour", "No webhook came in the last hour.", results);
    Some(Section { id: "webhooks", title: "Webhooks", blocks: vec![Block::Facts(facts), table] })
}
