//! The texts of values: how a file or a variable writes a value, and how a message or the configuration in force shows
//! one.

use config::{Value, ValueKind};

use super::source::may_hold_sezzle_key;

/// The items of a list, written as `a, b` or as `["a", "b"]`. A bracket does not tell which of the two: `[::1]:80,
/// [::1]:81` begins with a bracket, too.
pub(super) fn split(text: &str) -> Vec<String> {
    if let Ok(toml::Value::Array(items)) = text.trim().parse::<toml::Value>()
        && let Some(texts) = items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
    {
        return texts;
    }
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

/// The value, if it is a string.
pub(super) fn string(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// The value as text; `None` for a list or a table. Only files have other types than strings.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Boolean(flag) => Some(flag.to_string()),
        ValueKind::I64(number) => Some(number.to_string()),
        ValueKind::Float(number) => Some(format!("{number:?}")),
        _ => None,
    }
}

/// The file or the variable that holds the value.
pub(super) fn origin(value: &Value) -> String {
    value.origin().unwrap_or_default().to_owned()
}

/// The end of a message, which quotes the wrong value; empty if the value may not be quoted. Secrets are not quoted,
/// nor are URLs, which may carry a password, paths, in whose place a secret may stand, and text that looks as if
/// somebody pasted it into the wrong line.
pub(super) fn quotation(key: &str, text: &str) -> String {
    let is_withheld = ["url", "proxy", "forward_to", "endpoint", "_file"].iter().any(|end| key.ends_with(end));
    let is_delicate = key.starts_with("credentials.") || is_withheld || text.contains('@');
    if is_delicate || text.len() > 40 || may_hold_sezzle_key(text) {
        return String::new();
    }
    format!(", found {text:?}")
}

/// Whether a text is one of Sezzle's keys. A key that was pasted over the name of a host or the path of a file would be
/// accepted as a name or a path, and then be shown.
pub(super) fn is_sezzle_key(text: &str) -> bool {
    let text = text.trim_start().to_ascii_lowercase();
    text.starts_with("sz_pub_") || text.starts_with("sz_pr_")
}

/// A value as TOML: a boolean or a number bare, any other text in quotes.
pub(super) fn bare_or_quoted(text: &str) -> String {
    let is_bool = text.parse::<bool>().is_ok();
    let is_plain_number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    if is_bool || is_plain_number { text.to_owned() } else { quoted(text) }
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let table: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("[]", &[]),
            ("a", &["a"]),
            (" a , b ", &["a", "b"]),
            ("[\"a\", 'b']", &["a", "b"]),
            ("[::1]:80", &["[::1]:80"]),
            ("[::1]:80,[::1]:81", &["[::1]:80", "[::1]:81"]),
            ("a,,b", &["a", "", "b"]),
        ];
        for (text, expected) in table {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    #[test]
    fn quotations() {
        assert_eq!(quotation("log.level", "loud\n"), ", found \"loud\\n\"");
        for (key, text) in [
            ("credentials.merchant_uuid", "x"),
            ("gateway.url", "x"),
            ("links.base_url", "x"),
            ("webhooks.forward_to", "x"),
            ("fleet.key_file", "x"),
            ("log.level", "sz_pr_canary"),
            ("proxy.hosts", "user:canary@host"),
            ("log.level", "0123456789012345678901234567890123456789x"),
        ] {
            assert_eq!(quotation(key, text), "", "{key} {text}");
        }
    }

    #[test]
    fn values_as_toml() {
        for (text, expected) in
            [("true", "true"), ("10", "10"), ("007", "\"007\""), ("5s", "\"5s\""), ("1.5", "\"1.5\"")]
        {
            assert_eq!(bare_or_quoted(text), expected);
        }
    }
}
