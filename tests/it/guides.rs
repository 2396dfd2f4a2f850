//! The guides for those who write a service: their lines and examples work as printed, their tables say what the code
//! does, and the suites of `examples` pass.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use sezzle_sidecar::config;
use sezzle_sidecar::method::is_safe;
use sezzle_sidecar::proxy::route::Matched;
use sezzle_sidecar::proxy::route::remedy::{Key, Remedy};
use sezzle_sidecar::simulator::EffectKind;

use crate::support::pages::{calls, page, quoted, root, rows};
use crate::support::process::{BINARY, Ended, Folder, Process};
use crate::support::service::{Conduct, Service};
use crate::support::stack::installed;
use crate::support::{Harness, Session, Setup};

/// Time for a suite on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The part of a page between two headings.
fn part(name: &str, from: &str, to: &str) -> String {
    let text = page(name);
    let (_, rest) = text.split_once(&format!("\n{from}\n")).unwrap_or_else(|| panic!("no {from}"));
    rest.split_once(&format!("\n{to}\n")).unwrap_or_else(|| panic!("no {to} after {from}")).0.to_owned()
}

/// The commands of a text, whole. A command may go on over several lines of its block.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in text.lines() {
        let code = line.trim_start();
        match commands.last_mut() {
            _ if !line.starts_with("    ") => {}
            _ if code.starts_with("curl ") => commands.push(code.to_owned()),
            Some(command) if command.matches('\'').count() % 2 == 1 => *command = format!("{command}\n{code}"),
            _ => {}
        }
    }
    commands
}

#[tokio::test]
async fn the_lines_of_a_first_payment_work_as_printed() {
    let harness = Harness::start().await;
    let folder = Folder::new();
    let mut lines = commands(&part("docs/calling.md", "## A first payment", "## What to do by answer"));
    lines.extend(commands(&part("docs/calling.md", "## Keys of your own", "## Timeouts of your client")));
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let (mut session, mut order, mut outputs) = (String::new(), String::new(), Vec::new());
    for line in &lines {
        let line = line.replace("127.0.0.1:8080", &harness.proxy.to_string());
        let line = line.replace("127.0.0.1:8081", &harness.gateway.addr().to_string());
        let line = format!("SESSION={session} ORDER={order}; {line} --fail --max-time 20");
        let Ended { code, stdout, stderr } = Process::shell(&line, folder.path(), &[]).end().await;
        assert_eq!(code, Some(0), "{line}\n{stdout}\n{stderr}");
        if session.is_empty() {
            let answer: Value = serde_json::from_str(&stdout).expect("JSON");
            session = answer["uuid"].as_str().expect("a session").to_owned();
            order = answer["order"]["uuid"].as_str().expect("an order").to_owned();
            assert!(answer["order"]["checkout_url"].is_string(), "{stdout}");
            assert_eq!(harness.get(&format!("/v2/session/{session}")).await.status, 200);
        }
        outputs.push(stdout);
    }
    assert!(outputs[1].to_ascii_lowercase().contains("cache-status: sezzle-sidecar; hit"), "{}", outputs[1]);
    let effects = harness.gateway.effects(&order).into_iter().map(|effect| (effect.kind, effect.cents, effect.key));
    let key = |key: &str| Some(key.to_owned());
    let expected =
        [(EffectKind::Capture, 2_500, key("parcel-1-capture")), (EffectKind::Refund, 500, key("return-77-refund"))];
    assert_eq!(effects.collect::<Vec<_>>(), expected);
    harness.stop().await;
}

/// The table of unknown outcomes has each call that can end in one, with the remedy that the message names.
#[test]
fn the_table_of_unknown_outcomes_says_what_the_message_says() {
    let minted = HeaderValue::from_static("k");
    let table = part("docs/calling.md", "### After an unknown outcome", "## Keys of your own");
    let mut listed = BTreeSet::new();
    for row in rows(&table, 2) {
        let (mut parent, mut remedies) = (String::new(), Vec::new());
        for call in quoted(row[0]) {
            // `…/refund` is the call beside the one before it.
            let call = call.strip_prefix("…").map_or(call.clone(), |last| format!("{parent}{last}"));
            parent = call.rsplit_once('/').expect("a path").0.to_owned();
            let (method, template) = call.split_once(' ').expect("a method and a path");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let path = template.replace("{session}", UUID).replace(['{', '}'], "");
            let matched = Matched::path(&path).expect("below /v2/");
            let key = if matched.route.is_keyed(&method) { Key::Minted(&minted) } else { Key::None };
            remedies.push(matched.remedy(&method, key));
            assert!(listed.insert(call.clone()), "{call} stands there twice");
        }
        assert!(remedies.windows(2).all(|pair| pair[0] == pair[1]), "one remedy in a row: {row:?}");
        let says = match remedies.first().expect("a call") {
            Remedy::SameKey | Remedy::MintedKey(_) => "repeat with the same `Sezzle-Request-Id`",
            Remedy::Repeat => "repeat: a second time does no harm",
            Remedy::NewSession => "create another session and send no shopper to the first",
            Remedy::NewCard => "create a new card",
            Remedy::ReadSession => "read the session",
            Remedy::ReadOrder => "read the order, `GET /v2/order/{order}`",
            Remedy::ReadCustomer => "read the customer, `GET /v2/customer/{customer}`",
            Remedy::ListWebhooks => "list the webhooks, `GET /v2/webhooks`",
            Remedy::AskSezzle => "look into Sezzle's dashboard",
        };
        assert!(row[1].starts_with(says), "{row:?} should begin with {says:?}");
    }
    let can_be_unknown = |call: &String| {
        let (method, template) = call.split_once(' ').expect("a method and a path");
        let route = Matched::path(&template.replace(['{', '}'], "")).expect("below /v2/").route;
        let is_write = !is_safe(&Method::from_bytes(method.as_bytes()).expect("a method"));
        (is_write || route.is_card_data()) && template != "/v2/authentication"
    };
    assert_eq!(listed, calls().into_iter().filter(can_be_unknown).collect::<BTreeSet<_>>());
}

const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";

/// The timeouts that the page and the examples advise exceed the sidecar's own, by its defaults.
#[test]
fn the_timeouts_advised_exceed_the_sidecars_own() {
    let set = |name: &str, value: &str| (format!("SEZZLE_SIDECAR__{name}").into(), value.into());
    let variables = [
        set("GATEWAY__ENVIRONMENT", "sandbox"),
        set("CREDENTIALS__PUBLIC_KEY", "any"),
        set("CREDENTIALS__PRIVATE_KEY", "any"),
    ];
    let gateway = config::load(&[], variables).expect("valid").settings.gateway;
    let table = part("docs/calling.md", "## Timeouts of your client", "## Before you go live");
    let row = |what: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("| {what} |"))).expect("the row");
        let number = |text: &str| text.split(' ').find_map(|word| word.parse::<u64>().ok()).expect("a number");
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        (number(cells[1]), number(cells[2]))
    };
    let (queue, body) = (1, 5);
    for (what, own) in [
        ("a lookup", gateway.read_timeout.as_secs() + queue),
        // The time in the queue is part of a write's time.
        ("a write", gateway.write_timeout.as_secs() + body),
        ("a report", gateway.report_timeout.as_secs() + queue),
    ] {
        let (said, advised) = row(what);
        assert_eq!(said, own, "{what}");
        assert!(advised >= own + 4, "{what}: {advised} s");
    }
    let (lookup, write) = (row("a lookup").1, row("a write").1);
    assert!(page("examples/python/sezzle.py").contains(&format!("\nLOOKUP, WRITE = {lookup}, {write}\n")));
    let node = page("examples/node/sezzle.mjs");
    assert!(node.contains(&format!("\nconst LOOKUP = {lookup}_000;\nconst WRITE = {write}_000;\n")));
}

/// Code in the guides is code of the examples, which the tests run.
#[test]
fn code_in_the_guides_is_that_of_the_examples() {
    let mut found = 0;
    for (guide, files) in [
        ("docs/calling.md", &["python/shop.py", "node/shop.mjs"][..]),
        (
            "docs/webhook-listener.md",
            &["webhook/verify.py", "webhook/verify.mjs", "webhook/verify.php", "webhook/verify.rb"],
        ),
        (
            "docs/testing-your-service.md",
            &["python/conftest.py", "python/test_shop.py", "node/stack.mjs", "node/shop.test.mjs"],
        ),
    ] {
        let text = page(guide);
        for file in files {
            let name = file.split('/').next_back().expect("a name");
            let source = page(&format!("examples/{file}"));
            let mentions: Vec<&str> = text.split(&format!("[`{name}`]")).skip(1).collect();
            assert!(!mentions.is_empty(), "{guide} has no {name}");
            // The block after each sentence that names the file.
            for after in mentions {
                let block = after.split("\n\n").skip(1).find(|block| block.starts_with("    ")).expect("a block");
                for line in block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)) {
                    let is_there = source.lines().any(|other| other.trim() == line.trim());
                    assert!(is_there, "{guide}: examples/{file} has no line {line:?}");
                    found += 1;
                }
            }
        }
    }
    assert!(found > 30, "{found}");
}

#[tokio::test]
#[ignore = "needs node, php, python3 and ruby: tests/run"]
async fn the_samples_tell_a_forwarded_webhook_from_others() {
    let folder = Folder::new();
    // An editor leaves the end of a line, which is no part of the secret.
    let secret = folder.write("secret", "the-secret-of-both\n");
    let service = Service::start(Conduct::Answer(200)).await;
    let forward_to = format!("http://{}/hooks", service.address);
    let setup = Setup::default().set("WEBHOOKS__LISTEN", "127.0.0.1:0").set("WEBHOOKS__FORWARD_TO", forward_to);
    let harness = setup.set("WEBHOOKS__FORWARD_SECRET_FILE", &secret).start().await;
    let url = format!("http://{}/webhooks/sezzle", harness.webhooks());
    let subscription = json!({"url": url, "events": ["order.authorized"]}).to_string();
    assert_eq!(harness.post("/v2/webhooks", &subscription).await.status, 200);
    assert!(harness.gateway.complete_checkout(&Session::order(&harness.gateway).order));
    service.has(1).await;
    let received = service.received().remove(0);
    let signature = received.headers["sezzle-sidecar-signature"].to_str().expect("text").to_owned();
    let event: Value = serde_json::from_slice(&received.body).expect("JSON");
    let uuid = event["uuid"].as_str().expect("a uuid");
    fs::write(folder.path().join("body"), &received.body).expect("written");
    fs::write(folder.path().join("changed"), [&received.body[..], b" "].concat()).expect("written");
    let other = signature.replace(|digit: char| digit.is_ascii_digit(), "a");
    assert_ne!(other, signature);

    for (program, script) in
        [("python3", "verify.py"), ("node", "verify.mjs"), ("php", "verify.php"), ("ruby", "verify.rb")]
    {
        let script = root().join("examples/webhook").join(script);
        let mut outputs = Vec::new();
        for (signature, body) in [
            (signature.as_str(), "body"),
            (&other, "body"),
            (&signature[..62], "body"),
            (&format!("{signature}00"), "body"),
            ("", "body"),
            (&signature, "changed"),
        ] {
            let line = format!("{program} '{}' secret '{signature}' < {body}", script.display());
            let Ended { code, stdout, stderr } = Process::shell(&line, folder.path(), &[]).end_within(LIMIT).await;
            assert!(code == Some(0) || stderr.contains("answer 401"), "{line}: {stderr}");
            outputs.push((code, stdout.trim().to_owned()));
        }
        let refused = (Some(1), String::new());
        let expected = [vec![(Some(0), uuid.to_owned())], vec![refused; 5]].concat();
        assert_eq!(outputs, expected, "{program}");
    }
    harness.stop().await;
}

/// Runs a suite of `examples` in a copy, so that it leaves nothing here.
async fn suite(language: &str, program: &str, arguments: &[&str]) -> Ended {
    let folder = Folder::new();
    let copied = Command::new("cp").arg("-R").arg(root().join("examples")).arg(folder.path()).status();
    assert!(copied.expect("cp").success());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.path().join("examples").join(language)).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder.path());
    command.env("TMPDIR", folder.path()).env("SEZZLE_SIDECAR", BINARY).env("PYTHONPATH", installed("python"));
    Process::spawn(command).end_within(LIMIT).await
}

#[tokio::test]
#[ignore = "needs python3 and pytest: tests/run"]
async fn the_suite_for_python_passes() {
    let Ended { code, stdout, stderr } = suite("python", "python3", &["-m", "pytest", "-p", "no:cacheprovider"]).await;
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains(" 15 passed"), "{stdout}");
}

#[tokio::test]
#[ignore = "needs node: tests/run"]
async fn the_suite_for_node_passes() {
    let Ended { code, stdout, stderr } = suite("node", "node", &["--test"]).await;
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains("# pass 11\n"), "{stdout}");
}
