//! Each step of docs/audit.md works as printed, beside a sidecar that has made a capture and a refund, and lost an
//! answer. Everything but `audit verify` is done by other programs.

use std::{fs, io};

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::{Reset, Rule};

use crate::support::audit_file::{CAPTURE, file};
use crate::support::pages::{blocks, page};
use crate::support::process::{Ended, Folder, Process};
use crate::support::{Session, Setup};

/// A folder with an audit file and two rotated ones, and the order that was captured and refunded.
async fn audited() -> (Folder, String) {
    let folder = Folder::new();
    let harness = Setup::default().set("AUDIT__FILE", file(&folder).display()).start().await;
    let order = Session::order(&harness.gateway).authorized(&harness.gateway);
    let post = async |tail: &str, body: &str, key: &str| {
        let headers = [("content-type", "application/json"), ("sezzle-request-id", key)];
        harness.send(Method::POST, &format!("{}{tail}", order.order_path), &headers, body).await.status
    };
    assert_eq!(post("/capture", CAPTURE, "capture-1").await, 200);
    assert_eq!(post("/refund", r#"{"amount_in_cents":40,"currency":"USD"}"#, "refund-1").await, 200);
    harness.gateway.script(Rule::on(Method::POST, "/v2/order/*").times(3).reset(Reset::AfterEffect));
    assert_eq!(post("/refund", r#"{"amount_in_cents":7,"currency":"USD"}"#, "refund-2").await, 504);
    harness.stop().await;
    // As after two rotations.
    let text = fs::read_to_string(file(&folder)).expect("the file");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    folder.write("audit.log.2", &lines[..2].concat());
    folder.write("audit.log.1", &lines[2..4].concat());
    let rest = folder.write("rest", &lines[4..].concat());
    assert!(fs::metadata(rest).expect("there").len() > 0);
    (folder, order.order)
}

async fn runs(folder: &Folder, command: &str) -> Ended {
    let ended = Process::shell(command, folder.path(), &[]).end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{command}\n{}", ended.stdout);
    ended
}

#[tokio::test]
#[ignore = "needs jq: tests/run"]
async fn every_step_works_as_printed() {
    let (folder, order) = audited().await;
    let text = page("docs/audit.md");
    let commands: Vec<String> = blocks(&text)
        .into_iter()
        .filter(|block| ["jq ", "tail ", "sezzle-sidecar ", "zcat "].iter().any(|program| block.starts_with(program)))
        .map(|block| block.replace("ORDER", &order))
        .collect();
    let compress = "head -n 1 audit.log.2 | gzip > audit.log.3.gz; tail -n 1 audit.log.2 | gzip > audit.log.2.gz";
    runs(&folder, compress).await;
    let mut said = Vec::new();
    for command in &commands {
        if command.contains("audit.log.2") {
            fs::rename(file(&folder), folder.path().join("whole")).expect("renamed");
            fs::copy(folder.path().join("rest"), file(&folder)).expect("copied");
        }
        let ended = runs(&folder, command).await;
        if command.contains("audit.log.2") {
            fs::rename(folder.path().join("whole"), file(&folder)).expect("renamed");
        }
        said.push(ended.stdout);
    }
    let [shown, of_order, unended, refunded, verified, rotated, compressed, by_others] = &said[..] else {
        panic!("the page has other steps by now: {commands:?}")
    };
    assert!(shown.contains("\"outcome\": \"unknown\""), "{shown}");
    assert_eq!(of_order.lines().count(), 3, "{of_order}");
    assert_eq!(unended, "", "every call has ended");
    let refunded: Value = serde_json::from_str(refunded).expect("JSON");
    assert_eq!(refunded, serde_json::json!({"USD": 40}));
    assert!(verified.starts_with("the chain is whole: lines 1 to 7"), "{verified}");
    assert_eq!(verified, rotated, "one chain in one file or in three");
    assert_eq!(verified, compressed, "one chain in compressed files");
    assert_eq!(by_others, "the chain is whole\n");

    // Other programs find a change as well.
    let text = fs::read_to_string(file(&folder)).expect("the file");
    fs::write(file(&folder), text.replacen("\"amount\":40", "\"amount\":4", 1)).expect("written");
    let ended = Process::shell(commands.last().expect("a command"), folder.path(), &[]).end().await;
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
}

/// The texts that the page explains are those of the command and of the log.
#[test]
fn every_text_that_the_page_quotes_is_in_the_source() {
    let text = page("docs/audit.md");
    let sources =
        ["mod.rs", "file.rs", "verify/mod.rs", "writer.rs"].map(|file| page(&format!("src/audit/{file}"))).concat();
    let (_, table) = text.split_once("| it says | meaning |\n").expect("the table");
    let mut found = 0;
    for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
        for quoted in crate::support::pages::quoted(row.split(" | ").next().expect("a cell")) {
            // A number and a gap stand for values that the sidecar fills in.
            for part in
                quoted.split(|c: char| c.is_ascii_digit() || c == '…').map(str::trim).filter(|part| part.len() > 8)
            {
                assert!(sources.contains(part), "the sidecar does not say {part:?}");
                found += 1;
            }
        }
    }
    assert!(found >= 9, "{found}");
    // The messages of a start that fails: the sidecar's own, and those of the system.
    let (_, table) = text.split_once("| the message goes on with | what to do |\n").expect("the table");
    // ENOENT and EACCES.
    let of_system = [2, 13].map(|code| io::Error::from_raw_os_error(code).to_string());
    let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 5, "{rows:?}");
    for row in rows {
        let message = crate::support::pages::quoted(row).into_iter().next().expect("a message");
        let is_said = sources.contains(&message) || of_system.iter().any(|text| text.starts_with(&message));
        assert!(is_said, "the sidecar does not say {message:?}");
    }
    for outcome in sezzle_sidecar::audit::Outcome::WORDS {
        assert!(text.contains(&format!("| `{outcome}` |")), "{outcome}");
    }
}
