//! Entity tags of answers whose links lead back to the sidecar (RFC 9110, 8.8.3).
//!
//! Sezzle's own tag belongs to other bytes. The sidecar hands out that tag with a mark, and removes the mark from
//! conditions that go on to Sezzle. So an update with `If-Match` succeeds, and an `If-None-Match` is answered 304.

use bytes::Bytes;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use twox_hash::XxHash3_128;

/// The mark of answers whose links lead to one base URL, as it ends a tag: `;sidecar-1b2d3f40"`.
#[derive(Clone, Debug)]
pub struct TagMark(String);

// Headers in which callers send tags back.
const CONDITIONS: [HeaderName; 3] = [IF_MATCH, IF_NONE_MATCH, IF_RANGE];

impl TagMark {
    /// Every sidecar makes the same mark from the same URL. Another URL makes other bytes, and so needs another mark.
    pub fn new(base_url: &str) -> Self {
        let hash = XxHash3_128::oneshot(base_url.as_bytes()) as u32;
        Self(format!(";sidecar-{hash:08x}\""))
    }

    /// Replaces Sezzle's tag, if there is one, by a tag for the rewritten body: Sezzle's tag with the mark, or a tag of
    /// the sidecar's own if Sezzle's is not well-formed.
    pub fn mark(&self, headers: &mut HeaderMap, body: &[u8]) {
        let mut tags = headers.get_all(ETAG).iter();
        let marked = match (tags.next(), tags.next()) {
            (None, _) => return,
            (Some(tag), None) => self.marked(tag),
            (Some(_), Some(_)) => None,
        };
        let marked = marked.unwrap_or_else(|| of_body(body));
        headers.insert(ETAG, marked);
    }

    fn marked(&self, tag: &HeaderValue) -> Option<HeaderValue> {
        let bytes = tag.as_bytes();
        let opaque = bytes.strip_prefix(b"W/").unwrap_or(bytes).strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if opaque.contains(&b'"') {
            return None;
        }
        let open = bytes.strip_suffix(b"\"")?;
        HeaderValue::from_bytes(&[open, self.0.as_bytes()].concat()).ok()
    }

    /// Removes the mark from the tags in a caller's conditions. Other tags stay. Returns whether a tag had a mark.
    pub fn unmark(&self, headers: &mut HeaderMap) -> bool {
        let mut marked = false;
        for (name, value) in headers.iter_mut() {
            if CONDITIONS.contains(name)
                && let Some(plain) = value.to_str().ok().filter(|text| text.contains(&self.0))
                && let Ok(plain) = HeaderValue::from_maybe_shared(Bytes::from(plain.replace(&self.0, "\"")))
            {
                (*value, marked) = (plain, true);
            }
        }
        marked
    }
}

/// A strong tag of the sidecar's own. Two bodies that differ have the same tag once in 2^64 pairs or less.
pub fn of_body(body: &[u8]) -> HeaderValue {
    let tag = format!("\"{:032x}\"", XxHash3_128::oneshot(body));
    HeaderValue::from_maybe_shared(Bytes::from(tag)).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_tag_that_was_marked_is_sezzles_again_when_it_comes_back() {
        let mark = TagMark::new("http://127.0.0.1:8080");
        for theirs in ["\"v1\"", "W/\"v1\"", "\"\"", "\"a;b,c\""] {
            let mut answer = headers(&[(ETAG, theirs)]);
            mark.mark(&mut answer, b"{}");
            let ours = answer.remove(ETAG).expect("a tag");
            assert_ne!(ours, theirs);
            assert_eq!(ours.as_bytes().starts_with(b"W/"), theirs.starts_with("W/"));
            for name in CONDITIONS {
                let mut request = HeaderMap::from_iter([(name.clone(), ours.clone())]);
                assert!(mark.unmark(&mut request));
                assert_eq!(request[name], theirs);
            }
        }
    }

    #[test]
    fn every_tag_of_a_list_is_looked_at_and_other_tags_stay() {
        let mark = TagMark::new("http://127.0.0.1:8080");
        let list = |end: &str| format!("W/\"a{end}, \"other\", \"b{end}");
        let mut request = HeaderMap::from_iter([(IF_NONE_MATCH, list(&mark.0).parse().expect("a value"))]);
        assert!(mark.unmark(&mut request));
        assert_eq!(request[IF_NONE_MATCH], list("\""));
        let elsewhere = TagMark::new("http://localhost:9000");
        for other in ["*", "\"v1\"", "\"v1;sidecar-\"", &format!("\"v1{}", elsewhere.0)] {
            let mut request = HeaderMap::from_iter([(IF_MATCH, other.parse().expect("a value"))]);
            assert!(!mark.unmark(&mut request), "{other}");
            assert_eq!(request[IF_MATCH], other);
        }
    }

    #[test]
    fn what_is_no_single_tag_gives_way_to_one_of_the_body() {
        let mark = TagMark::new("http://127.0.0.1:8080");
        for lines in [&[(ETAG, "v1")][..], &[(ETAG, "\"a\"b\"")], &[(ETAG, "\"a\""), (ETAG, "\"b\"")]] {
            let mut answer = headers(lines);
            mark.mark(&mut answer, b"{}");
            let mut tags = answer.get_all(ETAG).iter();
            assert_eq!((tags.next(), tags.next()), (Some(&of_body(b"{}")), None));
        }
        let mut none = HeaderMap::new();
        mark.mark(&mut none, b"{}");
        assert!(none.is_empty(), "an answer without a tag gets none here");
    }

    #[test]
    fn other_bodies_have_other_tags() {
        assert_eq!(of_body(b"{}"), of_body(b"{}"));
        assert_ne!(of_body(b"{}"), of_body(b"{} "));
        assert_eq!(of_body(b"").len(), 34);
    }
}
