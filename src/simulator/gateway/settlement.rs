//! The two CSV reports: the lines of a payout, and the activity of the interest account. All figures are invented.

use time::{Date, OffsetDateTime};

use super::notation;
use crate::simulator::Columns;

/// The beginning of a payout's UUID, and how many digits of the day follow.
const PAYOUT: &str = "c1a0b9d2-3d6e-4f0a-9b51-";
const PAYOUT_DAY: usize = 12;

pub(super) fn payout_uuid(day: Date) -> String {
    format!("{PAYOUT}{:01$x}", day.to_julian_day(), PAYOUT_DAY)
}

/// The day of a payout by its UUID; `None` if the UUID is none of a payout. Digits that name no day stand for the first
/// day of 1970.
fn payout_day(payout: &str) -> Option<Date> {
    let day = payout.strip_prefix(PAYOUT).filter(|day| day.len() == PAYOUT_DAY)?;
    let day = i32::from_str_radix(day, 16).ok().and_then(|day| Date::from_julian_day(day).ok());
    Some(day.unwrap_or(OffsetDateTime::UNIX_EPOCH.date()))
}

/// The settlement details of a payout as CSV, with a column for each metadata key that the lines have. `None` for an
/// unknown payout.
pub(super) fn details(payout: &str, columns: Columns, metadata: &[&str]) -> Option<String> {
    let day = payout_day(payout)?;
    let sums = SUMS.iter().filter(|(_, _, since)| columns >= *since);
    let (names, values): (Vec<&str>, Vec<String>) = sums
        .map(|(name, value, _)| {
            let value = match *name {
                "payment_uuid" => payout.to_owned(),
                "payout_date" => format!("{day} 00:05:00 +0000 UTC"),
                _ => (*value).to_owned(),
            };
            (*name, value)
        })
        .unzip();
    let keys: Vec<&str> = metadata.iter().copied().filter(|key| value_of(key).is_some()).collect();
    let lines = LINES.iter().map(|(kind, order_amount, amount, code)| {
        let date = notation::rfc3339(day.midnight().assume_utc(), 0);
        let product = if *kind == "ORDER" { "standard_checkout" } else { "" };
        let mut line = format!(
            "{kind},{date},{date},{date},gm99f-31vu1-kg00e-rae1g,1,PO-1,{order_amount},{amount},USD,{code},,{SEZZLE_ORDER}"
        );
        if columns == Columns::Current {
            line += &format!(",{product},,");
        }
        keys.iter().filter_map(|key| value_of(key)).fold(line, |line, value| line + "," + value)
    });
    let mut heading = LINE_COLUMNS.to_owned();
    if columns == Columns::Current {
        heading += ",product_type,mid,card_network_auth_ref";
    }
    heading = keys.iter().fold(heading, |heading, key| heading + "," + key);
    let rows = [names.join(","), values.join(","), heading].into_iter().chain(lines);
    Some(rows.map(|row| row + "\n").collect())
}

/// The value of a metadata key that the invented lines have.
fn value_of(key: &str) -> Option<&'static str> {
    let known = [("location_id", "123"), ("store_name", "Downtown")];
    known.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
}

/// The activity of the interest account as CSV, without the first `offset` lines.
pub(super) fn activity(day: Date, offset: usize) -> String {
    let date = notation::rfc3339(day.midnight().assume_utc(), 0);
    let heading = "type,event_date,interest_account_change_amount,interest_account_balance_after_change\n".to_owned();
    let rows = ACTIVITY.iter().skip(offset);
    rows.fold(heading, |report, (kind, change, balance)| report + &format!("{kind},{date},{change},{balance}\n"))
}

/// The sums of the lines below, each with the oldest form of the report that has it.
const SUMS: [(&str, &str, Columns); 20] = [
    ("total_order_amount", "9800.00", Columns::Older),
    ("total_capture_amount", "9800.00", Columns::Current),
    ("total_refund_amount", "-20.00", Columns::Older),
    ("total_fee_amount", "-367.50", Columns::Older),
    ("total_returned_fee_amount", "0.00", Columns::Older),
    ("total_chargeback_amount", "0.00", Columns::Older),
    ("total_chargeback_reversal_amount", "0.00", Columns::Older),
    ("total_interest_transfer_amount", "0.00", Columns::Older),
    ("total_correction_amount", "0.00", Columns::Older),
    ("total_referral_revenue_transfer_amount", "0.00", Columns::Older),
    ("total_bank_account_withdrawals", "0.00", Columns::Older),
    ("total_bank_account_withdrawal_reversals", "0.00", Columns::Older),
    ("forex_fees", "0.00", Columns::Older),
    ("net_settlement_amount", "9412.50", Columns::Older),
    ("payment_uuid", "", Columns::Older),
    ("settlement_currency", "USD", Columns::Older),
    ("payout_date", "", Columns::Older),
    ("payout_status", "Complete", Columns::Older),
    ("final_payout_amount", "9412.50", Columns::Current),
    ("payout_currency", "USD", Columns::Current),
];
const LINE_COLUMNS: &str = "type,order_capture_date,order_created_at,event_date,order_uuid,customer_order_id,\
                            external_reference_id,order_amount,amount,posting_currency,type_code,chargeback_code,sezzle_order_id";
/// The lines: the kind, the amount of the order, the amount of the line, and the kind as a number.
const LINES: [(&str, &str, &str, &str); 4] = [
    ("ORDER", "9800.00", "", "001"),
    ("CAPTURE", "", "9800.00", "001"),
    ("FEE", "", "-367.50", "003"),
    ("REFUND", "", "-20.00", "002"),
];
const SEZZLE_ORDER: &str = "66d78e86-fd96-4266-9217-b769c102a0a0";
const ACTIVITY: [(&str, &str, &str); 3] = [
    ("INTEREST_PAYOUT", "122.8718", "5101.4676"),
    ("INTEREST_WITHDRAWAL", "-26.1000", "5075.3676"),
    ("INTEREST_ACCRUAL", "1.0702", "5076.4378"),
];
