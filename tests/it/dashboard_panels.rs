//! The dashboard imports into any Grafana, queries only existing series, and explains its panels.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::dashboard::{load, panels, queries, text};
use crate::support::pages::root;
use crate::support::{promql, rules};

const QUESTIONS: [&str; 9] = [
    "In short",
    "Is it up?",
    "Is it saving calls?",
    "Is Sezzle well?",
    "Is the token well?",
    "Is money stuck?",
    "Do webhooks arrive?",
    "Is the fleet coherent?",
    "Is TLS well?",
];

#[test]
fn the_dashboard_can_be_imported_anywhere() {
    let dashboard = load();
    // With an id, an import would replace another dashboard. By its uid, a newer version replaces the older one.
    assert_eq!((&dashboard["id"], &dashboard["uid"]), (&Value::Null, &"sezzle-sidecar".into()));
    assert!(dashboard["schemaVersion"].as_u64().expect("a number") >= 36);
    assert_eq!(dashboard["title"], "sezzle-sidecar");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let kinds: Vec<_> = variables.iter().map(|variable| (text(&variable["name"]), text(&variable["type"]))).collect();
    let expected = [
        ("datasource", "datasource"),
        ("namespace", "query"),
        ("job", "query"),
        ("instance", "query"),
        ("docs", "constant"),
    ];
    assert_eq!(kinds, expected);
    // A sidecar outside Kubernetes has no namespace, and is there all the same.
    assert_eq!(variables[1]["allValue"], ".*");
    assert_eq!(variables[0]["query"], "prometheus");
    let sources = every(&dashboard, "datasource");
    assert!(sources.len() > 80, "each panel, each query and each variable names its source");
    for source in sources {
        assert_eq!((&source["type"], &source["uid"]), (&"prometheus".into(), &"${datasource}".into()));
    }
}

/// Links lead to the pages, and each alert has a panel that shows its cause.
#[test]
fn the_dashboard_leads_to_the_runbooks() {
    let dashboard = load();
    let links = every(&dashboard, "links");
    let links: Vec<&Value> = links.into_iter().flat_map(|links| links.as_array().expect("a list")).collect();
    let mut led = BTreeSet::new();
    for link in links {
        let to = text(&link["url"]).strip_prefix("${docs}/").expect("one of the pages");
        let (page, anchor) = to.split_once('#').unwrap_or((to, ""));
        assert!(root().join("docs").join(page).exists(), "{to}");
        if !anchor.is_empty() {
            assert_eq!((page, anchor), ("alerts.md", text(&link["title"]).to_lowercase().as_str()));
            led.insert(text(&link["title"]).to_owned());
        }
    }
    assert_eq!(led, rules::rules("alerts.yml").into_iter().map(|alert| alert.name).collect());
}

/// The values of a key at any depth.
fn every<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    match value {
        Value::Object(members) => {
            let own = members.get(key).into_iter();
            own.chain(members.values().flat_map(|member| every(member, key))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| every(item, key)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn panels_stand_beside_each_other() {
    let dashboard = load();
    let all = dashboard["panels"].as_array().expect("panels");
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in all {
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            if let Some(other) = taken.insert(cell, text(&panel["title"])) {
                panic!("{other} and {} overlap", panel["title"]);
            }
        }
    }
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), all.len(), "each has an id of its own");
    let titles: BTreeSet<_> = all.iter().map(|panel| text(&panel["title"])).collect();
    assert_eq!(titles.len(), all.len(), "each has a title of its own");
    let headings = all.iter().filter(|panel| panel["type"] == "row").map(|panel| text(&panel["title"]));
    assert_eq!(headings.collect::<Vec<_>>(), QUESTIONS);
}

#[test]
fn panels_explain_themselves() {
    let dashboard = load();
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        assert!(["stat", "timeseries"].contains(&text(&panel["type"])), "{title}");
        assert!(text(&panel["description"]).ends_with('.') && text(&panel["description"]).len() > 20, "{title}");
        let look = &panel["fieldConfig"]["defaults"];
        let units = ["none", "short", "s", "bytes", "percentunit", "reqps", "ops"];
        assert!(units.contains(&text(&look["unit"])), "{title}");
        let steps = look["thresholds"]["steps"].as_array().expect("thresholds");
        assert!(steps.first().is_some_and(|first| first["value"].is_null()), "{title}: the first step has no bound");
        let bounds: Vec<_> = steps.iter().skip(1).map(|step| step["value"].as_f64().expect("a number")).collect();
        assert!(bounds.is_sorted(), "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        let names: BTreeSet<_> = targets.iter().map(|target| text(&target["refId"])).collect();
        assert!(!targets.is_empty() && names.len() == targets.len(), "{title}");
        assert!(targets.iter().all(|target| !text(&target["legendFormat"]).is_empty()), "{title}");
        // The alerts that the dashboard mentions exist.
        let alerts = rules::rules("alerts.yml");
        for word in text(&panel["description"]).split(|c: char| !c.is_alphanumeric()) {
            let known = !word.starts_with("SezzleSidecar") || alerts.iter().any(|alert| alert.name == word);
            assert!(known, "{title}: there is no alert {word}");
        }
    }
}

#[test]
fn queries_ask_for_what_there_is_and_for_what_was_chosen() {
    let dashboard = load();
    assert!(queries(&dashboard).len() > 40);
    for (title, query) in queries(&dashboard) {
        // Series of the rules themselves; no sidecar exposes them.
        if query.contains("ALERTS{") {
            assert!(query.contains(r#"namespace=~"$namespace", job=~"$job""#), "{title}");
            continue;
        }
        rules::check(&title, &query);
        for selector in promql::read(&query).0 {
            for chosen in ["namespace", "job", "instance"] {
                let matcher = (chosen.to_owned(), "=~".to_owned(), format!("${chosen}"));
                assert!(selector.matchers.contains(&matcher), "{title}: {}", selector.text());
            }
            // A range fits every scrape interval, and a count covers the displayed time.
            let range = selector.range.as_deref();
            assert!(matches!(range, None | Some("$__rate_interval" | "$__range")), "{title}: {}", selector.text());
        }
    }
}

#[test]
fn legends_name_labels_that_are_left() {
    let dashboard = load();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().expect("targets") {
            let (query, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
            let named: Vec<_> = legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).collect();
            let groups = promql::read(query).1;
            for label in &named {
                let is_left =
                    groups.iter().any(|group| group == label) || (*label == "instance" && !query.contains("sum"));
                assert!(is_left, "{legend} of {query}");
            }
            // The labels that tell two lines apart are in the legend.
            for label in groups.iter().filter(|label| *label != "le") {
                assert!(named.contains(&label.as_str()), "{legend} of {query}");
            }
        }
    }
}
