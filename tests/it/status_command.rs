//! `status` and `log-level` work where neither a browser nor curl is installed.

use serde_json::Value;
use sezzle_sidecar::simulator::Options;

use crate::support::process::{Ended, Folder, Sidecar, free_address, run};

#[tokio::test]
async fn status_asks_the_control_listener_or_else_the_ops_listener() {
    let folder = Folder::new();
    let listen = format!("unix:{}", folder.path().join("control.sock").display());
    let sidecar = Sidecar::start(Options::default(), &[("CONTROL__LISTEN", &listen)]).await;
    let ops = sidecar.ops.to_string();
    sidecar.get("/v2/customer").await;

    let by_control = [("CONTROL__LISTEN", listen.as_str())];
    let by_ops = [("OPS__LISTEN", ops.as_str())];
    for (variables, merchant) in [(&by_control, true), (&by_ops, false)] {
        let Ended { code, stdout, stderr } = run(&["status"], variables).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        for words in [
            "sezzle-sidecar sandbox on ",
            ": Ready, all is well\n",
            "\nWhat callers got\n",
            "/v2/customer",
            "MiB resident\n",
        ] {
            assert!(stdout.contains(words), "{words:?} in\n{stdout}");
        }
        assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
        assert!(!stdout.contains('<') && !stdout.contains('\x1b'), "{stdout}");
        assert_eq!(stdout.contains("left out on this listener"), !merchant, "{stdout}");

        let Ended { code, stdout, stderr } = run(&["status", "--json"], variables).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let status: Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((status["level"].as_str(), status["merchant"].is_string()), (Some("well"), merchant));
        let process = |name: &str| status["process"][name].as_u64().expect("a number");
        assert!(process("resident_bytes") > 1 << 20 && process("open_files") > 3, "{}", status["process"]);
        assert!(process("open_files") < process("open_files_limit"), "{}", status["process"]);
        let keys = status["configuration"]["keys"].as_array().expect("keys");
        let value = |name: &str| keys.iter().find(|key| key["key"] == name).map(|key| key["value"].clone());
        assert_eq!(value("gateway.environment"), Some("\"sandbox\"".into()));
        assert_eq!(value("credentials.private_key"), Some("\"[redacted]\"".into()));
    }
    assert_eq!(sidecar.stop().await.code, Some(0));
    let Ended { code, stderr, .. } = run(&["status"], &by_ops).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&format!("cannot reach the sidecar at {ops}: ")), "{stderr}");
}

#[tokio::test]
async fn log_level_changes_the_level_of_the_running_sidecar() {
    let folder = Folder::new();
    let listen = format!("unix:{}", folder.path().join("control.sock").display());
    let control = [("CONTROL__LISTEN", listen.as_str())];
    let sidecar = Sidecar::start(Options::default(), &control).await;
    let Ended { code, stdout, stderr } = run(&["log-level", "debug"], &control).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "level debug\n", ""));
    let status = run(&["status", "--json"], &control).await;
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["configuration"]["log_level"], "debug");
    // Only the files have the level of the start.
    assert_eq!(sidecar.stop().await.code, Some(0));
}

#[tokio::test]
async fn every_mistake_has_its_exit_code() {
    let nobody = free_address().to_string();
    for (arguments, variables, code, says) in [
        (&["log-level", "debug"][..], &[][..], 78, "control.listen is not set"),
        (&["log-level", "loud"], &[], 64, "loud"),
        (&["log-level"], &[], 64, "LEVEL"),
        (&["log-level", "debug"], &[("CONTROL__LISTEN", nobody.as_str())], 1, "cannot reach the sidecar"),
        (&["status"], &[("OPS__LISTEN", "127.0.0.1:0")], 78, "port 0"),
        (&["status"], &[("OPS__LISTEN", "nowhere")], 78, "ops.listen"),
        (&["status"], &[("CONTROL__LISTEN", "10.0.0.1:70000")], 78, "control.listen"),
        (&["status", "--jsn"], &[], 64, "--json"),
    ] {
        let ended = run(arguments, variables).await;
        assert_eq!(ended.code, Some(code), "{arguments:?} {variables:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says) && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
    let sidecar = Sidecar::start(Options::default(), &[("OPS__STATUS_PAGE", "false")]).await;
    let ended = run(&["status"], &[("OPS__LISTEN", &sidecar.ops.to_string())]).await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.contains("ops.status_page is false"), "{ended:?}");
    sidecar.stop().await;
}
