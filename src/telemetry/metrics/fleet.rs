//! The series of a sidecar in a fleet. A sidecar without a fleet has none of them.

use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{Label, Metrics, words};

words! {
    /// `state` of `fleet_state`.
    pub enum FleetState {
        Down = "down",
        /// Connected, and the log is not read yet.
        Joining = "joining",
        Synced = "synced",
        /// A reply is overdue, or was a refusal.
        Late = "late",
    }
}

words! {
    /// `direction` of `fleet_entries_total`.
    pub enum Direction {
        /// An entry of this pod that is known to be in the log.
        Published = "published",
        /// An entry of another pod that this pod has obeyed.
        Applied = "applied",
    }
}

/// `kind` of `fleet_entries_total`: the words of an entry, and `foreign` for one that this version cannot read.
pub const ENTRY_KINDS: [&str; 8] = ["begin", "answered", "unknown", "not-sent", "changed", "all", "id", FOREIGN_ENTRY];
pub const FOREIGN_ENTRY: &str = "foreign";

words! {
    /// `reason` of `fleet_rejoins_total`.
    pub enum RejoinReason {
        /// The first join of this process.
        Connect = "connect",
        /// Another server process, or another history of its data.
        RunId = "run_id",
        /// The log does not go on from the last entry that was read.
        Gap = "gap",
        /// The log has another name, or none.
        Id = "id",
        /// The server refuses INFO, so the pod cannot know whether the log goes on.
        Refused = "refused",
        /// The keys are on another node.
        Moved = "moved",
    }
}

words! {
    /// `command` of `fleet_commands_total`: the kinds of questions to the server. Each question is one pipeline.
    pub enum FleetCommand {
        Connect = "connect",
        Join = "join",
        Poll = "poll",
        Publish = "publish",
        /// Read a shared body, and the log with it.
        Read = "read",
        Share = "share",
    }
}

words! {
    /// `result` of `fleet_commands_total`.
    pub enum CommandResult {
        Ok = "ok",
        Timeout = "timeout",
        /// The server answered with an error.
        Refused = "refused",
        /// The connection failed.
        Error = "error",
        /// The question was not sent, because too many were under way or the link is not synced.
        Skipped = "skipped",
    }
}

words! {
    /// `result` of `fleet_bodies_total`.
    pub enum BodyResult {
        Hit = "hit",
        Absent = "absent",
        /// The session changed since the body was shared.
        Purged = "purged",
        Expired = "expired",
        /// No key of this pod opens the body.
        Unopened = "unopened",
        Timeout = "timeout",
        /// The pod did not ask for the body.
        Skipped = "skipped",
        Stored = "stored",
        TooLarge = "too_large",
    }
}

words! {
    /// `result` of `fleet_holds_total`.
    pub enum HoldResult {
        /// The answer was not held, because all other pods knew already.
        KnownAtOnce = "none",
        /// The answer was held until all other pods knew.
        Acked = "acked",
        /// The answer was held until the longest wait was over.
        Waited = "waited",
        /// The link was not synced or lost its connection, or the publication was given up.
        GaveUp = "gave_up",
    }
}

/// Counts and shows the work of one pod's link. Cloning it is cheap, and all clones count in the same series.
#[derive(Clone, Debug)]
pub struct FleetSeries {
    states: [IntGauge; FleetState::ALL.len()],
    synced_age: Gauge,
    unpublished: IntGauge,
    clock_difference: Gauge,
    poll: Histogram,
    read: Histogram,
    held: Histogram,
    entries: IntCounterVec,
    rejoins: IntCounterVec,
    commands: IntCounterVec,
    bodies: IntCounterVec,
    holds: IntCounterVec,
    unconfirmed_served: IntCounter,
}

impl FleetSeries {
    /// Creates every series with the value 0, and says that the link is down.
    pub fn new(metrics: &Metrics) -> Self {
        let series = Self {
            states: FleetState::WORDS.map(|word| metrics.fleet_state.with_label_values(&[word])),
            synced_age: metrics.fleet_synced_age.with_label_values(NO_LABELS),
            unpublished: metrics.fleet_unpublished.with_label_values(NO_LABELS),
            clock_difference: metrics.fleet_clock_difference.with_label_values(NO_LABELS),
            poll: metrics.fleet_poll.with_label_values(NO_LABELS),
            read: metrics.fleet_read.with_label_values(NO_LABELS),
            held: metrics.fleet_held.with_label_values(NO_LABELS),
            entries: metrics.fleet_entries.clone(),
            rejoins: metrics.fleet_rejoins.clone(),
            commands: metrics.fleet_commands.clone(),
            bodies: metrics.fleet_bodies.clone(),
            holds: metrics.fleet_holds.clone(),
            unconfirmed_served: metrics.fleet_unconfirmed_served.with_label_values(NO_LABELS),
        };
        series.set_state(FleetState::Down);
        for (counters, firsts, seconds) in [
            (&series.entries, &Direction::WORDS[..], &ENTRY_KINDS[..]),
            (&series.commands, &FleetCommand::WORDS, &CommandResult::WORDS),
        ] {
            for first in firsts {
                seconds.iter().for_each(|second| counters.with_label_values(&[first, second]).inc_by(0));
            }
        }
        for (counters, words) in [
            (&series.rejoins, &RejoinReason::WORDS[..]),
            (&series.bodies, &BodyResult::WORDS),
            (&series.holds, &HoldResult::WORDS),
        ] {
            words.iter().for_each(|word| counters.with_label_values(&[word]).inc_by(0));
        }
        series
    }

    /// Shows the state of the link.
    pub fn set_state(&self, state: FleetState) {
        for (index, gauge) in self.states.iter().enumerate() {
            gauge.set(i64::from(index == state.index()));
        }
    }

    /// Shows the time since the last poll that confirmed memory was sent, or since the start without such a poll.
    pub fn synced_for(&self, age: Duration) {
        self.synced_age.set(age.as_secs_f64());
    }

    /// Shows how many entries of this pod are not known to be in the log.
    pub fn unpublished(&self, entries: usize) {
        self.unpublished.set(super::gauge(entries));
    }

    /// Shows the server's clock less the local one, in seconds.
    pub fn clock_differs_by(&self, seconds: f64) {
        self.clock_difference.set(seconds);
    }

    /// Counts a poll that was answered, by the time it took.
    pub fn poll_took(&self, time: Duration) {
        self.poll.observe(time.as_secs_f64());
    }

    /// Counts a reading of a shared body, by the time that the lookup waited for it.
    pub fn read_took(&self, time: Duration) {
        self.read.observe(time.as_secs_f64());
    }

    /// Counts the answer to a write or to a purge, by why it was passed on and by the time it was held.
    pub fn held(&self, result: HoldResult, time: Duration) {
        self.holds.with_label_values(&[result.as_str()]).inc();
        self.held.observe(time.as_secs_f64());
    }

    /// Counts entries. `kind` is one of [`ENTRY_KINDS`].
    pub fn entries(&self, direction: Direction, kind: &'static str, count: u64) {
        self.entries.with_label_values(&[direction.as_str(), kind]).inc_by(count);
    }

    /// Counts a rejoin.
    pub fn rejoined(&self, reason: RejoinReason) {
        self.rejoins.with_label_values(&[reason.as_str()]).inc();
    }

    /// Counts a question to the server.
    pub fn asked(&self, command: FleetCommand, result: CommandResult) {
        self.commands.with_label_values(&[command.as_str(), result.as_str()]).inc();
    }

    /// Counts a shared body.
    pub fn body(&self, result: BodyResult) {
        self.bodies.with_label_values(&[result.as_str()]).inc();
    }

    /// The counter of lookups that were answered from memory that was not confirmed.
    pub fn unconfirmed_served(&self) -> &IntCounter {
        &self.unconfirmed_served
    }
}

const NO_LABELS: &[&str] = &[];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(metrics: &Metrics) -> String {
        metrics
            .render()
            .unwrap()
            .lines()
            .filter(|line| line.contains("fleet"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    #[test]
    fn without_a_fleet_there_is_no_series_of_one() {
        assert_eq!(shown(&Metrics::new().unwrap()), "");
    }

    #[test]
    fn every_series_exists_from_the_start_and_the_link_is_in_one_state() {
        let metrics = Metrics::new().unwrap();
        let series = FleetSeries::new(&metrics);
        let text = shown(&metrics);
        for line in [
            "fleet_state{state=\"down\"} 1",
            "fleet_state{state=\"synced\"} 0",
            "fleet_synced_age_seconds 0",
            "fleet_unpublished 0",
            "fleet_clock_difference_seconds 0",
            "fleet_held_seconds_count 0",
            "fleet_entries_total{direction=\"applied\",kind=\"foreign\"} 0",
            "fleet_rejoins_total{reason=\"run_id\"} 0",
            "fleet_commands_total{command=\"poll\",result=\"timeout\"} 0",
            "fleet_bodies_total{result=\"too_large\"} 0",
            "fleet_holds_total{result=\"gave_up\"} 0",
            "fleet_unconfirmed_served_total 0",
        ] {
            assert!(text.contains(&format!("_{line}\n")), "{line} in\n{text}");
        }
        series.clone().set_state(FleetState::Synced);
        let text = shown(&metrics);
        for state in FleetState::ALL {
            let line = format!("{{state=\"{}\"}} {}\n", state.as_str(), u8::from(state == FleetState::Synced));
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }
}
