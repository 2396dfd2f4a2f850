//! The tasks that watch Sezzle: the subscription of webhooks that Sezzle has, and the shape of the bodies that Sezzle
//! sends.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::config::settings::Subscription as Wanted;
use crate::drift::Watch;
use crate::supervisor::Supervisor;
use crate::webhook::subscription::{Parts, Subscription};

/// Starts the task that watches or keeps the subscription of webhooks, if `webhooks.subscription` says so.
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

/// Starts the task that compares Sezzle's bodies with their documented shape.
pub(super) fn keep_drift_watch(supervisor: &Supervisor, stop: &CancellationToken, watch: Watch) {
    let (watch, stop) = (Arc::new(watch), stop.clone());
    supervisor.keep("contract_drift", None, move |_| {
        let (watch, stop) = (Arc::clone(&watch), stop.clone());
        async move {
            stop.run_until_cancelled(watch.run()).await;
        }
    });
}
