//! Reports, streamed in constant memory however long they are.

use std::fmt::Write;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;
use time::Date;
use time::Duration;
use time::OffsetDateTime;

use crate::simulator::gateway::Gateway;
use crate::simulator::gateway::answer::Answer;
use crate::simulator::gateway::answer::Outcome;
use crate::simulator::gateway::answer::Refusal;
use crate::simulator::gateway::query;
use crate::simulator::gateway::query::Query;
use crate::simulator::gateway::wording;

impl Gateway {
    /// `GET /v2/orders/report`, over a week at most.
    pub(super) fn orders_report(&self, query: &Query<'_>) -> Outcome {
        let range = query.range(self.today())?;
        if range.start < range.end.saturating_sub(Duration::days(7)) && query.value("end-date").is_some() {
            return Err(query::invalid("end-date", "A report covers seven days at most."));
        }
        Ok(Answer::csv(Rows::new(self.options.report_bytes, self.options.report_length)))
    }

    /// `GET /v2/settlements/summaries`: a payout for each day, in US dollars only.
    pub(super) fn settlement_summaries(&self, query: &Query<'_>) -> Outcome {
        let range = query.range(self.today())?;
        let offset = query.offset()?;
        let days = range.start.to_julian_day()..=range.end.min(self.today()).to_julian_day();
        let days = days.filter(|_| query.is_about("USD")).skip(offset).take(PAGE);
        let payouts: Vec<Value> = days.filter_map(|day| Date::from_julian_day(day).ok()).map(payout).collect();
        Ok(Answer::json(StatusCode::OK, &payouts.into()))
    }

    /// `GET /v2/settlements/details/{payout}`.
    pub(super) fn settlement_details(&self, payout: &str) -> Outcome {
        if payout.len() != PAYOUT.len() + PAYOUT_DAY || !payout.starts_with(PAYOUT) {
            return Err(Refusal::unknown("payout_uuid"));
        }
        Ok(Answer::csv(Rows::new(SMALL_REPORT, true)))
    }

    /// `GET /v2/interest/balance`: there is only an account in US dollars.
    pub(super) fn interest_balance(&self, query: &Query<'_>) -> Outcome {
        let balance = if query.is_about("USD") { 103.27 } else { 0.0 };
        Ok(Answer::json(StatusCode::OK, &json!({"interest_balance": balance})))
    }

    /// `GET /v2/interest/activity`: nine lines.
    pub(super) fn interest_activity(&self, query: &Query<'_>) -> Outcome {
        query.range(self.today())?;
        let offset = query.offset()?;
        let any = offset == 0 && query.is_about("USD");
        Ok(Answer::csv(Rows::new(if any { SMALL_REPORT } else { 0 }, true)))
    }

    fn today(&self) -> Date {
        self.stated(OffsetDateTime::now_utc()).date()
    }
}

/// What was paid out on a day.
fn payout(day: Date) -> Value {
    json!({
        "uuid": format!("{PAYOUT}{:01$x}", day.to_julian_day(), PAYOUT_DAY),
        "payout_currency": "USD",
        "payout_date": wording::rfc3339(day.midnight().assume_utc(), 0),
        "net_settlement_amount": 9412.5,
        "forex_fees": 0,
        "status": "Complete",
    })
}

/// The rows of a CSV report, made as they are asked for. All rows have the same length, the heading too.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Rows {
    next: u64,
    count: u64,
    length_stated: bool,
}

impl Rows {
    /// At least this many bytes, in whole rows, and at least the heading.
    fn new(bytes: u64, length_stated: bool) -> Self {
        Self { next: 0, count: bytes.div_ceil(ROW_BYTES).max(1), length_stated }
    }

    /// The length in bytes of what is still to come, if the report states it.
    pub(in crate::simulator) fn stated_length(&self) -> Option<u64> {
        self.length_stated.then(|| self.count.saturating_sub(self.next).saturating_mul(ROW_BYTES))
    }
}

impl Iterator for Rows {
    type Item = Bytes;

    /// The next few rows in one piece.
    fn next(&mut self) -> Option<Bytes> {
        let end = self.count.min(self.next.saturating_add(ROWS_PER_PIECE));
        if self.next == end {
            return None;
        }
        let mut piece = String::new();
        for row in self.next..end {
            // Writing to a string cannot fail.
            let _ = match row {
                0 => writeln!(piece, "{:<12},{:<32},{:>10},{:<3}", "row", "order_uuid", "cents", "cur"),
                _ => writeln!(piece, "{row:012},{row:032x},{:010},USD", 100 + row % 100_000),
            };
        }
        self.next = end;
        Some(piece.into())
    }
}

/// The beginning of a payout's UUID, and how many digits of the day follow.
const PAYOUT: &str = "c1a0b9d2-3d6e-4f0a-9b51-";
const PAYOUT_DAY: usize = 12;
/// Payouts in one answer, as Sezzle has it.
const PAGE: usize = 20;
/// 12 + 32 + 10 + 3 characters, three commas and a line feed.
const ROW_BYTES: u64 = 61;
/// Pieces of about 16 KiB: large enough to be fast, small enough never to matter.
const ROWS_PER_PIECE: u64 = 268;
const SMALL_REPORT: u64 = 10 * ROW_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_its_size_in_small_pieces_of_whole_rows() {
        for bytes in [0, 1, 61, 62, 1_000_000] {
            let rows = Rows::new(bytes, true);
            let stated = rows.stated_length();
            let mut total = 0;
            for piece in rows {
                assert!(piece.len() <= 16 * 1024);
                assert!(piece.ends_with(b"\n"));
                total += piece.len() as u64;
            }
            assert_eq!(Some(total), stated);
            assert_eq!(total, bytes.div_ceil(61).max(1) * 61);
        }
    }

    #[test]
    fn a_terabyte_costs_no_more_than_its_next_piece() {
        let mut rows = Rows::new(1 << 40, false);
        assert_eq!(rows.stated_length(), None);
        assert!(rows.by_ref().take(100).all(|piece| piece.len() <= 16 * 1024));
        assert!(rows.next().is_some());
    }
}
