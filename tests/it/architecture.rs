//! Imports point one way, decisions do no I/O, and no file outgrows a reader.
//!
//! These tests read the text of `src` without the tests in it. The simulator shares only the spelling of durations with
//! the product, and has a rule of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that know nothing of the product around them.
pub const LEAVES: &[&str] = &[
    "address",
    "boxed",
    "caller",
    "callers",
    "file",
    "hop_by_hop",
    "http_client",
    "method",
    "peer_body",
    "names",
    "sezzle",
    "clock",
    "drift",
    "secret",
    "supervisor",
    "systemd",
    "telemetry",
    "text",
    "threads",
    "units",
    "worker",
];

/// The modules that each module below the composition root may import, besides itself and the leaves.
pub const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("boxed", &[]),
    ("caller", &[]),
    ("callers", &[]),
    ("file", &[]),
    ("hop_by_hop", &[]),
    ("http_client", &[]),
    ("method", &[]),
    ("peer_body", &[]),
    ("names", &[]),
    ("sezzle", &[]),
    ("clock", &[]),
    ("drift", &[]),
    ("secret", &[]),
    ("supervisor", &[]),
    ("systemd", &[]),
    ("telemetry", &[]),
    ("text", &[]),
    ("threads", &[]),
    ("units", &[]),
    ("worker", &[]),
    ("audit", &[]),
    ("session", &[]),
    ("fleet", &["session"]),
    ("upstream", &[]),
    ("credentials", &["upstream"]),
    ("proxy", &["session", "credentials", "upstream", "audit"]),
    ("ops", &["session", "credentials", "upstream"]),
    ("status", &["proxy", "ops", "webhook", "session", "credentials", "upstream"]),
    ("online_check", &["session", "credentials", "upstream", "fleet"]),
    ("control", &["session"]),
    ("webhook", &["session", "credentials", "upstream"]),
];

/// Modules with a rule of their own: a listener knows nothing of what it serves, and a configuration is only read.
pub const ONLY_LEAVES: &[&str] = &["server", "config"];

/// The composition root and the modules above it, which may import everything but the simulator.
const ROOT: &[&str] = &["app", "cli", "main"];

/// The commands that start the simulator, and the only files of the product that import it.
const SIMULATED: &[&str] =
    &["cli/demo/alone.rs", "cli/demo/fleet.rs", "cli/demo/mod.rs", "cli/demo/sidecar.rs", "cli/simulate.rs"];

/// Decisions that take the time as an argument and do no I/O.
const PURE: &[&str] = &[
    "app/looks.rs",
    "audit/chain.rs",
    "audit/line.rs",
    "audit/verify/mod.rs",
    "callers/amount.rs",
    "callers/body.rs",
    "callers/issued.rs",
    "callers/memo.rs",
    "callers/named.rs",
    "callers/permission.rs",
    "callers/secrets.rs",
    "callers/table/mod.rs",
    "cli/second_signal.rs",
    "config/changes/mod.rs",
    "drift/compare.rs",
    "drift/shape.rs",
    "session/freshness/mod.rs",
    "session/invalidation/mod.rs",
    "session/invalidation/open.rs",
    "session/invalidation/tag.rs",
    "session/invalidation/tag_id.rs",
    "session/horizon.rs",
    "session/freshness/directives.rs",
    "session/freshness/origin.rs",
    "session/freshness/request_directives.rs",
    "session/revalidation.rs",
    "fleet/body.rs",
    "fleet/commands/mod.rs",
    "fleet/entry.rs",
    "fleet/failure.rs",
    "fleet/idle.rs",
    "fleet/inspect.rs",
    "fleet/journal.rs",
    "fleet/life.rs",
    "fleet/log/join.rs",
    "fleet/log/mod.rs",
    "fleet/log/outbox.rs",
    "fleet/log/purged.rs",
    "fleet/log/records.rs",
    "fleet/log/reply.rs",
    "fleet/log/tell.rs",
    "fleet/names.rs",
    "fleet/pace.rs",
    "fleet/pause.rs",
    "fleet/refusal.rs",
    "fleet/replies.rs",
    "fleet/seal.rs",
    "credentials/pace.rs",
    "credentials/rotation.rs",
    "credentials/schedule.rs",
    "credentials/verifier.rs",
    "upstream/retry.rs",
    "upstream/retry_after.rs",
    "upstream/window.rs",
    "proxy/attempts.rs",
    "proxy/route/amount.rs",
    "proxy/route/remedy.rs",
    "proxy/headers.rs",
    "proxy/route/mod.rs",
    "proxy/shown_path.rs",
    "proxy/links/mod.rs",
    "proxy/links/scan.rs",
    "proxy/conditional.rs",
    "upstream/breaker/mod.rs",
    "upstream/rate_limit_hold.rs",
    "webhook/event.rs",
    "webhook/signature.rs",
    "webhook/subscription/plan.rs",
    "online_check/failure.rs",
    "upstream/ca_file.rs",
    "upstream/certificate.rs",
    "status/chart.rs",
    "status/history.rs",
    "status/html.rs",
    "status/page/mod.rs",
    "status/page/blocks.rs",
    "status/callers.rs",
    "status/content/attention.rs",
    "status/content/block.rs",
    "status/content/callers.rs",
    "status/content/certificates.rs",
    "status/content/configuration.rs",
    "status/content/errors.rs",
    "status/content/fleet.rs",
    "status/content/hour.rs",
    "status/content/limits.rs",
    "status/content/meaning.rs",
    "status/content/mod.rs",
    "status/content/sezzle.rs",
    "status/content/webhooks.rs",
    "status/json.rs",
    "status/text.rs",
    "status/quantile.rs",
    "status/lasting.rs",
    "status/verdict/callers.rs",
    "status/verdict/calls.rs",
    "status/verdict/condition.rs",
    "status/verdict/fleet.rs",
    "status/verdict/keys.rs",
    "status/verdict/mod.rs",
    "status/verdict/process.rs",
    "status/verdict/remark.rs",
    "status/verdict/webhooks.rs",
    "status/verdict/writes.rs",
    "telemetry/log/excerpt.rs",
    "units.rs",
];
const IMPURE: &[&str] = &["tokio", ".await", "async ", "std::fs", "std::net", "SystemTime", "Instant::now"];

/// The only other places that touch metrics by their type: an error of metrics, and counters that are kept or passed
/// along.
const PROMETHEUS: &[&str] = &[
    "app/error.rs",
    "session/mod.rs",
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
fn forbidden_imports_are_found() {
    for (module, other) in [
        ("sezzle", "session"),
        ("clock", "config"),
        ("telemetry", "proxy"),
        ("session", "upstream"),
        ("session", "credentials"),
        ("session", "proxy"),
        ("session", "fleet"),
        ("fleet", "upstream"),
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
fn a_file_names_its_own_folder_by_super_or_self_and_others_from_the_top() {
    let lines = lines();
    let own = |line: &&Line| {
        let module = module(&line.file);
        let parent = module.split_last().map(|(_, parent)| parent).unwrap_or_default();
        let folders = [if line.file.ends_with("/mod.rs") { module.as_slice() } else { &[] }, parent];
        let named = |folder: &&[&str]| !folder.is_empty() && line.text.contains(&names(folder));
        line.text.contains("use crate::") && folders.iter().any(named)
    };
    none("imports that name their own folder from the top", lines.iter().filter(own).map(Line::place).collect());
}

/// How an import from the top names something in a folder.
fn names(folder: &[&str]) -> String {
    format!("use crate::{}::", folder.join("::"))
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for Line { file, text, .. } in lines() {
        let whole = files.entry(file).or_default();
        whole.push_str(&text);
        whole.push('\n');
    }
    none("files that import each other in a circle", circles(&files));
}

/// Files whose paths through `use` and in the code lead back to them, each with the shortest way back.
///
/// A path counts for the file that declares the name: a name that `pub use` hands on is followed. A file that only hands
/// a name on does not import it, and neither does a file that only declares a module.
fn circles(files: &BTreeMap<String, String>) -> Vec<String> {
    let sources: BTreeMap<Vec<&str>, Source> =
        files.iter().map(|(file, text)| (module(file), Source::read(file, text, files))).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(module, source)| {
            let declares = source.imports.iter().filter_map(|path| declaring(&sources, module, path, 0));
            (source.file, declares.filter(|other| *other != source.file).collect())
        })
        .collect();
    let mut found = BTreeSet::new();
    for start in imports.keys() {
        let mut ways = VecDeque::from([vec![*start]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let Some(next) = way.last().and_then(|last| imports.get(last)) else { continue };
            if next.contains(start) {
                // Named from its first file on, whichever of its files it was found from.
                let first = way.iter().enumerate().min_by_key(|(_, file)| **file).map_or(0, |(index, _)| index);
                let circle: Vec<&str> = way[first..].iter().chain(&way[..=first]).copied().collect();
                found.insert(circle.join(" -> "));
                break;
            }
            ways.extend(next.iter().filter(|file| seen.insert(**file)).map(|file| [&way[..], &[*file]].concat()));
        }
    }
    found.into_iter().collect()
}

/// A file as its imports need it.
struct Source<'t> {
    file: &'t str,
    /// The paths that the file uses, by segment.
    imports: BTreeSet<Vec<String>>,
    /// The names that the file hands on, each with the path to it.
    handed_on: BTreeMap<String, Vec<String>>,
}

impl<'t> Source<'t> {
    fn read(file: &'t str, text: &str, files: &BTreeMap<String, String>) -> Self {
        let text = at_one_level(text);
        let (statements, code) = split_uses(&text);
        let words: BTreeSet<&str> = code.split(|c: char| !is_of_word(c)).collect();
        let mut source = Self { file, imports: BTreeSet::new(), handed_on: BTreeMap::new() };
        for (public, tree) in statements {
            for (path, name) in expand(&tree) {
                if public {
                    source.handed_on.insert(name.clone(), path.clone());
                }
                if !public || name == "*" || words.contains(name.as_str()) {
                    source.imports.insert(path);
                }
            }
        }
        let own = module(file).join("/");
        let is_module = |name: &str| {
            let place = if own.is_empty() { name.to_owned() } else { format!("{own}/{name}") };
            files.contains_key(&format!("{place}.rs")) || files.contains_key(&format!("{place}/mod.rs"))
        };
        for path in code.split(|c: char| !is_of_word(c) && c != ':') {
            let path: Vec<String> = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            let Some(first) = path.first().filter(|_| path.len() > 1) else { continue };
            if ["crate", "self", "super"].contains(&first.as_str()) || is_module(first) {
                source.imports.insert(path);
            }
        }
        source
    }
}

/// The module that a file is.
fn module(file: &str) -> Vec<&str> {
    let mut module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib")) {
        module.pop();
    }
    module
}

/// The text without modules of tests. Code in another module of the same file reads as if it stood outside.
fn at_one_level(text: &str) -> String {
    let mut open: Vec<(String, bool)> = Vec::new();
    let mut out = String::new();
    for line in text.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        if open.last().is_some_and(|(begun, _)| line == format!("{begun}}}")) {
            open.pop();
            continue;
        }
        let declared = line.trim_start().trim_start_matches("pub(super) ").trim_start_matches("pub ");
        if let Some(name) = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            open.push((indent, name == "tests"));
            continue;
        }
        if !open.iter().any(|(_, is_of_tests)| *is_of_tests) {
            let outside = open.iter().fold(line.to_owned(), |line, _| match line.contains("super::super::") {
                true => line.replace("super::super::", "super::"),
                false => line.replace("super::", "self::"),
            });
            out.push_str(&outside);
            out.push('\n');
        }
    }
    out
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The trees of all `use`, each with whether it hands its names on, and the rest of the text.
fn split_uses(text: &str) -> (Vec<(bool, String)>, String) {
    let (mut statements, mut code) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let begun = line.trim_start();
        // A visibility names no import.
        let line = line.split("pub(in ").map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        let Some((visibility, tree)) = begun.split_once("use ").filter(|(before, _)| is_visibility(before)) else {
            code.push_str(&if begun.contains("pub(in ") { line.collect::<String>() } else { begun.to_owned() });
            code.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        statements.push((!visibility.is_empty(), tree.split(';').next().unwrap_or_default().to_owned()));
    }
    (statements, code)
}

fn is_visibility(text: &str) -> bool {
    text.is_empty() || text == "pub " || (text.starts_with("pub(") && text.ends_with(") "))
}

/// Every path of a tree, with the name by which the file knows it.
fn expand(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    if let Some((before, inside)) = tree.split_once('{') {
        let inside = inside.strip_suffix('}').unwrap_or(inside);
        let (mut depth, mut branches) = (0, vec![String::new()]);
        for c in inside.chars() {
            match c {
                ',' if depth == 0 => branches.push(String::new()),
                _ => {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    branches.last_mut().expect("one at least").push(c);
                }
            }
        }
        let whole = |branch: &String| expand(&format!("{}{}", before.trim(), branch.trim()));
        return branches.iter().filter(|branch| !branch.trim().is_empty()).flat_map(whole).collect();
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path: Vec<String> =
        path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = alias.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
    vec![(path, name)]
}

/// The file that declares what a path in a module names.
fn declaring<'t>(
    sources: &BTreeMap<Vec<&'t str>, Source<'t>>,
    from: &[&str],
    path: &[String],
    depth: usize,
) -> Option<&'t str> {
    let mut at: Vec<&str> = from.to_vec();
    let mut rest: Vec<&str> = path.iter().map(String::as_str).collect();
    match rest.first().copied() {
        Some("crate") => at.clear(),
        Some("self") => {}
        Some("super") => {
            while rest.get(1) == Some(&"super") {
                at.pop();
                rest.remove(0);
            }
            at.pop();
        }
        Some(name) if sources.keys().any(|module| *module == [&at[..], &[name]].concat()) => rest.insert(0, "self"),
        _ => return None,
    }
    rest.remove(0);
    while let Some(next) = rest.first() {
        let inner = [&at[..], &[*next]].concat();
        if !sources.keys().any(|module| *module == inner) {
            break;
        }
        at = inner;
        rest.remove(0);
    }
    let source = sources.iter().find(|(module, _)| **module == at).map(|(_, source)| source)?;
    match rest.first().and_then(|name| source.handed_on.get(*name)).filter(|_| depth < 5) {
        Some(further) => {
            let further: Vec<String> =
                further.iter().cloned().chain(rest[1..].iter().map(|s| (*s).to_owned())).collect();
            declaring(sources, &at, &further, depth + 1).or(Some(source.file))
        }
        None => Some(source.file),
    }
}

#[test]
fn circles_are_found_and_chains_are_no_circles() {
    let found = |files: &[(&str, &str)]| {
        circles(&files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
    };
    let two = ["a.rs -> b.rs -> a.rs"];
    assert_eq!(found(&[("a.rs", "use crate::b::B;\n"), ("b.rs", "fn f() { crate::a::run() }\n")]), two);
    assert_eq!(found(&[("a.rs", "use crate::{\nb::B,\nc::C};\n"), ("b.rs", "use crate::a;\n")]), two);
    assert_eq!(found(&[("a.rs", "use crate::b;\n"), ("b.rs", "pub(in crate::a) struct B;\n")]), [""; 0]);
    assert_eq!(
        found(&[("a.rs", "use crate::b;\n"), ("b.rs", "#[cfg(test)]\nmod tests {\nuse crate::a;\n}\n")]),
        [""; 0]
    );
    assert_eq!(
        found(&[
            ("a.rs", "use crate::b;\n"),
            ("b.rs", "use crate::c;\n"),
            ("c.rs", "pub use crate::a::A;\nstruct C(A);\n")
        ]),
        ["a.rs -> b.rs -> c.rs -> a.rs"]
    );

    // A parent and its child. To declare a module, or to hand on its names, imports nothing.
    let child = ("a/b.rs", "use super::A;\n");
    let parent = ["a/b.rs -> a/mod.rs -> a/b.rs"];
    assert_eq!(found(&[("a/mod.rs", "mod b;\npub use self::b::B;\npub struct A;\n"), child]), [""; 0]);
    assert_eq!(found(&[("a/mod.rs", "mod b;\npub use self::b::B;\npub struct A(B);\n"), child]), parent);
    assert_eq!(found(&[("a/mod.rs", "mod b;\npub use self::b::*;\npub struct A(B);\n"), child]), parent);
    assert_eq!(found(&[("a/mod.rs", "mod b;\npub struct A(b::B);\n"), child]), parent);
    assert_eq!(found(&[("a/mod.rs", "mod b;\nuse b::B;\npub struct A(B);\n"), child]), parent);
    assert_eq!(found(&[("a/mod.rs", "use self::b::B;\npub struct A;\n"), ("a/b.rs", "use super::*;\n")]), parent);

    // A name that a module hands on leads to the file that declares it.
    let through =
        |text| found(&[("a/mod.rs", "pub use self::b::B;\n"), ("a/b.rs", text), ("c.rs", "use crate::a::B;\n")]);
    assert_eq!(through("use crate::c::C;\n"), ["a/b.rs -> c.rs -> a/b.rs"]);
    assert_eq!(through("struct B;\n"), [""; 0]);

    // A module within a file.
    let inner = "pub mod one {\n    use super::A;\n    use super::super::d::D;\n}\n";
    assert_eq!(found(&[("a.rs", inner), ("d.rs", "use crate::a::one;\n")]), ["a.rs -> d.rs -> a.rs"]);
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
