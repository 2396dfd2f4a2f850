//! Whether a caller already has the answer (RFC 9110, 13.1.2 and 13.1.3; RFC 9111, 4.3.2).

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName};

use crate::clock::Wall;
use crate::session::revalidation::{same_tag, single};
use crate::sezzle::time::parse_http_date;

/// Decides by the conditions of a request and the headers of the answer. In doubt, the caller does not have it.
pub fn is_unchanged(conditions: &HeaderMap, headers: &HeaderMap) -> bool {
    if conditions.contains_key(IF_NONE_MATCH) {
        return is_listed(conditions, headers);
    }
    let Some(since) = date(conditions, IF_MODIFIED_SINCE) else { return false };
    // Not by `Date`, as RFC 9111 would have it: a date of the caller's own making and one of a clock that is behind
    // would confirm what a write has changed.
    date(headers, LAST_MODIFIED).is_some_and(|modified| modified <= since)
}

fn is_listed(conditions: &HeaderMap, headers: &HeaderMap) -> bool {
    let lines: Vec<&[u8]> = conditions.get_all(IF_NONE_MATCH).iter().map(|line| line.as_bytes()).collect();
    if let [line] = lines.as_slice()
        && line.trim_ascii() == b"*"
    {
        return true;
    }
    let Some(etag) = headers.get(ETAG) else { return false };
    lines.into_iter().flat_map(tags).any(|tag| same_tag(tag, etag.as_bytes()))
}

/// The members of a list. A comma may stand in a tag, too.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let members = line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    members.map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty())
}

/// The date of a header that occurs exactly once.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<Wall> {
    let line = single(headers, &name)?;
    parse_http_date(line.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("valid"));
        }
        headers
    }

    #[test]
    fn the_weak_comparison_finds_a_tag_in_a_list() {
        for (etag, asked, expected) in [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "w/\"a\"", false),
            ("\"a\"", "\"A\"", false),
            ("\"a\"", "\"b\" , ,\"a\"", true),
            ("\"a,b\"", "\"x\", \"a,b\"", true),
            ("\"a\"", "\"a,b\"", false),
            ("\"\u{fc}\"", "\"\u{fc}\"", true),
            ("\"a\"", "a", false),
            ("\"a\"", " * ", true),
            ("\"a\"", "\"b\", *", false),
            ("\"*\"", "*", true),
            ("\"a\"", "", false),
        ] {
            let is = is_unchanged(&headers(&[("if-none-match", asked)]), &headers(&[("etag", etag)]));
            assert_eq!(is, expected, "{etag} {asked}");
        }
        let two_lines = headers(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")]);
        assert!(is_unchanged(&two_lines, &headers(&[("etag", "\"a\"")])));
        assert!(!is_unchanged(&two_lines, &headers(&[])), "there is no tag to compare with");
    }

    #[test]
    fn dates_count_where_no_tag_is_asked_for() {
        let date = |second: u8| format!("Mon, 27 Apr 2020 14:46:{second:02} GMT");
        let ask = |asked: &[(&'static str, &str)], held: &[(&'static str, &str)]| {
            is_unchanged(&headers(asked), &headers(held))
        };
        let at = date(30);
        for (second, expected) in [(29, false), (30, true), (31, true)] {
            let since = date(second);
            assert_eq!(ask(&[("if-modified-since", &since)], &[("last-modified", &at)]), expected, "{second}");
        }
        let late = date(59);
        assert!(!ask(&[("if-modified-since", &late)], &[("date", &at)]), "that clock may be behind");
        assert!(!ask(&[("if-modified-since", &late), ("if-none-match", "\"b\"")], &[("last-modified", &at)]));
        assert!(!ask(&[("if-modified-since", &late), ("if-modified-since", &late)], &[("last-modified", &at)]));
        assert!(!ask(&[("if-modified-since", "soon")], &[("last-modified", &at)]));
        assert!(!ask(&[("if-modified-since", &late)], &[("last-modified", "never"), ("date", &at)]));
        assert!(!ask(&[], &[("last-modified", &at)]));
        let old = "Monday, 27-Apr-20 14:46:59 GMT";
        assert!(ask(&[("if-modified-since", old)], &[("last-modified", &at)]), "an older way to write it");
    }
}
