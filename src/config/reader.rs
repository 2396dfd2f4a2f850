//! Typed reading of the merged tree. Every read registers its key, so the list of known keys and their defaults is the
//! code that uses them. Every mistake is noted and reading goes on, so one run reports all of them.
//!
//! A read that fails returns `None`. Its problem is noted here, among the unknown keys, or with the source that could
//! not be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::mem;

use config::{Value, ValueKind};

use super::key::{Effective, KeyDoc, REDACTED, Takes, Understood};
use super::parse::{self, Parsed};
use super::problem::{Problem, Problems};
use super::source::{child, may_hold_a_key, variable};
use crate::secret::{Secret, SecretSource};

const DEFAULT: &str = "default";

/// Reads one merged tree, once.
pub(super) struct Reader<'t> {
    pub(super) tree: &'t Value,
    secrets: BTreeMap<&'static str, Secret>,
    complete: bool,
    pub(super) known: BTreeSet<&'static str>,
    /// The sections that are lists of tables.
    pub(super) lists: BTreeSet<&'static str>,
    pub(super) takes: Takes,
    pub(super) docs: Vec<KeyDoc>,
    pub(super) effective: Vec<Effective>,
    pub(super) understood: BTreeMap<&'static str, Understood>,
    pub(super) problems: Problems,
}

impl<'t> Reader<'t> {
    /// `complete` says that no source is missing. Only then is an absent or conflicting value a mistake.
    pub(super) fn new(tree: &'t Value, secrets: BTreeMap<&'static str, Secret>, complete: bool) -> Self {
        Self {
            tree,
            secrets,
            complete,
            known: BTreeSet::new(),
            lists: BTreeSet::new(),
            takes: Takes::default(),
            docs: Vec::new(),
            effective: Vec::new(),
            understood: BTreeMap::new(),
            problems: Problems::default(),
        }
    }

    /// Says of the key that is read next that a reload applies it. A key needs a restart if a part of the process is
    /// built from it at the start: listeners, the connections to Sezzle, limits, and the merchant.
    pub(super) fn on_reload(&mut self) -> &mut Self {
        self.takes = Takes::Reload;
        self
    }

    /// A key with a default, which is parsed like any other value.
    pub(super) fn value<T: Debug>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        self.register(key, Some(bare_or_quoted(default)), false);
        let (text, origin) = match self.find(key) {
            None => (default.to_owned(), DEFAULT.to_owned()),
            Some(value) => (self.scalar(key, value)?, origin(value)),
        };
        self.show(key, bare_or_quoted(&text), &origin);
        let value = self.parsed(key, &text, &origin, parse)?;
        self.understand(key, &value);
        Some(value)
    }

    /// A key that is text and may be absent: `Some(None)`.
    pub(super) fn optional<T: Debug>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Option<T>> {
        self.register(key, None, false);
        let Some(value) = self.find(key) else {
            return Some(None);
        };
        self.text(key, value, parse).map(Some)
    }

    /// A key that is text and must be there.
    pub(super) fn required<T: Debug>(&mut self, key: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        self.register(key, None, true);
        let Some(value) = self.find(key) else {
            // The parser is called for the text of its expectation.
            let expectation = parse("").err().unwrap_or_default();
            self.missing(key, format!("required, {expectation}"));
            return None;
        };
        self.text(key, value, parse)
    }

    /// A list in which nothing may occur twice.
    pub(super) fn list<T: Debug + PartialEq>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Vec<T>> {
        self.register(key, Some(default.to_owned()), false);
        let (texts, origin) = match self.find(key) {
            None => (split(default), DEFAULT.to_owned()),
            Some(value) => (self.texts(key, value)?, origin(value)),
        };
        self.show(key, toml::Value::from(texts.clone()).to_string(), &origin);
        let mut items = Vec::new();
        for text in &texts {
            match self.parsed(key, text, &origin, &parse) {
                Some(item) if items.contains(&item) => {
                    let message = format!("listed twice{}", quotation(key, text));
                    self.problems.push(Problem::new(key, message).at(&origin));
                }
                Some(item) => items.push(item),
                None => {}
            }
        }
        self.understand(key, &items);
        (items.len() == texts.len()).then_some(items)
    }

    /// A secret that must be there: from the file that `file_key` names or from the variable of `key`, not from both.
    pub(super) fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<SecretSource> {
        let source = self.secret_source(key, file_key, true)?;
        if source.is_none() {
            self.missing(file_key, format!("required, unless the variable {} is set", variable(key)));
        }
        source
    }

    /// A secret that may be absent, which gives `Some(None)`; otherwise as [`Self::secret`].
    pub(super) fn optional_secret(
        &mut self,
        key: &'static str,
        file_key: &'static str,
    ) -> Option<Option<SecretSource>> {
        self.secret_source(key, file_key, false)
    }

    fn secret_source(
        &mut self,
        key: &'static str,
        file_key: &'static str,
        required: bool,
    ) -> Option<Option<SecretSource>> {
        // A variable keeps its value until a restart, so `on_reload` concerns the key of the file only.
        let takes = mem::take(&mut self.takes);
        let name = variable(key);
        if self.recognise(key).is_some() {
            self.refuse(
                key,
                &format!("a secret does not belong in a configuration file; use {file_key} or the variable {name}"),
            );
            return None;
        }
        let Some(value) = self.secrets.remove(key) else {
            self.takes = takes;
            self.register(file_key, None, required);
            return match self.find(file_key) {
                Some(path) => self.text(file_key, path, parse::secret_file).map(|path| Some(SecretSource::File(path))),
                None => Some(None),
            };
        };
        if self.recognise(file_key).is_some() {
            self.refuse(file_key, &format!("set twice: also by the variable {name}; keep one of them"));
            return None;
        }
        if value.expose().trim().is_empty() {
            self.problems.push(Problem::new(key, "empty").at(name));
            return None;
        }
        self.effective.push(Effective { key, value: None, origin: String::new() });
        self.show(key, REDACTED.to_owned(), &name);
        self.understood.insert(key, Understood::Secret(value.clone()));
        Some(Some(SecretSource::Variable { name, value }))
    }

    /// Notes a key that must not be read. Returns the text of its value, if it is set, which is empty for other types.
    pub(super) fn recognise(&mut self, key: &'static str) -> Option<String> {
        self.known.insert(key);
        self.find(key).map(|value| scalar_text(value).unwrap_or_default())
    }

    /// A problem with the value of `key`, which is not quoted.
    pub(super) fn refuse(&mut self, key: &str, message: &str) {
        let origin = self.find(key).map_or_else(|| DEFAULT.to_owned(), origin);
        self.problems.push(Problem::new(key, message).at(origin));
    }

    /// A problem between two keys. Nothing is noted while a source is missing, because that source may set either key.
    pub(super) fn conflict(&mut self, key: &str, message: &str) {
        if self.complete {
            self.refuse(key, message);
        }
    }

    /// A problem with a required key that is not set. Nothing is noted while a source is missing, because that source
    /// may set the key.
    pub(super) fn missing(&mut self, key: &str, message: String) {
        let section = key.split_once('.').and_then(|(section, _)| child(self.tree, section));
        // A section that is not a table is reported once, with the unknown keys.
        let section_is_sound = section.is_none_or(|value| matches!(value.kind, ValueKind::Table(_)));
        if self.complete && section_is_sound {
            self.problems.push(Problem::new(key, message));
        }
    }

    /// Notes the value of a key, for a comparison with another configuration.
    pub(super) fn understand(&mut self, key: &'static str, value: &impl Debug) {
        self.understood.insert(key, Understood::Plain(format!("{value:?}")));
    }

    /// Hands out the values by key.
    pub(super) fn take_understood(&mut self) -> BTreeMap<&'static str, Understood> {
        mem::take(&mut self.understood)
    }

    /// Shows the effective value of an absent key that follows from other keys.
    pub(super) fn derived(&mut self, key: &str, text: &str) {
        self.show(key, quoted(text), DEFAULT);
    }

    /// The first key of a section that a file or a variable sets.
    pub(super) fn first_set(&self, section: &str) -> Option<&'static str> {
        self.documented().find(|key| is_in(key, section) && self.find(key).is_some())
    }

    /// Shows no value of a section: without another key of it, none of them has an effect.
    pub(super) fn show_as_absent(&mut self, section: &str) {
        self.effective.iter_mut().filter(|effective| is_in(effective.key, section)).for_each(|key| key.value = None);
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.known.contains(key)
    }

    pub(super) fn knows_section(&self, section: &str) -> bool {
        self.known.iter().any(|key| is_in(key, section))
    }

    /// The keys a file may hold.
    pub(super) fn documented(&self) -> impl Iterator<Item = &'static str> {
        self.docs.iter().map(|doc| doc.key)
    }

    pub(super) fn take_effective(&mut self) -> Vec<Effective> {
        mem::take(&mut self.effective)
    }

    pub(super) fn finish(self) -> (Vec<KeyDoc>, Problems) {
        (self.docs, self.problems)
    }

    fn register(&mut self, key: &'static str, default: Option<String>, required: bool) {
        self.known.insert(key);
        self.docs.push(KeyDoc { key, default, required, takes: mem::take(&mut self.takes) });
        self.effective.push(Effective { key, value: None, origin: String::new() });
    }

    fn show(&mut self, key: &str, toml: String, origin: &str) {
        if let Some(effective) = self.effective.iter_mut().find(|effective| effective.key == key) {
            effective.value = Some(toml);
            effective.origin = origin.to_owned();
        }
    }

    /// Whether a list of tables is set and not empty.
    pub(super) fn has_tables(&self, key: &str) -> bool {
        matches!(self.find(key).map(|value| &value.kind), Some(ValueKind::Array(items)) if !items.is_empty())
    }

    fn find(&self, key: &str) -> Option<&'t Value> {
        key.split('.').try_fold(self.tree, child)
    }

    fn parsed<T>(&mut self, key: &str, text: &str, origin: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let parsed = match is_a_key(text) {
            true => Err("this value is one of Sezzle's keys and does not belong here".to_owned()),
            false => parse(text),
        };
        match parsed {
            Ok(value) => Some(value),
            Err(message) => {
                let message = format!("{message}{}", quotation(key, text));
                self.problems.push(Problem::new(key, message).at(origin));
                None
            }
        }
    }

    fn text<T: Debug>(&mut self, key: &'static str, value: &Value, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let text = self.scalar(key, value)?;
        // A number here is a value meant for another key, or one that lacks its quotes and so its leading zeros.
        if !matches!(value.kind, ValueKind::String(_)) {
            self.refuse(key, &format!("expected a string{}", quotation(key, &text)));
            return None;
        }
        self.show(key, quoted(&text), &origin(value));
        let value = self.parsed(key, &text, &origin(value), parse)?;
        self.understand(key, &value);
        Some(value)
    }

    fn scalar(&mut self, key: &str, value: &Value) -> Option<String> {
        if matches!(value.kind, ValueKind::Array(_)) {
            self.refuse(key, "expected one value, found a list");
        }
        scalar_text(value)
    }

    fn texts(&mut self, key: &str, value: &Value) -> Option<Vec<String>> {
        let texts = match &value.kind {
            ValueKind::String(text) => Some(split(text)),
            ValueKind::Array(items) => items.iter().map(string).collect(),
            // The content of a table is reported as unknown keys.
            ValueKind::Table(_) => return None,
            _ => None,
        };
        if texts.is_none() {
            self.refuse(key, "expected a list of strings");
        }
        texts
    }
}

fn is_in(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// Accepts `a, b` as well as `["a", "b"]`. A bracket does not tell which: `[::1]:80, [::1]:81` begins with one too.
fn split(text: &str) -> Vec<String> {
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

pub(super) fn string(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// The value as text. Only files have other types than strings.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Boolean(flag) => Some(flag.to_string()),
        ValueKind::I64(number) => Some(number.to_string()),
        ValueKind::Float(number) => Some(format!("{number:?}")),
        _ => None,
    }
}

pub(super) fn origin(value: &Value) -> String {
    value.origin().unwrap_or_default().to_owned()
}

/// Whether a wrong value may be quoted. Not quoted are values of secrets, URLs, which may carry a password, paths, in whose
/// place a secret may stand, and text that looks as if it was pasted into the wrong line.
pub(super) fn quotation(key: &str, text: &str) -> String {
    let is_withheld = ["url", "proxy", "forward_to", "endpoint", "_file"].iter().any(|end| key.ends_with(end));
    let delicate = key.starts_with("credentials.") || is_withheld || text.contains('@');
    if delicate || text.len() > 40 || may_hold_a_key(text) {
        return String::new();
    }
    format!(", found {text:?}")
}

/// A key pasted over a host's name or a file's path would be accepted as such, and then be shown.
pub(super) fn is_a_key(text: &str) -> bool {
    let text = text.trim_start().to_ascii_lowercase();
    text.starts_with("sz_pub_") || text.starts_with("sz_pr_")
}

fn bare_or_quoted(text: &str) -> String {
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
