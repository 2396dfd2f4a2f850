//! The rules for Prometheus query existing series and tell operators what they need, and each alert has tests of its
//! own.

use std::fs;

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
    let text = fs::read_to_string(rules::folder().join("alerts_test.yml")).expect("the tests");
    let tests: Vec<&str> = text.split("- eval_time: ").collect();
    for rule in rules::rules("alerts.yml") {
        let of = |test: &&&str| test.contains(&format!("alertname: {}\n", rule.name));
        let (quiet, fires): (Vec<&str>, Vec<&str>) =
            tests.iter().filter(of).partition(|test| test.contains("exp_alerts: []"));
        assert!(!quiet.is_empty() && !fires.is_empty(), "{}: {} {}", rule.name, quiet.len(), fires.len());
    }
}
