//! Reads Sezzle's `Retry-After` (RFC 9110, 10.2.3). Pure.

use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};

use crate::sezzle::time::parse_http_date;

/// The wait that a response demands, counted from its sending; zero if that time has passed. `None` if the header is
/// missing or cannot be understood.
///
/// A date is compared with the response's own `Date`, so that a skewed local clock does not matter.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = single(headers, &RETRY_AFTER)?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let (until, sent) = (parse_http_date(text)?, parse_http_date(single(headers, &DATE)?)?);
    Some(until.since(sent))
}

/// The value of a header that occurs exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    let only = lines.next().filter(|_| lines.next().is_none())?;
    only.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        headers
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        let sent = (DATE, "Mon, 27 Apr 2020 14:46:59 GMT");
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("007", Some(7)),
            ("18446744073709551616", Some(u64::MAX)),
            ("Mon, 27 Apr 2020 14:47:09 GMT", Some(10)),
            ("Monday, 27-Apr-20 14:47:09 GMT", Some(10)),
            ("Mon Apr 27 14:47:09 2020", Some(10)),
            ("Mon, 27 Apr 2020 14:46:59 GMT", Some(0)),
            ("Mon, 27 Apr 1970 14:46:59 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 s", None),
            ("1, 2", None),
            ("soon", None),
            ("2020-04-27T14:47:09Z", None),
            ("\u{663}", None),
        ] {
            let read = retry_after(&headers(&[sent.clone(), (RETRY_AFTER, value)]));
            assert_eq!(read, seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn what_leaves_it_open_says_nothing() {
        let date = (RETRY_AFTER, "Mon, 27 Apr 2020 14:47:09 GMT");
        let sent = (DATE, "Mon, 27 Apr 2020 14:46:59 GMT");
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert_eq!(retry_after(&headers(std::slice::from_ref(&date))), None, "since when?");
        assert_eq!(retry_after(&headers(&[date.clone(), (DATE, "today")])), None);
        assert_eq!(retry_after(&headers(&[date, sent.clone(), sent])), None);
        assert_eq!(retry_after(&headers(&[(RETRY_AFTER, "1"), (RETRY_AFTER, "1")])), None, "which one?");
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in "[ -~]{0,40}", date in "[ -~]{0,40}") {
            let _ = retry_after(&headers(&[(RETRY_AFTER, &value), (DATE, &date)]));
        }
    }
}
