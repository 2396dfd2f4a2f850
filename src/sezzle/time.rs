//! Dates in Sezzle's formats: RFC 3339 in bodies (0 to 9 fractional digits), HTTP dates in headers.

use std::time::{Duration, SystemTime};

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;

use crate::clock::Wall;

/// An HTTP date has whole seconds, so the clock that wrote it may be this much further.
pub const DATE_RESOLUTION: Duration = Duration::from_secs(1);

/// Parses an RFC 3339 date. Fractions of a millisecond are cut off, so that no expiry is read as later than it is.
pub fn parse_rfc3339(text: &str) -> Option<Wall> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let millis = date.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(millis).ok().map(Wall)
}

/// Formats an RFC 3339 date in UTC; `None` for years that the format cannot express.
pub fn format_rfc3339(wall: Wall) -> Option<String> {
    let nanos = i128::from(wall.0).checked_mul(1_000_000)?;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// Parses an HTTP date (RFC 9110, 5.6.7).
pub fn parse_http_date(text: &str) -> Option<Wall> {
    httpdate::parse_http_date(text).ok().map(Wall::from)
}

pub fn format_http_date(wall: Wall) -> String {
    // The crate's formatter panics outside the years 1970 to 9999.
    let clamped = Wall(wall.0.clamp(0, 253_402_300_799_000));
    httpdate::fmt_http_date(SystemTime::from(clamped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_number_of_fractional_digits() {
        for (text, millis) in [
            ("2020-04-27T14:46:59Z", 1_587_998_819_000),
            ("2020-04-27T14:46:59.000Z", 1_587_998_819_000),
            ("2020-04-27T14:46:59.123456Z", 1_587_998_819_123),
            ("2020-04-27T14:46:59.999999999Z", 1_587_998_819_999),
            ("2020-04-27T16:46:59.5+02:00", 1_587_998_819_500),
        ] {
            assert_eq!(parse_rfc3339(text), Some(Wall(millis)), "{text}");
        }
        assert!(parse_rfc3339("0001-01-01T00:00:00Z").is_some_and(|date| date < Wall(0)));
    }

    #[test]
    fn refuses_what_is_no_date() {
        for text in ["", "2020-04-27", "2020-04-27 14:46", "1587998819", "2020-13-01T00:00:00Z", "2020-04-27T14:46:59"]
        {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn http_dates_round_trip_and_never_panic() {
        let wall = Wall(1_587_998_819_000);
        assert_eq!(format_http_date(wall), "Mon, 27 Apr 2020 14:46:59 GMT");
        assert_eq!(parse_http_date(&format_http_date(wall)), Some(wall));
        format_http_date(Wall(i64::MIN));
        format_http_date(Wall(i64::MAX));
        assert_eq!(format_rfc3339(Wall(i64::MAX)), None);
        assert_eq!(format_rfc3339(wall).as_deref(), Some("2020-04-27T14:46:59Z"));
    }
}
