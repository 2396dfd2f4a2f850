//! Every command that the pages print for operators runs as printed, in a setting like the one that it is for: a service
//! of systemd with a passed socket, a pod whose image has no shell, and a plain binary. Stand-ins for `kubectl`,
//! `journalctl` and `systemctl` take what the pages print, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use http::Method;
use sezzle_sidecar::simulator::{Options, Reset, Rule, Simulator};

use crate::support::client::Client;
use crate::support::pages::{blocks, page, root};
use crate::support::process::{BINARY, Ended, Folder, Process, free_address};
use crate::support::{Session, eventually};

/// Pages whose commands are not for operators, or which another test runs.
const ELSEWHERE: [(&str, &str); 11] = [
    ("docs/audit.md", "tests/it/audit_page.rs runs each step as printed"),
    ("docs/be-the-gateway.md", "tests/it/being_the_gateway.rs runs the steps as printed"),
    ("docs/callers.md", "tests/it/callers/page.rs runs every step as printed"),
    ("docs/simulator.md", "tests/it/simulate.rs sends every call as printed"),
    ("docs/calling.md", "tests/it/guides.rs sends every call as printed"),
    ("docs/testing-your-service.md", "tests/it/guides.rs runs the examples that the page shows"),
    ("docs/tls.md", "tests/it/tls_callers.rs runs every step as printed"),
    ("docs/performance.md", "a benchmark, for an idle machine"),
    ("docs/releasing.md", "the steps of a release, which the CI of a tag takes"),
    ("docs/architecture.md", "a page about the code"),
    ("docs/fleet-protocol.md", "a page about the code"),
];

/// Printed commands that no test runs: page, beginning of the command, reason.
const NOT_RUN: [(&str, &str, &str); 18] = [
    ("README.md", "export SEZZLE_SIDECAR__CREDENTIALS", "goes on until a signal; tests/it/commands.rs runs it"),
    ("README.md", "tests/run", "runs this test"),
    ("docs/cache.md", "sezzle-sidecar explain GET", "tests/it/explain_and_purge.rs; needs an answer of Sezzle's"),
    ("docs/fleet.md", "curl -sS http://127.0.0.1:9464/metrics | grep fleet_state", "needs a fleet"),
    ("docs/fleet.md", "sezzle-sidecar purge --all --config", "needs a fleet; tests/it/fleet_operations.rs"),
    ("docs/fleet.md", "sezzle-sidecar demo --fleet", "tests/it/fleet_demo.rs runs it"),
    ("docs/fleet.md", "kubectl -n shop create secret tls fleet-tls", "needs a cluster"),
    ("docs/installation-systemd.md", "install -D -m 0644 deploy/systemd/systemd-252", "installs on the host"),
    ("docs/installation-systemd.md", "systemctl edit", "opens an editor"),
    ("docs/installation-systemd.md", "systemd-analyze security", "tests/it/systemd.rs runs it on the unit"),
    ("docs/installation.md", "install -d -m 0750 -g 65532 keys", "needs root, and keys that a person types in"),
    (
        "docs/installation.md",
        "kubectl apply -f deploy/kubernetes/namespace.yaml",
        "needs a cluster; deploy/check holds the manifests",
    ),
    (
        "docs/installation.md",
        "kubectl -n shop port-forward deployment/shop",
        "tests/it/kubernetes.rs calls the service",
    ),
    ("docs/installation.md", "deploy/image/build", "tests/run runs it"),
    (
        "docs/installation.md",
        "sezzle-sidecar check --config sidecar.toml\nsezzle-sidecar run",
        "goes on until a signal",
    ),
    ("docs/installation.md", "kubectl apply -k", "the name of a command"),
    ("docs/metrics.md", "kubectl apply -k", "needs a cluster; deploy/check renders the objects"),
    ("docs/status-page.md", "# On the host", "a browser, a terminal and another machine"),
];

/// Commands that no test runs on any page: beginning of the command, reason.
const NEVER_RUN: [(&str, &str); 9] = [
    ("cargo ", "builds for minutes, and other tests run what was built"),
    ("docker ", "needs Docker"),
    ("podman ", "needs Podman"),
    ("openssl ", "makes keys"),
    ("(umask ", "makes keys, or takes them from a person"),
    ("sha256sum ", "needs the archive of a release"),
    ("./sezzle-sidecar demo", "goes on until a signal; tests/it/commands.rs runs the tour"),
    ("curl -i https://", "calls another machine"),
    ("kubectl -n shop rollout status deployment/valkey", "needs a cluster with a fleet"),
];

/// With these a printed command begins.
const PROGRAMS: [&str; 19] = [
    "#",
    "(umask",
    "cargo",
    "cd",
    "cp",
    "curl",
    "docker",
    "export",
    "grep",
    "install",
    "journalctl",
    "kubectl",
    "openssl",
    "podman",
    "sed",
    "sezzle-sidecar",
    "sha256sum",
    "systemctl",
    "systemd-analyze",
];

/// With these a block begins that is no command: configuration, output, a figure, a program in another language.
const TEXTS: [&str; 14] = [
    "[",
    "1.",
    "fleet ",
    "gateway ",
    "maxmemory ",
    "service ",
    "user ",
    "apiVersion: ",
    "const ",
    "def ",
    "function ",
    "export function ",
    "import ",
    "test(",
];

/// A printed command: a whole block, or one between backticks.
#[derive(Clone, Debug)]
struct Printed {
    page: String,
    command: String,
}

/// Whether a block is a command. Fails for a beginning that nobody has decided on.
fn is_command(page: &str, block: &str) -> bool {
    let line = block.lines().next().unwrap_or_default();
    let is_comment = line.starts_with('#');
    let is_setting = line.ends_with(':') || line.contains(" = ");
    let is_text = TEXTS.iter().any(|text| line.starts_with(text)) || is_setting && !is_comment;
    // Variables may be set before a command. Nothing but variables is a configuration.
    let is_variable = |word: &str| word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let first = block.split_whitespace().find(|word| *word != "\\" && !is_variable(word));
    let Some(first) = first.filter(|_| !is_text) else { return false };
    let in_tree = first.contains('/') && (first.starts_with("./") || root().join(first).is_file());
    let known = PROGRAMS.contains(&first) || in_tree;
    assert!(known, "{page}: is this a command? Add its beginning to PROGRAMS or TEXTS:\n{block}");
    true
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The commands between backticks, of at least three words: two name a command and are no call of it.
fn spans(text: &str) -> Vec<String> {
    let outside: String =
        text.lines().filter(|line| !line.starts_with("    ")).map(|line| format!("{line}\n")).collect();
    let mut found = Vec::new();
    for paragraph in outside.split("\n\n") {
        assert!(paragraph.matches('`').count().is_multiple_of(2), "an odd number of backticks: {paragraph}");
        for span in paragraph.split('`').skip(1).step_by(2) {
            let span = span.replace("\\|", "|");
            let words: Vec<&str> = span.split_whitespace().collect();
            if words.len() >= 3 && PROGRAMS.contains(&words[0]) && words[0] != "#" {
                found.push(words.join(" "));
            }
        }
    }
    found
}

/// The lines that a block runs: of a shown terminal those after its prompt.
fn script(block: &str) -> String {
    let typed: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    if typed.is_empty() { block.to_owned() } else { typed.join("\n") }
}

fn printed() -> Vec<Printed> {
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    let mut pages: Vec<String> =
        docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().to_str().expect("UTF-8"))).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    let mut all = Vec::new();
    for name in pages.iter().filter(|name| ELSEWHERE.iter().all(|(page, _)| page != name)) {
        let text = page(name);
        let of_blocks = blocks(&text).into_iter().map(|block| script(&block)).filter(|block| is_command(name, block));
        for command in of_blocks.chain(spans(&text)) {
            all.push(Printed { page: name.clone(), command });
        }
    }
    all
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Systemd,
    Kubernetes,
    Plain,
}

/// The setting for which a command is printed.
fn kind(printed: &Printed) -> Kind {
    let says = |words: &[&str]| words.iter().any(|word| printed.command.contains(word));
    let is_systemd = says(&["journalctl ", "systemctl ", "/run/sezzle-sidecar/", "/etc/sezzle-sidecar/"]);
    if says(&["kubectl "]) {
        Kind::Kubernetes
    } else if is_systemd || printed.page == "docs/installation-systemd.md" {
        Kind::Systemd
    } else {
        Kind::Plain
    }
}

const POD: &str = "shop-5d8c7b9f4-x2x7q";
const UNKNOWN: &str = "the outcome of a write is unknown";

/// The configuration of the example for Kubernetes.
fn example() -> String {
    let mut folders = vec![root().join("deploy/kubernetes")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|name| name == "sidecar.toml") {
                return fs::read_to_string(path).expect("readable");
            }
            folders.extend(path.is_dir().then_some(path));
        }
    }
    panic!("the example has no sidecar.toml");
}

/// A running sidecar as one of the pages installs it, and a folder with the stand-ins.
struct Setting {
    folder: Folder,
    gateway: Simulator,
    process: Process,
    order: Session,
    /// Printed texts, and what they are here.
    places: Vec<(&'static str, String)>,
}

impl Setting {
    async fn start(kind: Kind) -> Self {
        let folder = Folder::new();
        let here = folder.path().display().to_string();
        let Options { public_key, private_key, .. } = Options::default();
        folder.write("public_key", &public_key);
        folder.write("private_key", &private_key);
        let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
        let [proxy, ops, control] = [free_address(), free_address(), free_address()];
        let socket = UnixListener::bind(folder.path().join("proxy.sock")).expect("bound");
        let file = match kind {
            Kind::Systemd => page("deploy/systemd/sidecar.toml")
                .replace("# [control]\n# listen", "[control]\nlisten")
                .replace("/run/credentials/sezzle-sidecar.service", &here)
                .replace("/run/sezzle-sidecar", &here),
            Kind::Kubernetes => example(),
            Kind::Plain => page("config/sandbox.toml"),
        };
        let file = file
            .replace("/run/secrets/sezzle", &here)
            .replace("environment = \"sandbox\"", &format!("environment = \"sandbox\"\nurl = \"{}\"", gateway.url()));
        // Settings that the file leaves to the defaults, at addresses that are free here.
        let own = match kind {
            Kind::Systemd => String::new(),
            Kind::Kubernetes => format!("[proxy]\nlisten = [\"{proxy}\"]\n"),
            Kind::Plain => format!("[proxy]\nlisten = [\"{proxy}\", \"unix:{here}/plain.sock\"]\n"),
        };
        let mut file = file
            .replace("0.0.0.0:9464", &format!("0.0.0.0:{}", ops.port()))
            .replace("127.0.0.1:9465", &control.to_string())
            + &own;
        if !file.contains("\n[ops]") {
            file.push_str(&format!("[ops]\nlisten = \"{ops}\"\n"));
        }
        if !file.contains("\n[control]") {
            file.push_str(&format!("[control]\nlisten = \"unix:{here}/control.sock\"\n"));
        }
        let file = folder.write("sidecar.toml", &file);
        let arguments = ["run", "--config", &file];
        let process = match kind {
            Kind::Systemd => Process::passed(
                OwnedFd::from(socket),
                "LISTEN_FDS=1 LISTEN_FDNAMES=proxy LISTEN_PID=$$",
                &arguments,
                &[],
            ),
            Kind::Kubernetes | Kind::Plain => Process::start(&arguments, &[]),
        };
        Client::new().until_ready(ops).await;

        let order = Session::order(&gateway).authorized(&gateway);
        let (order_id, session_id) = (order.order.clone(), order.uuid.to_string());
        let places = vec![
            ("/etc/sezzle-sidecar", here.clone()),
            ("/run/sezzle-sidecar", here.clone()),
            ("/run/sezzle/proxy.sock", format!("{here}/plain.sock")),
            ("/run/sezzle", here.clone()),
            ("/usr/local/bin", here.clone()),
            ("127.0.0.1:8080", proxy.to_string()),
            ("127.0.0.1:9464", ops.to_string()),
            ("127.0.0.1:9465", control.to_string()),
            ("-n NS ", "-n shop ".to_owned()),
            ("POD", POD.to_owned()),
            ("ORDER", order_id),
            ("UUID", session_id),
            ("MESSAGE", UNKNOWN.to_owned()),
            ("' FILE", "' log".to_owned()),
        ];
        let setting = Self { folder, gateway, process, order, places };
        setting.furnish();
        setting.loses_an_answer(kind, &proxy.to_string()).await;
        setting
    }

    /// Puts the stand-ins and the files that the commands name into the folder.
    fn furnish(&self) {
        let here = self.folder.path();
        symlink(root().join("tests/data/stand_ins"), here.join("bin")).expect("a link");
        let binary = format!("#!/bin/sh\nexec {BINARY} \"$@\"\n");
        self.folder.write_with("sezzle-sidecar", &binary, 0o755);
        fs::create_dir_all(here.join("target/release")).expect("a folder");
        self.folder.write_with("target/release/sezzle-sidecar", &binary, 0o755);
        for (from, to) in [
            ("prometheus/alerts.yml", "alerts.yml"),
            ("grafana/sezzle-sidecar.json", "deploy/grafana/sezzle-sidecar.json"),
        ] {
            let to = here.join(to);
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(root().join("deploy").join(from), to).expect("copied");
        }
    }

    /// Sezzle makes a capture, and its answer never arrives: what most runbooks look for in the log.
    async fn loses_an_answer(&self, kind: Kind, proxy: &str) {
        let capture = format!("{}/capture", self.order.order_path);
        self.gateway.script(Rule::on(Method::POST, &capture).reset(Reset::AfterEffect));
        let body = r#"{"capture_amount":{"amount_in_cents":100,"currency":"USD"},"partial_capture":true}"#;
        let base = if kind == Kind::Systemd {
            "--unix-socket proxy.sock http://localhost".to_owned()
        } else {
            format!("http://{proxy}")
        };
        let line = format!(
            "curl -sS -o /dev/null -w '%{{http_code}}' -H 'content-type: application/json' -d '{body}' {base}{capture}"
        );
        let ended = Process::shell(&line, self.folder.path(), &[]).end().await;
        assert_eq!(ended.stdout, "504", "{ended:?}");
        eventually("the log tells", async || self.process.stdout().contains(UNKNOWN)).await;
    }

    /// Runs a printed command.
    async fn run(&self, command: &str) -> Ended {
        self.folder.write("log", &self.process.stdout());
        let command =
            self.places.iter().fold(command.to_owned(), |command, (there, here)| command.replace(there, here));
        let units = root().join("deploy/systemd");
        let line = format!(
            "export PATH=\"$PWD/bin:$PATH\" LOG=\"$PWD/log\" BINARY={BINARY} UNITS={} POD={POD} PROCESS={}\nset -e\n{command}",
            units.display(),
            self.process.id(),
        );
        Process::shell(&line, self.folder.path(), &[]).end().await
    }

    /// Runs a printed command, which must succeed.
    async fn works(&self, page: &str, command: &str) {
        let ended = self.run(command).await;
        assert_eq!(ended.code, Some(0), "{page}: {command}\n{}\n{}", ended.stdout, ended.stderr);
        // Commands that read have something to read.
        let read = ["curl ", "journalctl ", "logs ", "grep ", " check ", " status", " purge ", " log-level "];
        let changes = ["systemctl ", "kubectl -n NS delete", "kubectl -n NS rollout"];
        let speaks =
            read.iter().any(|word| command.contains(word)) && !changes.iter().any(|begin| command.starts_with(begin));
        assert!(!speaks || !ended.stdout.is_empty(), "{page}: {command} printed nothing");
    }
}

/// Each command of the pages, with the setting in which it must work.
fn expected() -> (Vec<(Kind, Printed)>, BTreeSet<usize>) {
    let mut used = BTreeSet::new();
    let mut expected = Vec::new();
    for printed in printed() {
        let is_of =
            |(page, begin, _): &(&str, &str, &str)| printed.page == *page && printed.command.starts_with(*begin);
        if let Some(entry) = NOT_RUN.iter().position(is_of) {
            used.insert(entry);
        } else if NEVER_RUN.iter().all(|(begin, _)| !printed.command.starts_with(begin)) {
            expected.push((kind(&printed), printed));
        }
    }
    (expected, used)
}

#[test]
fn every_printed_command_is_run_or_the_reason_is_known() {
    let (expected, used) = expected();
    assert!(expected.len() > 50, "{}", expected.len());
    let unused: Vec<_> = NOT_RUN.iter().enumerate().filter(|(entry, _)| !used.contains(entry)).collect();
    assert!(unused.is_empty(), "no page prints these any more: {unused:?}");
    assert!(ELSEWHERE.iter().all(|(page, _)| root().join(page).exists()));
    // The pages that one opens at night are run whole.
    for (page, least) in [
        ("docs/alerts.md", 20),
        ("docs/troubleshooting.md", 3),
        ("docs/control-listener.md", 4),
        ("docs/upgrading.md", 5),
    ] {
        assert!(expected.iter().filter(|(_, printed)| printed.page == page).count() >= least, "{page}");
        assert!(NOT_RUN.iter().all(|(name, ..)| *name != page), "{page}");
    }
}

async fn commands_of(of: Kind) {
    let setting = Setting::start(of).await;
    let of_pages = expected().0.into_iter().filter(|(kind, _)| *kind == of).map(|(_, printed)| printed);
    let of_box = boxed(of).into_iter().map(|command| Printed { page: "docs/alerts.md".to_owned(), command });
    let mut done = BTreeSet::new();
    for Printed { page, command } in of_pages.chain(of_box) {
        if done.insert(command.clone()) {
            setting.works(&page, &command).await;
        }
    }
    setting.process.signal("TERM");
    assert_eq!(setting.process.end().await.code, Some(0));
    setting.gateway.stop().await;
}

/// The commands of a column of the box, each in its own setting whatever it looks like.
fn boxed(of: Kind) -> Vec<String> {
    let text = page("docs/alerts.md");
    let (_, table) = text.split_once("\n| | systemd | Kubernetes | plain binary |\n").expect("the box");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).skip(1).collect();
    assert!(rows.len() > 8, "{rows:?}");
    let cell = |row: &&str| row.split(" | ").nth(of as usize + 1).unwrap_or_else(|| panic!("{row}")).to_owned();
    rows.iter().map(cell).flat_map(|cell| spans(&cell)).collect()
}

#[tokio::test]
async fn printed_commands_work_beside_systemd() {
    commands_of(Kind::Systemd).await;
}

#[tokio::test]
async fn printed_commands_work_in_a_pod_without_a_shell() {
    commands_of(Kind::Kubernetes).await;
}

#[tokio::test]
async fn printed_commands_work_beside_a_plain_binary() {
    commands_of(Kind::Plain).await;
}

/// The stand-ins take no command that the real programs would refuse, or that shows less than the page says.
#[tokio::test]
async fn the_stand_ins_refuse_what_would_not_work() {
    let setting = Setting::start(Kind::Kubernetes).await;
    for command in [
        "kubectl logs -c sezzle-sidecar",
        "kubectl logs POD",
        "kubectl exec POD -- /sezzle-sidecar version",
        "kubectl exec POD -c sezzle-sidecar -- curl -sS http://127.0.0.1:9464/livez",
        "kubectl exec POD -c sezzle-sidecar -- sh -c true",
        "systemctl restart sidecar",
        "journalctl -u sidecar",
        "curl -sS http://127.0.0.1:8080/v2/nothing",
    ] {
        assert_ne!(setting.run(command).await.code, Some(0), "{command}");
    }
}
