//! The attempts of one delivery, until it is accepted or given up.

use time::OffsetDateTime;
use tokio::time::sleep;

use super::post;
use super::post::Target;
use super::record::{Attempt, DeliveryState};
use crate::simulator::gateway::WebhookJob;
use crate::simulator::shared::Core;

/// Makes attempts until the delivery has a final state.
pub(super) async fn deliver(core: &Core, number: usize, job: &WebhookJob) -> DeliveryState {
    let target = match Target::parse(&job.url) {
        Ok(target) => target,
        Err(reason) => return DeliveryState::NotSent(reason),
    };
    let gone = |id: &String| !core.gateway().is_subscribed(id);
    for retry in 0.. {
        // The semaphore is never closed, and an attempt without a permit would do no harm.
        let permit = core.deliveries.attempts.acquire().await;
        if job.subscription.as_ref().is_some_and(gone) {
            return DeliveryState::Unsubscribed;
        }
        let (signature, limit) = {
            let options = &core.gateway().options;
            (post::signature(&options.private_key, &job.body, options.signature_encoding), options.webhook_timeout)
        };
        let at = OffsetDateTime::now_utc().into();
        let status = post::attempt(&target, &signature, &job.body, limit).await;
        drop(permit);
        core.deliveries.attempted(number, Attempt { at, status });
        if status == Some(200) {
            return DeliveryState::Accepted;
        }
        let wait = core.gateway().options.webhook_retries.get(retry).copied();
        match wait.filter(|_| job.subscription.is_some() && retry < MAX_RETRIES) {
            Some(wait) => sleep(wait).await,
            None => break,
        }
    }
    if let Some(id) = &job.subscription {
        core.gateway().unsubscribe(id);
    }
    DeliveryState::GivenUp
}

/// The most retries of a delivery, which is more than five days have room for.
const MAX_RETRIES: usize = 1000;
