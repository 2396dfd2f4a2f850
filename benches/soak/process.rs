//! The sidecar as a process, seen from outside.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sezzle_sidecar::simulator::Simulator;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::service::Service;
use crate::verdict::Sample;

pub struct Sidecar {
    child: Child,
    pub proxy: SocketAddr,
    pub webhooks: SocketAddr,
    pub ops: Ops,
}

/// The ops listener of a sidecar.
#[derive(Clone, Copy)]
pub struct Ops(SocketAddr);

/// The files of the merchant's keys, which all sidecars read.
pub struct Keys {
    folder: TempDir,
    rotations: u32,
}

impl Sidecar {
    /// Starts the sidecar and waits until it is ready.
    pub async fn start(gateway: &Simulator, service: &Service, keys: &Keys, settings: &[(&str, String)]) -> Self {
        let (proxy, ops, webhooks) = (free_address(), free_address(), free_address());
        let file = |name: &str| keys.folder.path().join(name).display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sezzle-sidecar"));
        command.arg("run").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        for (name, value) in [
            ("GATEWAY__ENVIRONMENT", "sandbox".to_owned()),
            ("GATEWAY__URL", gateway.url()),
            ("GATEWAY__READ_TIMEOUT", "2s".to_owned()),
            ("GATEWAY__WRITE_TIMEOUT", "2s".to_owned()),
            ("CREDENTIALS__PUBLIC_KEY_FILE", file("public")),
            ("CREDENTIALS__PRIVATE_KEY_FILE", file("private")),
            ("PROXY__LISTEN", proxy.to_string()),
            ("OPS__LISTEN", ops.to_string()),
            ("WEBHOOKS__LISTEN", webhooks.to_string()),
            ("WEBHOOKS__FORWARD_TO", format!("http://{}/hooks", service.address)),
            // The cache is full within the first minutes, so that its filling does not look like growth.
            ("CACHE__MAX_BYTES", "8MiB".to_owned()),
            ("DRAIN__GRACE", "0s".to_owned()),
        ]
        .iter()
        .chain(settings)
        {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        let child = command.spawn().expect("starts");
        let sidecar = Self { child, proxy, webhooks, ops: Ops(ops) };
        let ready = async || sidecar.ops.ask("/readyz").await.starts_with("HTTP/1.1 200 ");
        assert!(soon(Duration::from_secs(10), ready).await, "not ready in time");
        sidecar
    }

    /// The resources that the sidecar takes now.
    pub fn sample(&self) -> Sample {
        let proc = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{proc}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let resident = line.trim().trim_end_matches(" kB").parse().expect("a number");
        let number = |folder: &str| fs::read_dir(format!("{proc}/{folder}")).expect("it runs").count();
        Sample { resident, descriptors: number("fd"), threads: number("task") }
    }

    /// Ends the sidecar as an orchestrator does, and returns its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        let mut status = None;
        let ended = async || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        };
        assert!(soon(Duration::from_secs(60), ended).await, "does not end");
        status.and_then(|status| status.code())
    }
}

impl Ops {
    /// The sum over all series of a metric, or the value of one series.
    pub async fn metric(self, name: &str) -> u64 {
        self.metrics([name]).await[0]
    }

    /// As [`Self::metric`], of several at one time.
    pub async fn metrics<const N: usize>(self, names: [&str; N]) -> [u64; N] {
        let text = self.ask("/metrics").await;
        names.map(|name| {
            let name = format!("sezzle_sidecar_{name}");
            let series = text.lines().filter_map(|line| line.strip_prefix(&name));
            let series = series.filter(|rest| rest.starts_with(['{', ' ']));
            series
                .map(|rest| rest.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a count"))
                .sum()
        })
    }

    async fn ask(self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.0).await {
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.read_to_string(&mut answer).await;
        }
        answer
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Both calls fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Keys {
    pub fn new(public: &str, private: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().expect("a folder"), rotations: 0 };
        this.write(public, private);
        this
    }

    /// Gives the gateway and the sidecars another pair of keys.
    pub fn rotate(&mut self, gateway: &Simulator) {
        self.rotations += 1;
        let (public, private) = (format!("sz_pub_soak_{}", self.rotations), format!("sz_pr_soak_{}", self.rotations));
        gateway.set_keys(&public, &private);
        self.write(&public, &private);
    }

    /// Each file is replaced at once, but not both together.
    fn write(&self, public: &str, private: &str) {
        let folder = self.folder.path();
        for (name, key) in [("public", public), ("private", private)] {
            let next = folder.join(format!(".{name}"));
            fs::write(&next, key).expect("writable");
            fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).expect("settable");
            fs::rename(&next, folder.join(name)).expect("the same folder");
        }
    }
}

/// Sends a signal by its name. The gateway runs on the same threads, so no thread may wait for the shell meanwhile.
pub fn signal(process: &Child, name: &str) {
    let line = format!("kill -{name} {}", process.id());
    let sent = block_in_place(|| Command::new("/bin/sh").args(["-c", &line]).status().expect("a shell"));
    assert!(sent.success(), "{line}");
}

/// Whether something holds before the limit.
pub async fn soon(limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds().await {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
