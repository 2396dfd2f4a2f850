//! Headers that hold URLs of the gateway are led back as links in bodies are.

use http::header::{CONTENT_LOCATION, Entry, LINK, LOCATION};
use http::{HeaderMap, HeaderValue};

use super::LinkRewriter;

impl LinkRewriter {
    /// Leads `Location`, `Content-Location` and the targets of `Link` back here, where they name a gateway. Relative
    /// URLs, parameters, and values that are not ASCII stay as they are.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap) {
        for name in [LOCATION, CONTENT_LOCATION, LINK] {
            if !headers.contains_key(&name) {
                continue;
            }
            let is_list = name == LINK;
            let Entry::Occupied(mut values) = headers.entry(name) else { continue };
            for value in values.iter_mut().filter(|value| value.as_bytes().is_ascii()) {
                let bytes = value.as_bytes();
                let changed = if is_list { self.targets(bytes) } else { self.led_back(bytes) };
                if let Some(changed) = changed.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()) {
                    *value = changed;
                }
            }
        }
    }

    fn led_back(&self, url: &[u8]) -> Option<Vec<u8>> {
        Some([self.base_url.as_bytes(), self.path(url.trim_ascii())?].concat())
    }

    /// The value of a `Link`, if any of its targets changes. A target stands between `<` and `>`, outside of quotes.
    fn targets(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (mut written, mut changed, mut rest) = (Vec::with_capacity(value.len()), false, value);
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'<' | b'"')) {
            let (before, from) = rest.split_at_checked(at + 1)?;
            written.extend_from_slice(before);
            let is_target = before.ends_with(b"<");
            let end = if is_target { from.iter().position(|byte| *byte == b'>') } else { end_of_quotes(from) };
            let (inside, after) = from.split_at_checked(end?)?;
            let led_back = if is_target { self.led_back(inside) } else { None };
            changed |= led_back.is_some();
            written.extend_from_slice(led_back.as_deref().unwrap_or(inside));
            let (closing, after) = after.split_first()?;
            written.push(*closing);
            rest = after;
        }
        written.extend_from_slice(rest);
        changed.then_some(written)
    }
}

fn end_of_quotes(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let ends = !escaped && *byte == b'"';
        escaped = !escaped && *byte == b'\\';
        ends
    })
}
