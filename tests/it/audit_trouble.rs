//! A disk that is full, hangs or is gone: with `audit.required` no call is sent without its first line, and without it
//! calls go on and operators are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Simulator};

use crate::support::audit_file::{CAPTURE, file, of_calls, verified, verify};
use crate::support::process::{BINARY, CONFIGURED, Folder, Process, Sidecar, run};
use crate::support::{Session, eventually};

/// A sidecar that is started by a line of shell, in which `sidecar` stands for the command.
async fn sidecar(folder: &Folder, line: &str, required: bool) -> Sidecar {
    let Options { public_key, private_key, .. } = Options::default();
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let path = file(folder).display().to_string();
    let variables = [("AUDIT__FILE", path.as_str()), ("AUDIT__REQUIRED", if required { "true" } else { "false" })];
    let line = line.replace("sidecar", &format!("exec {BINARY} run"));
    let start = |variables: &[(&str, &str)]| Process::shell(&line, folder.path(), variables);
    let sidecar = Sidecar::by(gateway, &public_key, &private_key, &variables, start).await;
    sidecar.ready().await;
    sidecar
}

/// A capture. Returns status and code, and how often Sezzle carried it out.
async fn capture(sidecar: &Sidecar) -> (u16, String, usize) {
    let order = Session::order(&sidecar.gateway).authorized(&sidecar.gateway);
    let json = [("content-type", "application/json")];
    let answer = sidecar.send(Method::POST, &format!("{}/capture", order.order_path), &json, CAPTURE).await;
    let code = if answer.status == 200 { String::new() } else { answer.error_code() };
    (answer.status, code, sidecar.gateway.effects(&order.order).len())
}

fn done() -> (u16, String, usize) {
    (200, String::new(), 1)
}

fn refused() -> (u16, String, usize) {
    (503, "sidecar.audit_unavailable".to_owned(), 0)
}

async fn is_reported(sidecar: &Sidecar) {
    eventually("the status page tells", async || {
        let status = sidecar.client.get(sidecar.ops, "/status.json").await.json();
        status["conditions"].as_array().expect("a list").iter().any(|one| one["condition"] == "audit_failing")
    })
    .await;
}

/// Lets the process write more again.
fn raise_limit(sidecar: &Sidecar) {
    let pid = sidecar.process.id().to_string();
    let raised =
        Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:unlimited"]).status().expect("prlimit");
    assert!(raised.success());
}

/// `ulimit` counts blocks of 512 bytes. A signal that is ignored leaves the error.
const FULL: &str = "trap '' XFSZ; ulimit -S -f 4; sidecar";

#[tokio::test]
async fn on_a_full_disk_nothing_is_sent_if_the_audit_is_required() {
    let folder = Folder::new();
    let mut sidecar = sidecar(&folder, FULL, true).await;
    assert_eq!(capture(&sidecar).await, done());
    eventually("the disk is full", async || capture(&sidecar).await == refused()).await;
    let lookup = Session::order(&sidecar.gateway).path;
    assert_eq!(sidecar.get(&lookup).await.status, 200, "lookups go on");
    sidecar.process.says("the audit file cannot be written").await;
    is_reported(&sidecar).await;
    assert!(sidecar.metric(r#"audit_lines_total{event="begin",result="lost"}"#).await > 0.0);
    assert!(sidecar.metric(r#"requests_refused_total{reason="audit_unavailable"}"#).await > 0.0);

    raise_limit(&sidecar);
    assert_eq!(capture(&sidecar).await, done());
    sidecar.process.says("the audit file is written again").await;
    assert_eq!(sidecar.stop().await.code, Some(0));
    let said = verified(&[&file(&folder)]).await;
    assert!(said.contains("the sidecar could not write") && said.contains("lines before this one"), "{said}");
}

#[tokio::test]
async fn on_a_full_disk_calls_go_on_if_the_audit_is_not_required() {
    let folder = Folder::new();
    let mut sidecar = sidecar(&folder, FULL, false).await;
    for _ in 0..12 {
        assert_eq!(capture(&sidecar).await, done());
    }
    sidecar.process.says("calls went on without their audit line").await;
    is_reported(&sidecar).await;
    let lost = sidecar.metric(r#"audit_lines_total{event="end",result="lost"}"#).await;
    assert!(lost > 0.0);
    raise_limit(&sidecar);
    assert_eq!(capture(&sidecar).await, done());
    assert_eq!(sidecar.stop().await.code, Some(0));
    let said = verified(&[&file(&folder)]).await;
    assert!(said.contains("a torn line") && said.contains("the sidecar could not write"), "{said}");
}

#[tokio::test]
async fn a_removed_file_is_made_anew_and_a_removed_folder_is_missed() {
    let folder = Folder::new();
    let inner = Folder::new();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).expect("a folder");
    let path = inside.join("audit.log");
    let variables = [("AUDIT__FILE", path.to_str().expect("UTF-8")), ("AUDIT__REQUIRED", "true")];
    let mut sidecar = Sidecar::start(Options::default(), &variables).await;
    assert_eq!(capture(&sidecar).await, done());
    let first = inner.path().join("kept");
    fs::copy(&path, &first).expect("copied");
    fs::remove_file(&path).expect("removed");
    assert_eq!(capture(&sidecar).await, done());
    sidecar.process.says("the audit file was removed; the chain goes on in a new one").await;
    assert_eq!(of_calls(&path).len(), 2);
    verified(&[&first, &path]).await;

    fs::remove_dir_all(&inside).expect("removed");
    assert_eq!(capture(&sidecar).await, refused());
    fs::create_dir(&inside).expect("a folder");
    assert_eq!(capture(&sidecar).await, done());
    assert_eq!(sidecar.stop().await.code, Some(0));
}

/// The variables of a sidecar with this audit file and without a gateway.
fn alone(file: &str) -> Vec<(&str, &str)> {
    let own = [("PROXY__LISTEN", "127.0.0.1:0"), ("OPS__LISTEN", "127.0.0.1:0"), ("AUDIT__FILE", file)];
    [&CONFIGURED[..], &own].concat()
}

#[tokio::test]
async fn a_file_that_cannot_be_the_audit_file_keeps_the_sidecar_from_its_start() {
    let folder = Folder::new();
    let used = file(&folder);
    let path = used.display().to_string();
    let variables = [("AUDIT__FILE", path.as_str())];
    let first = Sidecar::start(Options::default(), &variables).await;
    let start = async |path: &str| {
        let ended = run(&["run"], &alone(path)).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.stderr
    };
    let shared = folder.write_with("shared", "", 0o620);
    let other = folder.write("other", "a log line\n");
    for (path, expected) in [
        (path.as_str(), "another process writes to this file"),
        (&shared, "users other than the owner may write this file (mode 620)"),
        (&other, "holds no audit line"),
        ("/dev/null", "is no regular file"),
        ("/no/such/folder/audit.log", "No such file or directory"),
    ] {
        let error = start(path).await;
        assert!(error.starts_with(&format!("sezzle-sidecar: audit.file: {path}: ")), "{error}");
        assert!(error.contains(expected), "{path}: {error}");
    }
    assert_eq!(first.stop().await.code, Some(0));
    // Only the process that wrote to the file was in the way.
    let again = Sidecar::start(Options::default(), &variables).await;
    assert_eq!(again.stop().await.code, Some(0));
    verified(&[&used]).await;
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_kept_and_marked() {
    let folder = Folder::new();
    let path = file(&folder);
    let variables = [("AUDIT__FILE", path.to_str().expect("UTF-8"))];
    let sidecar = Sidecar::start(Options::default(), &variables).await;
    assert_eq!(capture(&sidecar).await, done());
    assert_eq!(sidecar.stop().await.code, Some(0));
    let whole = fs::read_to_string(&path).expect("the file");
    fs::write(&path, format!("{whole}{{\"amount\":100,\"call\":\"5")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("settable");
    assert!(verified(&[&path]).await.contains("audit.log:4: the file ends in a torn line"));
    let sidecar = Sidecar::start(Options::default(), &variables).await;
    assert_eq!(capture(&sidecar).await, done());
    assert_eq!(sidecar.stop().await.code, Some(0));
    assert!(verified(&[&path]).await.contains("audit.log:4: a torn line"));
    assert!(fs::read_to_string(&path).expect("the file").starts_with(&whole), "nothing was taken away");
}

/// logrotate compresses old files. The command must not take the rest of the chain for the whole one.
#[tokio::test]
async fn a_file_that_is_no_part_of_the_chain_is_never_taken_for_a_torn_line() {
    let folder = Folder::new();
    let path = file(&folder);
    let sidecar = Sidecar::start(Options::default(), &[("AUDIT__FILE", path.to_str().expect("UTF-8"))]).await;
    assert_eq!(capture(&sidecar).await, done());
    assert_eq!(sidecar.stop().await.code, Some(0));
    let other = folder.path().join("other");
    for (content, said) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0\0\x03packed"[..], "the file is compressed with gzip; unpack it first"),
        (b"rubbish", "this is no audit line"),
        (b"rubbish\nrubbish\n", "this is no audit line"),
    ] {
        fs::write(&other, content).expect("written");
        let ended = verify(&[&other, &path]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        assert!(ended.stdout.contains(&format!("other:1: BREAK: {said}")), "{}", ended.stdout);
    }
}

/// The link exists, and the file that it leads to does not.
#[tokio::test]
async fn a_link_that_leads_nowhere_is_said_to_be_one() {
    let folder = Folder::new();
    let path = file(&folder);
    std::os::unix::fs::symlink(folder.path().join("absent/audit.log"), &path).expect("a link");
    let ended = run(&["run"], &alone(path.to_str().expect("UTF-8"))).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("audit.log: is a symbolic link to a file that is not there"), "{}", ended.stderr);
}

/// A library is loaded before the C library. Its `fdatasync` and `flock` wait while a file is there.
const HANGS: &str = r#"
    #include <stdlib.h>
    #include <unistd.h>
    int fdatasync(int fd) {
        while (access(getenv("HANGS"), F_OK) == 0) usleep(1000);
        return fsync(fd);
    }
    int flock(int fd, int operation) {
        while (access(getenv("HANGS"), F_OK) == 0) usleep(1000);
        return 0;
    }
"#;

/// A line for a shell that starts a sidecar whose disk hangs while `hangs` is in the folder.
fn may_hang(folder: &Folder) -> String {
    let source = folder.write("hangs.c", HANGS);
    let library = folder.path().join("hangs.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.expect("a compiler").success());
    let hangs = folder.path().join("hangs");
    format!("export LD_PRELOAD={} HANGS={}; sidecar", library.display(), hangs.display())
}

async fn on_a_disk_that_hangs(required: bool) -> (Folder, Sidecar) {
    let folder = Folder::new();
    let sidecar = sidecar(&folder, &may_hang(&folder), required).await;
    assert_eq!(capture(&sidecar).await, done());
    fs::write(folder.path().join("hangs"), "").expect("written");
    (folder, sidecar)
}

#[tokio::test]
async fn a_start_whose_disk_hangs_ends_with_a_signal() {
    let folder = Folder::new();
    let line = may_hang(&folder).replace("sidecar", &format!("exec {BINARY} run"));
    folder.write("hangs", "");
    let path = file(&folder);
    let process = Process::shell(&line, folder.path(), &alone(path.to_str().expect("UTF-8")));
    eventually("the file is open", async || path.exists()).await;
    process.signal("TERM");
    let began = Instant::now();
    process.end().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_disk_that_hangs_delays_a_call_for_a_while_and_refuses_it_then_if_the_audit_is_required() {
    let (folder, sidecar) = on_a_disk_that_hangs(true).await;
    // The first line of this call is written, and its answer waits a while for the disk.
    let began = Instant::now();
    assert_eq!(capture(&sidecar).await, done());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // No line is written any more.
    let began = Instant::now();
    assert_eq!(capture(&sidecar).await, refused());
    assert!((3..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(capture(&sidecar).await, refused());
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for a disk that is known to hang");
    fs::remove_file(folder.path().join("hangs")).expect("removed");
    eventually("the disk works", async || capture(&sidecar).await == done()).await;
    assert_eq!(sidecar.stop().await.code, Some(0));
    verified(&[&file(&folder)]).await;
    // The first line of the call that was not sent came late, and so did its last line, which says that.
    let lines = of_calls(&file(&folder));
    let outcome = |line: &Value| line["outcome"].as_str().map(str::to_owned);
    assert!(lines.iter().filter_map(outcome).any(|outcome| outcome == "not_sent"), "{lines:?}");
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_answer_for_long_if_the_audit_is_not_required() {
    let (folder, sidecar) = on_a_disk_that_hangs(false).await;
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(capture(&sidecar).await, done());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert!(sidecar.metric(r#"audit_lines_total{event="begin",result="late"}"#).await > 0.0);
    assert!(sidecar.metric(r#"audit_lines_total{event="end",result="late"}"#).await > 0.0);
    is_reported(&sidecar).await;
    fs::remove_file(folder.path().join("hangs")).expect("removed");
    assert_eq!(sidecar.stop().await.code, Some(0));
    // Late lines are not lost.
    verified(&[&file(&folder)]).await;
    assert_eq!(of_calls(&file(&folder)).len(), 6);
}

#[tokio::test]
async fn a_call_that_still_waits_for_its_line_at_the_end_of_a_drain_was_not_sent() {
    let (_folder, sidecar) = on_a_disk_that_hangs(true).await;
    // The disk waits with the lines of this call, so nobody writes the next ones.
    assert_eq!(capture(&sidecar).await, done());
    let Sidecar { mut process, gateway, proxy, ops, client } = sidecar;
    let order = Session::order(&gateway).authorized(&gateway);
    let path = format!("{}/capture", order.order_path);
    let json = [("content-type", "application/json")];
    let stopped = async {
        let class = r#"places_taken{class="money"}"#;
        eventually("the call waits for its line", async || client.metric(ops, class).await == 1.0).await;
        process.signal("TERM");
        process.signal_again("TERM").await;
    };
    let (answer, ()) = tokio::join!(client.send(proxy, Method::POST, &path, &json, CAPTURE), stopped);
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.stopping"));
    assert_eq!(gateway.effects(&order.order).len(), 0);
    // A write that hangs keeps the process no longer than a drain may take.
    assert!(process.end().await.code.is_some());
    gateway.stop().await;
}
