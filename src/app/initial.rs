//! The series that exist from the start with the value 0.

use crate::proxy::route::Class;
use crate::server::cut::Cut;
use crate::session::CacheResult;
use crate::telemetry::metrics::{
    CALLER_EXCHANGE_RESULTS, CALLER_SECRET_RESULTS, ConfigReload, EVICTION_CAUSES, INVALIDATION_SOURCES, LISTENERS,
    Metrics, OTHER_EVENT, RELOAD_RESULTS, RETRY_RESULTS, TASKS, TOKEN_RESULTS, TOKEN_TRIGGERS, WEBHOOK_EVENTS,
};
use crate::upstream::error::ErrorKind;
use crate::upstream::retry::Failure;
use crate::webhook::WebhookResult;

/// Creates the series that alerts and people look for before the first event.
pub fn create_series(metrics: &Metrics) {
    for (gauges, words) in [
        (&metrics.in_flight, &Class::WORDS[..]),
        (&metrics.upstream_connections, &["open", "active"]),
        (&metrics.connections, &LISTENERS),
    ] {
        words.iter().for_each(|word| gauges.with_label_values(&[word]).set(0));
    }
    for (counters, words) in [
        (&metrics.task_restarts, &TASKS[..]),
        (&metrics.cache_requests, &CacheResult::WORDS),
        (&metrics.cache_evictions, &EVICTION_CAUSES),
        (&metrics.cache_invalidations, &INVALIDATION_SOURCES),
        (&metrics.caller_exchanges, &CALLER_EXCHANGE_RESULTS),
        (&metrics.secret_reloads, &RELOAD_RESULTS),
        (&metrics.caller_secret_reloads, &CALLER_SECRET_RESULTS),
        (&metrics.config_reloads, &ConfigReload::WORDS),
        (&metrics.upstream_errors, &ErrorKind::WORDS),
    ] {
        words.iter().for_each(|word| counters.with_label_values(&[word]).inc_by(0));
    }
    let retried: Vec<&str> = Failure::reasons().collect();
    let of_events: Vec<&str> =
        WebhookResult::ALL.into_iter().filter(|result| result.has_event()).map(WebhookResult::as_str).collect();
    for (counters, firsts, seconds) in [
        (&metrics.token_refreshes, &TOKEN_TRIGGERS[..], &TOKEN_RESULTS[..]),
        (&metrics.upstream_retries, &retried, &RETRY_RESULTS),
        (&metrics.connections_refused, &LISTENERS, &Cut::WORDS),
        (&metrics.webhooks, &WEBHOOK_EVENTS, &of_events),
        (&metrics.webhooks, &[OTHER_EVENT], &WebhookResult::WORDS),
    ] {
        for first in firsts {
            seconds.iter().for_each(|second| counters.with_label_values(&[first, second]).inc_by(0));
        }
    }
}
