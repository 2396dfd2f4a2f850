//! The sections about calls to Sezzle: their results, and the calls that were not sent or were sent again.

use super::block::{Block, Section, Table};
use super::meaning::meaning;
use crate::status::snapshot::{Breaker, Snapshot};
use crate::status::verdict::calls;
use crate::status::words::{count, time};
use crate::telemetry::metrics::{RETRY_RESULTS, SHED_REASONS};
use crate::upstream::error::ErrorKind;

/// Verdict, circuit breakers, and calls that did not succeed.
pub(super) fn sezzle(s: &Snapshot) -> Section {
    let classes = s.classes.iter().filter(|state| state.breaker.is_some());
    let rows = classes.map(|state| {
        let breaker = match state.breaker {
            None | Some(Breaker::Closed) => "closed: holds back no call",
            Some(Breaker::Open) => "open: holds back every call",
            Some(Breaker::HalfOpen) => "half-open: lets one call through as a trial",
        };
        let held = state.held_until.map_or_else(|| "–".to_owned(), |until| time(until, s.now));
        vec![state.class.to_owned(), breaker.to_owned(), held]
    });
    let breakers = Table {
        caption: "Calls by class; neither a 429 nor a breaker holds back calls that move money".to_owned(),
        texts: &["Class", "Circuit breaker", "Rate-limited until"],
        numbers: &[],
        is_of_words: false,
        rows: rows.collect(),
    };
    let total = &s.hour.total;
    let answers = [("5xx", total.failures), ("429", total.throttled)];
    let failures = answers.into_iter().chain(ErrorKind::WORDS.into_iter().zip(total.errors));
    let failures = by_word("Failed, or answered 429, in the last hour", "No call of the last hour failed.", failures);
    let blocks = vec![Block::Text(calls::gateway(s).text), Block::Table(breakers), failures];
    Section { id: "sezzle", title: "Sezzle", blocks }
}

pub(super) fn shed(s: &Snapshot) -> Section {
    let total = &s.hour.total;
    let shed = SHED_REASONS.into_iter().zip(total.shed);
    let retries = RETRY_RESULTS.into_iter().zip(total.retries);
    let blocks = vec![
        by_word("Shed in the last hour", "No call of the last hour was shed.", shed),
        by_word("Retried in the last hour", "No call of the last hour was sent again.", retries),
    ];
    Section { id: "shed", title: "Shed and retried", blocks }
}

/// A table of the counts that are not zero, or a sentence if all are.
pub(super) fn by_word(caption: &str, nothing: &str, counts: impl Iterator<Item = (&'static str, u32)>) -> Block {
    let counted = counts.filter(|(_, number)| *number > 0);
    let rows = counted.map(|(word, number)| vec![word.to_owned(), meaning(word).to_owned(), count(number.into())]);
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Block::Text(nothing.to_owned());
    }
    Block::Table(Table {
        caption: caption.to_owned(),
        texts: &["Word", "Meaning"],
        numbers: &["Count"],
        is_of_words: true,
        rows,
    })
}
