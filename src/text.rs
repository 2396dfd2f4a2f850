//! Texts from libraries and peers, made fit for a log line and a terminal.

use std::error::Error;

/// An error with its causes.
pub fn with_causes(error: &dyn Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        // Some errors repeat their cause.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The first `most` characters of a text. Letters and digits of all scripts and printable ASCII stay. A question mark
/// stands for every other character, since it could garble a line.
pub fn printable(text: &str, most: usize) -> String {
    let is_printable = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    text.chars().take(most).map(|c| if is_printable(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Repeating(#[source] io::Error);

    #[test]
    fn each_cause_is_said_once() {
        assert_eq!(with_causes(&Outer(io::Error::other("inner"))), "outer: inner");
        assert_eq!(with_causes(&Repeating(io::Error::other("inner"))), "outer: inner");
        assert_eq!(with_causes(&io::Error::other("inner")), "inner");
    }

    #[test]
    fn nothing_that_is_left_can_garble_a_line() {
        let rows = [
            ("User a\nhas\u{1b}[0m", "User a?has?[0m"),
            ("Zürich Ελλάς 日本 1", "Zürich Ελλάς 日本 1"),
            // The text would run backwards, or look like another.
            ("a\u{202e}b\u{200b}c", "a?b?c"),
        ];
        for (text, expected) in rows {
            assert_eq!(printable(text, 100), expected);
        }
        assert_eq!(printable("Zürich", 2), "Zü");
    }
}
