//! Durations and sizes in the form of the configuration. Pure.
//!
//! Each unit has one spelling, and only whole numbers are accepted: an ambiguous value is an error. So `1M` is neither
//! a minute nor a month, and `1 5s` is not 15 s.

use std::time::Duration;

/// The accepted form of a duration, for error messages.
pub const DURATION: &str = "a duration such as \"500ms\", \"30s\" or \"5m\": a whole number and one of ms, s, m, h, d";
/// The accepted form of a size, for error messages.
pub const SIZE: &str = "a size such as \"32MiB\": a whole number, and nothing or one of B, KiB, MiB, GiB, kB, MB, GB";

/// Units of time in milliseconds, the largest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size in bytes.
const SIZES: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

pub fn duration(text: &str) -> Option<Duration> {
    quantity(text, &TIMES).map(Duration::from_millis)
}

/// Reads a number of bytes.
pub fn size(text: &str) -> Option<u64> {
    quantity(text, &SIZES)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Formats a duration for [`duration`] to read, in the largest unit that divides it. Drops fractions of a millisecond.
pub fn shown(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = TIMES.iter().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    unit.map_or_else(|| "0s".to_owned(), |(name, factor)| format!("{}{name}", millis / factor))
}

/// Formats a size for [`size`] to read, in the largest binary unit that divides it.
pub fn shown_size(bytes: u64) -> String {
    for (name, factor) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{name}", bytes / factor);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0s", 0),
            ("1ms", 1),
            ("1500ms", 1500),
            ("30s", 30_000),
            ("007s", 7000),
            ("90m", 5_400_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "0",
            "1 5s",
            "1 s",
            " 1s",
            "1s ",
            "1h 30m",
            "1h30m",
            "1.5s",
            "1,5s",
            "-1s",
            "+1s",
            "1e3s",
            "1_000s",
            "1S",
            "1M",
            "1H",
            "1D",
            "1min",
            "1sec",
            "1seconds",
            "1us",
            "1ns",
            "1w",
            "1y",
            "1month",
            "\u{661}s",
            "1s\n",
            "18446744073709551616ms",
            "213503982335d",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1B", 1),
            ("1KiB", 1024),
            ("32MiB", 32 << 20),
            ("1GiB", 1 << 30),
            ("1kB", 1000),
            ("1MB", 1_000_000),
            ("2GB", 2_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "1 MB",
            "1mb",
            "1Mb",
            "1M",
            "1m",
            "1K",
            "1k",
            "1KB",
            "1kib",
            "1kiB",
            "1Kib",
            "1.5KiB",
            "1e3",
            "1_000",
            "0x10",
            "-1",
            "+1",
            "1 2KiB",
            "NaN",
            " 1",
            "1 ",
            "1TiB",
            "18446744073709551616",
            "99999999999GiB",
        ] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_can_be_written() {
        for (millis, text) in
            [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (90_000, "90s"), (600_000, "10m"), (86_400_000, "1d")]
        {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
        assert_eq!(shown(Duration::from_micros(1)), "0s");
        for (bytes, text) in [(0, "0"), (1023, "1023"), (1 << 20, "1MiB"), (1 << 40, "1024GiB"), (1536, "1536")] {
            assert_eq!(shown_size(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_it_was(millis in 0..u64::MAX / 2, bytes: u64) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&shown(time)), Some(time));
            prop_assert_eq!(size(&shown_size(bytes)), Some(bytes));
        }
    }
}
