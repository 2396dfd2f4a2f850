//! The series that exist from the start with the value 0.

use super::*;

impl Metrics {
    /// Creates every series that alerts or people look for before anything has happened.
    pub(super) fn initialise(&self) {
        for task in TASKS {
            self.task_restarts.with_label_values(&[task]).inc_by(0);
        }
        for class in CLASSES {
            self.in_flight.with_label_values(&[class]).set(0);
        }
        for result in CACHE_RESULTS {
            self.cache_requests.with_label_values(&[result]).inc_by(0);
        }
        for cause in EVICTION_CAUSES {
            self.cache_evictions.with_label_values(&[cause]).inc_by(0);
        }
        for source in INVALIDATION_SOURCES {
            self.cache_invalidations.with_label_values(&[source]).inc_by(0);
        }
        for trigger in TOKEN_TRIGGERS {
            for result in TOKEN_RESULTS {
                self.token_refreshes.with_label_values(&[trigger, result]).inc_by(0);
            }
        }
        for result in CALLER_EXCHANGE_RESULTS {
            self.caller_exchanges.with_label_values(&[result]).inc_by(0);
        }
        for result in RELOAD_RESULTS {
            self.secret_reloads.with_label_values(&[result]).inc_by(0);
        }
        for result in CONFIG_RELOAD_RESULTS {
            self.config_reloads.with_label_values(&[result]).inc_by(0);
        }
        for kind in UPSTREAM_ERRORS {
            self.upstream_errors.with_label_values(&[kind]).inc_by(0);
        }
        for reason in RETRY_REASONS {
            for result in RETRY_RESULTS {
                self.upstream_retries.with_label_values(&[reason, result]).inc_by(0);
            }
        }
        for state in ["open", "active"] {
            self.upstream_connections.with_label_values(&[state]).set(0);
        }
        for listener in LISTENERS {
            self.connections.with_label_values(&[listener]).set(0);
            for reason in CONNECTION_REASONS {
                self.connections_refused.with_label_values(&[listener, reason]).inc_by(0);
            }
        }
        for result in SIGNED_RESULTS {
            for event in WEBHOOK_EVENTS {
                self.webhooks.with_label_values(&[event, result]).inc_by(0);
            }
        }
        for result in SIGNED_RESULTS.into_iter().chain(OTHER_RESULTS) {
            self.webhooks.with_label_values(&[OTHER_EVENT, result]).inc_by(0);
        }
    }
}
