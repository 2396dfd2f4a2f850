//! The pages in `docs` name everything the code knows, and their links lead to existing places.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use http::Method;
use serde_json::Value;
use sezzle_sidecar::config;
use sezzle_sidecar::config::AppliedBy;
use sezzle_sidecar::config::changes::rules;
use sezzle_sidecar::drift::shape::Subject;
use sezzle_sidecar::proxy::cache_status::Source;
use sezzle_sidecar::proxy::error::CODES;
use sezzle_sidecar::proxy::route::{Class, Matched, Route};
use sezzle_sidecar::server::cut::Cut;
use sezzle_sidecar::session::CacheResult;
use sezzle_sidecar::session::freshness::NotStored;
use sezzle_sidecar::session::invalidation::Tag;
use sezzle_sidecar::status::verdict::condition::{Condition, NOT_VISIBLE};
use sezzle_sidecar::telemetry::metrics::{CALLER_REFUSALS, METHODS, Metrics, TASKS};
use sezzle_sidecar::upstream::retry::RetrySafety;
use sezzle_sidecar::webhook::WebhookResult;

use crate::architecture::{LEAVES, MAY_IMPORT, ONLY_LEAVES};
use crate::support::pages::{calls, page, quoted, root, rows};
use crate::support::process::{Folder, run};
use crate::support::secure::Secure;
use crate::support::tls::Authority;
use crate::support::{Setup, rules};

/// Fails for every name that a page does not have between backticks.
fn names_all(name: &str, words: impl IntoIterator<Item = String>) {
    let text = page(name);
    let missing: Vec<String> = words.into_iter().filter(|word| !text.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "{name} does not say: {missing:?}");
}

#[test]
fn every_key_is_explained() {
    let keys = config::reference();
    assert!(keys.len() > 30);
    names_all("docs/configuration.md", keys.iter().map(|key| key.key.to_owned()));
    let text = page("docs/configuration.md");
    for key in keys {
        let line = text.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{}`", key.key)));
        let line = line.unwrap_or_else(|| panic!("no line for {}", key.key));
        let default = key.default.map(|default| default.trim_matches('"').to_owned());
        // This value depends on the machine.
        if let Some(default) = default.filter(|_| key.key != "proxy.workers") {
            assert!(line.contains(&format!("`{default}`")), "the default of {} is {default}: {line}", key.key);
        }
    }
}

#[test]
fn the_page_says_of_every_key_and_no_other_whether_a_reload_applies_it() {
    let text = page("docs/configuration.md");
    let (_, table) = text.split_once("## All keys").expect("the table");
    let (table, _) = table.split_once("\n## ").expect("the end of the table");
    let mut explained = BTreeSet::new();
    for row in rows(table, 4) {
        for key in quoted(row[0]) {
            assert!(explained.insert((key.clone(), row[2].to_owned())), "{key} is explained twice");
        }
    }
    let by = |applied_by| if applied_by == AppliedBy::Reload { "reload" } else { "restart" };
    let keys = rules().map(|(key, applied_by)| (key.to_owned(), by(applied_by).to_owned()));
    same("docs/configuration.md", &explained, &keys.collect());
}

/// The page says of every code and no other its status, whether the error is a refusal, and what to do.
#[test]
fn every_error_is_explained_and_no_other() {
    let own = CODES.iter().map(|code| (code.word.to_owned(), code.status.as_u16().to_string(), code.is_refusal));
    let source = page("src/server/refusal.rs");
    assert!(source.contains("REQUEST_HEADER_FIELDS_TOO_LARGE,\n    code: \"head_too_large\""), "the code is gone");
    assert!(source.contains("BAD_REQUEST,\n    code: \"https_required\""), "the code is gone");
    // There is no request yet that could be counted as refused.
    let early = [("head_too_large", "431"), ("https_required", "400")];
    let early = early.map(|(word, status)| (word.to_owned(), status.to_owned(), false));
    let codes = own.chain(early).collect();
    same("docs/proxy-listener.md", &explained_codes(), &codes);
}

/// The list for programs has the codes of the page. After one error alone a write may have been done.
#[test]
fn programs_get_the_codes_of_the_page() {
    let listed: Vec<Value> = serde_json::from_str(&page("docs/errors.json")).expect("a list");
    let codes = listed.iter().map(|error| {
        let code =
            error["code"].as_str().and_then(|code| code.strip_prefix("sidecar.")).expect("a code of the sidecar");
        assert_eq!(error["may_have_been_done"], code == "outcome_unknown", "{code}");
        (code.to_owned(), error["status"].to_string(), error["refusal"] == true)
    });
    assert_eq!(codes.collect::<BTreeSet<_>>(), explained_codes(), "run docs/generate-errors");
}

/// The codes on the page of the proxy listener: word, status, and whether the error is a refusal.
fn explained_codes() -> BTreeSet<(String, String, bool)> {
    let text = page("docs/proxy-listener.md");
    let mut explained = BTreeSet::<(String, _, _)>::new();
    for row in rows(section(&text, "## Errors"), 4) {
        let code = quoted(row[0]).remove(0);
        let word = code.strip_prefix("sidecar.").expect("a code of the sidecar").to_owned();
        assert!(["yes", "–"].contains(&row[2]) && row[3].len() > 10, "{row:?}");
        assert!(!explained.iter().any(|(known, ..)| *known == word), "{word} is explained twice");
        explained.insert((word, row[1].to_owned(), row[2] == "yes"));
    }
    explained
}

#[test]
fn every_limit_of_a_connection_is_explained() {
    let text = page("docs/proxy-listener.md");
    for reason in Cut::ALL.iter().filter(|cut| **cut != Cut::Drain).map(|cut| cut.as_str()) {
        assert!(text.contains(&format!("connections_refused_total{{reason=\"{reason}\"}}")), "{reason}");
    }
}

/// The page describes each call as the code handles it, and names every route.
#[test]
fn every_call_is_listed_with_what_is_done_with_it() {
    let text = page("docs/calls.md");
    let (table, _) = text.split_once("\n## ").expect("the table comes first");
    let mut listed = BTreeSet::new();
    for row in rows(table, 7) {
        let call = quoted(row[0]).remove(0);
        let (method, template) = call.split_once(' ').expect("a method and a path");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        // Each name stands for an identifier that Sezzle could have issued.
        let path = template.replace("{session}", UUID).replace("{order}", "12a-g").replace(['{', '}'], "");
        for path in [path.clone(), format!("{path}/")] {
            let matched = Matched::path(&path).expect("below /v2/");
            let route = matched.route;
            assert_eq!(route.template(), template);
            assert_eq!(row[1], format!("`{}`", route.class(&method).as_str()), "{call}");
            let again = match matched.retry_safety(&method) {
                _ if route == Route::Authentication => "not sent",
                RetrySafety::Safe => "yes",
                RetrySafety::Keyed => "with its key",
                RetrySafety::Unkeyed | RetrySafety::DestructiveRead => "no",
            };
            // The page is about paths without a slash at their end. With one, no key counts.
            let listed = if matched.slash && row[2] == "with its key" { "no" } else { row[2] };
            assert_eq!(listed, again, "{call}");
            let answer = match route {
                Route::Authentication => "made here",
                Route::Session => "stored",
                _ if route.carries_links() => "held",
                _ => "streamed",
            };
            assert_eq!(row[3], answer, "{call}");
            let purges = match matched.purges().filter(|_| matched.retry_safety(&method) != RetrySafety::Safe) {
                Some(Tag::Session(_)) => "session",
                Some(Tag::Order(_)) => "order",
                Some(Tag::Token(_)) => "token",
                None => "–",
            };
            assert_eq!(row[4], purges, "{call}");
            let logged = match (matched.session(), matched.order()) {
                (Some(_), _) => "session",
                (_, Some(_)) => "order",
                (None, None) => "–",
            };
            let permission = route.permission(&method).as_str();
            let allow = if route == Route::Authentication { "–".to_owned() } else { format!("`{permission}`") };
            assert_eq!(row[6], allow, "{call}");
            // With a slash at its end the cache does not know the path, and the log does not either.
            assert!(row[5] == logged || path.ends_with('/') && row[5] == "session", "{call}");
        }
        assert!(listed.insert(call.clone()), "{call} stands there twice");
    }
    let templates: BTreeSet<&str> = listed.iter().filter_map(|call| Some(call.split_once(' ')?.1)).collect();
    let known = Route::ALL.iter().filter(|route| route.is_known()).map(|route| route.template());
    same("docs/calls.md", &templates, &known.collect());
    assert_eq!(listed, calls());
}

const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";

#[test]
fn every_reason_not_to_store_is_explained() {
    names_all("docs/cache.md", NotStored::ALL.iter().map(|reason| reason.as_str().to_owned()));
}

#[test]
fn every_result_of_a_webhook_is_explained() {
    names_all("docs/webhook-listener.md", WebhookResult::WORDS.map(str::to_owned));
}

/// The user of a fleet may do all that the sidecar does, and no more.
#[test]
fn the_user_of_a_fleet_may_run_the_commands_that_the_sidecar_sends_and_no_other() {
    let sources = sources();
    let of_the_fleet = sources.iter().filter(|(file, _)| file.starts_with("fleet/"));
    let sent =
        of_the_fleet.flat_map(|(_, source)| source.split("cmd(\"").skip(1).filter_map(|rest| rest.split('"').next()));
    // A URL with a database needs one more, which the page says. Sentinels have users of their own.
    let sent: BTreeSet<String> =
        sent.filter(|word| !["SELECT", "SENTINEL"].contains(word)).map(str::to_ascii_lowercase).collect();
    assert!(sent.len() > 10, "{sent:?}");
    let text = page("docs/fleet.md");
    let of_server = |line: &&str| line.contains("-@all") && !line.contains("+sentinel");
    let lines: Vec<&str> = text.lines().filter(of_server).collect();
    assert_eq!(lines.len(), 2, "by hand, and in Kubernetes");
    for line in lines {
        assert!(line.contains(" resetkeys resetchannels -@all +") && line.contains(" ~szs1:*"), "{line}");
        let allowed = line.split(' ').filter_map(|word| word.strip_prefix('+')).map(str::to_owned);
        same("docs/fleet.md", &allowed.collect(), &sent);
    }
    assert!(text.contains("Add `+select` if"));
}

#[test]
fn every_task_that_must_live_is_explained_and_counted_by_name() {
    names_all("docs/metrics.md", TASKS.iter().map(|task| (*task).to_owned()));
    // A name that the code uses but the list lacks would be a series that does not exist from the start.
    let text = page("src/app/start.rs") + &page("src/app/listeners.rs") + &page("src/app/fleet.rs");
    let named = text.split('"').filter(|word| word.ends_with("_keeper") || word.ends_with("_listener"));
    let named: Vec<&str> =
        named.chain(text.split(".keep(\"").skip(1).filter_map(|rest| rest.split('"').next())).collect();
    assert!(named.len() > 6, "{named:?}");
    for task in named {
        assert!(TASKS.contains(&task), "{task} is not in TASKS");
    }
}

#[test]
fn every_file_for_systemd_is_explained() {
    let files = fs::read_dir(root().join("deploy/systemd")).expect("deploy/systemd");
    let names = files.map(|file| file.expect("an entry").file_name().into_string().expect("UTF-8"));
    names_all("docs/installation-systemd.md", names);
}

/// The metrics of the page and of the code: name, type and labels.
#[test]
fn every_metric_is_explained_and_no_other() {
    let text = page("docs/metrics.md");
    let (_, tables) = text.split_once("## Is it up?").expect("the tables");
    let (tables, _) = tables.split_once("## Values of labels").expect("the values");
    let mut explained = BTreeSet::new();
    for row in rows(tables, 4) {
        for name in quoted(row[0]) {
            let labels: BTreeSet<String> = quoted(row[2]).into_iter().collect();
            assert!(explained.insert((name.clone(), row[1].to_owned(), labels)), "{name} is explained twice");
        }
    }
    let metrics = Metrics::new().expect("metrics");
    let families = metrics.families().iter().map(|family| {
        let name = family.name.strip_prefix("sezzle_sidecar_").unwrap_or(&family.name);
        (name.to_owned(), family.kind.to_owned(), family.labels.iter().cloned().collect())
    });
    let families: BTreeSet<_> = families.collect();
    assert!(families.len() > 40);
    same("docs/metrics.md", &explained, &families);
}

/// Fails unless both sets are equal.
fn same<T: Debug + Ord>(page: &str, explained: &BTreeSet<T>, there: &BTreeSet<T>) {
    let missing: Vec<_> = there.difference(explained).collect();
    let gone: Vec<_> = explained.difference(there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "{page} does not explain {missing:#?}, and explains {gone:#?}");
}

#[tokio::test]
async fn every_value_of_a_label_is_explained_and_no_other() {
    let setup = Setup::default().set("WEBHOOKS__LISTEN", "127.0.0.1:0").set("CONTROL__LISTEN", "127.0.0.1:0");
    // Nothing listens there, and the series of a fleet exist all the same.
    let folder = Folder::new();
    let setup = setup.set("AUDIT__FILE", folder.path().join("audit.log").display());
    let setup = setup.set("WEBHOOKS__PUBLIC_URL", "https://shop.example/hooks").set("WEBHOOKS__SUBSCRIPTION", "watch");
    let setup = setup.set("FLEET__URL", "redis://127.0.0.1:1");
    let authority = Authority::new();
    let harness = setup.tls(&authority).start().await;
    Secure::new(&authority.pem()).get(harness.proxy, "/v2/customer").await;
    let exposed = harness.client.get(harness.ops, "/metrics").await.text();
    harness.stop().await;
    let words = |words: &[&str]| -> BTreeSet<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let routes = Route::ALL.iter().map(|route| route.template());
    // The series of these metrics appear with their first event. All others exist from the start.
    let values = |metric: &str, label: &str| match (metric, label) {
        ("requests_total" | "upstream_requests_total", "route") => words(&routes.clone().collect::<Vec<_>>()),
        ("requests_total" | "upstream_requests_total", "method") => words(&METHODS),
        ("requests_total", "source") => words(&Source::WORDS),
        // No caller is configured here.
        ("caller_requests_refused_total", "reason") => words(&CALLER_REFUSALS),
        ("request_duration_seconds", "cache") => words(&CacheResult::WORDS),
        ("request_duration_seconds" | "upstream_request_duration_seconds", "class") => words(&Class::WORDS),
        _ => {
            let series = exposed.lines().filter_map(|line| line.strip_prefix("sezzle_sidecar_")?.strip_prefix(metric));
            let labels = series.filter_map(|rest| rest.strip_prefix('{')?.rsplit_once('}'));
            let labels = labels.flat_map(|(labels, _)| labels.split(','));
            let value =
                |pair: &str| Some(pair.strip_prefix(label)?.strip_prefix("=\"")?.trim_end_matches('"').to_owned());
            labels.filter_map(value).collect()
        }
    };

    let text = page("docs/metrics.md");
    let (_, table) = text.split_once("## Values of labels").expect("the values");
    let mut explained = BTreeSet::new();
    for row in rows(table, 3) {
        let (label, metrics) = (quoted(row[0]).remove(0), quoted(row[1]));
        let there = metrics.iter().flat_map(|metric| values(metric, &label)).collect();
        let mut said: BTreeSet<String> = quoted(row[2]).into_iter().collect();
        if row[2].contains("refusal among the [errors](proxy-listener.md#errors)") {
            said.extend(explained_codes().into_iter().filter(|(.., refusal)| *refusal).map(|(word, ..)| word));
        }
        same(&format!("docs/metrics.md, {label} of {metrics:?},"), &said, &there);
        explained.extend(metrics.into_iter().map(|metric| (metric, label.clone())));
    }
    let metrics = Metrics::new().expect("metrics");
    let own = metrics
        .families()
        .iter()
        .filter_map(|family| Some((family.name.strip_prefix("sezzle_sidecar_")?, &family.labels)));
    let labels = own.flat_map(|(name, labels)| labels.iter().map(move |label| (name.to_owned(), label.clone())));
    // Callers, statuses and words of the build are explained below the table.
    let open = ["caller", "code", "version", "commit", "rustc"];
    let labels: BTreeSet<_> = labels.filter(|(_, label)| !open.contains(&label.as_str())).collect();
    same("docs/metrics.md, values of labels,", &explained, &labels);
    names_all("docs/metrics.md", open.map(str::to_owned));
}

#[test]
fn every_alert_is_explained_and_no_other() {
    let text = page("docs/alerts.md");
    let alerts: BTreeSet<(String, String, String)> = rules::rules("alerts.yml")
        .into_iter()
        .map(|rule| {
            let after = rule.says.get("for").map_or("at once".to_owned(), |minutes| minutes.replace('m', " min"));
            (rule.name, rule.says["severity"].clone(), after)
        })
        .collect();
    let (table, _) = text.split_once("\n## ").expect("the table comes first");
    let listed = rows(table, 4).into_iter().map(|row| {
        let name = row[0].trim_start_matches('[').split(']').next().expect("a name");
        (name.to_owned(), row[1].to_owned(), row[2].to_owned())
    });
    same("docs/alerts.md", &listed.collect(), &alerts);
    // Page and code use the same order, after the table of the ways to a sidecar.
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: Vec<String> = rules::rules("alerts.yml").into_iter().map(|rule| rule.name).collect();
    assert_eq!(headings[0], "How to reach it here");
    assert_eq!(headings[1..], names);
}

#[test]
fn every_condition_of_the_status_page_is_explained_with_its_alerts() {
    let text = page("docs/status-page.md");
    let (_, table) = text.split_once("| condition | alert | line |").expect("the table");
    let (table, after) = table.split_once("\n\n").expect("an end");
    let listed = rows(table, 3).into_iter().map(|row| {
        let alerts = row[1].split(", ").filter(|alert| *alert != "–").map(str::to_owned).collect();
        (quoted(row[0]).remove(0), alerts)
    });
    let own = Condition::ALL.map(|condition| {
        (condition.as_str().to_owned(), condition.alerts().iter().map(|alert| (*alert).to_owned()).collect::<Vec<_>>())
    });
    same("docs/status-page.md", &listed.collect::<BTreeSet<(String, Vec<String>)>>(), &own.into_iter().collect());
    for (alert, _) in NOT_VISIBLE {
        assert!(after.contains(alert), "docs/status-page.md does not say why {alert} has no line");
    }
}

#[test]
fn every_client_that_the_tests_drive_is_in_the_manual() {
    let text = page("docs/clients.md");
    let (_, table) = text.split_once("## HTTP clients").expect("the table");
    let clients = [
        ("bash", "curl"),
        ("curl", "PHP's curl"),
        ("guzzle", "Guzzle"),
        ("fetch", "Node's `fetch`"),
        ("http", "Node's `http`"),
        ("undici", "undici's `request`"),
        ("undici-fetch", "undici's `fetch`"),
        ("axios", "axios"),
        ("axios-fetch", "axios with its `fetch` adapter"),
        ("got", "got"),
        ("superagent", "superagent"),
        ("deno", "Deno's `fetch`"),
        ("requests", "requests"),
        ("httpx", "httpx"),
        ("aiohttp", "aiohttp"),
        ("httplib2", "httplib2"),
        ("aiohttp-retry", "aiohttp-retry"),
        ("ruby", "Ruby's Net::HTTP"),
        ("lwp", "Perl's LWP"),
        ("tiny", "Perl's HTTP::Tiny"),
        ("java", "Java's HttpClient"),
        ("java-1.1", "Java's HttpClient"),
        ("okhttp", "OkHttp"),
        ("apache4", "Apache HttpClient 4"),
        ("apache5", "Apache HttpClient 5"),
    ];
    let listed: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    for (_, name) in clients {
        assert!(listed.iter().any(|cell| cell.contains(name)), "{name} is not in {listed:?}");
    }
    // Each command of the tests, by its last word that is not a script.
    let commands = page("tests/it/same_for_every_client.rs") + &page("tests/it/clients_never_write_twice.rs");
    let commands = commands.lines().filter_map(|line| line.split_once(": [\"")?.1.split_once("\"]"));
    let mut driven = 0;
    for (command, _) in commands {
        let words: Vec<&str> = command.split("\", \"").collect();
        let last = words.iter().rev().find(|word| !word.contains('.') || word.starts_with("java-")).expect("a word");
        let name = if words[0] == "deno" { "deno" } else { last };
        assert!(clients.iter().any(|(known, _)| known == &name), "{command} is not in the manual");
        driven += 1;
    }
    assert!(driven > 25, "{driven}");
}

/// The waits that the manual advises leave the client time to hear of each end.
#[test]
fn timeouts_in_the_manual_fit_the_clients() {
    let text = page("docs/clients.md");
    let (_, table) = text.split_once("| timeout of the client |").expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let mut rows = 0;
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let client: u64 = cells[0].trim_end_matches(" s").parse().expect("seconds");
        let [read, write] = [cells[2], cells[3]].map(|cell| quoted(cell).remove(0));
        let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().expect("seconds");
        assert!(seconds(&write) + 2 <= client && seconds(&read) + 2 <= client, "{row}");
        let set = |name: &str, value: &str| (format!("SEZZLE_SIDECAR__GATEWAY__{name}").into(), value.into());
        let mut variables =
            vec![set("ENVIRONMENT", "sandbox"), set("READ_TIMEOUT", &read), set("WRITE_TIMEOUT", &write)];
        variables.extend(
            ["PUBLIC_KEY", "PRIVATE_KEY"]
                .map(|name| (format!("SEZZLE_SIDECAR__CREDENTIALS__{name}").into(), "any".into())),
        );
        config::load(&[], variables).unwrap_or_else(|problems| panic!("{row}: {problems}"));
        rows += 1;
    }
    assert!(rows > 3);
}

#[test]
fn links_lead_somewhere() {
    let mut pages = vec![
        root().join("README.md"),
        root().join("CHANGELOG.md"),
        root().join("SECURITY.md"),
        root().join("benches/compare/README.md"),
        root().join("benches/fleet/README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("fuzz/README.md"),
        root().join("findings/README.md"),
        root().join("examples/README.md"),
    ];
    pages.extend(fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path()));
    let mut followed = 0;
    for from in pages {
        let text = fs::read_to_string(&from).expect("a page");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { from.clone() } else { from.parent().expect("a folder").join(file) };
            assert!(to.exists(), "{}: {target}", from.display());
            assert!(
                heading.is_empty() || headings(&to).iter().any(|known| known == heading),
                "{}: {target}",
                from.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
}

/// The anchors of a page, made from its headings.
fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let plain = title.to_lowercase().replace(' ', "-");
        plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    titles.map(anchor).collect()
}

#[tokio::test]
async fn the_settings_of_the_compose_examples_are_right() {
    let text = page("docs/installation.md");
    let examples: Vec<&str> = text.split("    services:\n").skip(1).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let example = example.split("\n\n").next().expect("a block");
        let variables: Vec<(&str, &str)> =
            example.lines().filter_map(|line| line.trim().strip_prefix("SEZZLE_SIDECAR__")?.split_once(": ")).collect();
        assert!(variables.len() >= 3, "{example}");
        let ended = run(&["check"], &variables).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
}

/// Every file of Rust below `src`, with what it holds.
fn sources() -> BTreeMap<String, String> {
    let mut folders = vec![root().join("src")];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name =
                    path.strip_prefix(root().join("src")).expect("below src").to_str().expect("UTF-8").to_owned();
                found.insert(name, fs::read_to_string(&path).expect("readable"));
            }
        }
    }
    assert!(found.len() > 100);
    found
}

/// Whether a text has a word that is no part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Whether a file defines the last part of a symbol, and names the others.
fn defines(text: &str, symbol: &str) -> bool {
    let (owner, name) = symbol.rsplit_once("::").unwrap_or(("", symbol));
    let kinds = ["fn", "struct", "enum", "trait", "const", "type"];
    let defined = kinds.iter().any(|kind| has_word(text, &format!("{kind} {name}")));
    defined && (owner.is_empty() || has_word(text, owner))
}

/// The section of a page under a heading, down to the next heading of the same depth.
fn section<'p>(text: &'p str, heading: &str) -> &'p str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let depth = heading.split(' ').next().expect("a heading");
    rest.split(&format!("\n{depth} ")).next().expect("a section")
}

/// The numbered items of a text, each on one line. They count 1, 2, 3, … below each heading.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut last = 0;
    for line in text.lines() {
        let number = line.split_once(". ").and_then(|(number, _)| number.parse::<u32>().ok());
        match (number, items.last_mut()) {
            (Some(number), _) => {
                assert_eq!(number, last + 1, "the number of {line}");
                last = number;
                items.push(line.to_owned());
            }
            (None, Some(item)) if line.starts_with("   ") => *item = format!("{item} {}", line.trim()),
            (None, _) if line.starts_with('#') => last = 0,
            (None, _) => {}
        }
    }
    items
}

/// Each step of a walk begins with a file, which defines what is named up to the colon.
#[test]
fn the_walks_lead_through_code_that_is_there() {
    let text = page("docs/architecture.md");
    let sources = sources();
    let mut steps = 0;
    for item in items(section(&text, "## The walks")).iter().chain(&items(section(&text, "## From SIGTERM to exit"))) {
        let (head, _) = item.split_once("`: ").unwrap_or_else(|| panic!("no colon: {item}"));
        let named = quoted(&format!("{head}`"));
        let (file, symbols) = named.split_first().expect("a file");
        let source = sources.get(file).unwrap_or_else(|| panic!("there is no src/{file}: {item}"));
        assert!(!symbols.is_empty(), "{item}");
        for symbol in symbols {
            assert!(defines(source, symbol), "src/{file} does not define {symbol}: {item}");
        }
        steps += 1;
    }
    assert!(steps > 60, "{steps}");

    let decided = section(&text, "## Where is it decided?");
    for row in decided.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let files = quoted(cells[2]);
        let source = |file: &String| sources.get(file).unwrap_or_else(|| panic!("there is no src/{file}: {row}"));
        for symbol in quoted(cells[1]) {
            let is_there = files.iter().any(|file| defines(source(file), &symbol));
            assert!(is_there, "{symbol} is defined in none of {files:?}");
        }
    }
}

/// Every reason not to store a session has its place in the code, and no other.
#[test]
fn the_reasons_not_to_store_a_session_lead_to_code_that_is_there() {
    let text = page("docs/architecture.md");
    let sources = sources();
    let mut explained = BTreeSet::new();
    for row in rows(section(&text, "## Why is a session not stored?"), 3) {
        let files = quoted(row[2]);
        let source = |file: &String| sources.get(file).unwrap_or_else(|| panic!("there is no src/{file}: {row:?}"));
        for symbol in quoted(row[1]) {
            assert!(files.iter().any(|file| defines(source(file), &symbol)), "{symbol} is in none of {files:?}");
        }
        for reason in quoted(row[0]) {
            assert!(explained.insert(reason.clone()), "{reason} stands there twice");
        }
    }
    same("docs/architecture.md", &explained, &NotStored::WORDS.map(str::to_owned).into());
}

/// A reader can keep a walk in mind: it leads through so many files, and to none more than three times.
#[test]
fn the_walks_are_short() {
    let text = page("docs/architecture.md");
    for (heading, most) in [
        ("### A hit: GET of a stored session", 12),
        ("### A miss: GET of a session that is not stored", 20),
        ("### A capture: POST /v2/order/{order}/capture", 20),
        ("### A webhook", 12),
        ("### A write through another sidecar of the fleet", 12),
    ] {
        let mut visits: BTreeMap<String, usize> = BTreeMap::new();
        let walk = section(&text, heading).split("\n## ").next().expect("a walk");
        for item in items(walk) {
            *visits.entry(quoted(&item).remove(0)).or_default() += 1;
        }
        assert!(visits.len() > 5 && visits.len() <= most, "{heading}: {} files", visits.len());
        assert!(visits.values().all(|visits| *visits <= 3), "{heading}: {visits:?}");
    }
}

/// The last cell of each fact about Sezzle names the code that relies on it.
#[test]
fn the_facts_about_sezzle_lead_to_code_that_is_there() {
    assert!(symbols_of_tables("docs/sezzle.md", "| fact | code |\n") > 50);
}

/// The tables are the shapes by which bodies are compared.
#[test]
fn the_shapes_of_the_page_are_those_of_the_code() {
    let text = page("docs/sezzle.md");
    let mut tables = text.split("| member | form | always |\n").skip(1);
    for subject in Subject::ALL {
        let table = tables.next().expect("a table for each");
        let listed = table.lines().skip(1).take_while(|line| line.starts_with('|')).map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            (quoted(cells[0]).remove(0), cells[1].to_owned(), cells[2] == "yes")
        });
        let members = subject.members().iter();
        let members = members.map(|member| (member.path.to_owned(), member.form.as_str().to_owned(), member.always));
        same("docs/sezzle.md", &listed.collect(), &members.collect());
    }
}

#[test]
fn the_parts_of_the_fleet_protocol_are_there() {
    assert!(symbols_of_tables("docs/fleet-protocol.md", "| part | code |\n") > 40);
    let text = page("docs/fleet-protocol.md");
    let all = sources().into_values().collect::<Vec<_>>().join("\n");
    for word in text.lines().flat_map(quoted).filter(|word| word.contains("::")) {
        assert!(word.split("::").all(|part| has_word(&all, part)), "{word} is not in src");
    }
}

/// Each rule that the models of the fleet can take away has its row, and no other.
#[test]
fn every_rule_of_the_fleet_protocol_is_explained_and_no_other() {
    let models = page("src/fleet/log/tests/model/mod.rs");
    let (_, rules) = models.split_once("enum Without {\n").expect("the rules");
    let rules = rules.split("\n}").next().expect("their end").lines().map(str::trim);
    let rules = rules.filter_map(|line| line.strip_suffix(',')).filter(|rule| *rule != "Nothing");
    let text = page("docs/fleet-protocol.md");
    let (_, table) = text.split_once("| rule taken away | how it breaks |\n").expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|')).map(|row| quoted(row).remove(0));
    same("docs/fleet-protocol.md", &rows.collect(), &rules.map(str::to_owned).collect::<BTreeSet<_>>());
}

/// Checks the code that the second cell of each row names, in the tables with this head. Returns the number of symbols.
fn symbols_of_tables(name: &str, head: &str) -> usize {
    let text = page(name);
    let sources = sources();
    let mut symbols = 0;
    for table in text.split(head).skip(1) {
        for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 2, "{row}");
            assert!(cells[1] == "–" || !quoted(cells[1]).is_empty(), "{row}");
            let mut source = "";
            for word in quoted(cells[1]) {
                if word.ends_with(".rs") {
                    source = sources.get(&word).unwrap_or_else(|| panic!("there is no src/{word}: {row}"));
                } else {
                    assert!(defines(source, &word), "{word} is not defined there: {row}");
                    symbols += 1;
                }
            }
        }
    }
    symbols
}

/// Whatever else the page names like a file or a symbol is somewhere in the source.
#[test]
fn the_architecture_page_names_what_there_is() {
    let text = page("docs/architecture.md");
    let sources = sources();
    let all = sources.values().map(String::as_str).collect::<Vec<_>>().join("\n");
    let mut found = 0;
    for word in text.lines().filter(|line| !line.starts_with("    ")).flat_map(quoted) {
        let is_symbol = word.chars().all(|c| c.is_alphanumeric() || "_:".contains(c))
            && (word.contains("::") || word.starts_with(|c: char| c.is_uppercase()));
        let is_file = word.contains('/') && !word.starts_with('/');
        if is_file {
            assert!(sources.contains_key(&word) || root().join(&word).exists(), "there is no {word}");
        } else if is_symbol {
            for part in word.split("::") {
                assert!(has_word(&all, part), "{word} is not in src");
            }
        }
        found += usize::from(is_file || is_symbol);
    }
    assert!(found > 150, "{found}");
    // The tables may name a function without its type.
    let optimisations = section(&text, "## Optimisations and what each buys");
    let cells = optimisations.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    for word in cells.flat_map(quoted) {
        let symbol = word.rsplit("::").next().expect("a name");
        assert!(root().join(&word).exists() || has_word(&all, symbol), "{word} is not in src");
    }
}

#[test]
fn the_architecture_page_has_the_direction_of_imports() {
    let text = page("docs/architecture.md");
    let listed = rows(section(&text, "## The modules"), 3).into_iter().map(|row| {
        let imports: BTreeSet<String> = quoted(row[2]).into_iter().collect();
        (quoted(row[0]).remove(0), imports)
    });
    let rules = MAY_IMPORT.iter().filter(|(module, _)| !LEAVES.contains(module));
    let rules =
        rules.map(|(module, imports)| (*module, *imports)).chain(ONLY_LEAVES.iter().map(|module| (*module, &[][..])));
    let ruled = rules.map(|(module, imports)| (module.to_owned(), imports.iter().map(|it| (*it).to_owned()).collect()));
    same("docs/architecture.md", &listed.collect(), &ruled.collect::<BTreeSet<(String, BTreeSet<String>)>>());
}

#[test]
fn every_word_of_the_glossary_is_used() {
    let text = page("docs/architecture.md");
    let all = sources().into_values().collect::<Vec<_>>().join("\n");
    let plain = all.to_lowercase().replace('_', " ");
    let mut words = Vec::new();
    for line in section(&text, "## Glossary").lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{line}");
        assert!(plain.contains(cells[0]), "no source uses {:?}", cells[0]);
        for symbol in quoted(cells[2]) {
            assert!(symbol.split("::").all(|part| has_word(&all, part)), "{symbol} is not in src");
        }
        words.push(cells[0].to_owned());
    }
    assert!(words.len() >= 30 && words.is_sorted(), "{words:?}");
    assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len(), "one meaning each");
}

/// Paths on the page are there, and each file that a change is said to touch holds the example that was followed.
#[test]
fn the_contributors_page_names_what_there_is() {
    let text = page("CONTRIBUTING.md");
    let folders = [".ci", ".github", "benches", "config", "deploy", "docs", "fuzz", "src", "tests"];
    let mut found = 0;
    for word in text.lines().flat_map(quoted) {
        let word = word.split(' ').next().expect("a word");
        if word.split_once('/').is_some_and(|(folder, _)| folders.contains(&folder)) {
            assert!(root().join(word).exists(), "there is no {word}");
            found += 1;
        }
        if let Some(module) = word.strip_suffix("::") {
            let file = root().join(format!("tests/it/{module}"));
            assert!(
                file.with_extension("rs").exists() || file.join("mod.rs").exists(),
                "there is no tests/it/{module}"
            );
        }
    }
    assert!(found > 50, "{found}");

    let mut touched = Vec::new();
    for part in text.split(", for example `").skip(1) {
        let (example, rest) = part.split_once('`').expect("an example");
        // A call has its variant in the code, and its template on the pages.
        let variant = Matched::path(example).map(|matched| format!("{:?}", matched.route));
        let word = if variant.is_some() { example } else { example.rsplit('.').next().expect("a word") };
        let list = rest.split("\nBeside these").next().expect("a list");
        let mut followed = 0;
        for item in items(list) {
            for file in quoted(&item).iter().filter(|word| word.contains('/')) {
                let text = page(file);
                let is_there = text.contains(word) || variant.as_ref().is_some_and(|variant| has_word(&text, variant));
                assert!(is_there, "{example} is not in {file}: say in CONTRIBUTING.md what it touches");
                followed += 1;
            }
        }
        touched.push(followed);
    }
    let expected = [4, 2, 2, 8, 5];
    assert_eq!(touched, expected, "the files for a key, a metric, an error code, a call and a reason not to store");
}

#[test]
fn every_program_that_the_tests_install_is_named_for_contributors() {
    let text = page("CONTRIBUTING.md");
    let script = page("tests/run");
    let packages: Vec<&str> = script
        .lines()
        .filter_map(|line| line.split_once("packages+=(")?.1.strip_suffix(')'))
        .flat_map(|packages| packages.split(' '))
        .collect();
    assert!(packages.len() > 20, "{packages:?}");
    for package in packages {
        assert!(text.contains(&format!("`{package}`")), "CONTRIBUTING.md does not name {package}");
    }
}

/// Each file that docs/releasing.md lists names the version of this source.
#[test]
fn every_place_that_names_the_version_names_the_same() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("sezzle-sidecar:{version}");
    let is_tag = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    for (file, tags) in [("docs/installation.md", 7), ("README.md", 1)] {
        // The variant with the simulator has the version in its tag, too.
        assert_eq!(page(file).matches(&image).count(), tags, "{file}");
        assert_eq!(page(file).split("sezzle-sidecar:").skip(1).filter(|rest| is_tag(rest)).count(), tags, "{file}");
    }
    let archive = format!("sezzle-sidecar-{version}-x86_64-linux");
    assert_eq!(page("docs/installation.md").matches(&archive).count(), 2);
    assert_eq!(page("docs/installation.md").matches("-x86_64-linux").count(), 2);
    for file in ["deploy/kubernetes/kustomization.yaml", "docs/installation.md"] {
        assert!(page(file).contains(&format!("newTag: {version}\n")), "{file}");
    }
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        assert!(page(lock).contains(&format!("name = \"sezzle-sidecar\"\nversion = \"{version}\"\n")), "{lock}");
    }
}
