//! The tasks that watch what Sezzle has of us and what Sezzle sends.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::config::settings::Subscription as Wanted;
use crate::drift::Watch;
use crate::supervisor::Supervisor;
use crate::webhook::subscription::{Parts, Subscription};

/// Watches the subscription of webhooks, if that is configured.
pub(super) fn keep_subscription(supervisor: &Supervisor, stop: &CancellationToken, settings: &Settings, parts: Parts) {
    let wanted = settings.webhooks.subscription;
    let Some(url) = settings.webhooks.public_url.clone().filter(|_| wanted != Wanted::Off) else { return };
    let (subscription, stop) = (Subscription::new(url, wanted == Wanted::Keep, parts), stop.clone());
    supervisor.keep("webhook_subscription", None, move |_| {
        let (subscription, stop) = (subscription.clone(), stop.clone());
        async move {
            stop.run_until_cancelled(subscription.run()).await;
        }
    });
}

/// Compares Sezzle's bodies with their documented shape.
pub(super) fn keep_watch(supervisor: &Supervisor, stop: &CancellationToken, watch: Watch) {
    let (watch, stop) = (Arc::new(watch), stop.clone());
    supervisor.keep("contract_drift", None, move |_| {
        let (watch, stop) = (Arc::clone(&watch), stop.clone());
        async move {
            stop.run_until_cancelled(watch.run()).await;
        }
    });
}
