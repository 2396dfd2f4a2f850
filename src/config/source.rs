//! The sources of values: files and environment variables become layers, which `config` then merges.
//!
//! A layer's values carry their origin. No value is converted here: a variable stays a string, because a guess at its
//! type would turn a key such as `00123456` into a number. The secrets leave the environment before a layer is made.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::problem::{Problem, Problems};
use crate::file::{self, Pipes};
use crate::secret::Secret;

/// The prefix of the sidecar's variables. A single `_` would not do, because Kubernetes sets variables such as
/// `SEZZLE_SIDECAR_PORT` for a service that is called `sezzle-sidecar`.
pub(super) const PREFIX: &str = "SEZZLE_SIDECAR__";

/// Keys that a variable may set and a file may not.
pub(super) const SECRETS: [&str; 5] = [
    "credentials.public_key",
    "credentials.private_key",
    "gateway.egress_proxy_credentials",
    "webhooks.forward_secret",
    "fleet.password",
];

/// The largest file that is read, in bytes: more than any configuration needs, and too little for a wrong path, such as
/// that of a device, to exhaust the memory.
const LARGEST_FILE: usize = 1024 * 1024;

/// All keys are kept below one root, so that `config` never takes a key for a path expression: a key such
/// as `"a[999999999]"` would make `config` allocate a list of that length.
const ROOT: &str = "root";

/// One file, or one variable.
#[derive(Clone)]
pub(super) struct Layer {
    /// The file's or the variable's name.
    pub(super) origin: String,
    /// A table of sections.
    pub(super) root: Value,
}

/// Values stay out of debug output, since a file may hold a secret in a wrong place.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({})", self.origin)
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(Map::from_iter([(ROOT.to_owned(), self.root.clone())]))
    }
}

/// The layers as one tree; later layers win.
pub(super) fn merge(layers: &[Layer]) -> Result<Value, Problem> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    match builder.build() {
        Ok(merged) => Ok(child(&merged.cache, ROOT).cloned().unwrap_or_else(empty_table)),
        // The reason may quote a value, so it is not passed on.
        Err(_) => Err(Problem::new("configuration", "the sidecar cannot merge the files and variables")),
    }
}

/// The keys and secrets of the environment.
#[derive(Default)]
pub(super) struct Environment {
    /// One layer per variable, by name.
    pub(super) layers: Vec<Layer>,
    /// The secrets that were set, by key.
    pub(super) secrets: BTreeMap<&'static str, Secret>,
    /// Variables of the sidecar's that name no key.
    pub(super) problems: Problems,
}

/// Picks the sidecar's variables out of `variables`, and ignores all others.
pub(super) fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    // An empty variable counts as not set, as in OpenTelemetry's specification: Compose's `${NAME:-}` and a Helm
    // chart's optional values make such variables.
    let variables: Vec<(OsString, OsString)> = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let mut environment = Environment::default();
    for (name, _) in &variables {
        // The variables that Kubernetes sets for a service named `sezzle-sidecar` begin in this way, too, but have no
        // two underscores in a row.
        let name = name.to_string_lossy();
        let rest = name.strip_prefix(PREFIX.trim_end_matches('_')).filter(|rest| !rest.starts_with("__"));
        if rest.is_some_and(|rest| rest.starts_with('_') && rest.contains("__")) {
            let shown = name.split("__").map(shown_segment).collect::<Vec<_>>().join("__");
            environment.problems.push(Problem::new(shown, format!("a variable that sets a key begins with {PREFIX}")));
        }
    }
    let ours: BTreeMap<String, OsString> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_string_lossy().strip_prefix(PREFIX)?.to_owned(), value)))
        .collect();
    for (name, value) in ours {
        let shown = format!("{PREFIX}{}", name.split("__").map(shown_segment).collect::<Vec<_>>().join("__"));
        let Ok(value) = value.into_string() else {
            environment.problems.push(Problem::new(shown, "the value is not UTF-8"));
            continue;
        };
        // With two spellings of one variable, it would be unclear which of them wins.
        if name.to_ascii_uppercase() != name {
            environment.problems.push(Problem::new(shown, "write the name of the variable in upper case"));
            continue;
        }
        if let Some(key) = SECRETS.into_iter().find(|key| variable(key) == format!("{PREFIX}{name}")) {
            environment.secrets.insert(key, Secret::new(value));
            continue;
        }
        let path = name.to_ascii_lowercase();
        // No key is deeper than three levels, and trees as deep as a name is long would exhaust the stack.
        let segments: Vec<&str> = path.splitn(3, "__").collect();
        let leaf = Value::new(Some(&shown), ValueKind::String(value));
        let root = segments.into_iter().rev().fold(leaf, |inner, segment| {
            Value::new(Some(&shown), ValueKind::Table(Map::from_iter([(segment.to_owned(), inner)])))
        });
        environment.layers.push(Layer { origin: shown, root });
    }
    environment
}

/// The name of the variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Reads and parses one file.
pub(super) fn file(path: &Path) -> Result<Layer, Problem> {
    // The name of a file becomes part of a line of output, so it must not break that line.
    let origin = path.display().to_string().replace(char::is_control, "?");
    match file::read(path, LARGEST_FILE, Pipes::Wait) {
        Ok(content) => match str::from_utf8(&content.bytes) {
            Ok(text) => parse(origin, text),
            Err(_) => Err(Problem::new(origin, "cannot be read: is not UTF-8")),
        },
        Err(error) => Err(Problem::new(origin, error.to_string())),
    }
}

/// A syntax error is reported by line and kind. The line itself is not quoted: it may hold a secret.
pub(super) fn parse(origin: String, text: &str) -> Result<Layer, Problem> {
    match toml::from_str::<toml::Table>(text) {
        Ok(table) => {
            let root = value(&origin, toml::Value::Table(table));
            Ok(Layer { origin, root })
        }
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            Err(Problem::new(format!("{origin}:{line}"), format!("not valid TOML: {}", error.message())))
        }
    }
}

fn value(origin: &String, value: toml::Value) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(flag) => ValueKind::Boolean(flag),
        // No key is a date, and every parser refuses a date as text.
        toml::Value::Datetime(date) => ValueKind::String(date.to_string()),
        toml::Value::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| self::value(origin, item)).collect())
        }
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, inner)| (key, self::value(origin, inner))).collect())
        }
    };
    Value::new(Some(origin), kind)
}

/// The value of a key in a table; `None` if `table` is no table.
pub(super) fn child<'v>(table: &'v Value, key: &str) -> Option<&'v Value> {
    match &table.kind {
        ValueKind::Table(map) => map.get(key),
        _ => None,
    }
}

/// The value of a configuration without any source.
pub(super) fn empty_table() -> Value {
    Value::new(None, ValueKind::Table(Map::new()))
}

/// A segment of a foreign key, or a placeholder if the segment does not look like a name: a secret may have been pasted
/// where a key belongs, and a line break would forge another problem.
pub(super) fn shown_segment(segment: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if segment.is_empty() || segment.len() > 40 || !segment.chars().all(plain) || may_hold_sezzle_key(segment) {
        "[name withheld]"
    } else {
        segment
    }
}

/// Whether a text may hold one of Sezzle's keys, which begin with `sz_pub_` and `sz_pr_`. The test is wider than that,
/// because it only keeps text from being shown.
pub(super) fn may_hold_sezzle_key(text: &str) -> bool {
    text.to_ascii_lowercase().contains("sz_")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn text<'v>(root: &'v Value, section: &str, key: &str) -> &'v ValueKind {
        &child(child(root, section).unwrap(), key).unwrap().kind
    }

    #[test]
    fn later_layers_win_and_strings_stay_strings() {
        let mut layers = vec![
            parse("a.toml".to_owned(), "[log]\nlevel = 'info'\nformat = 'json'").unwrap(),
            parse("b.toml".to_owned(), "[log]\nlevel = '00123456'").unwrap(),
        ];
        layers.extend(environment(variables(&[("SEZZLE_SIDECAR__LOG__FORMAT", "1e5")])).layers);
        let merged = merge(&layers).unwrap();
        assert_eq!(text(&merged, "log", "level"), &ValueKind::String("00123456".to_owned()));
        assert_eq!(text(&merged, "log", "format"), &ValueKind::String("1e5".to_owned()));
        let level = child(child(&merged, "log").unwrap(), "level").unwrap();
        assert_eq!(level.origin(), Some("b.toml"));
    }

    #[test]
    fn a_key_is_never_a_path_expression() {
        let layer = parse("a.toml".to_owned(), "\"log.level\" = 1\n\"x[999999999]\" = 2").unwrap();
        let merged = merge(&[layer]).unwrap();
        assert!(child(&merged, "log").is_none());
        assert!(child(&merged, "x[999999999]").is_some());
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let environment = environment(variables(&[
            ("SEZZLE_SIDECAR_PORT", "tcp://10.0.0.1:80"),
            ("SEZZLE_SIDECAR_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/"),
        ]));
        assert!(environment.layers.is_empty() && environment.problems.is_empty());
    }

    #[test]
    fn secrets_leave_the_environment_first() {
        let environment = environment(variables(&[("SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY", "00123456")]));
        assert!(environment.layers.is_empty());
        assert_eq!(environment.secrets.get("credentials.private_key").unwrap().expose(), "00123456");
    }

    #[test]
    fn odd_variables_are_problems() {
        let environment = environment(variables(&[
            ("SEZZLE_SIDECAR__Log__Level", "canary"),
            ("SEZZLE_SIDECAR__sz_pr_canary", "canary"),
        ]));
        let text = environment.problems.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("SEZZLE_SIDECAR__Log__Level: write the name of the variable in upper case"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_a_problem() {
        use std::os::unix::ffi::OsStringExt;

        let pair = ("SEZZLE_SIDECAR__LOG__LEVEL".into(), OsString::from_vec(vec![b'i', 0xff]));
        assert_eq!(environment([pair]).problems.to_string(), "SEZZLE_SIDECAR__LOG__LEVEL: the value is not UTF-8");
    }

    #[test]
    fn a_syntax_error_names_the_line_and_hides_it() {
        let problem = parse("a.toml".to_owned(), "[credentials]\n\nprivate_key = sz_pr_canary\n").unwrap_err();
        let text = problem.to_string();
        assert!(text.starts_with("a.toml:3: not valid TOML: "), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn files_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| file(&folder.path().join(name)).unwrap_err().to_string();
        assert!(text("absent.toml").contains("absent.toml: cannot be read: "));
        std::fs::write(folder.path().join("binary.toml"), [0xff, 0xfe]).unwrap();
        assert!(text("binary.toml").contains("cannot be read: "));
        std::fs::write(folder.path().join("large.toml"), "#".repeat(1024 * 1024 + 1)).unwrap();
        assert!(text("large.toml").contains("holds more than 1048576 bytes"));
        assert!(file(folder.path()).is_err());
    }

    #[test]
    fn names_of_variables() {
        assert_eq!(variable("gateway.ca_file"), "SEZZLE_SIDECAR__GATEWAY__CA_FILE");
    }
}
