//! The beginning of a text that a stranger sent, for a line of the log.

/// The longest excerpt of a header or a path, in bytes.
pub const LONGEST: usize = 64;

/// The first [`LONGEST`] bytes, or fewer: the excerpt ends before the first byte that is not printable ASCII.
pub fn excerpt(bytes: &[u8]) -> &str {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let end = bytes.iter().position(|byte| !(b' '..=b'~').contains(byte)).unwrap_or(bytes.len());
    bytes.get(..end).and_then(|printable| str::from_utf8(printable).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        for (sent, shown) in [
            (&b""[..], ""),
            (b"curl/8.5.0", "curl/8.5.0"),
            (b"a \"b\" \\ ~", "a \"b\" \\ ~"),
            (b"a\tb", "a"),
            (b"shop\xc3\xa9", "shop"),
            (b"\x1b[31m", ""),
            (b"a\x7f", "a"),
        ] {
            assert_eq!(excerpt(sent), shown, "{sent:?}");
        }
        assert_eq!(excerpt(&[b'x'; 65]), "x".repeat(64));
        assert_eq!(excerpt(&[b'x'; 64]), "x".repeat(64));
    }
}
