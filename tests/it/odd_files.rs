//! A path of the configuration may lead to anything. Errors name a path that is not a file, no wait is endless, and
//! signals still work meanwhile.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use sezzle_sidecar::simulator::{Options, Simulator};
use tokio::time::{Instant, sleep};

use crate::support::eventually;
use crate::support::process::{Folder, Process, Sidecar, free_address};

fn pipe(folder: &Folder, name: &str) -> String {
    let path = folder.path().join(name);
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().expect("mkfifo").success());
    path.display().to_string()
}

/// Puts something else in a file's place.
fn instead(folder: &Folder, name: &str, what: &str) -> Box<dyn Send> {
    let path = folder.path().join(name);
    let _ = fs::remove_file(&path);
    match what {
        "a directory" => fs::create_dir(&path).expect("a folder"),
        "a device" => symlink("/dev/zero", &path).expect("a link"),
        "a socket" => return Box::new(UnixListener::bind(&path).expect("bound")),
        _ => drop(pipe(folder, name)),
    }
    Box::new(())
}

fn remove(folder: &Folder, name: &str) {
    let path = folder.path().join(name);
    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
}

const ENVIRONMENT: (&str, &str) = ("GATEWAY__ENVIRONMENT", "sandbox");
const PUBLIC: (&str, &str) = ("CREDENTIALS__PUBLIC_KEY", "sz_pub_1");
const PRIVATE: (&str, &str) = ("CREDENTIALS__PRIVATE_KEY", "sz_pr_1");

#[tokio::test]
async fn a_start_names_each_path_that_is_no_file() {
    for (what, expected) in [
        ("a directory", "cannot be read: is a directory, and not a file"),
        ("a device", "cannot be read: is a device, and not a file"),
        ("a socket", "cannot be read: is a socket, and not a file"),
        ("a pipe", "cannot be read: is a pipe that nobody writes to"),
    ] {
        let folder = Folder::new();
        let kept = instead(&folder, "odd", what);
        let odd = folder.path().join("odd").display().to_string();
        let configuration = Process::start(&["run", "--config", &odd], &[ENVIRONMENT, PUBLIC, PRIVATE]);
        let key = Process::start(&["run"], &[ENVIRONMENT, PUBLIC, ("CREDENTIALS__PRIVATE_KEY_FILE", &odd)]);
        let ca = Process::start(&["run"], &[ENVIRONMENT, PUBLIC, PRIVATE, ("GATEWAY__CA_FILE", &odd)]);
        for (process, code, name) in
            [(configuration, 78, ""), (key, 77, "credentials: "), (ca, 78, "gateway.ca_file: ")]
        {
            let ended = process.end().await;
            assert_eq!(ended.code, Some(code), "{what}: {ended:?}");
            assert!(ended.stderr.contains(&format!("{name}{odd}: {expected}")), "{what}: {ended:?}");
        }
        drop(kept);
    }
}

#[tokio::test]
async fn every_file_that_cannot_be_used_is_named_at_once() {
    let variables = [
        ENVIRONMENT,
        ("CREDENTIALS__PUBLIC_KEY_FILE", "/absent/public"),
        ("CREDENTIALS__PRIVATE_KEY_FILE", "/absent/private"),
        ("GATEWAY__CA_FILE", "/absent/ca"),
        ("WEBHOOKS__LISTEN", "127.0.0.1:0"),
        ("WEBHOOKS__FORWARD_TO", "http://127.0.0.1:9"),
        ("WEBHOOKS__FORWARD_SECRET_FILE", "/absent/secret"),
    ];
    let ended = Process::start(&["run"], &variables).end().await;
    assert_eq!(ended.code, Some(77), "{ended:?}");
    for name in ["public", "private", "ca", "secret"] {
        assert!(ended.stderr.contains(&format!("/absent/{name}: cannot be read")), "{ended:?}");
    }
}

#[tokio::test]
async fn a_signal_ends_a_start_that_waits() {
    for (signal, variable) in [
        ("TERM", "CREDENTIALS__PRIVATE_KEY_FILE"),
        ("INT", "CREDENTIALS__PRIVATE_KEY_FILE"),
        ("TERM", "GATEWAY__CA_FILE"),
        ("TERM", ""),
    ] {
        let folder = Folder::new();
        let odd = pipe(&folder, "odd");
        // A writer that never writes.
        let writer = OpenOptions::new().read(true).write(true).open(&odd).expect("opened");
        let mut variables = vec![ENVIRONMENT, PUBLIC, (variable, odd.as_str())];
        if variable != "CREDENTIALS__PRIVATE_KEY_FILE" {
            variables.push(PRIVATE);
        }
        let arguments = if variable.is_empty() { vec!["run", "--config", &odd] } else { vec!["run"] };
        let process = Process::start(&arguments, if variable.is_empty() { &[] } else { &variables });
        let opened = || {
            let files = fs::read_dir(format!("/proc/{}/fd", process.id())).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.to_string_lossy() == odd)
        };
        eventually("it waits", async || opened()).await;
        let began = Instant::now();
        process.signal(signal);
        let ended = process.end().await;
        assert!(began.elapsed() < Duration::from_secs(3), "{variable}: {:?}", began.elapsed());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("a signal stopped the sidecar before it had started"), "{ended:?}");
        drop(writer);
    }
}

#[tokio::test]
async fn a_pipe_that_is_written_to_is_a_file_like_any_other() {
    let folder = Folder::new();
    let (public, private) = (pipe(&folder, "public"), folder.write("private", "sz_pr_simulated"));
    let (file, configuration) = (public.clone(), pipe(&folder, "configuration"));
    // Some programs fill a pipe whenever another process opens it.
    let fill = |path: String, content: &'static str| {
        thread::spawn(move || {
            OpenOptions::new().write(true).open(path).expect("opened").write_all(content.as_bytes()).expect("written");
        })
    };
    let fillers = [fill(public.clone(), "sz_pub_simulated\n"), fill(configuration.clone(), "[log]\nlevel = 'info'\n")];
    let gateway = Simulator::start(Options::default()).await.expect("starts");
    let variables =
        [("CREDENTIALS__PUBLIC_KEY_FILE", file.as_str()), ("CREDENTIALS__PRIVATE_KEY_FILE", private.as_str())];
    let mut sidecar = Sidecar::by(gateway, "", "", &variables, |variables| {
        Process::start(&["run", "--config", &configuration], variables)
    })
    .await;
    sidecar.ready().await;
    fillers.into_iter().for_each(|filler| filler.join().expect("no panic"));
    // A key from a pipe stays in use; the configuration is read again.
    let refilled = fill(configuration, "[limits]\nbody = '2KiB'\n");
    sidecar.process.signal("HUP");
    sidecar.process.says("configuration reloaded").await;
    refilled.join().expect("no panic");
    assert_eq!(sidecar.get("/v2/customer").await.status, 200);
    // A folder in the pipe's place is not the same file.
    let _kept = instead(&folder, "public", "a directory");
    let filled = fill(folder.path().join("configuration").display().to_string(), "[limits]\nbody = '3KiB'\n");
    sidecar.process.signal("HUP");
    sidecar.process.says("is a directory, and not a file").await;
    filled.join().expect("no panic");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_reload_with_a_path_that_is_no_file_fails_and_the_next_one_works() {
    let folder = Folder::new();
    let (public, private) = (folder.write("public", "sz_pub_simulated"), folder.write("private", "sz_pr_simulated"));
    let configuration = folder.write("c.toml", "[limits]\nbody = '2KiB'\n");
    let variables =
        [("CREDENTIALS__PUBLIC_KEY_FILE", public.as_str()), ("CREDENTIALS__PRIVATE_KEY_FILE", private.as_str())];
    let gateway = Simulator::start(Options::default()).await.expect("starts");
    let mut sidecar = Sidecar::by(gateway, "", "", &variables, |variables| {
        Process::start(&["run", "--config", &configuration], variables)
    })
    .await;
    sidecar.ready().await;
    let (mut failed, mut size) = (0.0, 3);
    for what in ["a directory", "a device", "a socket", "a pipe"] {
        for (name, content) in [("c.toml", None), ("private", Some("sz_pr_simulated"))] {
            let change = format!("[limits]\nbody = '{size}KiB'\n");
            if name == "private" {
                folder.write("c.toml", &change);
            }
            let kept = instead(&folder, name, what);
            sidecar.process.signal("HUP");
            failed += 1.0;
            eventually("it fails", async || sidecar.metric("config_reloads_total{result=\"failed\"}").await == failed)
                .await;
            assert!(!sidecar.process.stdout().contains("changed\":\"limits.body\""), "{what} for {name}");
            drop(kept);
            remove(&folder, name);
            folder.write(name, content.unwrap_or(&change));
        }
        size += 1;
    }
    sidecar.process.signal("HUP");
    sidecar.process.says("configuration reloaded").await;
    assert_eq!(sidecar.metric("config_reloads_total{result=\"success\"}").await, 1.0);
    for line in ["is a directory", "is a device", "is a socket", "is a pipe"] {
        assert!(sidecar.process.stdout().contains(line), "{line}: {}", sidecar.process.stdout());
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_hangup_right_after_the_start_is_survived() {
    // Loading the program takes the first milliseconds.
    for millis in [4, 6, 8, 12, 20] {
        let (proxy, ops) = (free_address().to_string(), free_address().to_string());
        let variables = [
            ENVIRONMENT,
            PUBLIC,
            PRIVATE,
            ("GATEWAY__URL", "http://127.0.0.1:9"),
            ("PROXY__LISTEN", proxy.as_str()),
            ("OPS__LISTEN", ops.as_str()),
            ("DRAIN__GRACE", "0s"),
        ];
        let mut process = Process::start(&["run"], &variables);
        let handled = || {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or_default();
            u64::from_str_radix(caught, 16).is_ok_and(|caught| caught & 1 != 0)
        };
        eventually("it takes the signal", async || handled()).await;
        sleep(Duration::from_millis(millis)).await;
        process.signal("HUP");
        process.says("\"started\"").await;
        process.signal("TERM");
        assert_eq!(process.end().await.code, Some(0));
    }
}
