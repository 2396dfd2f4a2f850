//! The counts that the status page shows: events, and histograms of durations.

use super::callers::Answers;
use super::elementwise::{Elementwise, wrapped};
use crate::proxy::error::ProxyError;
use crate::proxy::route::{Class, Route};
use crate::session::CacheResult;
use crate::telemetry::log;
use crate::telemetry::metrics::reading::{Series, by_word, series, sum};
use crate::telemetry::metrics::{
    CALLER_REFUSALS, DURATION_BUCKETS, Metrics, RELOAD_RESULTS, RETRY_RESULTS, SHED_REASONS, words,
};
use crate::upstream::error::ErrorKind;
use crate::webhook::WebhookResult;

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

/// Declares [`Counts`]: for each field its type and its value since the process started.
macro_rules! counts {
    ($($(#[$of:meta])* $field:ident: $type:ty,)+) => {
        /// Counts since the process started, or for a part of its life. The counts wrap around, so the difference of
        /// two is right even after an overflow.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$of])* pub $field: $type,)+
        }

        impl Counts {
            fn combine(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
                Self { $($field: self.$field.combine(&other.$field, each),)+ }
            }
        }
    };
}

counts! {
    /// Answers to callers.
    callers: Answers,
    /// Writes that the sidecar answered with a 503 of its own, so nothing was sent.
    writes_not_sent: u32,
    /// Answers to GET and HEAD.
    reads: u32,
    /// Answers 500, 502, 503 and 504 to GET and HEAD, of the sidecar or of Sezzle.
    failed_reads: u32,
    /// Session lookups, by [`CacheResult`].
    cache: [u32; CacheResult::ALL.len()],
    /// Responses from Sezzle.
    answers: u32,
    /// Responses from Sezzle with a 5xx status.
    failures: u32,
    /// Responses from Sezzle with status 429.
    throttled: u32,
    /// Attempts that got no whole response, by [`ErrorKind`].
    errors: [u32; ErrorKind::ALL.len()],
    /// Calls that were not sent, by [`SHED_REASONS`].
    shed: [u32; SHED_REASONS.len()],
    /// Writes among the calls that were not sent.
    money_shed: u32,
    /// Retries, by [`RETRY_RESULTS`].
    retries: [u32; RETRY_RESULTS.len()],
    /// Writes whose outcome is unknown.
    unknown: u32,
    /// Writes refused after an attempt that may have taken effect.
    in_doubt: u32,
    /// Audit lines that were not in the file in time.
    audit_missing: u32,
    /// Members of Sezzle's bodies that were missing or had another form.
    drift: u32,
    /// Responses 401 from Sezzle that callers got.
    unauthorized: u32,
    /// Requests of unknown callers.
    unknown_callers: u32,
    /// Requests of known callers that the caller may not make.
    forbidden_calls: u32,
    /// Token exchanges without a token.
    exchange_failures: u32,
    /// Attempts to use changed key files, by [`RELOAD_RESULTS`].
    key_reloads: [u32; RELOAD_RESULTS.len()],
    /// Requests to the webhook listener, by [`WebhookResult`].
    webhooks: [u32; WebhookResult::ALL.len()],
    /// Lines of the log that were not written.
    log_lost: u32,
    /// Tasks that panicked and were started again.
    task_restarts: u32,
    /// Lookups that were answered from memory that the fleet had not confirmed.
    unconfirmed: u32,
    /// Times that this sidecar stopped trusting what it had from the fleet's log.
    rejoins: u32,
    /// Histograms, by [`Timed`].
    durations: [Durations; Timed::ALL.len()],
}

impl Counts {
    /// The counts since the process started.
    pub fn read(metrics: &Metrics) -> Self {
        let mut counts = Self {
            callers: Answers::read(metrics),
            writes_not_sent: wrapped(sum(&metrics.requests, is_write_not_sent)),
            reads: wrapped(sum(&metrics.requests, is_read)),
            failed_reads: wrapped(sum(&metrics.requests, |series| {
                is_read(series) && matches!(series.label("code"), "500" | "502" | "503" | "504")
            })),
            cache: CacheResult::WORDS.map(|result| wrapped(metrics.cache_requests.with_label_values(&[result]).get())),
            errors: ErrorKind::WORDS.map(|kind| wrapped(metrics.upstream_errors.with_label_values(&[kind]).get())),
            shed: by_word(&metrics.shed, "reason", &SHED_REASONS).map(wrapped),
            money_shed: wrapped(sum(&metrics.shed, |series| series.label("class") == Class::Money.as_str())),
            retries: by_word(&metrics.upstream_retries, "result", &RETRY_RESULTS).map(wrapped),
            unknown: wrapped(sum(&metrics.outcome_unknown, |_| true)),
            in_doubt: wrapped(sum(&metrics.refused_in_doubt, |_| true)),
            audit_missing: wrapped(sum(&metrics.audit_lines, |series| series.label("result") != "written")),
            drift: wrapped(sum(&metrics.contract_drift, |series| series.label("kind") != "added")),
            unauthorized: wrapped(metrics.unauthorized_passed_on.get()),
            unknown_callers: wrapped(sum(&metrics.requests_refused, |series| {
                series.label("reason") == ProxyError::UnknownCaller.code()
            })),
            forbidden_calls: wrapped(sum(&metrics.requests_refused, |series| {
                CALLER_REFUSALS.contains(&series.label("reason"))
            })),
            exchange_failures: wrapped(sum(&metrics.token_refreshes, |series| series.label("result") != "success")),
            key_reloads: by_word(&metrics.secret_reloads, "result", &RELOAD_RESULTS).map(wrapped),
            webhooks: by_word(&metrics.webhooks, "result", &WebhookResult::WORDS).map(wrapped),
            log_lost: wrapped(log::dropped()),
            task_restarts: wrapped(sum(&metrics.task_restarts, |_| true)),
            unconfirmed: wrapped(sum(&metrics.fleet_unconfirmed_served, |_| true)),
            rejoins: wrapped(sum(&metrics.fleet_rejoins, |_| true)),
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
        self.combine(earlier, u32::wrapping_sub)
    }

    /// The sum of both counts.
    pub fn plus(&self, other: &Self) -> Self {
        self.combine(other, u32::wrapping_add)
    }

    /// Session lookups that ended with one of these results.
    pub fn cache(&self, results: &[&str]) -> u32 {
        named(&CacheResult::WORDS, &self.cache, results)
    }

    /// Requests to the webhook listener that ended with one of these results.
    pub fn webhooks(&self, results: &[WebhookResult]) -> u32 {
        named(&WebhookResult::WORDS, &self.webhooks, &results.iter().map(|one| one.as_str()).collect::<Vec<_>>())
    }

    /// Attempts to use changed key files that did not lead to their use.
    pub fn unused_keys(&self) -> u32 {
        self.key_reloads.iter().sum::<u32>().saturating_sub(named(&RELOAD_RESULTS, &self.key_reloads, &["success"]))
    }

    /// Calls that were not sent for these reasons.
    pub fn shed(&self, reasons: &[&str]) -> u32 {
        named(&SHED_REASONS, &self.shed, reasons)
    }

    /// Session lookups that could have been answered from memory.
    pub fn lookups(&self) -> u32 {
        self.cache.iter().sum::<u32>().saturating_sub(self.cache(&["bypass"]))
    }

    /// Session lookups that cost no call to Sezzle, because the session was in memory or another caller's request for
    /// the session was on its way.
    pub fn saved(&self) -> u32 {
        self.cache(&["hit", "collapsed"])
    }

    /// Attempts at calls to Sezzle.
    pub fn calls(&self) -> u32 {
        // A response that breaks off in its body is counted as a response already.
        let broken = named(&ErrorKind::WORDS, &self.errors, &["body"]);
        self.answers.saturating_add(self.errors.iter().sum::<u32>()).saturating_sub(broken)
    }

    /// Attempts at calls to Sezzle that failed.
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
}

fn is_read(answers: &Series) -> bool {
    matches!(answers.label("method"), "GET" | "HEAD")
}

/// Whether a series counts writes that the sidecar answered with a 503 of its own. Exchanges and calls about webhooks
/// move no money, so they do not count as writes.
fn is_write_not_sent(answers: &Series) -> bool {
    let route = answers.label("route");
    let moves_no_money = matches!(answers.label("method"), "GET" | "HEAD" | "OPTIONS")
        || route == Route::Authentication.template()
        || route.starts_with(Route::Webhooks.template());
    answers.label("source") == "sidecar" && answers.label("code") == "503" && !moves_no_money
}

/// The sum of the counts of the wanted words.
fn named(words: &[&str], counts: &[u32], wanted: &[&str]) -> u32 {
    words.iter().zip(counts).filter(|(word, _)| wanted.contains(word)).map(|(_, count)| count).sum()
}
