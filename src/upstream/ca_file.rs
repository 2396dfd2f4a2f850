//! Reads the certificates of a PEM file: all of them, or the position of the first unusable one. Pure.
//!
//! Such files are made by hand, so the reader accepts more than RFC 7468 allows: files joined without a line break,
//! indented text, Windows' line ends and byte order mark, and the older labels. A block that cannot be read is an
//! error: otherwise a partly read file would pass for a complete one.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::certificate::{self, Trusted};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemCertificate {
    /// The line in which the certificate begins, counted from 1.
    pub line: usize,
    pub der: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("the file has no certificate{0}")]
    Empty(&'static str),
    #[error("line {line}: {reason}")]
    Block {
        /// The line in which the block begins, counted from 1.
        line: usize,
        reason: String,
    },
}

pub fn certificates(file: &[u8]) -> Result<Vec<PemCertificate>, PemError> {
    // Comments may have any encoding.
    let text = String::from_utf8_lossy(file);
    let mut found = Vec::new();
    let (mut rest, mut line) = (text.as_ref(), 1);
    while let Some((before, block)) = rest.split_once(BEGIN) {
        nothing_left_out(before, line)?;
        line += newlines(before);
        let refused = |reason: String| PemError::Block { line, reason };
        let (label, body) = block.split_once("-----").ok_or_else(|| refused("-----BEGIN has no end".to_owned()))?;
        if !LABELS.contains(&label) {
            let label: String = label.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(40).collect();
            return Err(refused(format!("holds {label:?}, and only certificates belong here")));
        }
        let end = format!("-----END {label}-----");
        let cut = || refused(format!("-----BEGIN {label}----- without its END"));
        let (body, after) = body.split_once(&end).ok_or_else(cut)?;
        if body.contains(BEGIN) {
            return Err(cut());
        }
        found.push(PemCertificate { line, der: der(label, body).map_err(refused)? });
        line += newlines(block) - newlines(after);
        rest = after;
    }
    nothing_left_out(rest, line)?;
    if found.is_empty() { Err(PemError::Empty(hint(file))) } else { Ok(found) }
}

const BEGIN: &str = "-----BEGIN ";
/// RFC 7468 defines the first label; OpenSSL writes the other two.
const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", TRUSTED];
const TRUSTED: &str = "TRUSTED CERTIFICATE";

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Text between the blocks is a comment, unless a certificate seems to begin in it.
fn nothing_left_out(text: &str, first: usize) -> Result<(), PemError> {
    let begins = |line: &str| line.contains("BEGIN ") && line.contains("CERTIFICATE");
    match text.lines().position(begins) {
        None => Ok(()),
        Some(index) => Err(PemError::Block {
            line: first + index,
            reason: "expected -----BEGIN CERTIFICATE-----, which this line resembles".to_owned(),
        }),
    }
}

fn der(label: &str, body: &str) -> Result<Vec<u8>, String> {
    if body.contains("\\n") {
        return Err("line breaks are written as \\n; write real line breaks".to_owned());
    }
    let compact: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    let mut der = BASE64.decode(compact).map_err(|_| "the block is not base64".to_owned())?;
    if label == TRUSTED {
        match certificate::trusted(&der) {
            Trusted::ForServers(length) => der.truncate(length),
            Trusted::ForOthers => {
                return Err("the file marks this certificate as not trusted for servers".to_owned());
            }
            Trusted::Malformed => {}
        }
    }
    Ok(der)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn hint(file: &[u8]) -> &'static str {
    match file {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "; the file is UTF-16: save it as plain text",
        [0x30, 0x82, ..] => "; the file is DER: convert it to PEM with openssl x509 -inform der",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(label: &str, content: &[u8]) -> String {
        let text = BASE64.encode(content);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("ASCII")).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", lines.join("\n"))
    }

    fn found(text: &str) -> Vec<(usize, Vec<u8>)> {
        let found = certificates(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        found.into_iter().map(|found| (found.line, found.der)).collect()
    }

    fn refused(text: &str) -> String {
        certificates(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn files_made_by_hand_are_read_whole() {
        let (one, two) = (vec![1; 100], vec![2; 100]);
        let (a, b) = (block("CERTIFICATE", &one), block("CERTIFICATE", &two));
        for (what, text, lines) in [
            ("as it should be", format!("{a}\n{b}\n"), [1, 6]),
            ("joined", format!("{a}{b}"), [1, 5]),
            ("byte order mark", format!("\u{feff}{a}\n{b}\n"), [1, 6]),
            ("Windows", format!("{a}\n{b}\n").replace('\n', "\r\n"), [1, 6]),
            ("indented", format!("ca: |\n    {}\n", format!("{a}\n{b}").replace('\n', "\n    ")), [2, 7]),
            ("older labels", format!("{}\n{}", block("X509 CERTIFICATE", &one), block(TRUSTED, &two)), [1, 6]),
            ("comments", format!("# Corp \u{e9}\n{a}\nsubject=/CN=Other\n{b}\n-- end"), [2, 8]),
        ] {
            assert_eq!(found(&text), [(lines[0], one.clone()), (lines[1], two.clone())], "{what}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_by_its_line() {
        let a = block("CERTIFICATE", &[1; 100]);
        for (text, expected) in [
            (format!("{a}\n{}", block("PRIVATE KEY", b"canary")), "line 6: holds \"PRIVATE KEY\", and only"),
            (format!("{a}\n-----BEGIN CERTIFICATE-----\nMII"), "line 6: -----BEGIN CERTIFICATE----- without its END"),
            (format!("-----BEGIN CERTIFICATE-----\nMII\n{a}"), "line 1: -----BEGIN CERTIFICATE----- without its END"),
            (format!("{a}\n-----BEGIN CERTIFICATE\n"), "line 6: -----BEGIN has no end"),
            (format!("{a}\n----BEGIN CERTIFICATE-----\nMII\n"), "line 6: expected -----BEGIN CERTIFICATE-----"),
            (format!("{a}\n\u{2014}BEGIN CERTIFICATE\u{2014}\n"), "line 6: expected -----BEGIN CERTIFICATE-----"),
            (a.replace('\n', "\\n"), "line 1: line breaks are written as \\n"),
            (format!("{a}\n{}", a.replace("AQEB", "A*EB")), "line 6: the block is not base64"),
            (String::new(), "the file has no certificate"),
            ("canary".to_owned(), "the file has no certificate"),
        ] {
            let error = refused(&text);
            assert!(error.starts_with(expected) && !error.contains("canary"), "{error}");
        }
        let error = certificates(&[0x30, 0x82, 1, 2]).expect_err("DER").to_string();
        assert!(error.contains("the file is DER"), "{error}");
        let error = certificates(b"\xff\xfe-\0-\0").expect_err("UTF-16").to_string();
        assert!(error.contains("the file is UTF-16"), "{error}");
    }

    proptest! {
        #[test]
        fn anything_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "(-----BEGIN (TRUSTED \
                                                                                              |X509 \
                                                                                              )?CERTIFICATE-----|-----END \
                                                                                              CERTIFICATE-----|MII|\n| \
                                                                                              |-){0,20}") {
            let _ = certificates(&bytes);
            let _ = certificates(text.as_bytes());
        }
    }
}
