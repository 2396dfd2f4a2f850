//! `demo --fleet` shows three sidecars as a fleet, by a server that it starts and ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::process::{BINARY, Ended, Folder, Process};
use crate::support::redis::{libraries, programs, valkey};

/// The demo with a PATH of this folder alone, and with temporary files in another.
fn demo(arguments: &[&str], path: &Path, temporary: &Folder) -> Process {
    let mut command = Command::new(BINARY);
    command.args(["demo", "--fleet"]).args(arguments).env_clear();
    command.env("PATH", path).env("TMPDIR", temporary.path());
    if path == programs() {
        command.env("LD_LIBRARY_PATH", libraries());
    }
    Process::spawn(command)
}

fn is_empty(folder: &Folder) -> bool {
    fs::read_dir(folder.path()).expect("a folder").next().is_none()
}

/// Whether a process runs in this folder, as the server does. The folder may have been deleted since.
fn somebody_is_in(folder: &Path) -> bool {
    let places = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|process| fs::read_link(process.ok()?.path().join("cwd")).ok());
    places.into_iter().any(|place| place.starts_with(folder))
}

#[tokio::test]
async fn without_a_server_the_demo_says_what_to_install() {
    let (path, temporary) = (Folder::new(), Folder::new());
    let Ended { code, stdout, stderr } = demo(&["--once"], path.path(), &temporary).end().await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    for word in ["redis-server", "valkey-server", "PATH", "install", "Debian"] {
        assert!(stderr.contains(word), "{word} in {stderr}");
    }
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(is_empty(&temporary), "nothing is left");
}

#[tokio::test]
async fn a_server_that_does_not_run_is_named_with_what_it_said() {
    let (path, temporary) = (Folder::new(), Folder::new());
    path.write_with("redis-server", "#!/bin/sh\necho 'no library' >&2\nexit 127\n", 0o700);
    path.write_with("valkey-server", "#!/bin/sh\nexit 3\n", 0o700);
    let Ended { code, stdout, stderr } = demo(&["--once"], path.path(), &temporary).end().await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    for word in ["redis-server ended:\nno library\n", "valkey-server ended with exit status: 3\n", "install", "Debian"]
    {
        assert!(stderr.contains(word), "{word} in {stderr}");
    }
    assert!(!stderr.contains("127"), "{stderr}");
    assert!(is_empty(&temporary), "nothing is left");
}

#[tokio::test]
#[ignore = "needs valkey-server: tests/run"]
async fn beside_a_server_that_does_not_run_the_next_one_is_taken() {
    let (path, temporary) = (Folder::new(), Folder::new());
    path.write_with("redis-server", "#!/bin/sh\nexit 127\n", 0o700);
    symlink(valkey(), path.path().join("valkey-server")).expect("linked");
    let Ended { code, stdout, stderr } = demo(&["--once"], path.path(), &temporary).end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("valkey-server") && stdout.contains("The tour is over."), "{stdout}");
    assert!(is_empty(&temporary), "nothing is left");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_tour_of_a_fleet_can_end_by_itself() {
    let temporary = Folder::new();
    let Ended { code, stdout, stderr } = demo(&["--once"], &programs(), &temporary).end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    for promise in [
        "\n   Cache-Status: sezzle-fleet; fwd=uri-miss; stored, sezzle-sidecar; fwd=uri-miss; fwd-status=200; ttl=",
        "\n   Cache-Status: sezzle-fleet; hit; ttl=",
        "\n   Cache-Status: sezzle-sidecar; hit; ttl=",
        "Requests that reached the gateway: 1\n",
        "captured 2500 cents",
        "kind=\"answered\"} ",
        "The tour is over.",
    ] {
        assert!(stdout.contains(promise), "{promise} in\n{stdout}");
    }
    assert!(is_empty(&temporary) && !somebody_is_in(temporary.path()), "nothing is left");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn every_line_the_tour_of_a_fleet_prints_works_as_printed_until_the_terminal_ends() {
    let temporary = Folder::new();
    let mut demo = demo(&[], &programs(), &temporary);
    demo.says("Ctrl-C stops everything.").await;
    assert!(somebody_is_in(temporary.path()), "the server runs in a temporary folder");
    let tour = demo.stdout();
    let commands: Vec<&str> = tour.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert!(commands.len() >= 5, "{tour}");
    let folder = Folder::new();
    for command in commands {
        // The printed line, with options to fail on a status from 400 on and to limit the wait.
        let line = format!("{command} --fail --max-time 20");
        let Ended { code, stdout, stderr } = Process::shell(&line, folder.path(), &[]).end().await;
        assert_eq!(code, Some(0), "{line}\n{stdout}\n{stderr}");
        assert!(!stdout.trim().is_empty(), "{line} answers nothing");
    }
    demo.signal("HUP");
    let Ended { code, stderr, .. } = demo.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(is_empty(&temporary) && !somebody_is_in(temporary.path()), "nothing is left");
}
