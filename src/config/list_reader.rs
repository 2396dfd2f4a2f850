//! Reads lists of tables, such as `[[callers]]`. Every table of a list has the same keys.
//!
//! A later file replaces the list of an earlier one as a whole.

use std::fmt::Debug;

use config::{Value, ValueKind};

use super::key::{AppliedBy, Effective, KeyDoc, REDACTED, ShownTo};
use super::parse::Parsed;
use super::parse::caller::caller_name;
use super::problem::Problem;
use super::reader::Reader;
use super::source::child;
use super::value_text::{is_sezzle_key, origin, quotation, quoted, scalar_text, string};

/// One table of a list.
pub(super) struct Element<'t> {
    value: &'t Value,
    /// The name of the table, or its number in the list, for messages.
    shown: String,
}

/// Whether a key is the first of each table of a list, in the order of [`Effective`].
pub(super) fn begins_element(key: &str) -> bool {
    key == "callers.name"
}

/// Whether a key holds a public key. Its value may have the form of Sezzle's keys, and is not shown.
fn is_public_key(key: &str) -> bool {
    key == "callers.public_key"
}

impl<'t> Reader<'t> {
    /// The tables of a list, which have these keys; no table if the list is absent. A reload applies every key.
    pub(super) fn list_of_tables(
        &mut self,
        section: &'static str,
        keys: &[(&'static str, ShownTo)],
    ) -> Option<Vec<Element<'t>>> {
        self.lists.insert(section);
        let values: &[Value] = match child(self.tree, section).map(|value| &value.kind) {
            None => &[],
            Some(ValueKind::Array(values)) => values,
            Some(ValueKind::Table(_)) => {
                self.refuse(section, &format!("expected a list: write [[{section}]] in place of [{section}]"));
                &[]
            }
            // `unknown` reports a value in the place of a list.
            Some(_) => &[],
        };
        for (key, shown_to) in keys.iter().copied() {
            self.known.insert(key);
            let applied_by = AppliedBy::Reload;
            self.docs.push(KeyDoc { key, default: None, required: false, applied_by, shown_to });
            let of_all: Vec<_> = values.iter().map(|value| member(value, key).map(text)).collect();
            self.note_value(key, &of_all);
        }
        let element = |(index, value): (usize, &'t Value)| {
            let name = child(value, "name").and_then(string).filter(|name| caller_name(name).is_ok());
            let shown = name.filter(|name| !is_sezzle_key(name)).map(|name| format!("{name:?}"));
            Element { value, shown: shown.unwrap_or_else(|| (index + 1).to_string()) }
        };
        let is_table = |value: &Value| matches!(value.kind, ValueKind::Table(_));
        values.iter().all(is_table).then(|| values.iter().enumerate().map(element).collect())
    }

    /// The text of a key in a table; `Some(None)` if the table does not have the key.
    pub(super) fn member<T>(
        &mut self,
        element: &Element<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Option<T>> {
        let Some(value) = member(element.value, key) else { return Some(None) };
        let Some(text) = string(value) else {
            self.refuse_member(element, key, "expected a string");
            return None;
        };
        if is_sezzle_key(&text) && !is_public_key(key) {
            self.refuse_member(element, key, "this value is one of Sezzle's keys and does not belong here");
            return None;
        }
        let shown = if is_public_key(key) { REDACTED.to_owned() } else { quoted(&text) };
        self.show_member(key, shown, value);
        self.parsed_member(element, key, &text, parse).map(Some)
    }

    /// As [`Self::member`], for a number.
    pub(super) fn number_member<T>(
        &mut self,
        element: &Element<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Option<T>> {
        let Some(value) = member(element.value, key) else { return Some(None) };
        let text = scalar_text(value).unwrap_or_default();
        self.show_member(key, text.clone(), value);
        self.parsed_member(element, key, &text, parse).map(Some)
    }

    /// The list of texts of a key in a table, in which no text may occur twice; `Some(None)` if the table does not have
    /// the key.
    pub(super) fn members<T: Debug + PartialEq>(
        &mut self,
        element: &Element<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Option<Vec<T>>> {
        let Some(value) = member(element.value, key) else { return Some(None) };
        let texts = match &value.kind {
            ValueKind::Array(items) => items.iter().map(string).collect::<Option<Vec<String>>>(),
            _ => None,
        };
        let Some(texts) = texts else {
            self.refuse_member(element, key, "expected a list of strings");
            return None;
        };
        let mut items = Vec::new();
        for text in &texts {
            match self.parsed_member(element, key, text, &parse) {
                Some(item) if items.contains(&item) => {
                    self.refuse_member(element, key, &format!("listed twice{}", quotation(key, text)));
                }
                Some(item) => items.push(item),
                None => {}
            }
        }
        let is_sound = items.len() == texts.len();
        self.show_member(key, toml::Value::from(texts).to_string(), value);
        is_sound.then_some(Some(items))
    }

    /// Notes a problem with a key of a table.
    pub(super) fn refuse_member(&mut self, element: &Element<'_>, key: &'static str, message: &str) {
        let value = member(element.value, key).unwrap_or(element.value);
        let message = format!("caller {}: {message}", element.shown);
        self.problems.push(Problem::new(key, message).at(origin(value)));
    }

    fn parsed_member<T>(
        &mut self,
        element: &Element<'_>,
        key: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let found = if is_public_key(key) { String::new() } else { quotation(key, text) };
        parse(text).map_err(|message| self.refuse_member(element, key, &(message + &found))).ok()
    }

    fn show_member(&mut self, key: &'static str, value: String, from: &Value) {
        let shown_to = self.docs.iter().find(|doc| doc.key == key).map(|doc| doc.shown_to).unwrap_or_default();
        self.effective.push(Effective { key, value: Some(value), origin: origin(from), shown_to });
    }
}

/// The value of a key in a table.
fn member<'t>(table: &'t Value, key: &str) -> Option<&'t Value> {
    child(table, key.rsplit('.').next().unwrap_or_default())
}

/// A value as text, for a comparison.
fn text(value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("\n"),
        _ => scalar_text(value).unwrap_or_default(),
    }
}
