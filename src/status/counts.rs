//! The metrics that the status page shows: counts of events and histograms of their durations.

use crate::session::CacheResult;
use crate::telemetry::metrics::reading::series;
use crate::telemetry::metrics::{DURATION_BUCKETS, Metrics, RETRY_RESULTS, SHED_REASONS, words};
use crate::upstream::error::ErrorKind;

words! {
    /// The timed operations, in the order of the page, each with its title there.
    pub enum Timed {
        /// Session lookups answered from memory.
        Hits = "Session lookups, from memory",
        /// Session lookups for which Sezzle was asked.
        Lookups = "Session lookups, from Sezzle",
        Reads = "Other lookups",
        Writes = "Writes",
        Reports = "Reports",
        /// Calls to Sezzle, up to the response head. Token exchanges are left out.
        Sezzle = "Sezzle alone, to the head of each answer",
    }
}

impl Timed {
    /// Classifies a request by its labels in `request_duration_seconds`.
    fn of(class: &str, cache: &str) -> Option<Self> {
        match (class, cache) {
            ("session", "hit" | "stale") => Some(Self::Hits),
            ("session", _) => Some(Self::Lookups),
            ("read", _) => Some(Self::Reads),
            ("money", _) => Some(Self::Writes),
            ("report", _) => Some(Self::Reports),
            _ => None,
        }
    }
}

/// A histogram: one count for each of [`DURATION_BUCKETS`], and one for everything slower.
pub type Durations = [u32; DURATION_BUCKETS.len() + 1];

/// Counts since the process started, or for a part of its life. The counts wrap around, so the difference of two is
/// right even after an overflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Session lookups, by [`CacheResult`].
    pub cache: [u32; CacheResult::ALL.len()],
    /// Responses from Sezzle.
    pub answers: u32,
    /// Responses from Sezzle with a 5xx status.
    pub failures: u32,
    /// Responses from Sezzle with status 429.
    pub throttled: u32,
    /// Attempts that got no whole response, by [`ErrorKind`].
    pub errors: [u32; ErrorKind::ALL.len()],
    /// Calls that were not sent, by [`SHED_REASONS`].
    pub shed: [u32; SHED_REASONS.len()],
    /// Retries, by [`RETRY_RESULTS`].
    pub retries: [u32; RETRY_RESULTS.len()],
    /// Writes whose outcome is unknown.
    pub unknown: u32,
    /// Writes refused after an attempt that may have taken effect.
    pub in_doubt: u32,
    /// Histograms, by [`Timed`].
    pub durations: [Durations; Timed::ALL.len()],
}

impl Counts {
    /// The counts since the process started.
    pub fn read(metrics: &Metrics) -> Self {
        let mut counts = Self {
            cache: CacheResult::WORDS.map(|result| wrapped(metrics.cache_requests.with_label_values(&[result]).get())),
            errors: ErrorKind::WORDS.map(|kind| wrapped(metrics.upstream_errors.with_label_values(&[kind]).get())),
            shed: SHED_REASONS.map(|reason| {
                let shed = series(&metrics.shed).filter(|series| series.label("reason") == reason);
                sum(shed.map(|series| series.count()))
            }),
            retries: RETRY_RESULTS.map(|result| {
                let retries = series(&metrics.upstream_retries).filter(|series| series.label("result") == result);
                sum(retries.map(|series| series.count()))
            }),
            unknown: sum(series(&metrics.outcome_unknown).map(|series| series.count())),
            in_doubt: sum(series(&metrics.refused_in_doubt).map(|series| series.count())),
            ..Self::default()
        };
        for series in series(&metrics.upstream_requests) {
            let (code, count) = (series.label("code"), wrapped(series.count()));
            counts.answers = counts.answers.wrapping_add(count);
            if code.starts_with('5') {
                counts.failures = counts.failures.wrapping_add(count);
            } else if code == "429" {
                counts.throttled = counts.throttled.wrapping_add(count);
            }
        }
        for series in series(&metrics.request_duration) {
            if let Some(timed) = Timed::of(series.label("class"), series.label("cache")) {
                counts.add(timed, series.buckets());
            }
        }
        for series in series(&metrics.upstream_duration).filter(|series| series.label("class") != "credentials") {
            counts.add(Timed::Sezzle, series.buckets());
        }
        counts
    }

    /// The events between `earlier` and these counts.
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u32::wrapping_sub)
    }

    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u32::wrapping_add)
    }

    /// Session lookups that ended with one of these results.
    pub fn cache(&self, results: &[&str]) -> u32 {
        named(&CacheResult::WORDS, &self.cache, results)
    }

    /// Calls that were not sent for these reasons.
    pub fn shed(&self, reasons: &[&str]) -> u32 {
        named(&SHED_REASONS, &self.shed, reasons)
    }

    /// Session lookups that could have been answered from memory.
    pub fn lookups(&self) -> u32 {
        self.cache.iter().sum::<u32>().saturating_sub(self.cache(&["bypass"]))
    }

    /// Session lookups that cost no call to Sezzle: the session was in memory, or another caller's request for it was
    /// on its way.
    pub fn saved(&self) -> u32 {
        self.cache(&["hit", "collapsed"])
    }

    /// Attempts.
    pub fn calls(&self) -> u32 {
        // A response that breaks off in its body is counted as a response already.
        let broken = named(&ErrorKind::WORDS, &self.errors, &["body"]);
        self.answers.saturating_add(self.errors.iter().sum::<u32>()).saturating_sub(broken)
    }

    /// Attempts that failed.
    pub fn failed(&self) -> u32 {
        self.failures.saturating_add(self.errors.iter().sum())
    }

    pub fn durations(&self, timed: Timed) -> Durations {
        let found = Timed::ALL.iter().zip(self.durations).find(|(known, _)| **known == timed);
        found.map(|(_, durations)| durations).unwrap_or_default()
    }

    fn add(&mut self, timed: Timed, buckets: impl Iterator<Item = u64>) {
        let mut known = Timed::ALL.iter().zip(&mut self.durations);
        let found = known.find(|(known, _)| **known == timed);
        for (sum, more) in found.into_iter().flat_map(|(_, durations)| durations).zip(buckets) {
            *sum = sum.wrapping_add(wrapped(more));
        }
    }

    fn with(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
        let mut rows = other.durations.iter();
        Self {
            cache: zip(self.cache, &other.cache, each),
            answers: each(self.answers, other.answers),
            failures: each(self.failures, other.failures),
            throttled: each(self.throttled, other.throttled),
            errors: zip(self.errors, &other.errors, each),
            shed: zip(self.shed, &other.shed, each),
            retries: zip(self.retries, &other.retries, each),
            unknown: each(self.unknown, other.unknown),
            in_doubt: each(self.in_doubt, other.in_doubt),
            durations: self.durations.map(|row| rows.next().map_or(row, |other| zip(row, other, each))),
        }
    }
}

/// The sum of the counts of the wanted words.
fn named(words: &[&str], counts: &[u32], wanted: &[&str]) -> u32 {
    words.iter().zip(counts).filter(|(word, _)| wanted.contains(word)).map(|(_, count)| count).sum()
}

fn zip<const N: usize>(one: [u32; N], other: &[u32; N], each: fn(u32, u32) -> u32) -> [u32; N] {
    let mut others = other.iter();
    one.map(|count| others.next().map_or(count, |other| each(count, *other)))
}

fn sum(counts: impl Iterator<Item = u64>) -> u32 {
    wrapped(counts.fold(0, u64::wrapping_add))
}

#[expect(clippy::cast_possible_truncation, reason = "to wrap around is what it is for")]
fn wrapped(count: u64) -> u32 {
    count as u32
}
