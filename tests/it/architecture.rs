//! The shape of the source: which module may import which, which files stay pure, and that no file outgrows a reader.
//!
//! These tests read the text of `src` without the tests in it. The simulator shares only the spelling of durations with
//! the product, and has a rule of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that know nothing of the product around them.
pub const LEAVES: &[&str] = &[
    "address",
    "caller",
    "file",
    "hop_by_hop",
    "http_client",
    "method",
    "peer_body",
    "names",
    "sezzle",
    "clock",
    "secret",
    "supervisor",
    "systemd",
    "telemetry",
    "threads",
    "units",
    "worker",
];

/// The modules that each module below the composition root may import, besides itself and the leaves.
pub const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("caller", &[]),
    ("file", &[]),
    ("hop_by_hop", &[]),
    ("http_client", &[]),
    ("method", &[]),
    ("peer_body", &[]),
    ("names", &[]),
    ("sezzle", &[]),
    ("clock", &[]),
    ("secret", &[]),
    ("supervisor", &[]),
    ("systemd", &[]),
    ("telemetry", &[]),
    ("threads", &[]),
    ("units", &[]),
    ("worker", &[]),
    ("session", &[]),
    ("upstream", &[]),
    ("credentials", &["upstream"]),
    ("proxy", &["session", "credentials", "upstream"]),
    ("ops", &["session", "credentials", "upstream"]),
    ("status", &["ops", "credentials"]),
    ("online_check", &["session", "credentials", "upstream"]),
    ("control", &["session"]),
    ("webhook", &["session", "credentials", "upstream"]),
];

/// Modules with a rule of their own: a listener knows nothing of what it serves, and a configuration is only read.
pub const ONLY_LEAVES: &[&str] = &["server", "config"];

/// The composition root and the modules above it, which may import everything but the simulator.
const ROOT: &[&str] = &["app", "cli", "main"];

/// The commands that start the simulator, and the only files of the product that import it.
const SIMULATED: &[&str] = &["cli/demo.rs", "cli/simulate.rs"];

/// Decisions that take the time as an argument and do no I/O.
const PURE: &[&str] = &[
    "config/changes/mod.rs",
    "session/freshness/mod.rs",
    "session/invalidation/mod.rs",
    "session/freshness/directives.rs",
    "session/freshness/origin.rs",
    "session/freshness/request_directives.rs",
    "session/revalidation.rs",
    "credentials/rotation.rs",
    "credentials/schedule.rs",
    "credentials/verifier.rs",
    "upstream/retry.rs",
    "upstream/retry_after.rs",
    "upstream/window.rs",
    "proxy/attempts.rs",
    "proxy/headers.rs",
    "proxy/route/mod.rs",
    "proxy/links/mod.rs",
    "proxy/links/scan.rs",
    "proxy/conditional.rs",
    "upstream/breaker.rs",
    "upstream/rate_limit_hold.rs",
    "webhook/event.rs",
    "webhook/signature.rs",
    "online_check/failure.rs",
    "upstream/ca_file.rs",
    "upstream/certificate.rs",
    "status/chart.rs",
    "status/history.rs",
    "status/html.rs",
    "status/page/mod.rs",
    "status/page/sections.rs",
    "status/quantile.rs",
    "status/verdict.rs",
    "units.rs",
];
const IMPURE: &[&str] = &["tokio", ".await", "async ", "std::fs", "std::net", "SystemTime", "Instant::now"];

/// The only other places that touch metrics by their type: an error of metrics, and counters passed along.
const PROMETHEUS: &[&str] = &[
    "app/mod.rs",
    "supervisor.rs",
    "upstream/body.rs",
    "upstream/mod.rs",
    "upstream/pool/mod.rs",
    "telemetry/spans/mod.rs",
    "telemetry/spans/export.rs",
];

/// Lines of a file before its tests.
const LONGEST: usize = 400;

/// A line of the product, with its file and number.
struct Line {
    file: String,
    number: usize,
    text: String,
}

/// Every line under `src` that is neither a comment nor part of the tests.
fn lines() -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut lines = Vec::new();
    for path in files(&root) {
        let file = path.strip_prefix(&root).expect("below src").to_str().expect("UTF-8").to_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (index, text) in product.lines().enumerate() {
            if !text.trim_start().starts_with("//") {
                lines.push(Line { file: file.clone(), number: index + 1, text: text.to_owned() });
            }
        }
    }
    assert!(lines.len() > 3000, "the source was not found in {}", root.display());
    lines
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if path.is_dir() && name != "tests" {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found.sort();
    found
}

impl Line {
    /// The top-level module that the line belongs to.
    fn module(&self) -> &str {
        self.file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// The top-level modules that the line names: `crate::a::b`, and every part of `crate::{a, b::c}`.
    fn imports(&self) -> Vec<String> {
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let mut found = Vec::new();
        for rest in self.text.split("crate::").skip(1) {
            match rest.strip_prefix('{') {
                Some(list) => found.extend(list.split(',').map(|part| word(part.trim()))),
                None => found.push(word(rest)),
            }
        }
        found.retain(|module| !module.is_empty());
        found
    }

    fn place(&self) -> String {
        format!("src/{}:{}: {}", self.file, self.number, self.text.trim())
    }
}

/// Whether a module may import another one.
fn may_import(module: &str, other: &str) -> bool {
    if module == other || (LEAVES.contains(&other) && module != "simulator") {
        return true;
    }
    match module {
        // The spelling of durations does not concern Sezzle.
        "simulator" => other == "units",
        // A library's list of its modules imports none of them.
        "lib" => false,
        _ if ROOT.contains(&module) => other != "simulator",
        _ if ONLY_LEAVES.contains(&module) => false,
        _ => {
            let rule = MAY_IMPORT.iter().find(|(known, _)| *known == module);
            let (_, allowed) = rule.unwrap_or_else(|| panic!("say in {} what src/{module} may import", file!()));
            allowed.contains(&other)
        }
    }
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn imports_point_one_way() {
    let lines = lines();
    let allowed = |line: &Line, other: &str| {
        may_import(line.module(), other) || (other == "simulator" && SIMULATED.contains(&line.file.as_str()))
    };
    let crossing = |line: &&Line| line.imports().iter().any(|other| !allowed(line, other));
    none("imports against the direction", lines.iter().filter(crossing).map(Line::place).collect());
    // A rule for a deleted module would check nothing, and neither would a reader that finds nothing.
    for (module, _) in MAY_IMPORT {
        assert!(lines.iter().any(|line| line.module() == *module), "there is no src/{module}");
    }
    assert!(lines.iter().filter(|line| line.module() == "app").flat_map(Line::imports).count() >= 15);
}

#[test]
fn what_no_rule_allows() {
    for (module, other) in [
        ("sezzle", "session"),
        ("clock", "config"),
        ("telemetry", "proxy"),
        ("session", "upstream"),
        ("session", "credentials"),
        ("session", "proxy"),
        ("credentials", "server"),
        ("upstream", "config"),
        ("upstream", "credentials"),
        ("proxy", "server"),
        ("proxy", "ops"),
        ("proxy", "config"),
        ("server", "proxy"),
        ("ops", "proxy"),
        ("webhook", "proxy"),
        ("webhook", "server"),
        ("ops", "app"),
        ("config", "session"),
        ("app", "simulator"),
        ("simulator", "clock"),
        ("simulator", "sezzle"),
    ] {
        assert!(!may_import(module, other), "{module} may not import {other}");
    }
    let line = |text: &str| Line { file: "proxy/mod.rs".to_owned(), number: 1, text: text.to_owned() };
    assert_eq!(line("use crate::session::{Hit, Found};").imports(), ["session"]);
    assert_eq!(line("use crate::{clock::Clock, app, proxy};").imports(), ["clock", "app", "proxy"]);
    assert_eq!(line("let a = crate::app::run(crate::config::load());").imports(), ["app", "config"]);
    assert_eq!(line("pub(crate) fn say() {}").imports(), [""; 0]);
}

#[test]
fn other_modules_are_named_from_the_top_of_the_crate() {
    // Otherwise `imports_point_one_way` would not see these modules.
    let lines = lines();
    let upward = |line: &&Line| {
        let depth = line.file.split('/').filter(|part| *part != "mod.rs").count();
        line.text.contains(&format!("{}::", ["super"; 8][..depth].join("::")))
    };
    none("paths that lead out of a module", lines.iter().filter(upward).map(Line::place).collect());
}

#[test]
fn an_import_of_several_modules_stands_on_one_line() {
    // Otherwise `imports_point_one_way` would not see the modules on the further lines.
    let several = |line: &&Line| line.text.trim_end() == "use crate::{" || line.text.trim_end() == "pub use crate::{";
    none("imports over several lines", lines().iter().filter(several).map(Line::place).collect());
}

#[test]
fn decisions_do_no_io() {
    let lines = lines();
    for file in PURE {
        assert!(lines.iter().any(|line| line.file == *file), "there is no src/{file}");
    }
    let impure =
        |line: &&Line| PURE.contains(&line.file.as_str()) && IMPURE.iter().any(|word| line.text.contains(word));
    none("I/O or time in a pure file", lines.iter().filter(impure).map(Line::place).collect());
}

#[test]
fn metrics_are_defined_in_one_file() {
    let lines = lines();
    let stray = |line: &&Line| {
        let allowed = line.file.starts_with("telemetry/metrics") || PROMETHEUS.contains(&line.file.as_str());
        line.text.contains("prometheus::") && !allowed
    };
    none("prometheus outside its places", lines.iter().filter(stray).map(Line::place).collect());
    for file in PROMETHEUS {
        let uses = lines.iter().any(|line| line.file == *file && line.text.contains("prometheus::"));
        assert!(uses, "src/{file} needs no exception any more");
    }
    let named = |line: &&Line| line.text.contains("\"sezzle_sidecar_") && line.file != "telemetry/metrics/mod.rs";
    none("a metric's name outside telemetry/metrics/mod.rs", lines.iter().filter(named).map(Line::place).collect());
}

#[test]
fn no_file_outgrows_a_reader() {
    let lines = lines();
    let ends = |index: usize, line: &Line| lines.get(index + 1).is_none_or(|next| next.file != line.file);
    let mut long = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if ends(index, line) && line.number > LONGEST {
            long.push(format!("src/{}:{}: its last line; {LONGEST} are allowed", line.file, line.number));
        }
    }
    none("files that are too long", long);
}

#[test]
fn a_test_that_is_left_out_says_why() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut silent = Vec::new();
    for path in ["src", "tests"].iter().flat_map(|folder| all_files(&root.join(folder))) {
        let text = fs::read_to_string(&path).expect("readable");
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("#[ignore") && !line.contains("#[ignore = \"") {
                silent.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    none("tests left out without a reason", silent);
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
