//! The Redis of the fleet, as a process that can be paused, killed and started again on its port.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::process::{free_address, signal};

/// How long a reply may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Redis {
    pub address: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        let (address, folder) = (free_address(), tempfile::tempdir().expect("a folder"));
        let this = Self { address, process: spawn(address, folder.path()), folder };
        this.answers().await;
        this
    }

    /// Stops the process, which keeps its connections.
    pub fn pause(&self) {
        signal(&self.process, "STOP");
    }

    /// Lets a paused process go on.
    pub fn go_on(&self) {
        signal(&self.process, "CONT");
    }

    /// Writes all data to the disk, for the next start.
    pub async fn save(&self) {
        assert!(self.says("SAVE", "+OK").await, "not saved");
    }

    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        block_in_place(|| self.process.wait()).expect("a child");
    }

    /// Starts a killed process again, with what was saved since the last start.
    pub async fn start_again(&mut self) {
        self.process = block_in_place(|| spawn(self.address, self.folder.path()));
        self.answers().await;
        // Without a dump there is nothing to remove.
        let _ = fs::remove_file(self.folder.path().join("dump.rdb"));
    }

    async fn answers(&self) {
        let deadline = Instant::now() + LIMIT;
        while !self.says("PING", "+PONG").await {
            assert!(Instant::now() < deadline, "no reply of Redis");
            sleep(PAUSE).await;
        }
    }

    /// Whether the reply to a command is this one.
    async fn says(&self, command: &str, reply: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address).await else { return false };
        let mut got = vec![0; reply.len()];
        stream.write_all(format!("{command}\r\n").as_bytes()).await.is_ok()
            && stream.read_exact(&mut got).await.is_ok()
            && got == reply.as_bytes()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both calls fail only for a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(address: SocketAddr, folder: &Path) -> Child {
    let mut installed = Command::new("redis-server");
    match start(&mut installed, address, folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        started => return started.expect("redis-server starts"),
    }
    let mut unpacked = Command::new(engines().join("usr/bin/redis-server"));
    let libraries = fs::read_dir(engines().join("usr/lib")).expect("redis-server in PATH, or unpacked by tests/run");
    let libraries = libraries.map(|folder| folder.expect("readable").path().display().to_string());
    unpacked.env("LD_LIBRARY_PATH", libraries.collect::<Vec<_>>().join(":"));
    start(&mut unpacked, address, folder).expect("redis-server starts")
}

fn start(command: &mut Command, address: SocketAddr, folder: &Path) -> std::io::Result<Child> {
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
        .args(["--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

/// The folder in which `tests/run` unpacks Redis: beside the profile's folder.
fn engines() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_sezzle-sidecar")).ancestors().nth(2).expect("the target folder").join("engines")
}
