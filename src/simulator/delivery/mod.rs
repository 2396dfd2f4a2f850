//! Webhooks on their way: the record of every delivery, and the handle's methods about them.
//!
//! `gateway` makes the webhook for each subscription; [`attempts`] makes the attempts, and [`post`] sends one attempt.

mod attempts;
mod post;
mod record;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::gateway::{Gateway, WebhookJob};
use super::shared::Core;

pub(super) use self::record::Deliveries;
pub use self::record::{Attempt, Delivery, DeliveryState};

impl Core {
    /// Lets `act` work on the gateway, and delivers the webhooks that result.
    pub(super) fn act<T>(self: &Arc<Self>, act: impl FnOnce(&mut Gateway) -> T) -> T {
        let (done, jobs) = {
            let mut gateway = self.gateway();
            (act(&mut gateway), gateway.take_outbox())
        };
        dispatch(self, jobs);
        done
    }
}

/// Starts a task for each delivery, so that no delivery waits for the retries of another. The tasks end with the
/// simulator.
pub(super) fn dispatch(core: &Arc<Core>, jobs: impl IntoIterator<Item = WebhookJob>) {
    for job in jobs {
        let Ok(permit) = core.deliveries.pending.clone().try_acquire_owned() else {
            core.deliveries.dropped.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        let (abandoned, number) = (core.deliveries.abandoned().clone(), core.deliveries.open(&job));
        let task = {
            let core = core.clone();
            async move {
                let state = core.stopping.run_until_cancelled(attempts::deliver(&core, number, &job));
                let state = abandoned.run_until_cancelled(state).await.flatten();
                drop(permit);
                if let Some(state) = state {
                    core.deliveries.settle(number, state);
                }
            }
        };
        core.tasks.spawn_on(task, &core.runtime);
    }
}
