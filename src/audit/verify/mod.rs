//! Checks that the lines of files form one chain, and says where they do not. Only one line at a time is in memory.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::mem;

use super::line::{Hash, Line, Tip};
use crate::text::printable;

/// Something that an auditor has to know, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    /// Counted from 1 in the file.
    pub line: u64,
    /// Whether the chain breaks here. Otherwise the finding only explains something.
    pub is_break: bool,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, is_break, text } = self;
        write!(formatter, "{file}:{line}: {}{text}", if *is_break { "BREAK: " } else { "" })
    }
}

/// Reads files in the order of the chain.
#[derive(Debug, Default)]
pub struct Verifier {
    /// The last audit line, of all files.
    last: Option<Tip>,
    /// The number of the first audit line.
    first: Option<u64>,
    torn: Torn,
    /// How many audit lines there are.
    pub lines: u64,
    pub breaks: u64,
}

/// The lines since the last audit line, none of which is an audit line.
#[derive(Clone, Copy, Debug, Default)]
struct Torn {
    bytes: u64,
    /// The line that a finding is about, by its number and its size in bytes: the first foreign line, or else the
    /// first.
    line: u64,
    size: u64,
    /// Whether the last line lacks its line break.
    is_cut: bool,
    /// Whether a line is foreign: no cut write of an audit line can have left it.
    is_foreign: bool,
    /// How the file is compressed, if the file begins with these lines and is compressed.
    packed: Option<Packed>,
}

/// A way to compress a file.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// The first bytes of such a file.
    magic: &'static [u8],
    /// The program that makes such a file.
    by: &'static str,
    /// The program that unpacks such a file.
    unpack: &'static str,
}

impl Torn {
    fn add(&mut self, line: u64, bytes: u64, ends: bool, is_part: bool) {
        if self.bytes == 0 || !is_part && !self.is_foreign {
            (self.line, self.size) = (line, bytes);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.is_cut = !ends;
        self.is_foreign |= !is_part;
    }

    /// Why these lines are a break, if no cut write left them.
    fn text(self) -> String {
        let size = self.size;
        if let Some(Packed { by, unpack, .. }) = self.packed {
            format!("the file is compressed with {by}; unpack it first, for example with {unpack}")
        } else if size > LONGEST {
            format!("the line has {size} bytes, and no audit line has more than {LONGEST}")
        } else {
            NO_LINE.to_owned()
        }
    }

    /// Judges the lines at the end of a file.
    fn at_end(self) -> Option<Judgement> {
        let Self { bytes, line, is_cut, is_foreign, .. } = self;
        if bytes == 0 {
            return None;
        }
        let is_torn = is_cut && !is_foreign;
        let text = if is_torn {
            format!(
                "the file ends in a torn line ({bytes} bytes): a write was cut off there, by a crash or a full disk"
            )
        } else {
            self.text()
        };
        Some(Judgement { is_break: !is_torn, line: Some(line), text })
    }
}

/// A finding of which only the file is not known yet.
struct Judgement {
    is_break: bool,
    /// `None` for the audit line that is judged.
    line: Option<u64>,
    text: String,
}

impl Judgement {
    fn break_of_chain(text: String) -> Self {
        Self { is_break: true, line: None, text }
    }

    fn remark(text: String) -> Self {
        Self { is_break: false, line: None, text }
    }

    fn about(self, line: u64) -> Self {
        Self { line: Some(line), ..self }
    }
}

impl Verifier {
    /// Reads a file to its end. `tell` gets each finding.
    pub fn read(&mut self, file: &str, mut input: impl BufRead, tell: &mut impl FnMut(Finding)) -> io::Result<()> {
        self.torn.packed = PACKED.into_iter().find(|packed| starts_with(&mut input, packed.magic));
        let mut number: u64 = 0;
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = input.by_ref().take(LONGEST).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            number = number.saturating_add(1);
            let ends = text.last() == Some(&b'\n');
            let size = u64::try_from(read).unwrap_or(u64::MAX);
            if !ends && size == LONGEST {
                let Skipped { bytes, ends, is_zero } = skip_line(&mut input)?;
                self.torn.add(number, size.saturating_add(bytes), ends, is_zero && Line::is_part(&text));
                continue;
            }
            let Some(line) = Line::parse(text.trim_ascii_end()) else {
                self.torn.add(number, size, ends, Line::is_part(&text));
                continue;
            };
            let torn = mem::take(&mut self.torn);
            for judgement in judge(self.last, torn, &line) {
                self.report(file, number, judgement, tell);
            }
            self.first.get_or_insert(line.tip.number);
            self.last = Some(line.tip);
            self.lines = self.lines.saturating_add(1);
        }
        if let Some(judgement) = mem::take(&mut self.torn).at_end() {
            self.report(file, number, judgement, tell);
        }
        Ok(())
    }

    /// Tells a judgement about line `number` of a file, or about the line that the judgement names.
    fn report(&mut self, file: &str, number: u64, judgement: Judgement, tell: &mut impl FnMut(Finding)) {
        let Judgement { is_break, line, text } = judgement;
        self.breaks = self.breaks.saturating_add(u64::from(is_break));
        tell(Finding { file: file.to_owned(), line: line.unwrap_or(number), is_break, text });
    }

    /// The numbers of the first and of the last line, and the hash of the last. `None` without a line.
    pub fn range(&self) -> Option<(u64, u64, Hash)> {
        let Tip { number, hash } = self.last?;
        Some((self.first?, number, hash))
    }
}

/// Judges a line after `last`, with `torn` between the two.
fn judge(last: Option<Tip>, torn: Torn, line: &Line) -> Vec<Judgement> {
    let lost = line.fields.find_text("lost").map(|lost| {
        // Anybody may have written the file, so no other text of it reaches a terminal as it is.
        let lost = Hash::parse(lost).map_or_else(|| printable(lost, 64), |hash| hash.to_string());
        let text = format!("the sidecar had written a line with the hash {lost}, and the file did not have it");
        Judgement::break_of_chain(text)
    });
    let missed = line
        .fields
        .find_number("missed")
        .map(|missed| Judgement::remark(format!("the sidecar could not write {missed} lines before this one")));
    judge_torn(torn, line).into_iter().chain(judge_link(last, line)).chain(lost).chain(missed).collect()
}

/// Judges the lines before an audit line that are no audit lines. The audit line says how many bytes a cut write left.
fn judge_torn(torn: Torn, line: &Line) -> Option<Judgement> {
    let is_open = line.fields.find_text("event") == Some("open");
    let marked = line.fields.find_number("torn").filter(|_| is_open).unwrap_or(0);
    match (torn.bytes, marked) {
        (0, 0) => None,
        (0, _) => {
            let text = format!("a torn line of {marked} bytes stood before this line and is gone");
            Some(Judgement::break_of_chain(text))
        }
        // The sidecar put a line break behind the torn line, if that had none.
        (bytes, 1..) if !torn.is_foreign && (bytes == marked || bytes == marked.saturating_add(1)) => {
            let text = "a torn line: a write was cut off here, and the chain goes on behind it";
            Some(Judgement::remark(text.to_owned()).about(torn.line))
        }
        (_, _) => Some(Judgement::break_of_chain(torn.text()).about(torn.line)),
    }
}

/// Judges whether a line follows the last one.
fn judge_link(last: Option<Tip>, line: &Line) -> Option<Judgement> {
    let (number, named) = (line.tip.number, line.previous);
    let Some(last) = last else {
        let is_first = named == Hash::NONE && number == 1;
        let before = number.saturating_sub(1);
        let text = format!("the chain begins before this file: line {before} has the hash {named}");
        return (!is_first).then(|| Judgement::remark(text));
    };
    let follows = number == last.number.saturating_add(1);
    let text = if named == last.hash && follows {
        return None;
    } else if named == last.hash {
        format!("the number of this line is {number}, after line {}", last.number)
    } else if named == Hash::NONE {
        "a new chain begins here, so nothing shows that these lines follow those before".to_owned()
    } else if follows {
        let Tip { number, hash } = last;
        format!("line {number} before this one was changed: its hash is {hash}, and this line names {named}")
    } else {
        let Tip { number: before, hash } = last;
        format!("line {number} follows line {before}, and names the hash {named} in place of {hash}: {MISSING}")
    };
    Some(Judgement::break_of_chain(text))
}

/// The rest of a line that is too long to be kept.
struct Skipped {
    bytes: u64,
    /// Whether a line break ends the line.
    ends: bool,
    /// Whether these bytes are zeros but for the line break.
    is_zero: bool,
}

/// Reads to the end of a line.
fn skip_line(input: &mut impl BufRead) -> io::Result<Skipped> {
    let mut skipped = Skipped { bytes: 0, ends: false, is_zero: true };
    loop {
        let buffer = input.fill_buf()?;
        let at = buffer.iter().position(|byte| *byte == b'\n');
        let (used, is_empty) = (at.map_or(buffer.len(), |at| at.saturating_add(1)), buffer.is_empty());
        let content = buffer.get(..at.unwrap_or(used)).unwrap_or_default();
        skipped.is_zero &= content.iter().all(|byte| *byte == 0);
        input.consume(used);
        skipped.bytes = skipped.bytes.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
        if at.is_some() || is_empty {
            return Ok(Skipped { ends: at.is_some(), ..skipped });
        }
    }
}

/// Whether the input begins with these bytes. An input that cannot be read does not; the read after this one says why.
fn starts_with(input: &mut impl BufRead, bytes: &[u8]) -> bool {
    input.fill_buf().is_ok_and(|buffer| buffer.starts_with(bytes))
}

/// The programs by which log rotation compresses files.
const PACKED: [Packed; 4] = [
    Packed { magic: &[0x1f, 0x8b], by: "gzip", unpack: "gunzip" },
    Packed { magic: &[0x28, 0xb5, 0x2f, 0xfd], by: "zstd", unpack: "unzstd" },
    Packed { magic: b"\xfd7zXZ\0", by: "xz", unpack: "unxz" },
    Packed { magic: b"BZh", by: "bzip2", unpack: "bunzip2" },
];
const MISSING: &str = "lines are missing, or were added or moved";
const NO_LINE: &str = "this is no audit line, or was changed so that it is none any more";
// The sidecar's own lines have less than 2 KiB.
const LONGEST: u64 = 16 * 1024;

#[cfg(test)]
mod tests;
