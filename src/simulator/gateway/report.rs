//! The calls that ask for reports.

use http::StatusCode;
use serde_json::{Value, json};
use time::{Date, Duration, OffsetDateTime};

use super::answer::{Answer, ApiError, CallResult};
use super::query::Query;
use super::rows::Rows;
use super::{Gateway, notation, query, settlement};
use crate::simulator::Options;

impl Gateway {
    /// `GET /v2/orders/report`, over a week at most.
    pub(super) fn orders_report(&self, query: &Query<'_>) -> CallResult {
        let range = query.range(self.today())?;
        if range.start < range.end.saturating_sub(Duration::days(7)) && query.value("end-date").is_some() {
            return Err(query::invalid("end-date", "A report covers seven days at most."));
        }
        let Options { order_report, report_bytes, report_length, .. } = self.options;
        Ok(Answer::rows(Rows::new(order_report, report_bytes, report_length)))
    }

    /// `GET /v2/settlements/summaries`: a payout for each day, in US dollars only.
    pub(super) fn settlement_summaries(&self, query: &Query<'_>) -> CallResult {
        let range = query.range(self.today())?;
        let offset = query.offset()?;
        let days = range.start.to_julian_day()..=range.end.min(self.today()).to_julian_day();
        let days = days.filter(|_| query.is_about("USD")).skip(offset).take(PAGE);
        let payouts: Vec<Value> = days.filter_map(|day| Date::from_julian_day(day).ok()).map(payout).collect();
        Ok(Answer::json(StatusCode::OK, &payouts.into()))
    }

    /// `GET /v2/settlements/details/{payout}`.
    pub(super) fn settlement_details(&self, payout: &str, query: &Query<'_>) -> CallResult {
        let metadata: Vec<&str> = query.value("metadata").unwrap_or_default().split(',').collect();
        let details = settlement::details(payout, self.options.settlement_columns, &metadata);
        Ok(Answer::csv(details.ok_or_else(|| ApiError::unknown("payout_uuid"))?))
    }

    /// `GET /v2/interest/balance`. The only account is in US dollars.
    pub(super) fn interest_balance(&self, query: &Query<'_>) -> CallResult {
        let balance = if query.is_about("USD") { 103.27 } else { 0.0 };
        Ok(Answer::json(StatusCode::OK, &json!({"interest_balance": balance})))
    }

    /// `GET /v2/interest/activity`. All activity is on the first day of the range.
    pub(super) fn interest_activity(&self, query: &Query<'_>) -> CallResult {
        let range = query.range(self.today())?;
        let offset = query.offset()?;
        let skipped = if query.is_about("USD") { offset } else { usize::MAX };
        Ok(Answer::csv(settlement::activity(range.start, skipped)))
    }

    fn today(&self) -> Date {
        self.stated(OffsetDateTime::now_utc()).date()
    }
}

fn payout(day: Date) -> Value {
    json!({
        "uuid": settlement::payout_uuid(day),
        "payout_currency": "USD",
        "payout_date": notation::rfc3339(day.midnight().assume_utc(), 0),
        "net_settlement_amount": 9412.5,
        "forex_fees": 0,
        "status": "Complete",
    })
}

/// Payouts in one answer, as at Sezzle.
const PAGE: usize = 20;
