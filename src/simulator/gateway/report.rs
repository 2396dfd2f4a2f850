//! Reports, streamed in constant memory however long they are.

use std::fmt::Write;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use time::OffsetDateTime;

use crate::simulator::gateway::Gateway;
use crate::simulator::gateway::answer::Answer;
use crate::simulator::gateway::answer::Outcome;
use crate::simulator::gateway::answer::Refusal;

impl Gateway {
    pub(super) fn orders_report(&self) -> Answer {
        Answer::csv(Rows::new(self.options.report_bytes, self.options.report_length))
    }

    pub(super) fn settlement_summaries(&self) -> Answer {
        let date = self.date(OffsetDateTime::now_utc());
        let payout = json!({
            "uuid": PAYOUT,
            "payout_currency": "USD",
            "payout_date": date,
            "net_settlement_amount": 9412.5,
            "forex_fees": 0,
            "status": "Complete",
        });
        Answer::json(StatusCode::OK, &json!([payout]))
    }

    pub(super) fn settlement_details(&self, payout: &str) -> Outcome {
        if payout != PAYOUT {
            return Err(Refusal::unknown("payout_uuid"));
        }
        Ok(Answer::csv(Rows::new(SMALL_REPORT, true)))
    }

    pub(super) fn interest_balance(&self) -> Answer {
        Answer::json(StatusCode::OK, &json!({"interest_balance": 103.27}))
    }

    pub(super) fn interest_activity(&self) -> Answer {
        Answer::csv(Rows::new(SMALL_REPORT, true))
    }
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

/// The one payout there is.
const PAYOUT: &str = "c1a0b9d2-3d6e-4f0a-9b51-7e2c88d04f13";
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
