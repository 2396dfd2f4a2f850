//! Typed reading of the merged tree. Every read registers its key, so the list of known keys and their defaults is the
//! code that uses them. Every mistake is noted and reading goes on, so one run reports all of them.
//!
//! A read that fails returns `None`. Its problem is noted here, among the unknown keys, or with the source that could
//! not be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::mem;

use config::{Value, ValueKind};

use super::key::{AppliedBy, Effective, KeyDoc, ParsedValue, REDACTED, ShownTo};
use super::parse::{self, Parsed};
use super::problem::{Problem, Problems};
use super::source::{child, variable};
use super::value_text::{bare_or_quoted, is_sezzle_key, origin, quotation, quoted, scalar_text, split, string};
use crate::secret::{Secret, SecretSource};

const DEFAULT: &str = "default";

/// Reads one merged tree, once.
pub(super) struct Reader<'t> {
    pub(super) tree: &'t Value,
    secrets: BTreeMap<&'static str, Secret>,
    /// Whether no source is missing.
    complete: bool,
    pub(super) known: BTreeSet<&'static str>,
    /// The sections that are lists of tables.
    pub(super) lists: BTreeSet<&'static str>,
    /// How a change of the key that is read next takes effect.
    applied_by: AppliedBy,
    /// Who sees the value of the key that is read next.
    shown_to: ShownTo,
    pub(super) docs: Vec<KeyDoc>,
    pub(super) effective: Vec<Effective>,
    pub(super) values: BTreeMap<&'static str, ParsedValue>,
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
            applied_by: AppliedBy::default(),
            shown_to: ShownTo::default(),
            docs: Vec::new(),
            effective: Vec::new(),
            values: BTreeMap::new(),
            problems: Problems::default(),
        }
    }

    /// Says of the key that is read next that a reload applies the key. A key needs a restart if a part of the process
    /// is built from the key at the start: listeners, the connections to Sezzle, limits, and the merchant.
    pub(super) fn on_reload(&mut self) -> &mut Self {
        self.applied_by = AppliedBy::Reload;
        self
    }

    /// Says of the key that is read next that only operators see its value: the status page on the ops listener leaves
    /// the value out.
    pub(super) fn for_operators(&mut self) -> &mut Self {
        self.shown_to = ShownTo::Operators;
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
        self.note_value(key, &value);
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
            // A parser says in its error what it expects.
            let expectation = parse("").err().unwrap_or_default();
            self.missing(key, format!("required, {expectation}"));
            return None;
        };
        self.text(key, value, parse)
    }

    /// A list, in which no item may occur twice.
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
        self.note_value(key, &items);
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
        // A variable keeps its value until a restart, and is redacted. So `on_reload` and `for_operators` concern the key
        // of the file only.
        let (applied_by, shown_to) = (mem::take(&mut self.applied_by), mem::take(&mut self.shown_to));
        let name = variable(key);
        if self.register_forbidden(key) {
            self.refuse(
                key,
                &format!("a secret does not belong in a configuration file; use {file_key} or the variable {name}"),
            );
            return None;
        }
        let Some(value) = self.secrets.remove(key) else {
            (self.applied_by, self.shown_to) = (applied_by, shown_to);
            self.register(file_key, None, required);
            return match self.find(file_key) {
                Some(path) => self.text(file_key, path, parse::secret_file).map(|path| Some(SecretSource::File(path))),
                None => Some(None),
            };
        };
        if self.register_forbidden(file_key) {
            self.refuse(file_key, &format!("set twice: also by the variable {name}; keep one of them"));
            return None;
        }
        if value.expose().trim().is_empty() {
            self.problems.push(Problem::new(key, "empty").at(name));
            return None;
        }
        self.effective.push(Effective { key, value: None, origin: String::new(), shown_to: ShownTo::default() });
        self.show(key, REDACTED.to_owned(), &name);
        self.values.insert(key, ParsedValue::Secret(value.clone()));
        Some(Some(SecretSource::Variable { name, value }))
    }

    /// Registers a key that a file must not set, so that no second message calls the key unknown. Returns whether a
    /// file sets the key all the same.
    fn register_forbidden(&mut self, key: &'static str) -> bool {
        self.known.insert(key);
        self.find(key).is_some()
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
    pub(super) fn note_value(&mut self, key: &'static str, value: &impl Debug) {
        self.values.insert(key, ParsedValue::Plain(format!("{value:?}")));
    }

    /// The noted values, by key.
    pub(super) fn take_values(&mut self) -> BTreeMap<&'static str, ParsedValue> {
        mem::take(&mut self.values)
    }

    /// Shows the effective value of a key that is not set and follows from other keys.
    pub(super) fn show_derived(&mut self, key: &str, text: &str) {
        self.show(key, quoted(text), DEFAULT);
    }

    /// The first key of a section that a file or a variable sets.
    pub(super) fn first_set(&self, section: &str) -> Option<&'static str> {
        self.documented().find(|key| is_in(key, section) && self.find(key).is_some())
    }

    /// Shows every key of a section as not set, because a key that is not set leaves all of them without effect.
    pub(super) fn show_as_absent(&mut self, section: &str) {
        self.effective.iter_mut().filter(|effective| is_in(effective.key, section)).for_each(|key| key.value = None);
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.known.contains(key)
    }

    pub(super) fn knows_section(&self, section: &str) -> bool {
        self.known.iter().any(|key| is_in(key, section))
    }

    /// The keys that a file may hold.
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
        let (applied_by, shown_to) = (mem::take(&mut self.applied_by), mem::take(&mut self.shown_to));
        self.docs.push(KeyDoc { key, default, required, applied_by, shown_to });
        self.effective.push(Effective { key, value: None, origin: String::new(), shown_to });
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
        let parsed = match is_sezzle_key(text) {
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
        // A number here is meant for another key, or lacks its quotes. Without quotes TOML drops leading zeros.
        if !matches!(value.kind, ValueKind::String(_)) {
            self.refuse(key, &format!("expected a string{}", quotation(key, &text)));
            return None;
        }
        self.show(key, quoted(&text), &origin(value));
        let value = self.parsed(key, &text, &origin(value), parse)?;
        self.note_value(key, &value);
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
