//! The process survives a time in which the system starts no thread and opens no file, and an error says what is
//! missing if it cannot start.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::Method;
use sezzle_sidecar::simulator::{Options, Simulator};
use tokio::time::sleep;

use crate::support::process::{BINARY, Ended, Folder, Process, Sidecar};
use crate::support::wire::Wire;
use crate::support::{eventually, not_tried};

/// A user without other processes, so that the number of its processes and threads can be limited.
struct User(u32);

impl User {
    /// `None` where this process may not become another user.
    fn new(number: u32) -> Option<Self> {
        let user = Self(30_000 + std::process::id() % 10_000 * 3 + number);
        let may = user.command("true", &[]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !may {
            not_tried("a limit on threads, since this takes root, setpriv and prlimit");
        }
        may.then_some(user)
    }

    /// A program as this user, under limits of `prlimit`.
    fn command(&self, program: &str, limits: &[&str]) -> Command {
        let id = self.0.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "prlimit"]).args(limits).arg(program);
        command
    }

    /// The binary's path, or a copy's if only this process's user can reach the binary.
    fn binary(&self, folder: &Folder) -> String {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("settable");
        let reachable = self.command("test", &[]).args(["-x", BINARY]).status().expect("runs").success();
        if reachable {
            return BINARY.to_owned();
        }
        let copy = folder.path().join("sezzle-sidecar");
        fs::copy(BINARY, &copy).expect("copied");
        copy.display().to_string()
    }

    fn owns(&self, path: &str) {
        chown(path, Some(self.0), Some(self.0)).expect("root may");
    }

    /// Takes every process or thread that the limit of 40 leaves, until the value is dropped.
    fn crowd(&self) -> Crowd {
        let sleeper = |_| {
            let mut command = self.command("sleep", &[]);
            command.arg("120").stdin(Stdio::null()).spawn().expect("started")
        };
        Crowd((0..45).map(sleeper).collect())
    }
}

struct Crowd(Vec<Child>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test]
async fn without_a_thread_to_be_had_the_token_is_renewed_keys_change_and_writes_are_answered() {
    let Some(user) = User::new(0) else { return };
    let folder = Folder::new();
    let binary = user.binary(&folder);
    let write = |name: &str| {
        for (file, key) in [("public", format!("sz_pub_{name}")), ("private", format!("sz_pr_{name}"))] {
            user.owns(&folder.write(file, &key));
        }
    };
    write("a");
    let options = Options {
        public_key: "sz_pub_a".to_owned(),
        private_key: "sz_pr_a".to_owned(),
        // The token is refreshed after 7 to 9 s. Connections close soon, so that names are resolved again.
        token_life: Duration::from_secs(12),
        idle_timeout: Some(Duration::from_millis(100)),
        ..Options::default()
    };
    let gateway = Simulator::start(options).await.expect("starts");
    let url = gateway.url().replace("127.0.0.1", "localhost");
    let (public, private) = (folder.path().join("public"), folder.path().join("private"));
    let variables = [
        ("GATEWAY__URL", url.as_str()),
        ("CREDENTIALS__PUBLIC_KEY_FILE", public.to_str().expect("UTF-8")),
        ("CREDENTIALS__PRIVATE_KEY_FILE", private.to_str().expect("UTF-8")),
    ];
    let sidecar = Sidecar::by(gateway, "", "", &variables, |variables| {
        let mut command = user.command(&binary, &["--nproc=40:40"]);
        command.arg("run").env_clear().stdin(Stdio::null());
        command.envs(variables.iter().map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}"), value)));
        Process::of(command)
    })
    .await;
    sidecar.ready().await;

    let crowd = user.crowd();
    let exchanges = || sidecar.gateway.count("POST", "/v2/authentication");
    let before = exchanges();
    eventually("renewed twice", async || {
        sleep(Duration::from_millis(250)).await;
        let write = sidecar.send(Method::POST, "/v2/order/00000000-0000-4000-8000-000000000000/release", &[], "").await;
        assert_eq!(write.status, 404, "Sezzle's own answer: {}", write.text());
        assert_eq!(sidecar.client.get(sidecar.ops, "/livez").await.status, 200);
        exchanges() >= before + 2
    })
    .await;
    sidecar.gateway.set_keys("sz_pub_b", "sz_pr_b");
    write("b");
    eventually("the keys change", async || sidecar.metric("secret_reloads_total{result=\"success\"}").await == 1.0)
        .await;
    drop(crowd);
    assert_eq!(sidecar.metric("task_restarts_total{task=\"token_keeper\"}").await, 0.0);
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    assert!(!ended.stdout.contains("panic"), "{}", ended.stdout);
}

#[tokio::test]
async fn where_a_start_gets_no_thread_the_reason_is_said() {
    let Some(user) = User::new(1) else { return };
    let folder = Folder::new();
    let binary = user.binary(&folder);
    // The limits run from the first thread to the last: the log's, those for blocking work, the workers'.
    let mut started = false;
    for limit in 1..=9 {
        let mut command = user.command(&binary, &[&format!("--nproc={limit}:{limit}")]);
        command.arg("run").env_clear().stdin(Stdio::null());
        for (name, value) in [
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            ("GATEWAY__URL", "http://127.0.0.1:9"),
            ("CREDENTIALS__PUBLIC_KEY", "sz_pub_1"),
            ("CREDENTIALS__PRIVATE_KEY", "sz_pr_1"),
            ("PROXY__LISTEN", "127.0.0.1:0"),
            ("OPS__LISTEN", "127.0.0.1:0"),
            ("PROXY__WORKERS", "2"),
            ("DRAIN__GRACE", "0s"),
        ] {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        let process = Process::of(command);
        let ended = either_ends_or_starts(process).await;
        match ended {
            None => started = true,
            Some(ended) => {
                assert!(!started, "with {limit}, and not with fewer: {ended:?}");
                assert_eq!(ended.code, Some(1), "{limit}: {ended:?}");
                assert!(ended.stderr.starts_with("sezzle-sidecar: "), "{limit}: {ended:?}");
                assert!(ended.stderr.contains("Resource temporarily unavailable"), "{limit}: {ended:?}");
                assert_eq!(ended.stderr.lines().count(), 1, "{limit}: {ended:?}");
            }
        }
    }
    assert!(started, "nine are enough");
}

/// `None` if the process starts, which is then ended; otherwise its end.
async fn either_ends_or_starts(mut process: Process) -> Option<Ended> {
    let mut started = false;
    eventually("an end or a start", async || {
        started = process.stdout().contains("\"started\"");
        started || process.has_ended()
    })
    .await;
    if started {
        process.signal("TERM");
        assert_eq!(process.end().await.code, Some(0));
        return None;
    }
    Some(process.end().await)
}

#[tokio::test]
async fn with_few_files_callers_over_the_limit_keep_none_from_sezzle() {
    let options = Options { idle_timeout: Some(Duration::from_millis(50)), ..Options::default() };
    let keys = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("starts");
    let mut sidecar = Sidecar::by(gateway, &keys.0, &keys.1, &[], |variables| {
        let mut command = Command::new("prlimit");
        command.args(["--nofile=64:64", BINARY, "run"]).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/bin:/bin");
        command.envs(variables.iter().map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}"), value)));
        Process::of(command)
    })
    .await;
    sidecar.ready().await;
    sidecar.process.says("the limit of open files is so low").await;
    assert_eq!(sidecar.metric("connections_limit{listener=\"proxy\"}").await, 6.0);
    let mut caller = Wire::connect(sidecar.proxy).await;
    let ask = "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n";
    caller.send(ask.as_bytes()).await;
    assert_eq!(caller.answer().await.status, 200);
    // These connections stay idle. A refused caller that does not close looks the same.
    let mut others = Vec::new();
    for _ in 0..60 {
        others.push(tokio::net::TcpStream::connect(sidecar.proxy).await.expect("connected"));
    }
    for round in 0..20 {
        sleep(Duration::from_millis(60)).await;
        caller.send(ask.as_bytes()).await;
        let answer = caller.answer().await;
        assert_eq!(answer.status, 200, "{round}: {} {}", answer.text(), sidecar.process.stdout());
    }
    assert_eq!(sidecar.client.get(sidecar.ops, "/livez").await.status, 200);
    drop(others);
    sidecar.stop().await;
}
