//! The sidecar as a process, seen from outside.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sezzle_sidecar::simulator::Simulator;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::service::Service;
use crate::verdict::Sample;

pub struct Sidecar {
    child: Child,
    pub proxy: SocketAddr,
    pub webhooks: SocketAddr,
    ops: SocketAddr,
    keys: TempDir,
    rotations: u32,
}

impl Sidecar {
    /// Starts the sidecar and waits until it is ready.
    pub async fn start(gateway: &Simulator, service: &Service, keys: (String, String)) -> Self {
        let (proxy, ops, webhooks) = (free_address(), free_address(), free_address());
        let folder = tempfile::tempdir().expect("a folder");
        write_keys(folder.path(), &keys.0, &keys.1);
        let file = |name: &str| folder.path().join(name).display().to_string();
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
        ] {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        let child = command.spawn().expect("starts");
        let sidecar = Self { child, proxy, webhooks, ops, keys: folder, rotations: 0 };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !sidecar.ask("/readyz").await.starts_with("HTTP/1.1 200 ") {
            assert!(Instant::now() < deadline, "not ready in time");
            sleep(Duration::from_millis(10)).await;
        }
        sidecar
    }

    /// The sidecar's memory and descriptors now.
    pub fn sample(&self) -> Sample {
        let proc = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{proc}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let resident = line.trim().trim_end_matches(" kB").parse().expect("a number");
        Sample { resident, descriptors: fs::read_dir(format!("{proc}/fd")).expect("it runs").count() }
    }

    /// Gives the gateway and the sidecar another pair of keys.
    pub fn rotate(&mut self, gateway: &Simulator) {
        self.rotations += 1;
        let (public, private) = (format!("sz_pub_soak_{}", self.rotations), format!("sz_pr_soak_{}", self.rotations));
        gateway.set_keys(&public, &private);
        write_keys(self.keys.path(), &public, &private);
    }

    /// The sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.ask("/metrics").await;
        let name = format!("sezzle_sidecar_{name}");
        let of_name =
            text.lines().filter_map(|line| line.strip_prefix(&name)).filter(|rest| rest.starts_with(['{', ' ']));
        of_name.map(|rest| rest.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a count")).sum()
    }

    /// Ends the sidecar as an orchestrator does, and returns its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        let line = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &line]).status().expect("a shell").success());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "does not end");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.ops).await {
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

/// Each file is replaced at once, but not both together.
fn write_keys(folder: &Path, public: &str, private: &str) {
    use std::os::unix::fs::PermissionsExt;
    for (name, key) in [("public", public), ("private", private)] {
        let next = folder.join(format!(".{name}"));
        fs::write(&next, key).expect("writable");
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).expect("settable");
        fs::rename(&next, folder.join(name)).expect("the same folder");
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
