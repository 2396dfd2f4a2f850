//! Each step of `docs/callers.md` works as printed.

use std::fs;
use std::path::Path;

use sezzle_sidecar::simulator::{Options, Simulator};

use crate::support::pages::{blocks, page};
use crate::support::process::{Folder, Process, Sidecar};

async fn shell(script: &str, folder: &Path) -> String {
    let ended = Process::shell(script, folder, &[]).end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{script}");
    ended.stdout
}

#[tokio::test]
async fn every_step_of_the_page_works_as_printed() {
    let [make, list, check, run, token, refused, exchange, change, explain] =
        <[String; 9]>::try_from(blocks(&page("docs/callers.md"))).unwrap_or_else(|blocks| panic!("{blocks:#?}"));
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
    let checked = shell(&check, folder.path()).await;
    assert!(checked.contains("[[callers]]\nname = \"till\""), "{checked}");
    assert!(checked.contains("refused: 401 sidecar.unknown_caller"), "{checked}");
    // Of the two commands only `explain` finds a secret that cannot be used.
    let (token_file, aside) = (folder.path().join("callers/till.token"), folder.path().join("aside"));
    fs::rename(&token_file, &aside).expect("renamed");
    let ended = Process::shell(&format!("set -e\n{check}"), folder.path(), &[]).end().await;
    assert_eq!(ended.code, Some(77), "{}", ended.stdout);
    assert!(ended.stdout.contains("[[callers]]") && ended.stderr.contains("callers/till.token"), "{}", ended.stderr);
    fs::rename(&aside, &token_file).expect("renamed");

    let run = format!("exec {run}");
    let start = |variables: &[(&str, &str)]| {
        // Only the addresses for health come by variable.
        let ops: Vec<(&str, &str)> = variables.iter().filter(|(name, _)| *name == "OPS__LISTEN").copied().collect();
        Process::shell(&run, folder.path(), &ops)
    };
    let mut running = Sidecar::by(gateway, "", "", &[], start).await;
    running.proxy = proxy;
    running.ready().await;
    let printed = |block: &str| block.replace("127.0.0.1:8080", &proxy.to_string());
    let answers = shell(&printed(&token), folder.path()).await;
    let [unknown, known] = answers.lines().collect::<Vec<_>>()[..] else { panic!("{answers}") };
    assert!(unknown.contains("sidecar.unknown_caller") && unknown.ends_with(" 401"), "{answers}");
    assert_eq!(known, "[] 200");
    let answers = shell(&printed(&refused), folder.path()).await;
    let [refund, capture] = answers.lines().collect::<Vec<_>>()[..] else { panic!("{answers}") };
    assert!(refund.contains("sidecar.not_allowed") && refund.ends_with(" 403"), "{answers}");
    assert!(capture.contains("sidecar.amount_over_limit") && capture.ends_with(" 403"), "{answers}");
    let answers = shell(&printed(&exchange), folder.path()).await;
    assert!(!answers.contains("\"sidecar.") && !answers.is_empty(), "{answers}");
    let said = shell(&explain, folder.path()).await;
    assert!(said.contains("caller      till, told by its token; allow: read, checkout, capture"), "{said}");
    assert!(said.contains("request     refused: 403 sidecar.not_allowed: "), "{said}");
    let received: Vec<String> = running.gateway.journal().into_iter().map(|call| call.path).collect();
    assert_eq!(received, ["/v2/authentication", "/v2/customer", "/v2/webhooks"]);
    shell(&change, folder.path()).await;
    running.process.says("the secret of a caller has changed").await;
    running.stop().await;
}
