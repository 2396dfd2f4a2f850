//! The section about the answers to callers.

use std::time::Duration;

use super::block::{Block, Section, Table};
use super::hour::length;
use crate::status::callers::{ByStatus, StatusKind, of_kind};
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, duration, per_second, share};

pub(super) fn callers(s: &Snapshot) -> Section {
    let (lately, covered) = s.hour.lately(LATELY);
    let (lately, hour) = (lately.callers.total(), s.hour.total.callers.total());
    let facts = vec![
        ("Rate", format!("{} in the last {}", rate(&lately, covered), duration(covered))),
        ("Answers of that time", shares(&lately)),
        ("Answers of the hour", shares(&hour)),
    ];
    let rows = s.hour.total.callers.routes().map(|(route, row)| {
        let counts = [all(row), of_kind(row, StatusKind::Success)];
        let failed = [StatusKind::ClientError, StatusKind::ServerError].map(|kind| of_kind(row, kind));
        let counts = counts.into_iter().chain(failed).map(|number| count(number.into()));
        [route.template().to_owned()].into_iter().chain(counts).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let table = match rows.is_empty() {
        true => Block::Text("No caller got an answer in the last hour.".to_owned()),
        false => Block::Table(Table {
            caption: format!("Answers by route in {}", length(s)),
            texts: &["Route"],
            numbers: &["Count", "2xx", "4xx", "5xx"],
            is_of_words: true,
            rows,
        }),
    };
    Section { id: "callers", title: "What callers got", blocks: vec![Block::Facts(facts), table] }
}

const LATELY: u64 = 5;

/// The rate of answers: `3.4 a second`.
pub(super) fn rate(answers: &ByStatus, length: Duration) -> String {
    format!("{} a second", per_second(all(answers), length))
}

/// The share of each kind of status: `98 % 2xx, 2 % 4xx`.
pub(super) fn shares(answers: &ByStatus) -> String {
    let all = all(answers);
    let of = |kind: StatusKind| {
        let count = of_kind(answers, kind);
        let share = share(count, all).filter(|_| count > 0)?;
        Some(format!("{share} {}", kind.as_str()))
    };
    let shares: Vec<_> = StatusKind::ALL.into_iter().filter_map(of).collect();
    if shares.is_empty() { "none".to_owned() } else { shares.join(", ") }
}

fn all(answers: &ByStatus) -> u32 {
    answers.iter().fold(0, |sum, count| sum.saturating_add(*count))
}
