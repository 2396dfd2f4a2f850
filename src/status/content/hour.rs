//! The sections about the last hour: the calls that the cache saved, and the times of answers.

use super::block::{Block, Figure, Section, Table};
use crate::status::chart::{Chart, Column};
use crate::status::counts::{Counts, Timed};
use crate::status::history::{PART, PARTS};
use crate::status::quantile::quantile;
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, counted, duration, share};

/// The time that counts of the hour cover, in words.
pub(super) fn length(s: &Snapshot) -> String {
    // The current part is seldom complete, so an hour has one part less.
    let whole = PART.saturating_mul(u32::try_from(PARTS - 1).unwrap_or_default());
    if s.hour.length >= whole { "the last hour".to_owned() } else { format!("the last {}", duration(s.hour.length)) }
}

/// The savings by the cache, in figures and charts.
pub(super) fn saved(s: &Snapshot) -> Section {
    let total = &s.hour.total;
    let (lookups, saved, calls, failed) = (total.lookups(), total.saved(), total.calls(), total.failed());

    let columns = columns(s, |part| {
        let percent = u64::from(part.saved()).saturating_mul(100).checked_div(part.lookups().into())?;
        Some(Column { lower: u32::try_from(percent).ok()?, upper: 0 })
    });
    let ratios = || columns.iter().flatten().map(|column| column.lower);
    let description = match (ratios().min(), ratios().max()) {
        (Some(least), Some(most)) => format!("Between {least} % and {most} % in two minutes."),
        (_, _) => NOTHING.to_owned(),
    };
    let scale = "100 %".to_owned();
    let chart = Chart { title: "Hit ratio of the last hour", description, columns, full: 100, scale };
    let ratio = Figure {
        name: "Hit ratio",
        value: share(saved, lookups).unwrap_or_else(|| "–".to_owned()),
        words: format!("of {}", counted(lookups, "session lookup", "session lookups")),
        chart,
    };

    let columns = self::columns(s, |part| Some(Column { lower: part.saved(), upper: 0 }));
    let saved = Figure {
        name: "Saved calls",
        value: count(saved.into()),
        words: "not made to Sezzle".to_owned(),
        chart: counting("Saved calls of the last hour", columns),
    };

    let columns = self::columns(s, |part| {
        let failed = part.failed();
        Some(Column { lower: part.calls().saturating_sub(failed), upper: failed })
    });
    let throttled = match total.throttled {
        0 => String::new(),
        throttled => format!(", and {} got 429", count(throttled.into())),
    };
    let calls = Figure {
        name: "Calls to Sezzle",
        value: count(calls.into()),
        words: format!("of which {} failed{throttled}", count(failed.into())),
        chart: counting("Calls to Sezzle in the last hour", columns),
    };

    let numbers = Block::Folded("In numbers", Box::new(Block::Table(numbers(s))));
    let blocks = vec![Block::Figures(vec![ratio, saved, calls]), numbers];
    Section { id: "saved", title: "The last hour", blocks }
}

fn columns(s: &Snapshot, column: impl Fn(&Counts) -> Option<Column>) -> Vec<Option<Column>> {
    s.hour.parts.iter().map(|part| part.as_ref().and_then(&column)).collect()
}

/// A chart scaled to its highest column.
fn counting(title: &'static str, columns: Vec<Option<Column>>) -> Chart {
    let heights = columns.iter().flatten().map(|column| column.lower.saturating_add(column.upper));
    let full = heights.max().unwrap_or_default();
    let description = match full {
        0 => NOTHING.to_owned(),
        most => format!("At most {} in two minutes.", count(most.into())),
    };
    Chart { title, description, columns, full, scale: count(full.into()) }
}

const NOTHING: &str = "Nothing yet.";

/// The figures of the charts, without the time before the start.
fn numbers(s: &Snapshot) -> Table {
    let minutes = PART.as_secs() / 60;
    let mut ago = u64::try_from(s.hour.parts.len()).unwrap_or_default().saturating_mul(minutes);
    let mut rows = Vec::new();
    for parts in s.hour.parts.chunks(ROW) {
        let until = ago.saturating_sub(u64::try_from(parts.len()).unwrap_or_default().saturating_mul(minutes));
        if s.hour.length.as_secs() > until.saturating_mul(60) {
            let mut row = vec![format!("{ago} to {until}")];
            row.extend(match parts.iter().any(Option::is_some) {
                true => figures(&parts.iter().flatten().fold(Counts::default(), |sum, counts| sum.plus(counts))),
                // No observation was made, as on a suspended machine.
                false => ["–"; 5].map(str::to_owned),
            });
            rows.push(row);
        }
        ago = until;
    }
    Table {
        caption: "By ten minutes".to_owned(),
        texts: &["Minutes ago"],
        numbers: &["Lookups", "Saved", "Hit ratio", "Calls", "Failed"],
        is_of_words: false,
        rows,
    }
}

fn figures(sum: &Counts) -> [String; 5] {
    let ratio = share(sum.saved(), sum.lookups()).unwrap_or_else(|| "–".to_owned());
    let [lookups, saved, calls, failed] =
        [sum.lookups(), sum.saved(), sum.calls(), sum.failed()].map(|number| count(number.into()));
    [lookups, saved, ratio, calls, failed]
}

// Five parts of two minutes.
const ROW: usize = 5;

pub(super) fn latency(s: &Snapshot) -> Section {
    let rows = Timed::ALL.map(|timed| {
        let durations = s.hour.total.durations(timed);
        let all: u64 = durations.iter().copied().map(u64::from).sum();
        let within = [0.5, 0.95, 0.99].map(|share| quantile(&durations, share));
        let within = within.map(|found| found.map_or_else(|| "–".to_owned(), |quantile| quantile.to_string()));
        [timed.as_str().to_owned(), count(all)].into_iter().chain(within).collect()
    });
    let table = Table {
        caption: "The last hour: 50, 95 and 99 % of the answers took at most".to_owned(),
        texts: &["Answers"],
        numbers: &["Count", "50 %", "95 %", "99 %"],
        is_of_words: false,
        rows: rows.to_vec(),
    };
    Section { id: "latency", title: "How long it took", blocks: vec![Block::Table(table)] }
}
