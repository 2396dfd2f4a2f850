//! Every metric, its labels and its help text.
//!
//! Label values come from closed sets of words in the code, never from a request, so no caller can create a series.
//! Series that alerts use exist from the start with the value 0. The constructor of the part that counts creates them, or
//! `app` in its file `initial.rs`, if the words are those of several parts or the part has no constructor.

mod bound;
mod build;
mod config_reload;
mod dropped;
mod exposition;
pub mod fleet;
mod gauges;
mod labels;
pub mod reading;
mod series;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use self::bound::Bounded;
use self::build::{Build, options};
pub use self::build::{DURATION_BUCKETS, Family};
pub use self::config_reload::ConfigReload;
use self::dropped::LogLinesDropped;
pub use self::gauges::{Counted, gauge};
pub use self::labels::*;
pub use self::series::{Label, LabelValue, RequestSeries, UpstreamSeries};
pub(crate) use self::series::{label, words};
use super::last_time::LastTime;
use super::recent_errors::RecentErrors;
use super::spans::Spans;
use super::unknown_writes::UnknownWrites;
use crate::clock::Clock;

/// Declares [`Metrics`]: for each metric its field, type and kind, then its name, its help text, and its labels or
/// buckets.
macro_rules! metrics {
    ($($field:ident: $type:ty = $kind:ident($name:literal, $help:literal $(, $more:expr)? $(,)?);)+) => {
        /// The metrics of one sidecar, in their own registry. The help texts below say what each one counts.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            families: Vec<Family>,
            bounded: [Bounded; 2],
            $(#[doc = $help] pub $field: $type,)+
            /// The queue of spans, and their count.
            pub spans: Spans,
            /// Recent errors for the status page. They are no metric, but noted where metrics are counted.
            pub recent_errors: RecentErrors,
            /// The latest writes whose outcome is unknown, for the status page.
            pub unknown_writes: UnknownWrites,
            /// The time of the last webhook that Sezzle signed, for the status page.
            pub last_webhook: LastTime,
        }

        impl Metrics {
            fn register(r: Build, spans: Spans, clock: &Clock) -> Result<Self, prometheus::Error> {
                Ok(Self {
                    $($field: r.$kind($name, $help $(, $more)?)?,)+
                    spans,
                    recent_errors: RecentErrors::new(clock.clone()),
                    unknown_writes: UnknownWrites::new(clock.clone()),
                    last_webhook: LastTime::new(clock.clone()),
                    bounded: [
                        Bounded::new("sezzle_sidecar_requests_total", MOST_REQUEST_SERIES),
                        Bounded::new("sezzle_sidecar_upstream_requests_total", MOST_UPSTREAM_SERIES),
                    ],
                    families: r.families.into_inner(),
                    registry: r.registry,
                })
            }
        }
    };
}

metrics! {
    requests: IntCounterVec = counters("requests_total", "Answers to callers.", &["route", "method", "code", "source"]);
    request_duration: HistogramVec = durations(
        "request_duration_seconds",
        "Time from a request's head to the end of its answer, by class of route and cache result.",
        &["class", "cache"],
    );
    in_flight: IntGaugeVec = gauges("in_flight_requests", "Requests being served.", &["class"]);
    requests_refused: IntCounterVec = counters(
        "requests_refused_total",
        "Requests that the sidecar refused without sending anything to Sezzle, by the last part of the error code.",
        &["reason"],
    );
    caller_refusals: IntCounterVec = counters(
        "caller_requests_refused_total",
        "Requests of known callers that the sidecar refused because the caller may not make them.",
        &["caller", "reason"],
    );
    caller_secret_reloads: IntCounterVec = counters(
        "caller_secret_reloads_total",
        "Changed secrets of callers, by whether the sidecar uses them.",
        &["result"],
    );
    caller_secrets_unusable: IntGauge = gauge(
        "caller_secrets_unusable",
        "Callers whose changed secrets cannot be used, so that those before them stay in use.",
    );
    request_bodies_dropped: IntCounter = counter(
        "request_bodies_dropped_total",
        "Bodies of GET and HEAD requests, which were read and dropped.",
    );
    shed: IntCounterVec = counters(
        "shed_total",
        "Calls that were not sent to Sezzle because too many were under way or earlier ones failed, by class of route.",
        &["class", "reason"],
    );
    places_taken: IntGaugeVec = gauges("places_taken", "Calls to Sezzle under way, by class of route.", &["class"]);
    places_limit: IntGaugeVec = gauges(
        "places_limit",
        "Calls to Sezzle that may be under way at once, by class of route.",
        &["class"],
    );
    queue_length: IntGaugeVec = gauges("queue_length", "Calls that wait for a permit, by class of route.", &["class"]);
    queue_limit: IntGaugeVec = gauges(
        "queue_limit",
        "Calls that may wait for a permit at once, by class of route.",
        &["class"],
    );
    breaker_state: IntGaugeVec = gauges(
        "breaker_state",
        "Circuit breakers, by class of route: 0 closed, 1 open, 2 half-open.",
        &["class"],
    );
    rate_limited_until: IntGaugeVec = gauges(
        "rate_limited_until_timestamp_seconds",
        "End of the pause that Sezzle asked for by 429, in seconds since the epoch; 0 if there was none since the start or a reset.",
        &["class"],
    );
    connections: IntGaugeVec = gauges("connections", "Open connections of callers.", &["listener"]);
    connections_limit: IntGaugeVec = gauges(
        "connections_limit",
        "Connections of callers that may be open at once.",
        &["listener"],
    );
    connections_refused: IntCounterVec = counters(
        "connections_refused_total",
        "Connections of callers that the sidecar refused or cut.",
        &["listener", "reason"],
    );
    tls_handshakes: IntCounterVec = counters(
        "tls_handshakes_total",
        "TLS handshakes with callers that succeeded.",
        &["listener", "tls_version", "kind"],
    );
    tls_handshakes_under_way: IntGaugeVec = gauges(
        "tls_handshakes_under_way",
        "TLS handshakes with callers under way.",
        &["listener"],
    );
    tls_certificate_expiry: IntGaugeVec = gauges(
        "tls_certificate_expiry_timestamp_seconds",
        "When the certificate that callers are shown ends, in seconds since the epoch.",
        &["listener"],
    );
    tls_files_unusable: IntGaugeVec = gauges(
        "tls_files_unusable",
        "1 while the certificate files cannot be used and those before them stay in use.",
        &["listener"],
    );
    tls_reloads: IntCounterVec = counters(
        "tls_reloads_total",
        "Changes of the certificate files, by whether they are in use.",
        &["listener", "result"],
    );
    upstream_requests: IntCounterVec = counters(
        "upstream_requests_total",
        "Answers received from Sezzle.",
        &["route", "method", "code"],
    );
    upstream_duration: HistogramVec = durations(
        "upstream_request_duration_seconds",
        "Time from sending a request to Sezzle to the head of its answer.",
        &["class"],
    );
    upstream_errors: IntCounterVec = counters("upstream_errors_total", "Failed exchanges with Sezzle.", &["kind"]);
    upstream_connections: IntGaugeVec = gauges(
        "upstream_connections",
        "Connections to Sezzle: open, and active (one for each request under way, also where HTTP/2 shares one).",
        &["state"],
    );
    upstream_waiting: IntGauge = gauge(
        "upstream_waiting",
        "Calls that wait for a connection to Sezzle, or for an HTTP/2 stream.",
    );
    upstream_connections_opened: IntCounter = counter("upstream_connections_opened_total", "Connections to Sezzle.");
    upstream_unauthorized: IntCounter = counter("upstream_unauthorized_total", "Answers 401 from Sezzle.");
    unauthorized_passed_on: IntCounter = counter(
        "unauthorized_passed_on_total",
        "Answers 401 from Sezzle that went to callers: there was no new token, or Sezzle refused that one too.",
    );
    cache_requests: IntCounterVec = counters(
        "cache_requests_total",
        "Session lookups by how they were answered.",
        &["result"],
    );
    cache_entries: IntGauge = gauge("cache_entries", "Sessions stored.");
    cache_bytes: IntGauge = gauge("cache_bytes", "Bytes that stored sessions take, bookkeeping included.");
    cache_limit: IntGauge = gauge("cache_limit_bytes", "Bytes that stored sessions may take, bookkeeping included.");
    cache_evictions: IntCounterVec = counters("cache_evictions_total", "Sessions that left the cache.", &["cause"]);
    cache_store_skipped: IntCounterVec = counters(
        "cache_store_skipped_total",
        "Answers to session lookups that were not stored.",
        &["reason"],
    );
    cache_invalidations: IntCounterVec = counters(
        "cache_invalidations_total",
        "Purges of the sessions that relate to a change.",
        &["source"],
    );
    cache_ttl: Histogram = histogram("cache_ttl_seconds", "Life given to stored sessions.", &TTL_BUCKETS);
    token_expiry: Gauge = float_gauge(
        "token_expiry_timestamp_seconds",
        "When the bearer token ends, in seconds since the epoch; 0 without a token.",
    );
    token_refreshes: IntCounterVec = counters("token_refreshes_total", "Token exchanges.", &["trigger", "result"]);
    token_refresh_duration: Histogram = histogram(
        "token_refresh_duration_seconds",
        "Time one token exchange took.",
        &DURATION_BUCKETS,
    );
    secret_reloads: IntCounterVec = counters("secret_reloads_total", "Attempts to use changed key files.", &["result"]);
    config_reloads: IntCounterVec = counters(
        "config_reloads_total",
        "Reloads of the configuration, by how they ended.",
        &["result"],
    );
    task_restarts: IntCounterVec = counters(
        "task_restarts_total",
        "Tasks of the process that panicked and were started again.",
        &["task"],
    );
    clock_skew: Gauge = float_gauge("clock_skew_seconds", "Sezzle's Date less the local wall clock.");
    upstream_retries: IntCounterVec = counters(
        "upstream_retries_total",
        "Further attempts at a call, by how the attempt before failed; also those that the budget did not allow.",
        &["reason", "result"],
    );
    outcome_unknown: IntCounterVec = counters(
        "money_outcome_unknown_total",
        "Writes that were sent and whose outcome is not known.",
        &["route"],
    );
    refused_in_doubt: IntCounterVec = counters(
        "money_refused_in_doubt_total",
        "Writes with an answer other than 2xx after an earlier attempt that may have had its effect.",
        &["route"],
    );
    audit_lines: IntCounterVec =
        counters("audit_lines_total", "Audit lines of calls, by whether they came in time.", &["event", "result"]);
    audit_write: HistogramVec =
        durations("audit_write_seconds", "Time of a write of audit lines, the wait for the disk included.", &[]);
    idempotency_keys: IntCounterVec = counters(
        "idempotency_keys_total",
        "Writes that carry an idempotency key, by where it came from.",
        &["origin"],
    );
    caller_exchanges: IntCounterVec = counters(
        "caller_exchanges_total",
        "Exchanges of keys that callers asked for, by how they were answered.",
        &["result"],
    );
    public_key_calls: IntCounter = counter(
        "public_key_calls_total",
        "Calls that were sent under the public key of the caller, in place of the token.",
    );
    webhooks: IntCounterVec = counters(
        "webhooks_total",
        "Requests to the webhook listener, by event and by how they ended.",
        &["event", "result"],
    );
    webhook_subscription_present: IntGaugeVec =
        gauges("webhook_subscription_present", "1 if Sezzle had our subscription with every event.", &[]);
    webhook_subscription_checks: IntCounterVec =
        counters("webhook_subscription_checks_total", "Looks at Sezzle's subscriptions.", &["result"]);
    webhook_subscription_changes: IntCounterVec =
        counters("webhook_subscription_changes_total", "Registrations by the sidecar.", &["result"]);
    contract_drift: IntCounterVec =
        counters("contract_drift_total", "Bodies of Sezzle's that are not as documented.", &["route", "kind"]);
    webhook_forward_duration: Histogram = histogram(
        "webhook_forward_duration_seconds",
        "Time until the service had answered a webhook that was handed on to it.",
        &DURATION_BUCKETS,
    );
    log_lines_sampled_out: IntCounter = counter(
        "log_lines_sampled_out_total",
        "Log lines of cache hits that log.sample_hits left out.",
    );
    draining: IntGauge = gauge("draining", "1 from SIGTERM on.");
    fleet_state: IntGaugeVec = gauges("fleet_state", "1 for the state of the link to the fleet's server.", &["state"]);
    fleet_synced_age: GaugeVec = float_gauges(
        "fleet_synced_age_seconds",
        "Time since the question of the last poll that confirmed memory, or since the start without one.",
    );
    fleet_unpublished: IntGaugeVec = gauges(
        "fleet_unpublished",
        "Entries of this sidecar that are not known to be in the log.",
        &[],
    );
    fleet_clock_difference: GaugeVec = float_gauges(
        "fleet_clock_difference_seconds",
        "Clock of the fleet's server less the local wall clock.",
    );
    fleet_poll: HistogramVec = durations("fleet_poll_seconds", "Time that polls of the log took.", &[]);
    fleet_read: HistogramVec = durations("fleet_read_seconds", "Time that lookups waited for shared sessions.", &[]);
    fleet_held: HistogramVec = durations(
        "fleet_held_seconds",
        "Time that answers to writes and purges were held until other sidecars knew.",
        &[],
    );
    fleet_entries: IntCounterVec = counters(
        "fleet_entries_total",
        "Entries of the log that this sidecar published or applied.",
        &["direction", "kind"],
    );
    fleet_rejoins: IntCounterVec = counters(
        "fleet_rejoins_total",
        "Times that this sidecar stopped trusting what it had from the log.",
        &["reason"],
    );
    fleet_commands: IntCounterVec = counters(
        "fleet_commands_total",
        "Questions to the fleet's server.",
        &["command", "result"],
    );
    fleet_bodies: IntCounterVec = counters(
        "fleet_bodies_total",
        "Shared sessions that were asked for or stored.",
        &["result"],
    );
    fleet_holds: IntCounterVec = counters(
        "fleet_holds_total",
        "Answers to writes and purges, by how their hold ended.",
        &["result"],
    );
    fleet_unconfirmed_served: IntCounterVec = counters(
        "fleet_unconfirmed_served_total",
        "Lookups that were answered from memory that was not confirmed.",
        &[],
    );
}

// Normal use makes about 200 and 100 series. All other metrics together stay below 1000.
const MOST_REQUEST_SERIES: usize = 400;
const MOST_UPSTREAM_SERIES: usize = 300;
const TTL_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0];

impl Metrics {
    /// Builds and registers all metrics, on the machine's clock.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::with_clock(Clock::system())
    }

    /// Builds and registers all metrics. `clock` dates the recent errors. Fails if a name or a label is invalid or not
    /// unique, which a test excludes.
    pub fn with_clock(clock: Clock) -> Result<Self, prometheus::Error> {
        let r = Build::default();
        let build = IntGauge::with_opts(
            options("build_info", "The running build; always 1.")
                .const_label("version", env!("CARGO_PKG_VERSION"))
                .const_label("commit", env!("SEZZLE_SIDECAR_COMMIT"))
                .const_label("rustc", env!("SEZZLE_SIDECAR_RUSTC")),
        )?;
        build.set(1);
        r.register(Box::new(build))?;
        r.register(Box::new(LogLinesDropped::new()?))?;
        r.register(Box::new(ProcessCollector::for_self()))?;
        let spans = Spans::new(r.counters("spans_total", "Spans of requests, by how they ended.", &["result"])?);
        Self::register(r, spans, &clock)
    }
}
