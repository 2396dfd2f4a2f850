//! The series that exist from the start with the value 0.

use super::*;

impl Metrics {
    /// Creates every series that alerts or people look for before anything has happened.
    pub(super) fn initialise(&self) {
        let gauges: [(&IntGaugeVec, &[&str]); 3] = [
            (&self.in_flight, &CLASSES),
            (&self.upstream_connections, &["open", "active"]),
            (&self.connections, &LISTENERS),
        ];
        for (gauges, words) in gauges {
            words.iter().for_each(|word| gauges.with_label_values(&[word]).set(0));
        }
        let counters: [(&IntCounterVec, &[&str]); 8] = [
            (&self.task_restarts, &TASKS),
            (&self.cache_requests, &CACHE_RESULTS),
            (&self.cache_evictions, &EVICTION_CAUSES),
            (&self.cache_invalidations, &INVALIDATION_SOURCES),
            (&self.caller_exchanges, &CALLER_EXCHANGE_RESULTS),
            (&self.secret_reloads, &RELOAD_RESULTS),
            (&self.config_reloads, &CONFIG_RELOAD_RESULTS),
            (&self.upstream_errors, &UPSTREAM_ERRORS),
        ];
        for (counters, words) in counters {
            words.iter().for_each(|word| counters.with_label_values(&[word]).inc_by(0));
        }
        let pairs: [(&IntCounterVec, &[&str], &[&str]); 6] = [
            (&self.token_refreshes, &TOKEN_TRIGGERS, &TOKEN_RESULTS),
            (&self.upstream_retries, &RETRY_REASONS, &RETRY_RESULTS),
            (&self.connections_refused, &LISTENERS, &CONNECTION_REASONS),
            (&self.webhooks, &WEBHOOK_EVENTS, &SIGNED_RESULTS),
            (&self.webhooks, &[OTHER_EVENT], &SIGNED_RESULTS),
            (&self.webhooks, &[OTHER_EVENT], &OTHER_RESULTS),
        ];
        for (counters, firsts, seconds) in pairs {
            for first in firsts {
                seconds.iter().for_each(|second| counters.with_label_values(&[first, second]).inc_by(0));
            }
        }
    }
}
