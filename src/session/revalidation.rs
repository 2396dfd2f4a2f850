//! Revalidation: conditional requests to Sezzle, and the effect of a 304 on the stored answer (RFC 9111, 4.3).

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::response::SessionResponse;
use crate::clock::Wall;
use crate::sezzle::time::{format_http_date, parse_http_date};

/// Sezzle's own validators of a stored answer, which make a request conditional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Conditions {
    /// The validators of an answer; `None` if no reliable one exists.
    ///
    /// A date alone counts only if the session had been unchanged for a second when the answer was sent (RFC 9110,
    /// 8.8.2.2): otherwise it may have changed again within the same second.
    pub fn of(answer: &SessionResponse) -> Option<Self> {
        let modified = single(&answer.headers, &LAST_MODIFIED).filter(|modified| date(modified).is_some());
        let settled = || {
            let (modified, sent) = (date(modified?)?, date(single(&answer.headers, &DATE)?)?);
            Some(sent.millis_since(modified) >= 1000)
        };
        if answer.etag.is_none() && settled() != Some(true) {
            return None;
        }
        Some(Self { etag: answer.etag.clone(), modified: modified.cloned() })
    }

    /// Adds the conditions to the headers of a request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in [(IF_NONE_MATCH, &self.etag), (IF_MODIFIED_SINCE, &self.modified)] {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
    }

    /// Whether the headers of a 304 concern the answer of these conditions. Headers without a validator do; headers
    /// with another validator do not (RFC 9111, 4.3.4).
    pub fn concern(&self, headers: &HeaderMap) -> bool {
        let mut tags = headers.get_all(ETAG).iter().peekable();
        if tags.peek().is_some() {
            return tags.all(|tag| self.etag.as_ref().is_some_and(|own| same_tag(own.as_bytes(), tag.as_bytes())));
        }
        headers.get_all(LAST_MODIFIED).iter().all(|modified| self.modified.as_ref() == Some(modified))
    }

    /// Whether these headers belong to the same representation as a stored answer, by Sezzle's own validators.
    pub fn is_same_representation(answer: &SessionResponse, headers: &HeaderMap) -> bool {
        let own = Self { etag: answer.etag.clone(), modified: single(&answer.headers, &LAST_MODIFIED).cloned() };
        own.concern(headers)
    }
}

/// The stored answer after a 304: its headers updated (RFC 9111, 3.2), its body unchanged.
pub(super) fn freshen(stored: &SessionResponse, fresh: &HeaderMap) -> SessionResponse {
    let mut headers = stored.headers.clone();
    // Both headers concern the first answer alone.
    headers.remove(AGE);
    headers.remove(DATE);
    for name in fresh.keys().filter(|name| is_updated(name)) {
        headers.remove(name);
    }
    for (name, value) in fresh.iter().filter(|(name, _)| is_updated(name)) {
        headers.append(name.clone(), value.clone());
    }
    SessionResponse { headers, fwd_status: StatusCode::NOT_MODIFIED, ..stored.clone() }
}

/// Sets the `Date` of an answer that has none to the time of reception (RFC 9110, 6.6.1).
pub(super) fn with_date(mut answer: SessionResponse, received: Wall) -> SessionResponse {
    if single(&answer.headers, &DATE).and_then(date).is_none()
        && let Ok(date) = HeaderValue::try_from(format_http_date(received))
    {
        answer.headers.insert(DATE, date);
    }
    answer
}

/// Whether two entity tags match by the weak comparison (RFC 9110, 8.8.3.2).
pub fn same_tag(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    opaque(one) == opaque(other)
}

/// Sezzle's own `ETag`, if there is exactly one and it is well formed: without quotes it might match by mistake.
pub fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let etag = single(headers, &ETAG)?;
    let opaque = etag.as_bytes().strip_prefix(b"W/").unwrap_or(etag.as_bytes());
    let inner = opaque.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    (!inner.contains(&b'"')).then(|| etag.clone())
}

/// Whether a 304 updates a header. Headers that describe the stored body stay with it, and so does the `ETag` by which
/// callers know that body.
fn is_updated(name: &HeaderName) -> bool {
    ![CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, ETAG].contains(name)
}

/// The value of a header that occurs exactly once.
pub fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn date(value: &HeaderValue) -> Option<Wall> {
    parse_http_date(value.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    type Lines<'l> = &'l [(&'static str, &'l str)];

    const MODIFIED: &str = "Mon, 27 Apr 2020 14:46:59 GMT";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("valid"));
        }
        headers
    }

    fn answer(lines: &[(&'static str, &str)]) -> SessionResponse {
        let headers = headers(lines);
        let etag = validator(&headers);
        let ok = StatusCode::OK;
        SessionResponse { status: ok, fwd_status: ok, headers, etag, body: Bytes::from_static(b"{}") }
    }

    #[test]
    fn what_can_be_asked_by_is_asked_by() {
        let asked = |lines: &[(&'static str, &str)]| {
            Conditions::of(&answer(lines)).map(|conditions| {
                let mut request = headers(&[("if-none-match", "\"the caller's\"")]);
                conditions.apply(&mut request);
                [IF_NONE_MATCH, IF_MODIFIED_SINCE]
                    .map(|name| request.get(name).map_or("", |value| value.to_str().expect("text")).to_owned())
            })
        };
        let both = |etag: &str, modified: &str| Some([etag.to_owned(), modified.to_owned()]);
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("etag", "\"a\"")]), both("\"a\"", ""));
        assert_eq!(asked(&[("etag", "W/\"a\""), ("last-modified", MODIFIED)]), both("W/\"a\"", MODIFIED));
        for no_tag in ["a", "w/\"a\"", "\"a", "\"a\"b\"", "W/", ""] {
            assert_eq!(asked(&[("etag", no_tag)]), None, "{no_tag}");
        }
        assert_eq!(asked(&[("etag", "\"a\""), ("etag", "\"b\"")]), None, "which one?");
        for (sent, counts) in [
            ("Mon, 27 Apr 2020 14:47:00 GMT", true),
            (MODIFIED, false),
            ("Mon, 27 Apr 2020 14:46:58 GMT", false),
            ("yesterday", false),
        ] {
            let expected = if counts { both("", MODIFIED) } else { None };
            assert_eq!(asked(&[("last-modified", MODIFIED), ("date", sent)]), expected, "{sent}");
        }
        assert_eq!(asked(&[("last-modified", MODIFIED)]), None, "sent at an unknown time");
        assert_eq!(asked(&[("last-modified", "soon"), ("date", MODIFIED)]), None);
    }

    #[test]
    fn a_304_speaks_of_what_it_names() {
        let (tag, modified) = (("etag", "\"a\""), ("last-modified", MODIFIED));
        let other = ("last-modified", "Mon, 27 Apr 2020 14:46:58 GMT");
        let rows: [(Lines<'_>, Lines<'_>, bool); 10] = [
            (&[tag], &[], true),
            (&[tag], &[tag], true),
            (&[tag], &[("etag", "W/\"a\"")], true),
            (&[tag], &[("etag", "\"b\"")], false),
            (&[tag], &[tag, ("etag", "\"b\"")], false),
            (&[tag], &[modified], false),
            (&[tag, modified], &[modified], true),
            (&[tag, modified], &[other], false),
            (&[tag, modified], &[tag, other], true),
            (&[modified], &[tag], false),
        ];
        for (stored, fresh, expected) in rows {
            assert_eq!(
                Conditions::is_same_representation(&answer(stored), &headers(fresh)),
                expected,
                "{stored:?} {fresh:?}"
            );
        }
    }

    #[test]
    fn a_304_replaces_headers_and_leaves_the_body_and_what_describes_it() {
        let mut stored = answer(&[
            ("etag", "\"a\""),
            ("age", "9"),
            ("date", MODIFIED),
            ("cache-control", "max-age=1"),
            ("x-old", "1"),
            ("x-both", "1"),
            ("x-both", "2"),
        ]);
        stored.headers.insert(ETAG, HeaderValue::from_static("\"ours\""));
        let fresh = freshen(
            &stored,
            &headers(&[
                ("etag", "\"a\""),
                ("cache-control", "max-age=2"),
                ("x-both", "3"),
                ("x-new", "1"),
                ("content-length", "77"),
                ("content-encoding", "gzip"),
            ]),
        );
        let expected = headers(&[
            ("etag", "\"ours\""),
            ("cache-control", "max-age=2"),
            ("x-old", "1"),
            ("x-both", "3"),
            ("x-new", "1"),
        ]);
        assert_eq!(fresh.headers, expected);
        assert_eq!((fresh.status.as_u16(), fresh.fwd_status.as_u16(), fresh.body), (200, 304, stored.body));
        assert_eq!(fresh.etag, stored.etag);
    }

    #[test]
    fn what_does_not_say_when_it_was_sent_was_sent_when_it_came() {
        let received = Wall(1_587_998_819_000);
        for lines in [&[][..], &[("date", "now")], &[("date", MODIFIED), ("date", MODIFIED)]] {
            let dated = with_date(answer(lines), received);
            assert_eq!(dated.headers.get_all(DATE).iter().collect::<Vec<_>>(), [MODIFIED], "{lines:?}");
        }
        let earlier = "Mon, 27 Apr 2020 14:46:58 GMT";
        assert_eq!(with_date(answer(&[("date", earlier)]), received).headers[DATE], earlier);
    }
}
