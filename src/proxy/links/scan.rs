//! One pass over a JSON text, byte by byte, which reads the structure and passes over all values but the links.

use std::ops::Range;

/// Calls `found` for each string that is the `href` of an object in an array called `links`: with its range in `body`,
/// quotes included, and whether it has escapes. Returns whether the links have the usual shape; `None` when brackets,
/// commas and colons do not make a JSON text.
///
/// Other values are not judged: strings end at their quote, numbers and words with their letters, and arrays and
/// objects may be nested as deeply as the body's size allows. An odd value that has nothing to do with links, such as
/// half a surrogate pair, a byte that is not UTF-8 or a number beyond a double's, leaves the links readable.
pub fn hrefs(body: &[u8], mut found: impl FnMut(Range<usize>, bool)) -> Option<bool> {
    let mut usual = true;
    let mut scan = Scan { bytes: body, at: if body.starts_with(BOM) { BOM.len() } else { 0 } };
    let mut open = Stack::default();
    let mut position = Position::Value;
    let mut token = scan.next_token()?;
    loop {
        // `token` begins a value.
        match token {
            b'"' => {
                let string = scan.string()?;
                match position {
                    Position::Href => found(string.range, string.escaped),
                    Position::Links | Position::Link => usual = false,
                    Position::Value | Position::Ignored => {}
                }
            }
            b'{' | b'[' => {
                let inside = Open::new(token, position);
                let first = scan.next_token()?;
                // An empty array or object ends at once.
                if first != inside.end() {
                    usual &= !position.wants_other(token);
                    (position, token) = scan.value(inside, first)?;
                    open.push(inside);
                    continue;
                }
            }
            letter if is_letter(letter) => {
                let word = scan.word();
                let is_link = matches!(position, Position::Links | Position::Link | Position::Href);
                usual &= !is_link || word == b"null";
            }
            _ => return None,
        }
        // A value has ended, and perhaps the array or object around it.
        loop {
            let Some(inside) = open.last() else {
                return scan.next_token().is_none().then_some(usual);
            };
            match scan.next_token()? {
                b',' => {
                    let first = scan.next_token()?;
                    (position, token) = scan.value(inside, first)?;
                    break;
                }
                end if end == inside.end() => open.pop(),
                _ => return None,
            }
        }
    }
}

/// The mark that some writers put before a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The position of a value in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Outside of links.
    Value,
    /// The value called `links`.
    Links,
    /// An element of the array called `links`.
    Link,
    /// The value called `href` in such an element.
    Href,
    /// Any other value in such an element.
    Ignored,
}

impl Position {
    /// Whether the usual shape has no value here that begins with this bracket.
    fn wants_other(self, bracket: u8) -> bool {
        match self {
            Self::Links => bracket != b'[',
            Self::Link => bracket != b'{',
            Self::Href => true,
            Self::Value | Self::Ignored => false,
        }
    }
}

/// An array or object that has begun, in three bits that are never all zero. The lowest is set for objects. The others
/// tell the position: of an array's elements, or of an object itself.
#[derive(Clone, Copy, Debug)]
struct Open(u8);

impl Open {
    const VALUE: u8 = 0b010;
    const LINK: u8 = 0b100;
    const IGNORED: u8 = 0b110;

    fn new(bracket: u8, position: Position) -> Self {
        let object = bracket == b'{';
        let bits = match position {
            Position::Links if !object => Self::LINK,
            Position::Link if object => Self::LINK,
            Position::Value | Position::Links | Position::Link => Self::VALUE,
            Position::Href | Position::Ignored => Self::IGNORED,
        };
        Self(bits | u8::from(object))
    }

    fn is_object(self) -> bool {
        self.0 & 1 == 1
    }

    fn end(self) -> u8 {
        if self.is_object() { b'}' } else { b']' }
    }

    fn position(self) -> Position {
        match self.0 & 0b110 {
            Self::VALUE => Position::Value,
            Self::LINK => Position::Link,
            _ => Position::Ignored,
        }
    }
}

/// The open arrays and objects, innermost last, in three bits each. Only texts of more than 21 levels take memory.
#[derive(Default)]
struct Stack {
    /// The innermost, in the lowest bits.
    word: u64,
    /// Full words before that.
    full: Vec<u64>,
}

impl Stack {
    fn push(&mut self, open: Open) {
        if self.word >> 60 != 0 {
            self.full.push(self.word);
            self.word = 0;
        }
        self.word = self.word << 3 | u64::from(open.0);
    }

    fn pop(&mut self) {
        self.word >>= 3;
        if self.word == 0 {
            self.word = self.full.pop().unwrap_or(0);
        }
    }

    fn last(&self) -> Option<Open> {
        let [lowest, ..] = self.word.to_le_bytes();
        (lowest & 0b111 != 0).then_some(Open(lowest & 0b111))
    }
}

struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
}

struct Text {
    range: Range<usize>,
    escaped: bool,
}

impl<'t> Scan<'t> {
    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    /// Steps over white space and the byte after it, and returns that byte.
    #[inline]
    fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = self.next()?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
        }
    }

    /// Steps to the next value in an array or object, over its name if it has one. `first` is the byte of the last step.
    /// Returns the position of the value and its first byte.
    #[inline]
    fn value(&mut self, open: Open, first: u8) -> Option<(Position, u8)> {
        let position = open.position();
        if !open.is_object() {
            return Some((position, first));
        }
        if first != b'"' {
            return None;
        }
        let name = self.string()?;
        if self.next_token()? != b':' {
            return None;
        }
        let position = match position {
            Position::Value if self.is_word(&name, b"\"links\"") => Position::Links,
            Position::Link if self.is_word(&name, b"\"href\"") => Position::Href,
            Position::Value => Position::Value,
            _ => Position::Ignored,
        };
        Some((position, self.next_token()?))
    }

    /// Whether a string is a word, which is given with its quotes.
    #[inline]
    fn is_word(&self, text: &Text, word: &[u8]) -> bool {
        let raw = self.bytes.get(text.range.clone()).unwrap_or_default();
        if text.escaped { same_unescaped(raw, word) } else { raw == word }
    }

    /// Steps over the rest of a number or word, and returns the whole of it.
    fn word(&mut self) -> &'t [u8] {
        let start = self.at.saturating_sub(1);
        while self.bytes.get(self.at).is_some_and(|byte| is_letter(*byte)) {
            self.at += 1;
        }
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// Steps over a string, whose first quote was the last byte.
    #[inline]
    fn string(&mut self) -> Option<Text> {
        let start = self.at.saturating_sub(1);
        let mut escaped = false;
        loop {
            self.skip_plain();
            if self.next()? == b'"' {
                return Some(Text { range: start..self.at, escaped });
            }
            // A backslash: the byte after it does not end the string.
            escaped = true;
            self.next()?;
        }
    }

    /// Steps to the next quote or backslash in a string, eight bytes at a time.
    #[inline]
    fn skip_plain(&mut self) {
        let Some(mut rest) = self.bytes.get(self.at..) else { return };
        while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
            let special = specials(u64::from_le_bytes(*chunk));
            if special != 0 {
                self.at += usize::try_from(special.trailing_zeros() / 8).unwrap_or(0);
                return;
            }
            self.at += 8;
            rest = after;
        }
        self.at += rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count();
    }
}

/// Whether a string with escapes is a word, which is given with its quotes.
#[cold]
fn same_unescaped(raw: &[u8], word: &[u8]) -> bool {
    let text: Option<String> = serde_json::from_slice(raw).ok();
    text.is_some_and(|text| word.get(1..).and_then(|word| word.strip_suffix(b"\"")) == Some(text.as_bytes()))
}

/// Whether a number, `true`, `false` or `null` may have this byte, or a word such as `NaN` that some writers use.
fn is_letter(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'+' | b'.')
}

/// The high bit of each byte that may end a string or begin an escape: quotes and backslashes. Only the lowest of them
/// is exact, as a borrow may reach beyond it.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * 0x22));
    let backslash = zero(word ^ (ONES * 0x5c));
    (quote | backslash) & (ONES * 0x80)
}
