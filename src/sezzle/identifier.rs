//! The form of Sezzle's identifiers. Most are UUIDs, others only look alike.

/// Whether a text has the form of an identifier. Such a text may stand in a log line even if a stranger sent it.
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
