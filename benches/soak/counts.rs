//! How calls ended, minute by minute.

use crate::call::Answer;
use crate::verdict::{Sample, median};

/// How calls ended.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    calls: u64,
    hits: u64,
    /// Sezzle's answers, by the first digit of their status.
    classes: [u64; 6],
    /// The sidecar's own 503 answers.
    unsent: u64,
    /// The sidecar's own errors for calls without an effect.
    failed: u64,
    pub unknown: u64,
    /// Answers after an earlier attempt that may have taken effect.
    marked: u64,
    /// Answers that broke off.
    cut: u64,
    pub ledgers: u64,
    pub webhooks: u64,
}

impl Counts {
    pub const TITLES: &str = "minute   calls    hits     2xx    4xx    5xx  unsent failed unknown marked   cut ledgers hooks  KiB resident (least, median, most)  descriptors";

    pub fn add(&mut self, answer: &Answer) {
        self.calls += 1;
        self.hits += u64::from(answer.has("cache-status", "; hit"));
        match answer.status {
            _ if answer.body.is_none() => self.cut += 1,
            503 if answer.is_own_error() => self.unsent += 1,
            504 if answer.is_unknown() => self.unknown += 1,
            _ if answer.is_own_error() => self.failed += 1,
            status => {
                self.marked += u64::from(answer.has("proxy-status", "received-status="));
                self.classes[usize::from(status / 100).min(5)] += 1;
            }
        }
    }

    pub fn since(&self, before: &Self) -> Self {
        let mut classes = self.classes;
        classes.iter_mut().zip(before.classes).for_each(|(now, before)| *now -= before);
        Self {
            calls: self.calls - before.calls,
            hits: self.hits - before.hits,
            classes,
            unsent: self.unsent - before.unsent,
            failed: self.failed - before.failed,
            unknown: self.unknown - before.unknown,
            marked: self.marked - before.marked,
            cut: self.cut - before.cut,
            ledgers: self.ledgers - before.ledgers,
            webhooks: self.webhooks - before.webhooks,
        }
    }

    pub fn print(&self, minute: usize, samples: &[Sample]) {
        let Self { calls, hits, classes, unsent, failed, unknown, marked, cut, ledgers, webhooks } = self;
        let [_, _, ok, _, client, server] = classes;
        let resident = || samples.iter().map(|sample| sample.resident);
        let (least, most) = (resident().min().unwrap_or(0), resident().max().unwrap_or(0));
        let middle = median(samples, |sample| sample.resident);
        let open = median(samples, |sample| sample.descriptors);
        println!(
            "{minute:>6}{calls:>8}{hits:>8}{ok:>8}{client:>7}{server:>7}{unsent:>8}{failed:>7}{unknown:>8}{marked:>7}{cut:>6}\
             {ledgers:>8}{webhooks:>6}{least:>16}{middle:>10}{most:>10}{open:>13}"
        );
    }
}
