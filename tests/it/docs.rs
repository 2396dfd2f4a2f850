//! The pages in `docs` name everything the code knows, and lead to where they say.

use std::fs;
use std::path::{Path, PathBuf};

use sezzle_sidecar::config;
use sezzle_sidecar::proxy::error::REFUSALS;
use sezzle_sidecar::session::freshness::Skip;
use sezzle_sidecar::telemetry::metrics::{
    CONNECTION_REASONS, INVALIDATION_SOURCES, LISTENERS, OTHER_RESULTS, RELOAD_RESULTS, SHED_REASONS, SIGNED_RESULTS,
    TOKEN_TRIGGERS,
};

use crate::support::Harness;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails for everything that a page does not name between backticks.
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
        // Depends on the machine.
        if let Some(default) = default.filter(|_| key.key != "proxy.workers") {
            assert!(line.contains(&format!("`{default}`")), "the default of {} is {default}: {line}", key.key);
        }
    }
}

#[test]
fn every_error_and_limit_is_explained() {
    names_all("docs/proxy-listener.md", REFUSALS.iter().map(|code| format!("sidecar.{code}")));
    let text = page("docs/proxy-listener.md");
    for reason in CONNECTION_REASONS.iter().filter(|reason| **reason != "drain") {
        assert!(text.contains(&format!("connections_refused_total{{reason=\"{reason}\"}}")), "{reason}");
    }
    // And those that are no refusals, where the code writes them.
    let source = page("src/proxy/error.rs") + &page("src/server/refusal.rs");
    for code in ["no_token", "outcome_unknown", "not_stored", "upstream_failed", "upstream_timeout", "head_too_large"] {
        assert!(source.contains(&format!("\"{code}\"")), "{code} is gone");
        names_all("docs/proxy-listener.md", [format!("sidecar.{code}")]);
    }
}

#[test]
fn every_reason_not_to_store_is_explained() {
    names_all("docs/cache.md", Skip::ALL.iter().map(|skip| skip.as_str().to_owned()));
}

#[test]
fn every_result_of_a_webhook_is_explained() {
    names_all("docs/webhook-listener.md", SIGNED_RESULTS.into_iter().chain(OTHER_RESULTS).map(str::to_owned));
}

#[tokio::test]
async fn every_metric_is_explained() {
    names_all("docs/ops-listener.md", LISTENERS.into_iter().chain(INVALIDATION_SOURCES).map(str::to_owned));
    names_all("docs/ops-listener.md", SHED_REASONS.map(str::to_owned));
    names_all("docs/ops-listener.md", RELOAD_RESULTS.into_iter().chain(TOKEN_TRIGGERS).map(str::to_owned));
    let harness = Harness::start().await;
    let text = harness.client.get(harness.ops, "/metrics").await.text();
    let own = text.lines().filter_map(|line| line.strip_prefix("# HELP sezzle_sidecar_")?.split(' ').next());
    let own: Vec<String> = own.map(str::to_owned).collect();
    assert!(own.len() > 20);
    names_all("docs/ops-listener.md", own);
    harness.stop().await;
}

#[test]
fn links_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md"), root().join("fuzz/README.md")];
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

/// The anchors of a page, as they are made from its headings.
fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let plain = title.to_lowercase().replace(' ', "-");
        plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    titles.map(anchor).collect()
}
