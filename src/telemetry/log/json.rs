//! Events as JSON: one object per line, written directly into the bytes for the stream.
//!
//! The shape is that of tracing-subscriber's JSON with flattened fields. For the line of a request that formatter takes
//! 22 400 instructions, and this one 5 500.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Write as _};

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::level::OWN;
use super::lines::Lines;
use crate::clock::wall_micros;

pub(super) struct JsonLines(pub(super) Lines);

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let append = |scratch: &mut Scratch| self.0.append(scratch.line(event, wall_micros()));
        let done = SCRATCH.try_with(|scratch| scratch.try_borrow_mut().map(|mut scratch| append(&mut scratch)));
        // The scratch is gone because the thread is ending, or in use because a value logs while it is being formatted.
        if !matches!(done, Ok(Ok(()))) {
            append(&mut Scratch::default());
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The memory that a thread reuses from one line to the next: the buffer, and the text of the current second.
#[derive(Default)]
struct Scratch {
    line: Vec<u8>,
    second: Second,
}

impl Scratch {
    /// Formats an event. `now` is the time in microseconds since the epoch.
    fn line(&mut self, event: &Event<'_>, now: i64) -> &[u8] {
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":\"");
        self.second.write(now, line);
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(event.metadata().level().as_str().as_bytes());
        line.push(b'"');
        let target = event.metadata().target();
        event.record(&mut Members { line, own: target.starts_with(OWN) });
        line.extend_from_slice(b",\"target\":");
        string(target, line);
        line.extend_from_slice(b"}\n");
        line
    }
}

/// The text of one second, with which lines begin.
#[derive(Default)]
struct Second {
    number: i64,
    text: String,
}

impl Second {
    /// Writes a time in microseconds since the epoch, such as `2026-10-07T01:57:39.004560Z`.
    fn write(&mut self, micros: i64, out: &mut Vec<u8>) {
        const MILLION: i64 = 1_000_000;
        let number = micros.div_euclid(MILLION);
        if self.number != number || self.text.is_empty() {
            let date = OffsetDateTime::from_unix_timestamp(number).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let ((year, month, day), (hour, minute, second)) = (date.to_calendar_date(), date.to_hms());
            self.number = number;
            self.text.clear();
            let month = u8::from(month);
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.");
        }
        out.extend_from_slice(self.text.as_bytes());
        let (mut digits, mut rest) = ([b'0'; 7], micros.rem_euclid(MILLION));
        for digit in digits.iter_mut().take(6).rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        digits[6] = b'Z';
        out.extend_from_slice(&digits);
    }
}

/// Appends the fields of an event to an object that already has a member.
struct Members<'l> {
    line: &'l mut Vec<u8>,
    /// Whether this crate logged the event. Its field names are identifiers and need no escaping.
    own: bool,
}

impl Members<'_> {
    fn name(&mut self, field: &Field) {
        self.line.extend_from_slice(b",\"");
        if self.own {
            self.line.extend_from_slice(field.name().as_bytes());
        } else {
            escaped(field.name(), self.line);
        }
        self.line.extend_from_slice(b"\":");
    }

    fn number(&mut self, field: &Field, value: impl itoa::Integer) {
        self.name(field);
        self.line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

impl Visit for Members<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        string(value, self.line);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field);
        // serde_json writes `null` for NaN and infinities, which JSON cannot express.
        let _ = serde_json::to_writer(&mut *self.line, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.line.push(b'"');
        let _ = write!(Escaped(self.line), "{value:?}");
        self.line.push(b'"');
    }
}

/// Writes a JSON string.
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

/// Writes the text between the quotes of a JSON string.
fn escaped(text: &str, out: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let begin = out.len();
    let _ = serde_json::to_writer(&mut *out, text);
    // Drops the quotes.
    out.pop();
    out.remove(begin);
}

/// Whether a text needs no escaping. Nearly all texts are short, so this function tests eight bytes at a time, and at
/// the end tests some bytes twice. A test of each byte takes 1 500 instructions more for the line of a request.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let words_are = words.iter().all(|word| is_plain_word(u64::from_ne_bytes(*word)));
    let rest_is = match (text.last_chunk::<8>(), text.first_chunk::<4>(), text.last_chunk::<4>()) {
        _ if rest.is_empty() => true,
        (Some(last), _, _) => is_plain_word(u64::from_ne_bytes(*last)),
        (None, Some(first), Some(last)) => {
            let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
            is_plain_word(u64::from(first) << 32 | u64::from(last))
        }
        (None, _, _) => rest.iter().all(|byte| *byte >= b' ' && *byte != b'"' && *byte != b'\\'),
    };
    words_are && rest_is
}

/// Whether eight bytes hold no control character, no quote and no backslash.
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Sets the highest bit of each byte below `least`, at most 128. Other bytes get it only if a lower byte has it too.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | equal(b'"') | equal(b'\\')) & (ONES * 0x80) == 0
}

/// Escapes the pieces written to it.
struct Escaped<'l>(&'l mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        escaped(piece, self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines logged by `log`.
    fn logged(log: impl FnOnce()) -> String {
        let written = Written::default();
        let (lines, guard) = Lines::start(written.clone()).expect("a thread");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(JsonLines(lines)), log);
        drop(guard);
        String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }

    #[test]
    fn a_line_is_as_it_always_was() {
        let text = logged(|| {
            let (none, error): (Option<u64>, &dyn Error) = (None, &fmt::Error);
            tracing::warn!(a = 1_u64, b = -2_i64, c = 0.5, d = true, e = "\"e\"", f = %"\u{7}\\", g = ?"g\n", none, error, "h\u{e9}");
            tracing::info!(target: "library", { "odd \"name\"" = 1 }, "m");
            tracing::info!(n = f64::NAN, i = f64::INFINITY, big = 1e300, whole = 3.0);
            // As if a value logged this event while it is being formatted.
            SCRATCH.with(|scratch| {
                let _in_use = scratch.borrow_mut();
                tracing::error!("nested");
            });
        });
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        assert_eq!(lines.len(), 4, "{text}");
        let (time, rest) = lines[0].split_at(r#"{"timestamp":"2026-10-07T01:57:39.004560Z","#.len());
        assert!(time.starts_with(r#"{"timestamp":"2"#) && time.ends_with(r#"Z","#), "{time}");
        assert_eq!(
            rest,
            concat!(
                r#""level":"WARN","message":"hé","a":1,"b":-2,"c":0.5,"d":true,"e":"\"e\"","f":"\u0007\\","#,
                r#""g":"\"g\\n\"","error":"an error occurred when formatting an argument","#,
                r#""target":"sezzle_sidecar::telemetry::log::json::tests"}"#
            )
        );
        assert!(lines[1].ends_with(r#""message":"m","odd \"name\"":1,"target":"library"}"#), "{text}");
        let second: Value = serde_json::from_str(lines[2]).expect("JSON");
        let numbers = ["n", "i", "big", "whole"].map(|name| second[name].clone());
        assert_eq!(numbers, [json!(null), json!(null), json!(1e300), json!(3.0)]);
        assert!(lines[3].contains(r#""level":"ERROR","message":"nested","target""#), "{text}");
    }

    #[test]
    fn times() {
        let mut second = Second::default();
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_791_338_259_004_560, "2026-10-07T01:57:39.004560Z"),
            (1_791_338_259_999_999, "2026-10-07T01:57:39.999999Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (i64::MAX, "1970-01-01T00:00:00.775807Z"),
        ] {
            let mut out = Vec::new();
            second.write(micros, &mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), text);
        }
    }

    #[test]
    fn every_byte_at_every_place_is_looked_at() {
        for length in 0..40 {
            for (place, byte) in (0..length).flat_map(|place| (0..=u8::MAX).map(move |byte| (place, byte))) {
                let mut text = vec![b'x'; length];
                text[place] = byte;
                let plain = byte >= b' ' && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&text), plain, "{byte} at {place} of {length}");
            }
        }
        assert!(is_plain(b"") && is_plain(&[0xff; 40]));
    }

    proptest! {
        #[test]
        fn strings_are_as_serde_json_writes_them(pieces in prop::collection::vec(any::<String>(), 0..4)) {
            let whole = pieces.concat();
            let expected = serde_json::to_string(&whole).expect("writable");
            let mut out = Vec::new();
            string(&whole, &mut out);
            prop_assert_eq!(std::str::from_utf8(&out).expect("UTF-8"), &expected);

            let mut out = Vec::new();
            for piece in &pieces {
                Escaped(&mut out).write_str(piece).expect("writable");
            }
            prop_assert_eq!(format!("\"{}\"", std::str::from_utf8(&out).expect("UTF-8")), expected);
        }

        #[test]
        fn values_come_back_as_they_were(text in any::<String>(), a in any::<u64>(), b in any::<i64>(), c in any::<f64>()) {
            let line = logged(|| tracing::info!(text, a, b, c, shown = %text, debug = ?text));
            let line: Value = serde_json::from_str(&line).expect("one line of JSON");
            prop_assert_eq!(&line["text"], &json!(text));
            prop_assert_eq!(&line["shown"], &json!(text));
            prop_assert_eq!(&line["debug"], &json!(format!("{text:?}")));
            prop_assert_eq!((&line["a"], &line["b"]), (&json!(a), &json!(b)));
            // The reader is sometimes off by the last digit; the writer is not.
            let near = line["c"].as_f64().is_some_and(|read| (read - c).abs() <= c.abs() * 1e-15);
            prop_assert!(near || !c.is_finite(), "{} for {c}", line["c"]);
        }

        #[test]
        fn times_are_as_they_are_read(seconds in 0..253_402_300_799_i64, micros in 0..1_000_000_i64) {
            let mut out = Vec::new();
            Second::default().write(seconds * 1_000_000 + micros, &mut out);
            let text = String::from_utf8(out).expect("ASCII");
            let read = OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339).expect("a date");
            prop_assert_eq!(read.unix_timestamp_nanos(), i128::from(seconds * 1_000_000 + micros) * 1_000);
        }
    }
}
