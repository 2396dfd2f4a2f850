//! Reads the rules in `deploy/prometheus` from their YAML files.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use sezzle_sidecar::telemetry::metrics::Metrics;

use super::promql;

/// A recording or alerting rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// `record` or `alert`.
    pub kind: String,
    pub name: String,
    pub expression: String,
    /// All other keys of the rule, such as `for`, `severity` and `summary`.
    pub says: BTreeMap<String, String>,
}

/// The folder of the files for Prometheus.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// The rules of a file. Reads only the YAML that these files use: one key to a line, and blocks of text.
pub fn rules(file: &str) -> Vec<Rule> {
    let text = fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut rules: Vec<Rule> = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let depth = line.len() - line.trim_start().len();
        if let Some(key) = block.clone() {
            if depth > 8 {
                set(rules.last_mut().expect("a rule"), &key, line.trim());
                continue;
            }
            block = None;
        }
        if let Some((kind, name)) = line.strip_prefix("      - ").and_then(|rule| rule.split_once(": ")) {
            rules.push(Rule { kind: kind.to_owned(), name: name.to_owned(), ..Rule::default() });
        } else if let Some(rule) = rules.last_mut()
            && let Some((key, value)) = line.trim().split_once(':')
        {
            match value.trim() {
                "" => {}
                "|" => block = Some(key.to_owned()),
                value => set(rule, key, value.trim_matches('"')),
            }
        }
    }
    assert!(rules.iter().all(|rule| !rule.expression.is_empty()), "{file} was not read: {rules:?}");
    rules
}

fn set(rule: &mut Rule, key: &str, value: &str) {
    if key == "expr" {
        rule.expression.push_str(value);
        rule.expression.push('\n');
    } else {
        rule.says.insert(key.to_owned(), value.to_owned());
    }
}

/// The rules of both files.
pub fn all() -> Vec<Rule> {
    [rules("recording.yml"), rules("alerts.yml")].concat()
}

/// Fails if an expression uses a series that is neither exposed nor recorded, or reads a counter otherwise than by
/// `rate` or `increase`.
pub fn check(of: &str, expression: &str) {
    let metrics = Metrics::new().expect("metrics");
    let recorded = rules("recording.yml");
    let (selectors, mut labels) = promql::read(expression);
    assert!(!selectors.is_empty(), "{of} asks for nothing");
    let mut known: Vec<&str> = vec!["job", "instance", "namespace"];
    for selector in &selectors {
        let name = selector.name.as_str();
        let family = metrics.families().iter().find(|family| {
            let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", family.name));
            if family.kind == "histogram" { parts.iter().any(|part| part == name) } else { family.name == name }
        });
        let is_recorded = name == "up" || recorded.iter().any(|rule| rule.name == name);
        assert!(family.is_some() || is_recorded, "{of}: there is no {name}");
        known.extend(family.iter().flat_map(|family| family.labels.iter().map(String::as_str)));
        if name.ends_with("_bucket") {
            known.push("le");
        }
        let counts = family.is_some_and(|family| family.kind != "gauge");
        let difference = matches!(selector.within.as_deref(), Some("rate" | "increase"));
        assert_eq!(counts, difference, "{of}: {} within {:?}", selector.text(), selector.within);
        labels.extend(selector.matchers.iter().map(|(label, _, _)| label.clone()));
    }
    for label in labels {
        assert!(known.contains(&label.as_str()), "{of}: none of its metrics has a label {label}");
    }
}
