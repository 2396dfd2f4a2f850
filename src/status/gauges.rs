//! The state of each part of the sidecar, read from its metrics.

use std::time::Duration;

use super::snapshot::{
    About, Breaker, CallerState, ClassState, FleetLink, ListenerState, ProcessState, UpstreamConnections,
};
use crate::clock::Wall;
use crate::proxy::route::Class;
use crate::telemetry::metrics::fleet::FleetState;
use crate::telemetry::metrics::reading::{of_process, series};
use crate::telemetry::metrics::{CALLER_REFUSALS, Metrics};

/// Every class that has limits.
pub(super) fn classes(metrics: &Metrics, now: Wall) -> Vec<ClassState> {
    let limited = series(&metrics.places_limit).collect::<Vec<_>>();
    let known = Class::WORDS.into_iter().filter(|class| limited.iter().any(|series| series.label("class") == *class));
    known.map(|class| class_state(metrics, class, now)).collect()
}

fn class_state(metrics: &Metrics, class: &'static str, now: Wall) -> ClassState {
    let of = |metric| series(metric).find(|series| series.label("class") == class).map(|series| series.gauge());
    let breaker = of(&metrics.breaker_state).map(|state| match state {
        0 => Breaker::Closed,
        1 => Breaker::Open,
        _ => Breaker::HalfOpen,
    });
    let until = of(&metrics.rate_limited_until).and_then(|seconds| i64::try_from(seconds).ok());
    let until = until.map(|seconds| Wall(seconds.saturating_mul(1000)));
    ClassState {
        class,
        permits: (of(&metrics.places_taken).unwrap_or_default(), of(&metrics.places_limit).unwrap_or_default()),
        queue: (of(&metrics.queue_length).unwrap_or_default(), of(&metrics.queue_limit).unwrap_or_default()),
        breaker,
        held_until: until.filter(|until| *until > now),
    }
}

pub(super) fn process() -> ProcessState {
    let [resident, open_files, most_files] =
        of_process(["process_resident_memory_bytes", "process_open_fds", "process_max_fds"]);
    ProcessState { resident, open_files, most_files }
}

/// The callers in force, with the number of calls that were refused to each.
pub(super) fn callers(metrics: &Metrics, callers: &[CallerState]) -> Vec<CallerState> {
    let refused = series(&metrics.caller_refusals).collect::<Vec<_>>();
    let of = |name: &str, reason: &str| {
        let mut all = refused.iter();
        all.find(|one| one.label("caller") == name && one.label("reason") == reason).map_or(0, |one| one.count())
    };
    let with_counts = |caller: &CallerState| {
        let [not_allowed, over_limit] = CALLER_REFUSALS.map(|reason| of(&caller.name, reason));
        CallerState { not_allowed, over_limit, ..caller.clone() }
    };
    callers.iter().map(with_counts).collect()
}

pub(super) fn listeners(metrics: &Metrics, about: &About) -> Vec<ListenerState> {
    let of = |metric, name: &str| {
        let mut all = series(metric);
        all.find(|series| series.label("listener") == name).map_or(0, |series| series.gauge())
    };
    let state = |(name, addresses): &(&'static str, Vec<String>)| ListenerState {
        name,
        addresses: addresses.clone(),
        connections: of(&metrics.connections, name),
        limit: of(&metrics.connections_limit, name),
    };
    about.listeners.iter().map(state).collect()
}

pub(super) fn fleet(metrics: &Metrics, server: String, unpublished_for: Duration) -> FleetLink {
    let state = FleetState::WORDS.into_iter().find(|word| {
        let mut states = series(&metrics.fleet_state);
        states.any(|series| series.label("state") == *word && series.gauge() == 1)
    });
    FleetLink {
        server,
        state: state.unwrap_or(FleetState::Down.as_str()),
        age: Duration::from_secs(series(&metrics.fleet_synced_age).map(|series| series.gauge()).sum()),
        unpublished: unpublished(metrics),
        unpublished_for,
        rejoins: series(&metrics.fleet_rejoins).map(|series| series.count()).sum(),
        unconfirmed: series(&metrics.fleet_unconfirmed_served).map(|series| series.count()).sum(),
    }
}

pub(super) fn upstream(metrics: &Metrics) -> UpstreamConnections {
    let of = |state| size(metrics.upstream_connections.with_label_values(&[state]).get());
    UpstreamConnections { open: of("open"), active: of("active"), waiting: size(metrics.upstream_waiting.get()) }
}

/// Entries of this sidecar that are not known to be in the fleet's log.
pub(super) fn unpublished(metrics: &Metrics) -> u64 {
    series(&metrics.fleet_unpublished).map(|series| series.gauge()).sum()
}

/// A size that a gauge holds.
pub(super) fn size(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or_default()
}

/// The clock of Sezzle less that of this machine, in whole seconds.
#[expect(clippy::cast_possible_truncation, reason = "a difference of clocks in seconds fits, and another saturates")]
pub(super) fn clock_skew(metrics: &Metrics) -> i64 {
    metrics.clock_skew.get() as i64
}
