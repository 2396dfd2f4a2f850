//! The form of Sezzle's identifiers. They are made like UUIDs without always being some.

/// Whether a text has the form of an identifier and so may stand in a log line, whoever sent it.
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
