//! The rules for Prometheus query existing series and tell operators what they need, each alert has tests of its own, and
//! the file for the Prometheus operator holds the same rules.

use std::collections::BTreeSet;
use std::fs;

use sezzle_sidecar::status::verdict::condition::{Condition, NOT_VISIBLE};

use crate::support::rules;

#[test]
fn rules_ask_for_what_there_is() {
    for rule in rules::all() {
        rules::check(&rule.name, &rule.expression);
    }
    // Otherwise the files would not have been read.
    assert!(rules::rules("recording.yml").iter().all(|rule| rule.kind == "record"));
    assert!(rules::rules("alerts.yml").iter().all(|rule| rule.kind == "alert"));
    assert!(rules::all().len() > 20);
}

#[test]
fn alerts_say_what_is_wrong_and_where_to_read_on() {
    for rule in rules::rules("alerts.yml") {
        let say = |key: &str| rule.says.get(key).unwrap_or_else(|| panic!("{} has no {key}", rule.name)).as_str();
        assert!(["critical", "warning"].contains(&say("severity")), "{}", rule.name);
        assert!(say("summary").len() < 100 && say("summary").ends_with('.'), "{}", rule.name);
        assert!(say("description").len() > say("summary").len(), "{}", rule.name);
        assert_eq!(say("runbook_url"), format!("docs/alerts.md#{}", rule.name.to_lowercase()));
    }
}

#[test]
fn each_alert_is_tested_both_ways() {
    let text = ["alerts_test.yml", "alerts_days_test.yml"]
        .map(|file| fs::read_to_string(rules::folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}")))
        .concat();
    let tests: Vec<&str> = text.split("- eval_time: ").collect();
    for rule in rules::rules("alerts.yml") {
        let of = |test: &&&str| test.contains(&format!("alertname: {}\n", rule.name));
        let (quiet, fires): (Vec<&str>, Vec<&str>) =
            tests.iter().filter(of).partition(|test| test.contains("exp_alerts: []"));
        assert!(!quiet.is_empty() && !fires.is_empty(), "{}: {} {}", rule.name, quiet.len(), fires.len());
    }
}

/// The file for the Prometheus operator has the groups of both plain files, and nothing else.
#[test]
fn the_operators_file_holds_the_same_rules() {
    let text = |file: &str| {
        let path = rules::folder().join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let operators = text("../prometheus-operator/prometheusrule.yaml");
    let (head, groups) = operators.split_once("\nspec:\n  groups:\n").expect("groups");
    assert!(head.contains("\nkind: PrometheusRule\n"), "{head}");
    let plain = ["recording.yml", "alerts.yml"].map(|file| {
        let plain = text(file);
        let (_, groups) = plain.split_once("\ngroups:\n").expect("groups");
        groups
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
            .collect::<String>()
    });
    assert!(groups == plain.concat(), "run deploy/prometheus-operator/generate");
}

/// An operator who opens the status page while an alert fires finds its reason there. So an alert is mapped to a
/// condition of the page, or is in the list of those that no process can see in itself.
#[test]
fn each_alert_is_a_condition_of_the_status_page_or_cannot_be() {
    let mut alerts = BTreeSet::new();
    for entry in fs::read_dir(rules::folder()).expect("the rules") {
        let path = entry.expect("an entry").path();
        // The tests of the rules name alerts by another key.
        if path.extension().is_some_and(|extension| extension == "yml") {
            let text = fs::read_to_string(path).expect("a file");
            alerts.extend(text.lines().filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned())));
        }
    }
    let visible = Condition::ALL.iter().flat_map(|condition| condition.alerts().iter().copied());
    let known: BTreeSet<String> = visible.chain(NOT_VISIBLE.map(|(alert, _)| alert)).map(str::to_owned).collect();
    let unmapped: Vec<_> = alerts.difference(&known).collect();
    assert!(unmapped.is_empty(), "map these in src/status/verdict/condition.rs: {unmapped:?}");
    let gone: Vec<_> = known.difference(&alerts).collect();
    assert!(gone.is_empty(), "there are no such alerts any more: {gone:?}");
    assert!(alerts.len() > 20, "{alerts:?}");
    for (alert, reason) in NOT_VISIBLE {
        assert!(reason.len() > 20, "{alert} gives no reason");
    }
}
