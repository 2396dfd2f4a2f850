//! The rules for Prometheus query existing series and tell operators what they need, each alert has tests of its own, the
//! file for the Prometheus operator holds the same rules, and Alertmanager silences no alert that somebody must see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use sezzle_sidecar::status::verdict::condition::{Condition, NOT_VISIBLE};

use crate::support::pages::page;
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

/// The alerts that a matcher of Alertmanager's names: `alertname = "A"`, or `alertname =~ "Prefix(A|B)"`.
fn named(matcher: &str) -> Vec<String> {
    let pattern = matcher.split('"').nth(1).expect("a pattern");
    match pattern.split_once('(') {
        Some((prefix, last)) => last.trim_end_matches(')').split('|').map(|last| format!("{prefix}{last}")).collect(),
        None => vec![pattern.to_owned()],
    }
}

/// Alertmanager keeps back alerts that follow from another one of the same sidecar. The page lists them.
#[test]
fn alertmanager_silences_what_the_page_lists_and_nothing_that_somebody_must_see() {
    let text = fs::read_to_string(rules::folder().join("alertmanager.yml")).expect("alertmanager.yml");
    let (_, inhibition) = text.split_once("\ninhibit_rules:\n").expect("the inhibition");
    let (inhibition, _) = inhibition.split_once("\n\n").expect("an end");
    let severities: BTreeMap<String, String> =
        rules::rules("alerts.yml").into_iter().map(|rule| (rule.name, rule.says["severity"].clone())).collect();
    let mut silenced: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in inhibition.split("  - source_matchers: ").skip(1) {
        let lines: Vec<&str> = rule.lines().map(str::trim).collect();
        let [source, targets, equal] = lines[..] else { panic!("{rule}") };
        assert_eq!(equal, "equal: [job, namespace, instance]", "{rule}");
        let [source] = &named(source)[..] else { panic!("{rule}") };
        for target in named(targets.strip_prefix("target_matchers: ").expect("targets")) {
            // Each such alert is about single writes, and each of these must be looked at.
            assert!(!target.ends_with("OutcomeUnknown") && !target.ends_with("WriteInDoubt"), "{rule}");
            let (cause, effect) = (&severities[source], &severities[&target]);
            assert!(cause == "critical" || effect == "warning", "{source} wakes nobody and silences {target}");
            assert!(silenced.entry(source.clone()).or_default().insert(target), "{rule}");
        }
    }
    let page = page("docs/alerts.md");
    let (_, table) = page.split_once("| while this fires | these send no message |\n|---|---|\n").expect("the table");
    let listed = table.lines().map_while(|line| {
        let (source, targets) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        Some((source.to_owned(), targets.split(", ").map(str::to_owned).collect()))
    });
    assert_eq!(listed.collect::<BTreeMap<String, BTreeSet<String>>>(), silenced);
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
