//! A sidecar does not start with callers that it could not tell apart or guard, and says every mistake at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{CALLERS, at, secrets};
use crate::support::process::{CONFIGURED, Ended, Folder, run};

async fn started(folder: &Folder, command: &str, configuration: &str) -> Ended {
    let file = folder.write("sidecar.toml", &at(folder, configuration));
    run(&[command, "--config", &file], &[&CONFIGURED[..], &[("PROXY__LISTEN", "127.0.0.1:0")]].concat()).await
}

#[tokio::test]
async fn secrets_that_do_not_guard_end_the_start() {
    let folder = Folder::new();
    for (prepare, expected) in [
        (&(|| fs::remove_file(folder.path().join("till")).expect("removable")) as &dyn Fn(), "/till: cannot be read: "),
        (&|| drop(folder.write("till", "")), "/till: is empty"),
        (&|| drop(folder.write("till", "\n \n")), "/till: is empty"),
        (&|| drop(folder.write("till", "two words")), "/till: holds white space"),
        (&|| drop(folder.write("till", "sz_pub_canary")), "/till: holds a public key of Sezzle's"),
        (&|| drop(folder.write("till", &"x".repeat(5000))), "/till: cannot be read: holds more than 4096 bytes"),
        (&|| drop(folder.write_with("till", "canary", 0o620)), "/till: users other than the owner may write this file"),
        (
            &|| drop(folder.write_with("office", "canary", 0o602)),
            "/office: users other than the owner may write this file",
        ),
        (&|| drop(folder.write("reader", super::TILL)), "\"till\" and \"reader\" have the same secret"),
        (&|| drop(folder.write("office", super::TILL)), "\"till\" and \"office\" have the same secret"),
    ] {
        secrets(&folder);
        fs::set_permissions(folder.path().join("office"), fs::Permissions::from_mode(0o600)).expect("settable");
        prepare();
        let ended = started(&folder, "run", CALLERS).await;
        assert_eq!(ended.code, Some(77), "{expected}: {ended:?}");
        assert!(ended.stderr.contains("callers: ") && ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
        assert!(!ended.stderr.contains("canary") && !ended.stdout.contains("canary"), "{ended:?}");
        fs::remove_file(folder.path().join("office")).expect("removable");
        let _ = fs::remove_file(folder.path().join("till"));
    }
    // Nothing is left out: two files that are not there are two mistakes, and a shared secret is a third.
    let ended = started(&folder, "run", CALLERS).await;
    assert_eq!((ended.code, ended.stderr.matches("callers: caller ").count()), (Some(77), 2), "{}", ended.stderr);
    let twin = CALLERS.to_owned() + "\n[[callers]]\nname = \"twin\"\ntoken_file = \"@/reader\"\nallow = [\"read\"]\n";
    let ended = started(&folder, "run", &twin).await;
    assert_eq!((ended.code, ended.stderr.matches("callers: caller ").count()), (Some(77), 2), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"reader\" and \"twin\" have the same secret"), "{}", ended.stderr);
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_listed_by_check() {
    let folder = Folder::new();
    secrets(&folder);
    let ended = started(&folder, "check", CALLERS).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for line in ["[[callers]]", "name = \"till\" #", "allow = [\"session.read\", \"checkout\", \"capture\"] #"] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    let capitals = CALLERS.replace("\"all\"", "\"READ\", \"\"");
    let ended = started(&folder, "check", &capitals).await;
    assert!(ended.code == Some(78) && ended.stderr.contains("did you mean \"read\"?"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("\"all\"") && ended.stderr.contains("found \"\""), "{}", ended.stderr);
    let wrong =
        CALLERS.replace("\"checkout\"", "\"chekout\"").replace("\"office\"", "\"till\"") + "max_amount = [\"x\"]";
    for command in ["check", "run"] {
        let ended = started(&folder, command, &wrong).await;
        assert_eq!(ended.code, Some(78), "{ended:?}");
        for part in [
            "did you mean \"checkout\"?",
            "callers.max_amount: caller \"till\": expected an amount",
            // Each of the two callers has another mistake as well.
            "callers.name: caller \"till\": another caller has the same",
        ] {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    }
}

/// Every user that the user namespace of the sidecar has no number for has this one.
#[tokio::test]
async fn the_number_of_all_unknown_users_is_no_caller() {
    let folder = Folder::new();
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").expect("Linux");
    let overflow = overflow.trim();
    let socket = format!("proxy.listen = [\"127.0.0.1:0\", \"unix:{}/s\"]\n", folder.path().display());
    let nobody = format!("{socket}[[callers]]\nname = \"nobody\"\nuid = {overflow}\nallow = [\"all\"]\n");
    for command in ["check", "run"] {
        let file = folder.write("sidecar.toml", &nobody);
        let ended = run(&[command, "--config", &file], &CONFIGURED).await;
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let expected = format!("callers.uid: caller \"nobody\": {overflow} is the number of every user that");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_is_warned_of() {
    let folder = Folder::new();
    secrets(&folder);
    folder.write("till", "canary");
    folder.write("office", "canary-2");
    let ended = started(&folder, "check", CALLERS).await;
    for key in ["callers.token_file: caller \"till\"", "callers.private_key_file: caller \"office\""] {
        assert!(ended.stdout.contains(&format!("# {key}: the secret has fewer than 16 bytes")), "{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("canary") && !ended.stdout.contains("\"reader\":"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_token_file_that_everybody_may_read_is_warned_of() {
    let folder = Folder::new();
    secrets(&folder);
    folder.write_with("till", super::TILL, 0o644);
    let scene = super::Scene::with(&at(&folder, CALLERS), &[]).await;
    let ended = scene.sidecar.stop().await;
    assert!(ended.stdout.contains("everybody may read this key file"), "{}", ended.stdout);
}
