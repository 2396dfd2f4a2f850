//! Links in Sezzle's answers are absolute URLs of its gateway. A client that follows one would leave the sidecar and
//! be refused, so they are pointed back here. Of a body only `links[].href` is touched; every other byte stays as it
//! was. Headers that hold URLs are led back in the same way.

pub(super) mod answers;
mod headers;
mod scan;

use std::borrow::Cow;
use std::ops::Range;

/// Replaces the URL of a gateway by the sidecar's own.
#[derive(Clone, Debug)]
pub struct LinkRewriter {
    /// Every gateway that links may name.
    gateways: Vec<Gateway>,
    base_url: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The new body. `None` when nothing changes.
    pub body: Option<Vec<u8>>,
    /// Whether all links in the body could be found.
    pub shape: Shape,
}

/// How a body and its links are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As Sezzle documents them: arrays of objects, with an `href` that is a string. Any of them may be null or empty.
    Usual,
    /// Some links in another form: these stay unchanged.
    Odd,
    /// Without the structure of JSON: nothing changes.
    Broken,
}

#[derive(Clone, Debug)]
struct Gateway {
    /// Host, and port unless that is the scheme's own.
    authority: String,
    has_port: bool,
}

impl LinkRewriter {
    /// Links to any of Sezzle's gateways or to `gateway` (scheme and authority) are pointed at `base_url`.
    /// Sezzle's sandbox answers with links to the production host, so the host does not tell the environment.
    pub fn new(gateway: &str, base_url: String) -> Self {
        Self { gateways: SEZZLE.into_iter().chain([gateway]).map(Gateway::new).collect(), base_url }
    }

    pub fn rewrite(&self, body: &[u8]) -> Rewritten {
        let mut rewritten = Vec::new();
        let mut copied = 0;
        let usual = scan::hrefs(body, |raw, escaped| {
            let Some((range, replacement)) = self.edit(body, raw, escaped) else { return };
            rewritten.reserve(body.len().saturating_sub(copied));
            rewritten.extend_from_slice(body.get(copied..range.start).unwrap_or_default());
            rewritten.extend_from_slice(&replacement);
            copied = range.end;
        });
        let shape = match usual {
            None => Shape::Broken,
            Some(false) => Shape::Odd,
            Some(true) => Shape::Usual,
        };
        if copied == 0 || shape == Shape::Broken {
            return Rewritten { body: None, shape };
        }
        rewritten.extend_from_slice(body.get(copied..).unwrap_or_default());
        Rewritten { body: Some(rewritten), shape }
    }

    /// The range to replace and its replacement, if the JSON string at `raw` links to a gateway. Drops outer spaces.
    fn edit(&self, body: &[u8], raw: Range<usize>, escaped: bool) -> Option<(Range<usize>, Cow<'_, [u8]>)> {
        // Escapes may hide where the path begins.
        if escaped && let Ok(href) = serde_json::from_slice::<String>(body.get(raw.clone())?) {
            let path = self.path(href.trim_ascii().as_bytes())?;
            let link = format!("{}{}", self.base_url, std::str::from_utf8(path).ok()?);
            return Some((raw, Cow::Owned(serde_json::to_string(&link).ok()?.into_bytes())));
        }
        let (start, end) = (raw.start.checked_add(1)?, raw.end.checked_sub(1)?);
        let href = body.get(start..end)?;
        let path = self.path(href.trim_ascii())?;
        if href.ends_with(path) {
            return Some((start..end.checked_sub(path.len())?, Cow::Borrowed(self.base_url.as_bytes())));
        }
        Some((start..end, Cow::Owned([self.base_url.as_bytes(), path].concat())))
    }

    /// The part of `href` after the authority, if the authority is a gateway's.
    fn path<'h>(&self, href: &'h [u8]) -> Option<&'h [u8]> {
        let (ports, named) = after_scheme(href)?;
        self.gateways.iter().find_map(|gateway| gateway.path(named, ports))
    }
}

/// The ports of an absolute URL's scheme, and all that follows the scheme. A URL without a scheme (RFC 3986, 4.2) has
/// the scheme of the client's request. A gateway behind a TLS proxy may write `http`: such a URL leads past the sidecar
/// as well, and without TLS.
fn after_scheme(url: &[u8]) -> Option<(&'static [&'static [u8]], &[u8])> {
    const SCHEMES: [(&[u8], &[&[u8]]); 3] =
        [(b"https://", &[b":443"]), (b"http://", &[b":80"]), (b"//", &[b":443", b":80"])];
    SCHEMES.into_iter().find_map(|(scheme, ports)| {
        let (begins, rest) = url.split_at_checked(scheme.len())?;
        begins.eq_ignore_ascii_case(scheme).then_some((ports, rest))
    })
}

const SEZZLE: [&str; 4] = [
    "https://gateway.sezzle.com",
    "https://sandbox.gateway.sezzle.com",
    "https://gateway.eu.sezzle.com",
    "https://sandbox.gateway.eu.sezzle.com",
];

impl Gateway {
    fn new(origin: &str) -> Self {
        let (scheme, authority) = origin.split_once("://").unwrap_or_default();
        let own_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let authority = authority.strip_suffix(own_port).unwrap_or(authority);
        // The colons of an IPv6 address are within its brackets.
        let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        Self { authority: authority.strip_suffix('.').unwrap_or(authority).to_owned(), has_port }
    }

    /// The part of a URL after the authority, if that is this gateway's. `named` begins with the authority, and `ports`
    /// are those that may be left out.
    fn path<'h>(&self, named: &'h [u8], ports: &[&[u8]]) -> Option<&'h [u8]> {
        let (authority, mut rest) = named.split_at_checked(self.authority.len())?;
        if !authority.eq_ignore_ascii_case(self.authority.as_bytes()) {
            return None;
        }
        if !self.has_port {
            // The dot stands for the root, and a port that is empty for the scheme's own (RFC 3986, 3.2.3).
            rest = rest.strip_prefix(b".").unwrap_or(rest);
            let stripped = ports.iter().chain([&&b":"[..]]).find_map(|port| rest.strip_prefix(*port));
            rest = stripped.unwrap_or(rest);
        }
        matches!(rest.first(), None | Some(b'/' | b'?' | b'#')).then_some(rest)
    }
}

#[cfg(test)]
mod tests;
