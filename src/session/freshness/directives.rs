//! How the headers about caching are read: every line of them, and what is malformed in the safe way.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::clock::Wall;
use crate::sezzle::time::parse_http_date;

/// Hands every directive of a list header to `take`, with its argument if it has one.
///
/// An argument that is not well formed is handed over as it stands: it is no number, which the reader takes for the
/// strictest there is. Bytes outside ASCII spoil what they stand in, and nothing beside it.
pub(super) fn for_each(headers: &HeaderMap, name: &HeaderName, mut take: impl FnMut(&str, Option<&str>)) {
    for line in headers.get_all(name) {
        let line = String::from_utf8_lossy(line.as_bytes());
        for directive in split(&line) {
            match directive.split_once('=') {
                Some((name, argument)) if !name.ends_with([' ', '\t']) => take(name, Some(unquoted(argument))),
                // White space is not allowed there; the directive is known, its argument is not.
                Some((name, _)) => take(name.trim_ascii_end(), Some("")),
                None => take(directive, None),
            }
        }
    }
}

/// Seconds as RFC 9111, 1.2.2 writes them; too large a number is the largest there is.
pub(super) fn delta_seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().map_or(MAX_SECONDS, |seconds: u64| seconds.min(MAX_SECONDS))))
}

/// Every line of a header that ought to have one with a date; `None` for a line that is no date.
pub(super) fn dates(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<Wall>> {
    headers.get_all(name).into_iter().map(|line| line.to_str().ok().and_then(parse_http_date))
}

/// What RFC 9111, 1.2.2 has for a number that is too large.
const MAX_SECONDS: u64 = 1 << 31;

/// The members of a line. Commas in quotes do not separate; but a quote that is not closed hides nothing.
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

/// Numbers are written without quotes, and read with them, too (RFC 9111, 5.2).
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
        /// Whatever stands around it, quotes that are closed again apart, a directive is seen.
        #[test]
        fn a_directive_is_never_overlooked(before in "[ -!#-~]{0,20}", after in "[ -~]{0,20}") {
            let line = format!("{before},no-store,{after}");
            prop_assume!(HeaderValue::try_from(&line).is_ok());
            prop_assert!(read(line.as_bytes()).iter().any(|(name, _)| name == "no-store"), "{line}");
        }
    }
}
