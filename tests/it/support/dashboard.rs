//! The dashboard in `deploy/grafana`.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The dashboard file, as Grafana imports it.
pub fn load() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/sezzle-sidecar.json");
    serde_json::from_str(&fs::read_to_string(path).expect("the dashboard")).expect("JSON")
}

/// The panels that show data, without the headings between them.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().expect("panels").iter();
    all.filter(|panel| panel["type"] != "row").collect()
}

/// Every query, with the title of its panel.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().expect("targets") {
            queries.push((text(&panel["title"]).to_owned(), text(&target["expr"]).to_owned()));
        }
    }
    queries
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
