//! Rewrites links by other means: serde_json reads the document and `http` the authorities, with an allocation for
//! each.

use std::fmt;
use std::ops::Range;

use http::uri::Authority;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A rewriter to compare with.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The authority of every gateway that links may name, in lower case.
    gateways: Vec<String>,
    base_url: String,
}

impl Reference {
    /// Links to any of Sezzle's gateways or to `gateway` (scheme and authority) are pointed at `base_url`.
    /// Sezzle's sandbox answers with links to the production host, so the host says nothing of the environment.
    pub fn new(gateway: &str, base_url: String) -> Self {
        let authority = |url: &str| url.split_once("://").expect("a URL").1.to_ascii_lowercase();
        let gateways = SEZZLE.into_iter().chain([gateway]).map(authority).collect();
        Self { gateways, base_url }
    }

    /// A JSON body as it is to be. `None` when `serde_json` refuses the body.
    pub fn rewrite(&self, body: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(body).ok()?;
        let mut walk = Walk { rewriter: self, text, edits: Vec::new() };
        let mut json = serde_json::Deserializer::from_str(text);
        Value(&mut walk).deserialize(&mut json).ok()?;
        json.end().ok()?;
        let mut rewritten = String::with_capacity(text.len());
        let mut copied = 0;
        for (range, replacement) in walk.edits {
            rewritten.push_str(text.get(copied..range.start)?);
            rewritten.push_str(&replacement);
            copied = range.end;
        }
        rewritten.push_str(text.get(copied..)?);
        Some(rewritten.into_bytes())
    }

    /// The JSON string to put in the place of the JSON string `raw`, if it is a link to a gateway.
    fn href(&self, raw: &str) -> Option<String> {
        let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
        let href = serde_json::from_str::<String>(raw);
        // Half a surrogate pair stays as it was written.
        let written = href.is_err() || !raw.contains('\\');
        let href = href.unwrap_or_else(|_| inner.to_owned());
        let link = format!("{}{}", self.base_url, self.path(href.trim_ascii())?);
        if written { Some(format!("\"{link}\"")) } else { serde_json::to_string(&link).ok() }
    }

    /// The part of `href` after the authority, if that is a gateway's.
    fn path<'h>(&self, href: &'h str) -> Option<&'h str> {
        let (scheme, rest) = href.split_once("//")?;
        let (https, http) = (scheme.eq_ignore_ascii_case("https:"), scheme.eq_ignore_ascii_case("http:"));
        if !(https || http || scheme.is_empty()) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = (rest.get(..end)?, rest.get(end..)?);
        let authority: Authority = authority.parse().ok()?;
        let default_port = match authority.as_str().strip_prefix(authority.host()) {
            Some(":443") => !http,
            Some(":80") => !https,
            Some("" | ":") => true,
            // A port of its own, or a user, which `host` is without.
            Some(_) | None => false,
        };
        let host = authority.host();
        let named = if default_port { host.strip_suffix('.').unwrap_or(host) } else { authority.as_str() };
        self.gateways.contains(&named.to_ascii_lowercase()).then_some(path)
    }
}

const SEZZLE: [&str; 4] = [
    "https://gateway.sezzle.com",
    "https://sandbox.gateway.sezzle.com",
    "https://gateway.eu.sezzle.com",
    "https://sandbox.gateway.eu.sezzle.com",
];

/// One pass over a document, noting what to replace. The parser bounds its depth.
struct Walk<'r, 'de> {
    rewriter: &'r Reference,
    text: &'de str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'de> Walk<'_, 'de> {
    fn note(&mut self, raw: &'de RawValue) {
        let raw = raw.get();
        // The raw value is a slice of the text, so its address tells where.
        let start = raw.as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        let end = start.and_then(|start| start.checked_add(raw.len()));
        if let (Some(start), Some(end), Some(replacement)) = (start, end, self.rewriter.href(raw)) {
            self.edits.push((start..end, replacement));
        }
    }
}

/// Any value outside `links`.
struct Value<'w, 'r, 'de>(&'w mut Walk<'r, 'de>);

/// The value of a `links` member: an array of links, or anything else.
struct Links<'w, 'r, 'de>(&'w mut Walk<'r, 'de>);

/// An element of a `links` array: an object with an `href`, or anything else.
struct Link<'w, 'r, 'de>(&'w mut Walk<'r, 'de>);

macro_rules! seed {
    ($type:ident) => {
        impl<'de> DeserializeSeed<'de> for $type<'_, '_, 'de> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
                json.deserialize_any(self)
            }
        }
    };
}
seed!(Value);
seed!(Links);
seed!(Link);

macro_rules! scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

impl<'de> Visitor<'de> for Value<'_, '_, 'de> {
    type Value = ();

    scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Value(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == "links" {
                members.next_value_seed(Links(self.0))?;
            } else {
                members.next_value_seed(Value(self.0))?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Links<'_, '_, 'de> {
    type Value = ();

    scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Link(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        Value(self.0).visit_map(members)
    }
}

impl<'de> Visitor<'de> for Link<'_, '_, 'de> {
    type Value = ();

    scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        Value(self.0).visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == "href" {
                self.0.note(members.next_value::<&'de RawValue>()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
