//! Finds keys that no code reads. If the sidecar ignored a misspelt key, the default would stay in force, and the
//! author of the file would not notice.

use std::collections::BTreeSet;

use config::{Value, ValueKind};

use super::parse::nearest;
use super::problem::{Problem, Problems};
use super::reader::Reader;
use super::source::{Layer, shown_segment};

/// Checks every layer by itself, so that a mistake is found even if a later layer overrides the value.
pub(super) fn find(layers: &[Layer], reader: &Reader<'_>) -> Problems {
    let mut problems = Problems::default();
    for layer in layers {
        let mut leaves = Vec::new();
        collect("", &layer.root, &reader.lists, &mut leaves);
        leaves.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (key, is_table) in leaves {
            let message = match (reader.knows(&key), is_table) {
                (true, false) => continue,
                (true, true) => "expected a value, found an empty table".to_owned(),
                (false, true) if reader.knows_section(&key) => continue,
                (false, false) if reader.knows_section(&key) => "expected a table of keys, found a value".to_owned(),
                (false, _) => match nearest(&key, reader.documented()) {
                    Some(known) => format!("unknown key; did you mean {known}?"),
                    None => "unknown key".to_owned(),
                },
            };
            problems.push(Problem::new(key, message).at(&layer.origin));
        }
    }
    problems
}

/// The dotted names of all leaves, and whether a leaf is an empty table.
fn collect(prefix: &str, value: &Value, lists: &BTreeSet<&str>, leaves: &mut Vec<(String, bool)>) {
    match &value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            for (segment, inner) in table {
                // No known key holds a placeholder or a dot, so `"log.level"` in quotes is not taken for `log.level`.
                let segment = shown_segment(segment);
                let key = if prefix.is_empty() { segment.to_owned() } else { format!("{prefix}.{segment}") };
                collect(&key, inner, lists, leaves);
            }
        }
        ValueKind::Table(_) if prefix.is_empty() => {}
        // The keys of a list are those of its tables.
        ValueKind::Array(items) if lists.contains(prefix) => {
            items.iter().for_each(|item| collect(prefix, item, lists, leaves));
        }
        kind => leaves.push((prefix.to_owned(), matches!(kind, ValueKind::Table(_)))),
    }
}
