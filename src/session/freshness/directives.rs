//! Reads the headers about caching: all lines of them, and malformed parts in the safe way.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::clock::Wall;
use crate::sezzle::time::parse_http_date;

/// Passes every directive of a list header to `take`, with its argument if it has one.
///
/// A malformed argument is passed as it stands. The caller of this function finds that the argument is no number, and
/// applies the strictest value. Bytes outside ASCII spoil only the directive that contains them.
pub(super) fn for_each(headers: &HeaderMap, name: &HeaderName, mut take: impl FnMut(&str, Option<&str>)) {
    for line in headers.get_all(name) {
        let line = String::from_utf8_lossy(line.as_bytes());
        for directive in split(&line) {
            match directive.split_once('=') {
                Some((name, argument)) if !name.ends_with([' ', '\t']) => take(name, Some(unquoted(argument))),
                // White space is not allowed before `=`. The directive counts, its argument does not.
                Some((name, _)) => take(name.trim_ascii_end(), Some("")),
                None => take(directive, None),
            }
        }
    }
}

/// Reads seconds (RFC 9111, 1.2.2). A number above the limit becomes the limit.
pub(super) fn delta_seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().map_or(MAX_SECONDS, |seconds: u64| seconds.min(MAX_SECONDS))))
}

/// The date in each line of a header; `None` for a line that is not a date.
pub(super) fn dates(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<Wall>> {
    headers.get_all(name).into_iter().map(|line| line.to_str().ok().and_then(parse_http_date))
}

/// The value that RFC 9111, 1.2.2 prescribes for a number that is too large.
const MAX_SECONDS: u64 = 1 << 31;

/// The members of a line. A comma in quotes does not separate members. If a quote is not closed, every comma separates,
/// so that no directive is hidden.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let mut separates = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    let mut members: Vec<&str> = line.split(&mut separates).collect();
    if quoted {
        members = line.split(',').collect();
    }
    members.into_iter().map(str::trim_ascii).filter(|member| !member.is_empty())
}

/// Removes quotes around an argument. Senders write numbers without, but readers accept both forms (RFC 9111, 5.2).
fn unquoted(argument: &str) -> &str {
    argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(argument)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::*;

    fn read(line: &[u8]) -> Vec<(String, Option<String>)> {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line).expect("valid"));
        let mut read = Vec::new();
        for_each(&headers, &CACHE_CONTROL, |name, argument| read.push((name.to_owned(), argument.map(str::to_owned))));
        read
    }

    /// A line, and its directives with their arguments.
    type Row<'r> = (&'r [u8], &'r [(&'r str, Option<&'r str>)]);

    #[test]
    fn directives_are_read_as_they_are_meant_or_else_strictly() {
        let rows: [Row<'_>; 14] = [
            (b"no-store", &[("no-store", None)]),
            (b" a ,, b\t, ", &[("a", None), ("b", None)]),
            (b"max-age=1", &[("max-age", Some("1"))]),
            (b"max-age=\"1\"", &[("max-age", Some("1"))]),
            (b"max-age='1'", &[("max-age", Some("'1'"))]),
            (b"max-age=\"1", &[("max-age", Some("\"1"))]),
            (b"max-age =1", &[("max-age", Some(""))]),
            (b"max-age= 1", &[("max-age", Some(" 1"))]),
            (b"max-age=", &[("max-age", Some(""))]),
            (b"x=\"a, no-store\", b", &[("x", Some("a, no-store")), ("b", None)]),
            (b"x=\"a\\\", no-store\", b", &[("x", Some("a\\\", no-store")), ("b", None)]),
            (b"x=\"a, no-store", &[("x", Some("\"a")), ("no-store", None)]),
            (b"x=\xff, no-store", &[("x", Some("\u{fffd}")), ("no-store", None)]),
            (b"", &[]),
        ];
        for (line, expected) in rows {
            let expected: Vec<_> =
                expected.iter().map(|(name, argument)| ((*name).to_owned(), argument.map(str::to_owned))).collect();
            assert_eq!(read(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn seconds_are_digits_and_have_an_upper_end() {
        let seconds = |text: &str| delta_seconds(text).map(|seconds| seconds.as_secs());
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("2147483648", Some(1 << 31)),
            ("99999999999", Some(1 << 31)),
            ("99999999999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1 ", None),
            ("1s", None),
            ("0x1", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }

    proptest! {
        /// A directive is seen whatever stands around it, except inside closed quotes.
        #[test]
        fn a_directive_is_never_overlooked(before in "[ -!#-~]{0,20}", after in "[ -~]{0,20}") {
            let line = format!("{before},no-store,{after}");
            prop_assume!(HeaderValue::try_from(&line).is_ok());
            prop_assert!(read(line.as_bytes()).iter().any(|(name, _)| name == "no-store"), "{line}");
        }
    }
}
