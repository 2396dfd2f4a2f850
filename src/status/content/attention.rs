//! The first sections: what needs attention, and the overview.

use super::block::{Block, Section};
use super::callers::{rate, shares};
use crate::status::callers::ByStatus;
use crate::status::snapshot::Snapshot;
use crate::status::verdict::remark::Remark;
use crate::status::words::{bytes, count, duration, share, time};

/// The remarks, and the three figures that operators ask for first.
pub(super) fn attention(s: &Snapshot, remarks: Vec<Remark>) -> Section {
    let (lately, length) = s.hour.lately(LATELY);
    let answers: ByStatus = lately.callers.total();
    let hits = share(lately.saved(), lately.lookups()).unwrap_or_else(|| "no lookups".to_owned());
    let figures = vec![
        ("Requests", format!("{} in the last {}", rate(&answers, length), duration(length))),
        ("Answers", shares(&answers)),
        ("Hit ratio", hits),
    ];
    let remarks = if remarks.is_empty() { Block::Text("Nothing.".to_owned()) } else { Block::Remarks(remarks) };
    Section { id: "attention", title: "What needs attention", blocks: vec![remarks, Block::Facts(figures)] }
}

const LATELY: u64 = 5;

pub(super) fn overview(s: &Snapshot) -> Section {
    let token = match s.token.left {
        Some((left, ends)) => format!("lasts {}, until {}", duration(left), time(ends, s.now)),
        None => "there is none".to_owned(),
    };
    let merchant = match (&s.merchant, s.has_identifiers) {
        (Some(merchant), _) => merchant.clone(),
        (None, true) => "not known yet".to_owned(),
        (None, false) => "left out on this listener".to_owned(),
    };
    let listeners = s.listeners.iter().map(|one| format!("{} {}", one.name, one.addresses.join(", ")));
    let facts = vec![
        ("Host", s.about.host.clone()),
        ("Listeners", listeners.collect::<Vec<_>>().join("; ")),
        ("Environment", s.about.environment.to_owned()),
        ("Gateway", s.about.gateway.clone()),
        ("Merchant", merchant),
        ("Token", token),
        ("Clock", clock(s)),
        ("Sessions in memory", held(s)),
        ("Requests under way", count(s.in_flight)),
        ("Memory", format!("{} resident", bytes(s.process.resident))),
        ("Open files", format!("{} of {}", count(s.process.open_files), count(s.process.most_files))),
        ("Running for", duration(s.uptime)),
        ("Version", s.about.build.to_owned()),
    ];
    Section { id: "overview", title: "Overview", blocks: vec![Block::Facts(facts)] }
}

fn held(s: &Snapshot) -> String {
    format!("{}, {} of {}", count(s.sessions), bytes(s.session_bytes), bytes(s.about.cache_bytes))
}

/// The difference to Sezzle's clock, which each token exchange tells.
fn clock(s: &Snapshot) -> String {
    match s.clock_skew {
        0 if s.unready.is_some() && !s.draining => "not known before the first token".to_owned(),
        0 => "as Sezzle's, to the second".to_owned(),
        1.. => format!("{} s behind Sezzle's", count(s.clock_skew.unsigned_abs())),
        ..0 => format!("{} s ahead of Sezzle's", count(s.clock_skew.unsigned_abs())),
    }
}
