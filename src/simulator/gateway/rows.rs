//! The order report: rows that are made on demand, so that a report of any length takes the same memory.

use bytes::Bytes;

use crate::simulator::OrderReport;

/// The rows that are still to be made. All rows have the same length, even the heading.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Rows {
    form: OrderReport,
    next: u64,
    count: u64,
    /// Whether the bracket at the end of an array is still to come.
    open: bool,
    /// Whether the answer states its length.
    length_stated: bool,
}

impl Rows {
    /// Whole rows of at least `bytes` bytes in all.
    pub(super) fn new(form: OrderReport, bytes: u64, length_stated: bool) -> Self {
        let count = match form {
            OrderReport::Csv => bytes.div_ceil(length(form)).max(1),
            // Before each row but the first stands a comma.
            OrderReport::Json => bytes.saturating_sub(1).div_ceil(length(form) + 1),
        };
        Self { form, next: 0, count, open: form == OrderReport::Json, length_stated }
    }

    pub(in crate::simulator) fn media_type(&self) -> &'static str {
        match self.form {
            OrderReport::Csv => "text/csv",
            OrderReport::Json => "application/json",
        }
    }

    /// The length of the whole report in bytes, if the answer states its length.
    pub(in crate::simulator) fn stated_length(&self) -> Option<u64> {
        let length = match self.form {
            OrderReport::Csv => self.count.saturating_mul(length(self.form)),
            OrderReport::Json if self.count == 0 => 2,
            OrderReport::Json => self.count.saturating_mul(length(self.form) + 1).saturating_add(1),
        };
        self.length_stated.then_some(length)
    }
}

impl Iterator for Rows {
    type Item = Bytes;

    /// The next few rows in one piece.
    fn next(&mut self) -> Option<Bytes> {
        let start = self.next;
        let end = self.count.min(start.saturating_add(PIECE / length(self.form)));
        if start == end && !self.open {
            return None;
        }
        let mut piece = String::new();
        for row in start..end {
            if self.form == OrderReport::Json {
                piece.push(if row == 0 { '[' } else { ',' });
            }
            piece += &self::row(self.form, row);
        }
        self.next = end;
        if end == self.count && self.open {
            self.open = false;
            piece += if end == 0 { "[]" } else { "]" };
        }
        Some(piece.into())
    }
}

/// A row. Its shopper is invented, with an address at a domain that is reserved for examples.
fn row(form: OrderReport, row: u64) -> String {
    match form {
        OrderReport::Csv if row == 0 => format!("{:<12},{:<32},{:>10},{:<3}\n", "row", "order_uuid", "cents", "cur"),
        OrderReport::Csv => format!("{row:012},{row:032x},{:010},USD\n", 100 + row % 100_000),
        OrderReport::Json => {
            let cents = 20_000 + row % 80_000;
            format!(
                "{{\"created_at\":\"2026-01-01T12:00:00Z\",\"order_uuid\":\"{row:032x}\",\
                 \"order_platform_uuid\":\"{row:032x}\",\"customer_name\":\"Test Shopper {row:012}\",\
                 \"customer_email\":\"shopper-{row:012}@example.com\",\"external_reference_id\":\"PO-{row:012}\",\
                 \"customer_currency_code\":\"USD\",\"merchant_currency_code\":\"USD\",\"order_amount_in_cents\":{cents},\
                 \"captured_amount_in_cents\":{cents},\"uncaptured_amount_in_cents\":0,\"total_fees_in_cents\":600,\
                 \"net_amount_in_cents\":{},\"refund_fee_in_cents\":0,\"released_amount_in_cents\":0,\
                 \"order_type\":\"Standard Checkout\",\"financing_option\":\"4-pay-biweekly\"}}",
                cents - 600
            )
        }
    }
}

fn length(form: OrderReport) -> u64 {
    row(form, 0).len() as u64
}

/// The size of a piece in bytes, roughly: large enough to be fast, and small enough never to matter.
const PIECE: u64 = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_its_size_in_small_pieces_of_whole_rows() {
        for form in [OrderReport::Csv, OrderReport::Json] {
            for bytes in [0, 1, 2, 61, 62, 700, 1_000_000] {
                let rows = Rows::new(form, bytes, true);
                let stated = rows.stated_length().unwrap();
                let pieces: Vec<Bytes> = rows.collect();
                assert!(pieces.iter().all(|piece| piece.len() <= 18 * 1024));
                let whole = pieces.concat();
                assert_eq!(whole.len() as u64, stated, "{form:?} of {bytes}");
                assert!((bytes..bytes + length(form) + 3).contains(&stated), "{form:?} of {bytes}: {stated}");
                if form == OrderReport::Json {
                    let rows: Vec<serde_json::Value> = serde_json::from_slice(&whole).unwrap();
                    assert!(rows.iter().all(|row| row["customer_email"].as_str().unwrap().ends_with("@example.com")));
                }
            }
        }
    }

    #[test]
    fn every_row_is_as_long_as_the_first() {
        for form in [OrderReport::Csv, OrderReport::Json] {
            for number in [1, 599, 89_999, 90_000, 123_456_789] {
                assert_eq!(row(form, number).len() as u64, length(form), "{form:?} {number}");
            }
        }
    }

    #[test]
    fn a_terabyte_costs_no_more_than_its_next_piece() {
        for form in [OrderReport::Csv, OrderReport::Json] {
            let mut rows = Rows::new(form, 1 << 40, false);
            assert_eq!(rows.stated_length(), None);
            assert!(rows.by_ref().take(100).all(|piece| piece.len() <= 18 * 1024));
            assert!(rows.next().is_some());
        }
    }
}
