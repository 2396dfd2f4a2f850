//! One line of the audit file: its fields, its canonical form, and the hash that the next line names. Pure.
//!
//! A line is a JSON object of integers and texts. In its canonical form the names are sorted, nothing stands between
//! the tokens, and only `"`, `\` and control characters are escaped: so `jq -cS .` prints it. The hash is SHA-256 of
//! that form without the line break. The texts that the sidecar writes need no escape at all, so that the libraries
//! for JSON, which differ in their escapes, agree on the form.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use aws_lc_rs::digest;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// SHA-256 of a line in its canonical form. Shown in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Stands in the first line of a chain, which has no line before it.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of a line in its canonical form.
    pub fn of(canonical: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, canonical.as_bytes());
        // A digest of this kind has 32 bytes.
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The last line of a chain: its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    pub number: u64,
    pub hash: Hash,
}

impl Tip {
    /// Before the first line of a chain.
    pub const NONE: Self = Self { number: 0, hash: Hash::NONE };

    /// The line after this one in its canonical form, and its place in the chain.
    pub fn extend(self, fields: Fields) -> (String, Self) {
        let number = self.number.saturating_add(1);
        let fields = fields.number("n", number).text("prev", &self.hash.to_string()).number("v", VERSION);
        let text = fields.canonical();
        let hash = Hash::of(&text);
        (text, Self { number, hash })
    }
}

/// The version of the form of lines.
const VERSION: u64 = 1;

/// JSON libraries disagree on the value of larger integers.
pub const LARGEST: u64 = (1 << 53) - 1;

/// The fields of a line, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, Value>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(i64),
    Text(String),
}

impl Fields {
    pub fn of_event(event: &str) -> Self {
        Self::default().text("event", event)
    }

    /// Adds a text, or its hash if the text is not plain: it may name a person, as an e-mail address does, or need
    /// escapes.
    pub fn text(mut self, name: &str, text: &str) -> Self {
        let text = if is_plain(text) { text.to_owned() } else { format!("sha256:{}", Hash::of(text)) };
        self.0.insert(name.to_owned(), Value::Text(text));
        self
    }

    /// Adds a number, cut at `LARGEST`.
    pub fn number(mut self, name: &str, number: u64) -> Self {
        let number = i64::try_from(number.min(LARGEST)).unwrap_or_default();
        self.0.insert(name.to_owned(), Value::Number(number));
        self
    }

    /// Adds a text if there is one.
    pub fn maybe_text(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// Adds a number if there is one.
    pub fn maybe_number(self, name: &str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(name, number),
            None => self,
        }
    }

    pub fn find_text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }

    pub fn find_number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Value::Number(number) => u64::try_from(*number).ok(),
            Value::Text(_) => None,
        }
    }

    /// The canonical form, without a line break.
    pub fn canonical(&self) -> String {
        let mut line = String::with_capacity(512);
        let mut before = '{';
        for (name, value) in &self.0 {
            line.push(before);
            before = ',';
            write_text(&mut line, name);
            line.push(':');
            match value {
                Value::Text(text) => write_text(&mut line, text),
                Value::Number(number) => line.push_str(itoa::Buffer::new().format(*number)),
            }
        }
        line.push('}');
        line
    }
}

/// Whether a text has only characters of identifiers and paths, which no JSON library escapes.
fn is_plain(text: &str) -> bool {
    text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/{}[]".contains(&byte))
}

fn write_text(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\u{8}' => line.push_str("\\b"),
            '\u{c}' => line.push_str("\\f"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_ascii_control() => {
                // A write into a string does not fail.
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// A line that was read: its place in the chain, and the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub tip: Tip,
    /// The hash that the line names as that of the line before it.
    pub previous: Hash,
    pub fields: Fields,
}

impl Line {
    /// Reads a line in any spelling that JSON allows. `None` if the text is no line of an audit file.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let fields: Fields = serde_json::from_slice(text).ok()?;
        let previous = Hash::parse(fields.find_text("prev")?)?;
        let (number, _) = (fields.find_number("n")?, fields.find_text("event")?);
        Some(Self { tip: Tip { number, hash: Hash::of(&fields.canonical()) }, previous, fields })
    }

    /// Whether a write of a line that was cut off may leave this text: the beginning of an object of fields, or
    /// nothing, and behind it zeros, which a file system may leave in place of bytes that a crash took.
    pub fn is_part(text: &[u8]) -> bool {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let length = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        let begun = serde_json::from_slice::<Fields>(text.get(..length).unwrap_or_default());
        begun.is_err_and(|error| error.is_eof())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of integers and texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Either>()? {
                    let value = match value {
                        Either::Number(number) => Value::Number(number),
                        Either::Text(text) => Value::Text(text),
                    };
                    // Readers disagree on which of two values counts, so one of them could be hidden.
                    if fields.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_sorted_and_names_the_line_before() {
        let (first, tip) = Tip::NONE.extend(Fields::of_event("open").text("version", "0.1.0").number("pid", 7));
        let zeros = "0".repeat(64);
        let expected = format!(r#"{{"event":"open","n":1,"pid":7,"prev":"{zeros}","v":1,"version":"0.1.0"}}"#);
        assert_eq!(first, expected);
        let (second, next) = tip.extend(Fields::of_event("begin"));
        assert_eq!(next.number, 2);
        assert!(second.contains(&tip.hash.to_string()), "{second}");
        let read = Line::parse(second.as_bytes()).expect("a line");
        assert_eq!((read.tip, read.previous), (next, tip.hash));
    }

    #[test]
    fn however_a_line_is_spelt_the_hash_is_the_same() {
        let (line, tip) = Tip::NONE.extend(Fields::of_event("begin").text("key", "a-1").number("amount", 2500));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let spaced = serde_json::to_string_pretty(&value).expect("JSON");
        let escaped = line.replace("begin", "\\u0062egin");
        for text in [line.clone(), spaced, escaped] {
            assert_eq!(Line::parse(text.as_bytes()).map(|line| line.tip), Some(tip), "{text}");
        }
    }

    #[test]
    fn a_text_that_may_name_a_person_is_replaced_by_its_hash() {
        let hashed = |text: &str| Fields::default().text("key", text).find_text("key").expect("a text").to_owned();
        for plain in ["order-1.2:a/b", "", "/v2/order/{order}/capture", "[::1]:80"] {
            assert_eq!(hashed(plain), plain);
        }
        // As `printf %s ann@example.com | sha256sum` prints it.
        let ann = "sha256:71d4f55f72fa128dfb468a1a3901507c804b74316488744d769d7f4b16696476";
        assert_eq!(hashed("ann@example.com"), ann);
        for other in ["a b", "a\"b", "ä", "a\nb", &"a".repeat(256)] {
            assert!(hashed(other).starts_with("sha256:"), "{other}");
        }
    }

    #[test]
    fn what_is_no_line_is_none() {
        let (line, _) = Tip::NONE.extend(Fields::of_event("begin"));
        let twice = line.replace(r#""event""#, r#""n":2,"event""#);
        let float = line.replace(r#""n":1"#, r#""n":1.5"#);
        let nested = line.replace(r#""n":1"#, r#""n":[1]"#);
        let cut = line.trim_end_matches('}');
        for text in [twice.as_str(), &float, &nested, cut, "", "{}", "null", "[]", &format!("{line}{line}")] {
            assert_eq!(Line::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_the_same_for_every_library() {
        let fields = Fields::default().number("amount", u64::MAX);
        assert_eq!(fields.canonical(), r#"{"amount":9007199254740991}"#);
    }
}
