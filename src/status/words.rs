//! Numbers, times and durations in the form that people read.

use std::time::Duration;

use crate::clock::Wall;
use crate::sezzle::time::format_rfc3339;

/// A count with thousands separators: `12,345`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 call`, `2 calls`.
pub fn counted(number: u32, one: &str, many: &str) -> String {
    format!("{} {}", count(number.into()), if number == 1 { one } else { many })
}

/// A share of a whole: `62 %`. The text is 100 % only for the whole, and 0 % only for nothing. `None` if the whole is
/// zero.
pub fn share(part: u32, whole: u32) -> Option<String> {
    let (part, whole) = (u64::from(part), u64::from(whole));
    let percent = part.saturating_mul(1000).checked_div(whole)?;
    let rounded = percent.saturating_add(5) / 10;
    Some(match rounded {
        0 if part > 0 => "< 1 %".to_owned(),
        100.. if part < whole => "> 99 %".to_owned(),
        rounded => format!("{rounded} %"),
    })
}

/// Events per second, with one decimal below ten: `3.4`.
pub fn per_second(events: u32, length: Duration) -> String {
    let tenths = u64::from(events).saturating_mul(10).checked_div(length.as_secs().max(1)).unwrap_or_default();
    match (events, tenths) {
        (0, _) => "0".to_owned(),
        (_, 0) => "< 0.1".to_owned(),
        (_, 1..100) => format!("{}.{}", tenths / 10, tenths % 10),
        (_, _) => count(tenths / 10),
    }
}

/// A duration in its two largest units: `3 d 4 h`, `2 h 5 min`, `45 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, 1..10) if !seconds.is_multiple_of(60) => format!("{minutes} min {} s", seconds % 60),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) if minutes.is_multiple_of(60) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) if hours.is_multiple_of(24) => format!("{days} d"),
        (_, _, _) => format!("{days} d {} h", hours % 24),
    }
}

/// A time in UTC to the second: `2026-11-26 01:09:07 UTC`.
pub fn moment(wall: Wall) -> String {
    let seconds = Wall(wall.0.div_euclid(1000).saturating_mul(1000));
    format_rfc3339(seconds).map_or_else(|| "?".to_owned(), |text| text.replace('T', " ").replace('Z', " UTC"))
}

/// The age of a time: `45 s ago`.
pub fn ago(wall: Wall, now: Wall) -> String {
    match now.since(wall) {
        past if past < Duration::from_secs(1) => "just now".to_owned(),
        past => format!("{} ago", duration(past)),
    }
}

/// A time in UTC, without its date if `now` has the same date: `01:09:07 UTC`.
pub fn time(wall: Wall, now: Wall) -> String {
    let (moment, today) = (moment(wall), moment(now));
    let (day, time) = moment.split_once(' ').unwrap_or_default();
    if today.starts_with(day) { time.to_owned() } else { moment }
}

/// A size: `1.5 MiB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", tenths(bytes, 1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", tenths(bytes, 1_048_576)),
        _ => format!("{} GiB", tenths(bytes, 1_073_741_824)),
    }
}

/// Rounded down, with one decimal unless it is 0 or the number has three digits.
fn tenths(bytes: u64, unit: u64) -> String {
    match (bytes / unit, bytes.saturating_mul(10) / unit % 10) {
        (whole, 0) | (whole @ 100.., _) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_shares() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), text);
        }
        assert_eq!((counted(1, "call", "calls"), counted(0, "call", "calls")), ("1 call".into(), "0 calls".into()));
        for (part, whole, text) in [
            (0, 0, None),
            (0, 7, Some("0 %")),
            (1, 100_000, Some("< 1 %")),
            (1, 2, Some("50 %")),
            (665, 1000, Some("67 %")),
            (99_999, 100_000, Some("> 99 %")),
            (7, 7, Some("100 %")),
        ] {
            assert_eq!(share(part, whole).as_deref(), text, "{part} of {whole}");
        }
    }

    #[test]
    fn rates() {
        for (events, seconds, text) in
            [(0, 60, "0"), (1, 60, "< 0.1"), (6, 60, "0.1"), (34, 10, "3.4"), (99, 10, "9.9"), (123_456, 10, "12,345")]
        {
            assert_eq!(per_second(events, Duration::from_secs(seconds)), text);
        }
        assert_eq!(per_second(5, Duration::ZERO), "5.0");
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (601, "10 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (7500, "2 h 5 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (273_600, "3 d 4 h"),
            (u64::MAX, "213503982334601 d 7 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn moments_and_sizes() {
        assert_eq!(moment(Wall(1_587_998_819_999)), "2020-04-27 14:46:59 UTC");
        assert_eq!((moment(Wall(-1)), moment(Wall(i64::MAX))), ("1969-12-31 23:59:59 UTC".to_owned(), "?".to_owned()));
        let now = Wall(1_587_998_819_000);
        for (millis, short, past) in [
            (0, "14:46:59 UTC", "just now"),
            (90_000, "14:45:29 UTC", "1 min 30 s ago"),
            (86_400_000, "2020-04-26 14:46:59 UTC", "1 d ago"),
            (-5000, "14:47:04 UTC", "just now"),
        ] {
            let wall = Wall(now.0 - millis);
            assert_eq!((time(wall, now).as_str(), ago(wall, now).as_str()), (short, past));
        }
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (33_554_432, "32 MiB"),
            (33_554_432_000, "31.2 GiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
