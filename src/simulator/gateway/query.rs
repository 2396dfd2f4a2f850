//! The query parameters of the reports.

use http::StatusCode;
use time::{Date, Month};

use super::answer::ApiError;

/// The query of a request, which may be empty. No value needs percent-encoding.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

/// The days of a report, from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Date,
    pub(super) end: Date,
}

impl<'a> Query<'a> {
    pub(super) fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    /// The value of a parameter.
    pub(super) fn value(&self, wanted: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='))
    }

    /// The days from `start-date`, which is required, to `end-date`, which is today by default.
    pub(super) fn range(&self, today: Date) -> Result<Range, ApiError> {
        let start = self.value("start-date").and_then(day);
        let start = start.ok_or_else(|| invalid("start-date", "A date is required, as yyyy-mm-dd."))?;
        let end = match self.value("end-date") {
            None => today.max(start),
            Some(end) => day(end).ok_or_else(|| invalid("end-date", "This is no date of the form yyyy-mm-dd."))?,
        };
        if end < start {
            return Err(invalid("end-date", "The end is before the start."));
        }
        Ok(Range { start, end })
    }

    /// How many entries to leave out at the beginning.
    pub(super) fn offset(&self) -> Result<usize, ApiError> {
        let Some(offset) = self.value("offset") else { return Ok(0) };
        offset
            .parse::<u32>()
            .ok()
            .and_then(|offset| offset.try_into().ok())
            .ok_or_else(|| invalid("offset", "This is no number."))
    }

    /// Whether the query asks for this currency. A query without a currency asks for US dollars.
    pub(super) fn is_about(&self, currency: &str) -> bool {
        self.value("currency-code").unwrap_or("USD").eq_ignore_ascii_case(currency)
    }
}

/// The documents name no 422 for the reports.
pub(super) fn invalid(location: &str, message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid", location, message)
}

fn day(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let mut part = |digits: usize| {
        parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let month: u8 = month.parse().ok()?;
    Date::from_calendar_date(year.parse().ok()?, Month::try_from(month).ok()?, day.parse().ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_whole_and_run_forward() {
        let today = day("2026-03-10").unwrap();
        let range = |query| Query::new(query).range(today).ok().map(|range| (range.start, range.end));
        assert_eq!(range(Some("offset=1&start-date=2026-02-28")), Some((day("2026-02-28").unwrap(), today)));
        assert_eq!(
            range(Some("start-date=2026-03-11")),
            Some((day("2026-03-11").unwrap(), day("2026-03-11").unwrap()))
        );
        assert!(range(Some("start-date=2026-03-01&end-date=2026-03-01")).is_some());
        for wrong in [
            "",
            "start-date=",
            "start-date=2026-02-30",
            "start-date=26-02-03",
            "start-date=2026-2-3",
            "start-date=2026-02-03-",
            "start-date=+026-02-03",
            "xstart-date=2026-02-03",
            "start-date=2026-03-02&end-date=2026-03-01",
            "start-date=2026-03-02&end-date=x",
        ] {
            assert_eq!(range(Some(wrong)), None, "{wrong}");
        }
        assert_eq!(range(None), None);
    }
}
