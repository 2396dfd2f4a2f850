//! The steps of `docs/callers.md`, run as printed.

use std::path::Path;

use sezzle_sidecar::simulator::{Options, Simulator};

use crate::support::pages::page;
use crate::support::process::{Folder, Process, Sidecar};

/// The indented blocks of the page, each without its indentation.
fn blocks() -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page("docs/callers.md").lines() {
        let indented = line.starts_with("    ");
        match (indented, inside) {
            (true, true) => {
                let block = blocks.last_mut().expect("inside one");
                block.push('\n');
                block.push_str(line.trim());
            }
            (true, false) => blocks.push(line.trim().to_owned()),
            // A file has empty lines between its tables.
            (false, _) if line.is_empty() && inside && blocks.last().is_some_and(|block| block.starts_with('[')) => {
                continue;
            }
            (false, _) => {}
        }
        inside = indented;
    }
    blocks
}

async fn shell(script: &str, folder: &Path) -> String {
    let ended = Process::shell(script, folder, &[]).end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{script}");
    ended.stdout
}

#[tokio::test]
async fn every_step_of_the_page_works_as_printed() {
    let [make, list, check, token, refused, exchange, explain] =
        <[String; 7]>::try_from(blocks()).unwrap_or_else(|blocks| panic!("{blocks:#?}"));
    let folder = Folder::new();
    let options = Options::default();
    let gateway = Simulator::start(options.clone()).await.expect("gateway starts");
    folder.write("public", &options.public_key);
    folder.write("private", &options.private_key);
    let proxy = crate::support::process::free_address();
    let sidecar = format!(
        "[gateway]\nenvironment = \"sandbox\"\nurl = \"{}\"\n[credentials]\npublic_key_file = \"public\"\n\
         private_key_file = \"private\"\n[proxy]\nlisten = [\"{proxy}\"]\n[drain]\ngrace = \"0s\"\n",
        gateway.url()
    );
    folder.write("sidecar.toml", &sidecar);
    shell(&make, folder.path()).await;
    folder.write("callers.toml", &list);
    assert!(shell(&check, folder.path()).await.contains("[[callers]]\nname = \"till\""));

    let run = "exec sezzle-sidecar run --config sidecar.toml --config callers.toml";
    let start = |variables: &[(&str, &str)]| {
        // Only the addresses for health come by variable.
        let ops: Vec<(&str, &str)> = variables.iter().filter(|(name, _)| *name == "OPS__LISTEN").copied().collect();
        Process::shell(run, folder.path(), &ops)
    };
    let mut running = Sidecar::by(gateway, "", "", &[], start).await;
    running.proxy = proxy;
    running.ready().await;
    let printed = |block: &str| block.replace("127.0.0.1:8080", &proxy.to_string());
    let answers = shell(&printed(&token), folder.path()).await;
    assert!(answers.contains("sidecar.unknown_caller"), "the first line is refused: {answers}");
    assert_eq!(answers.matches("\"sidecar.").count(), 1, "and the second is answered: {answers}");
    let answers = shell(&printed(&refused), folder.path()).await;
    assert!(answers.contains("sidecar.not_allowed") && answers.contains("sidecar.amount_over_limit"), "{answers}");
    let answers = shell(&printed(&exchange), folder.path()).await;
    assert!(!answers.contains("\"sidecar.") && !answers.is_empty(), "{answers}");
    let said = shell(&explain, folder.path()).await;
    assert!(said.contains("caller      till, told by its token; allow: read, checkout, capture"), "{said}");
    assert!(said.contains("request     refused: 403 sidecar.not_allowed: "), "{said}");
    let received: Vec<String> = running.gateway.journal().into_iter().map(|call| call.path).collect();
    assert_eq!(received, ["/v2/authentication", "/v2/customer", "/v2/webhooks"]);
    running.stop().await;
}
