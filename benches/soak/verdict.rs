//! The limits of growth, leaks and losses.

use std::process::ExitCode;
use std::time::Duration;

/// The resources that a sidecar takes at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// KiB.
    pub resident: usize,
    pub descriptors: usize,
    pub threads: usize,
}

/// Allowed differences of the medians between the first third after the warm-up and the last.
const RESIDENT_PERCENT: usize = 3;
const RESIDENT_KIB: usize = 1024;
const DESCRIPTORS: usize = 8;
/// Threads that read files come and go.
const THREADS: usize = 2;
/// Descriptors that may be open in addition to those before the first call, once all is quiet.
const LEFT: usize = 2;

pub struct Verdict {
    lasts: Duration,
    violations: Vec<String>,
}

impl Verdict {
    pub fn new(lasts: Duration) -> Self {
        Self { lasts, violations: Vec::new() }
    }

    /// Samples after the tenth minute, or after a third of a short run, must not grow.
    pub fn grown(&mut self, samples: &[Sample]) {
        let warm_up = (samples.len() / 3).min(samples.len() * 600 / self.lasts.as_secs().max(1) as usize);
        let after = &samples[warm_up..];
        let third = after.len() / 3;
        let (first, last) = (&after[..third], &after[after.len() - third..]);
        let resident = [first, last].map(|part| median(part, |sample| sample.resident));
        let descriptors = [first, last].map(|part| median(part, |sample| sample.descriptors));
        let threads = [first, last].map(|part| median(part, |sample| sample.threads));
        println!("warm-up: {warm_up} of {} samples; then medians of the first third and the last", samples.len());
        println!("resident:    {} KiB, {} KiB", resident[0], resident[1]);
        println!("descriptors: {}, {}", descriptors[0], descriptors[1]);
        println!("threads:     {}, {}", threads[0], threads[1]);
        let allowed = resident[0] + resident[0] * RESIDENT_PERCENT / 100 + RESIDENT_KIB;
        self.hold(resident[1] <= allowed, || format!("memory grew: more than {allowed} KiB"));
        let allowed = descriptors[0] + DESCRIPTORS;
        self.hold(descriptors[1] <= allowed, || format!("descriptors grew: more than {allowed}"));
        let allowed = threads[0] + THREADS;
        self.hold(threads[1] <= allowed, || format!("threads grew: more than {allowed}"));
    }

    /// Compares the descriptors that are open when nobody calls any more with those before the first call.
    pub fn left(&mut self, before: usize, after: usize) {
        println!("descriptors with nobody calling: {before} before, {after} after");
        self.hold(after <= before + LEFT, || format!("{} descriptors leaked", after - before));
    }

    /// Adds the differences between the gateway's ledger and what callers were told.
    pub fn ledger(&mut self, wrong: Vec<String>) {
        self.violations.extend(wrong);
    }

    /// The counted unknown outcomes must be at least those that callers were told of, and at most those and all hung-up
    /// calls together.
    pub fn unknown(&mut self, counted: u64, told: u64, hung_up: u64) {
        println!("unknown outcomes: {told} told, {counted} counted, {hung_up} callers hung up");
        let range = told..=told + hung_up;
        self.hold(range.contains(&counted), || format!("{counted} unknown outcomes are counted, not {range:?}"));
    }

    pub fn received(&mut self, webhooks: u64) {
        self.hold(webhooks > 0, || "no webhook came through".to_owned());
    }

    pub fn ended(&mut self, code: Option<i32>) {
        self.hold(code == Some(0), || format!("it ended with {code:?}"));
    }

    pub fn print(self) -> ExitCode {
        for violation in self.violations.iter().take(20) {
            println!("VIOLATION: {violation}");
        }
        println!("verdict: {}", if self.violations.is_empty() { "good" } else { "bad" });
        if self.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    pub fn hold(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }
}

pub fn median(samples: &[Sample], what: impl Fn(&Sample) -> usize) -> usize {
    let mut values: Vec<usize> = samples.iter().map(what).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
