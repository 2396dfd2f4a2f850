//! One pass over a JSON text, byte by byte: strict about the text, and silent about all but the links in it.

use std::ops::Range;

/// Calls `found` with the place of each string that is the `href` of an object in an array called `links`, quotes
/// included, and whether it has escapes. `None` when the text is not JSON, is nested too deeply, or `found` gives up.
///
/// What `serde_json` refuses is refused: also half a surrogate pair and numbers beyond a double's, but neither in what
/// else an object in `links` holds, nor is that bounded in its depth.
pub fn hrefs(text: &str, mut found: impl FnMut(Range<usize>, bool) -> Option<()>) -> Option<()> {
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0 };
    let mut open: Vec<Open> = Vec::with_capacity(16);
    let mut place = Place::Value;
    loop {
        let start = scan.next_token()?;
        match scan.bytes.get(start)? {
            bracket @ (b'{' | b'[') => {
                if place.is_read() && open.len() >= DEEPEST {
                    return None;
                }
                let inside = Open::with(*bracket, place);
                if scan.closes(inside) {
                    // It was empty.
                } else {
                    place = scan.inside(inside)?;
                    open.push(inside);
                    continue;
                }
            }
            b'"' => {
                let escaped = scan.string(place.is_read())?;
                if place == Place::Href {
                    found(start..scan.at, escaped)?;
                }
            }
            b't' => scan.word("true", start)?,
            b'f' => scan.word("false", start)?,
            b'n' => scan.word("null", start)?,
            b'-' | b'0'..=b'9' => scan.number(start, place.is_read())?,
            _ => return None,
        }
        // A value has ended, and what it stands in may have, too.
        loop {
            let Some(inside) = open.last() else {
                return scan.next_token().is_none().then_some(());
            };
            if scan.closes(*inside) {
                open.pop();
            } else if scan.bytes.get(scan.next_token()?) == Some(&b',') {
                place = scan.inside(*inside)?;
                break;
            } else {
                return None;
            }
        }
    }
}

/// How many arrays and objects may be in one another: as serde_json has it.
const DEEPEST: usize = 127;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Any outside of links.
    Value,
    /// What is called `links`.
    Links,
    /// In an array of that name.
    Link,
    /// What is called `href` in such an object.
    Href,
    /// Anything else in it.
    Ignored,
}

impl Place {
    fn is_read(self) -> bool {
        !matches!(self, Self::Href | Self::Ignored)
    }
}

/// An array or object that has begun.
#[derive(Clone, Copy, Debug)]
struct Open {
    end: u8,
    /// Of an array: what its elements are. Of an object: what it is itself.
    place: Place,
}

impl Open {
    fn with(bracket: u8, place: Place) -> Self {
        let object = bracket == b'{';
        let place = match place {
            Place::Links if !object => Place::Link,
            Place::Link if object => Place::Link,
            Place::Value | Place::Links | Place::Link => Place::Value,
            Place::Href | Place::Ignored => Place::Ignored,
        };
        Self { end: if object { b'}' } else { b']' }, place }
    }
}

struct Scan<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over white space and the byte after it, and says where that is.
    fn next_token(&mut self) -> Option<usize> {
        while matches!(self.next()?, b' ' | b'\n' | b'\r' | b'\t') {}
        self.at.checked_sub(1)
    }

    /// Steps over the end of what is open, if it is next.
    fn closes(&mut self, open: Open) -> bool {
        let before = self.at;
        let closes = self.next_token().and_then(|at| self.bytes.get(at)) == Some(&open.end);
        if !closes {
            self.at = before;
        }
        closes
    }

    /// Steps to the next value in what is open, over its name if it has one.
    fn inside(&mut self, open: Open) -> Option<Place> {
        if open.end == b']' {
            return Some(open.place);
        }
        let start = self.next_token().filter(|at| self.bytes.get(*at) == Some(&b'"'))?;
        let escaped = self.string(open.place != Place::Ignored)?;
        let name = self.bytes.get(start..self.at)?;
        self.next_token().filter(|at| self.bytes.get(*at) == Some(&b':'))?;
        let named = |word: &[u8]| {
            if escaped {
                // Written without escapes it may be that word.
                let name: Option<String> = serde_json::from_slice(name).ok();
                return name
                    .is_some_and(|name| word.get(1..).and_then(|w| w.strip_suffix(b"\"")) == Some(name.as_bytes()));
            }
            name == word
        };
        Some(match open.place {
            Place::Value if named(b"\"links\"") => Place::Links,
            Place::Link if named(b"\"href\"") => Place::Href,
            Place::Value => Place::Value,
            _ => Place::Ignored,
        })
    }

    fn word(&mut self, word: &str, start: usize) -> Option<()> {
        self.text.get(start..)?.starts_with(word).then(|| self.at = start + word.len())
    }

    /// Steps over a string, whose first quote was the last byte, and says whether it has escapes.
    fn string(&mut self, paired: bool) -> Option<bool> {
        let mut escaped = false;
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Some(escaped),
                b'\\' => {
                    escaped = true;
                    self.escape(paired)?;
                }
                _ => return None,
            }
        }
    }

    /// Steps over what stands for itself in a string, eight bytes at a time.
    fn plain(&mut self) {
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
        self.at += rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)).count();
    }

    fn escape(&mut self, paired: bool) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hex()? {
                0xdc00..=0xdfff if paired => None,
                0xd800..=0xdbff if paired => {
                    let second =
                        self.next()? == b'\\' && self.next()? == b'u' && (0xdc00..=0xdfff).contains(&self.hex()?);
                    second.then_some(())
                }
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let mut code = 0;
        for _ in 0..4 {
            code = code << 4 | char::from(self.next()?).to_digit(16)?;
        }
        Some(code)
    }

    fn number(&mut self, start: usize, bounded: bool) -> Option<()> {
        self.at = start;
        self.skip(|byte| byte == b'-');
        if !self.skip(|byte| byte == b'0') {
            self.digits()?;
        }
        if self.skip(|byte| byte == b'.') {
            self.digits()?;
        }
        let exponent = self.skip(|byte| matches!(byte, b'e' | b'E'));
        if exponent {
            self.skip(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        let long = self.at.saturating_sub(start) > f64::MAX_10_EXP.unsigned_abs() as usize;
        if bounded && (exponent || long) {
            return self.text.get(start..self.at)?.parse().is_ok_and(f64::is_finite).then_some(());
        }
        Some(())
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        self.at += usize::from(found);
        found
    }

    /// At least one.
    fn digits(&mut self) -> Option<()> {
        let before = self.at;
        while self.skip(|byte| byte.is_ascii_digit()) {}
        (self.at > before).then_some(())
    }
}

/// The high bit of each byte that a string must end at or escape: quotes, backslashes, control characters. Only the
/// lowest of them is exact, as a borrow may reach beyond it.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero(word ^ (ONES * 0x22));
    let backslash = zero(word ^ (ONES * 0x5c));
    (control | quote | backslash) & (ONES * 0x80)
}
