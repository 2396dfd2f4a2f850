//! The gateway's spelling of identifiers, dates and links.

use time::{Duration, OffsetDateTime};
use uuid::Builder;

/// A random version 4 UUID.
pub(super) fn uuid() -> String {
    Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
}

/// A random identifier in the shape of a UUID, but with letters beyond `f`, as in Sezzle's own example of an order.
pub(super) fn opaque() -> String {
    let letters = ['g', 'h', 'i', 'j', 'k'];
    let spell = |(position, digit)| match digit {
        '-' => '-',
        // The first digit always becomes such a letter, and any other digit at random.
        _ if position == 0 || fastrand::u8(..5) == 0 => fastrand::choice(letters).unwrap_or('g'),
        _ => digit,
    };
    uuid().chars().enumerate().map(spell).collect()
}

/// The moment on a clock that is `skew` seconds ahead.
pub(super) fn skewed(moment: OffsetDateTime, skew: i64) -> OffsetDateTime {
    moment.saturating_add(Duration::seconds(skew)).max(OffsetDateTime::UNIX_EPOCH)
}

/// The moment after a span of time, or the last possible moment.
pub(super) fn later(moment: OffsetDateTime, span: std::time::Duration) -> OffsetDateTime {
    moment.saturating_add(Duration::try_from(span).unwrap_or(Duration::MAX))
}

/// A moment in RFC 3339, in UTC, with this many fractional digits, nine at most.
pub(in crate::simulator) fn rfc3339(moment: OffsetDateTime, digits: u8) -> String {
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    let fraction: String = format!("{:09}", moment.nanosecond()).chars().take(digits.into()).collect();
    let point = if fraction.is_empty() { "" } else { "." };
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}Z")
}

/// A moment in RFC 3339 with an offset of this many minutes, less than a day.
pub(super) fn rfc3339_at(moment: OffsetDateTime, digits: u8, minutes: i16) -> String {
    let minutes = minutes.clamp(-1439, 1439);
    let local = rfc3339(moment.saturating_add(Duration::minutes(minutes.into())), digits);
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
    format!("{}{sign}{hours:02}:{minutes:02}", local.trim_end_matches('Z'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_digits_asked_for() {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(1_483_234_225_388_940_303).unwrap();
        assert_eq!(rfc3339(moment, 0), "2017-01-01T01:30:25Z");
        assert_eq!(rfc3339(moment, 3), "2017-01-01T01:30:25.388Z");
        assert_eq!(rfc3339(moment, 9), "2017-01-01T01:30:25.388940303Z");
        assert_eq!(rfc3339(skewed(moment, -25), 0), "2017-01-01T01:30:00Z");
        assert_eq!(rfc3339_at(moment, 1, 330), "2017-01-01T07:00:25.3+05:30");
        assert_eq!(rfc3339_at(moment, 0, -90), "2017-01-01T00:00:25-01:30");
        assert_eq!(skewed(moment, i64::MIN), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(skewed(moment, i64::MAX).year(), 9999);
    }

    #[test]
    fn an_opaque_id_has_the_length_of_a_uuid_and_is_none() {
        let id = opaque();
        assert_eq!(id.len(), 36);
        assert!(uuid::Uuid::parse_str(&id).is_err());
        assert!(uuid::Uuid::parse_str(&uuid()).is_ok());
    }
}
