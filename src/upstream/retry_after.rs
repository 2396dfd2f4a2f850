//! `Retry-After` (RFC 9110, 10.2.3): pure.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::sezzle::time::parse_http_date;

/// How long the gateway asks to be left alone: seconds, or a date, which is measured against the answer's own `Date`
/// since the clocks may differ. `None` when it does not say, or not in a way that can be read.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Whatever does not fit is longer than anybody waits.
        return (!text.is_empty()).then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let sent = parse_http_date(headers.get(DATE)?.to_str().ok()?)?;
    Some(parse_http_date(text)?.since(sent))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_dates_and_what_is_neither() {
        const SENT: &str = "Mon, 27 Apr 2020 14:46:59 GMT";
        let read = |text: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            headers.extend(date.map(|date| (DATE, HeaderValue::from_static(date))));
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        for (text, date, seconds) in [
            ("0", None, Some(0)),
            ("120", Some(SENT), Some(120)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("Mon, 27 Apr 2020 14:48:59 GMT", Some(SENT), Some(120)),
            ("Mon, 27 Apr 2020 14:45:59 GMT", Some(SENT), Some(0)),
            ("Mon, 27 Apr 2020 14:48:59 GMT", None, None),
            ("Mon, 27 Apr 2020 14:48:59 GMT", Some("yesterday"), None),
            ("", Some(SENT), None),
            ("-1", Some(SENT), None),
            ("1.5", Some(SENT), None),
            ("soon", Some(SENT), None),
        ] {
            assert_eq!(read(text, date), seconds, "{text:?} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
