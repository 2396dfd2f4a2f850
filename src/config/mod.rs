//! Configuration: files and environment variables in, [`Settings`] or the complete list of mistakes out.
//!
//! A later file overrides an earlier one, and a variable overrides every file. Only configuration files are read here.
//! The files that a configuration names, such as those of secrets, are read by the modules that need them. [`settings`]
//! has the keys, their defaults and bounds.

pub mod changes;
mod key;
mod list_reader;
mod parse;
mod problem;
mod reader;
pub mod settings;
mod source;
mod unknown;
mod value_text;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

pub use self::key::{AppliedBy, Effective, KeyDoc, ShownTo};
use self::reader::Reader;
use self::source::{Environment, Layer};
use crate::address::Address;

pub use self::problem::{Problem, Problems};
pub use self::settings::Settings;

/// Reads the configuration from `files` and from the variables among `environment` that begin with `SEZZLE_SIDECAR__`.
///
/// [`std::env::vars_os`] is meant for `environment`, because [`std::env::vars`] panics on a value that is not UTF-8.
pub fn load(
    files: &[PathBuf],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Problems> {
    let (mut layers, mut problems) = read(files);
    let Environment { layers: variables, secrets, problems: unusable } = source::environment(environment);
    layers.extend(variables);
    problems.append(unusable);
    let tree = source::merge(&layers).unwrap_or_else(|problem| {
        problems.push(problem);
        source::empty_table()
    });

    let mut reader = Reader::new(&tree, secrets, problems.is_empty());
    let settings = settings::read(&mut reader, thread::available_parallelism().map_or(1, usize::from));
    let unknown = unknown::find(&layers, &reader);
    let (_, mistakes) = reader.finish();
    problems.append(mistakes);
    problems.append(unknown);
    match settings {
        Some(settings) if problems.is_empty() => Ok(Loaded { settings }),
        _ => Err(problems),
    }
}

/// Reads `ops.listen` and nothing else, for commands that ask a running sidecar for its health. A mistake in another
/// key, made after the sidecar was started, must not make the sidecar look unhealthy.
pub fn ops_listen(
    files: &[PathBuf],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<SocketAddr, Problems> {
    read_some(files, environment, settings::ops_listen)
}

/// Reads `control.listen` and `ops.listen` and nothing else, for commands that ask a running sidecar for its status or
/// change its log level.
pub fn operator_listeners(
    files: &[PathBuf],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<OperatorListeners, Problems> {
    read_some(files, environment, |r| {
        let (control, ops) = (settings::control_listen(r), settings::ops_listen(r));
        Some(OperatorListeners { control: control?, ops: ops? })
    })
}

/// The listeners that answer operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorListeners {
    pub control: Option<Address>,
    pub ops: SocketAddr,
}

/// Reads the keys that `keys` reads, and overlooks mistakes in all others.
fn read_some<T>(
    files: &[PathBuf],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    keys: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let (mut layers, mut problems) = read(files);
    layers.extend(source::environment(environment).layers);
    let tree = source::merge(&layers).unwrap_or_else(|problem| {
        problems.push(problem);
        source::empty_table()
    });
    let mut reader = Reader::new(&tree, BTreeMap::new(), problems.is_empty());
    let values = keys(&mut reader);
    let (_, mistakes) = reader.finish();
    problems.append(mistakes);
    match values {
        Some(values) if problems.is_empty() => Ok(values),
        _ => Err(problems),
    }
}

/// The files that can be read, and the problems of the others.
fn read(files: &[PathBuf]) -> (Vec<Layer>, Problems) {
    let mut problems = Problems::default();
    let mut layers = Vec::new();
    for path in files {
        match source::file(path) {
            Ok(layer) => layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    (layers, problems)
}

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
}

impl Loaded {
    /// The effective configuration as TOML: every key, its value and, as a comment, its source. Secrets are redacted.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut current = "";
        for Effective { key, value, origin, .. } in &self.settings.effective {
            let Some((section, name)) = key.split_once('.') else {
                continue;
            };
            if list_reader::begins_element(key) {
                text.push_str(&format!("\n[[{section}]]\n"));
                current = section;
            } else if section != current {
                let gap = if current.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{section}]\n"));
                current = section;
            }
            match value {
                Some(value) => text.push_str(&format!("{name} = {value} # {origin}\n")),
                None => text.push_str(&format!("# {name} is not set\n")),
            }
        }
        text
    }
}

/// Every key that a file may hold, in the order of the sections, with the defaults of a machine that has several cores.
pub fn reference() -> Vec<KeyDoc> {
    let nothing = source::empty_table();
    let mut reader = Reader::new(&nothing, BTreeMap::new(), true);
    // Nothing is set, so only the keys that were read are of interest.
    let _ = settings::read(&mut reader, usize::MAX);
    let (docs, _) = reader.finish();
    docs
}

#[cfg(test)]
mod tests;
