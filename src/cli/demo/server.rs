//! The Redis or Valkey of the tour of a fleet: on a Unix socket in a folder that nobody else may enter, and without
//! persistence. Dropping the handle ends the server and deletes the folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{self, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::caller::failed;
use crate::cli::failure::Failure;
use crate::file::{self, Pipes};

pub(super) struct Server {
    /// The name of the program.
    pub program: &'static str,
    process: Child,
    folder: Folder,
}

impl Server {
    /// Starts the first server of PATH that runs, and waits until callers can connect to it.
    pub async fn start() -> Result<Self, Failure> {
        let mut why = String::new();
        for program in ["redis-server", "valkey-server"] {
            let folder = Folder::new()?;
            match spawn(program, folder.path()) {
                Ok(process) => {
                    let mut server = Self { program, process, folder };
                    match server.listens().await {
                        Ok(()) => return Ok(server),
                        Err(how) => why += &format!("{program} {how}\n"),
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => why += &format!("{program} cannot be started: {error}\n"),
            }
        }
        let needs = if why.is_empty() { NONE_IN_PATH } else { NONE_RUNS };
        Err(failed(&format!("{why}demo --fleet needs a server, and {needs}. {INSTALL}")))
    }

    /// The value of `fleet.url`.
    pub fn url(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Writes a new key for a fleet, and returns the path of its file.
    pub fn key_file(&self) -> Result<PathBuf, Failure> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| failed("the system gives no random bytes"))?;
        let path = self.folder.path().join("keys");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        file.write_all(BASE64_STANDARD.encode(key).as_bytes())?;
        Ok(path)
    }

    /// Waits until callers can connect.
    ///
    /// # Errors
    /// How the server failed, with what it said.
    async fn listens(&mut self) -> Result<(), String> {
        let socket = self.socket();
        let connected = async {
            while UnixStream::connect(&socket).await.is_err() {
                if let Some(status) = self.process.try_wait().map_err(|error| error.to_string())? {
                    // For example, the server lacks a library.
                    return Err(self
                        .said()
                        .map_or_else(|| format!("ended with {status}"), |log| format!("ended:\n{log}")));
                }
                sleep(PAUSE).await;
            }
            Ok(())
        };
        match timeout(START_TIMEOUT, connected).await {
            Ok(connected) => connected,
            Err(_) => {
                let log = self.said().unwrap_or_default();
                Err(format!("does not listen after {} s:\n{log}", START_TIMEOUT.as_secs()))
            }
        }
    }

    /// The text that the server wrote so far, if any.
    fn said(&self) -> Option<String> {
        let log = file::read(&self.folder.path().join(LOG), LONGEST_LOG, Pipes::Refuse).ok()?;
        let log = String::from_utf8_lossy(&log.bytes).trim().to_owned();
        (!log.is_empty()).then_some(log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls fail only for a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const NONE_IN_PATH: &str = "neither redis-server nor valkey-server is in PATH";
const NONE_RUNS: &str = "none that is in PATH runs";
const INSTALL: &str = "On Debian, install the package redis-server or valkey-server; elsewhere, a Redis from 6.2 on or a \
                       Valkey";

const SOCKET: &str = "socket";
const LOG: &str = "log";
const LONGEST_LOG: usize = 64 * 1024;
// A server without data listens within a second, if the machine is not busy.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

fn spawn(program: &str, folder: &Path) -> io::Result<Child> {
    let log = File::create(folder.join(LOG))?;
    Command::new(program)
        .args(["--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "600"])
        .args(["--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"])
        .current_dir(folder)
        // Ctrl-C reaches the whole process group, and the sidecars need the server until they have stopped.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// A temporary folder.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let name = format!("sezzle-sidecar-demo-{:016x}", fastrand::u64(..));
        let path = path::absolute(std::env::temp_dir())?.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| failed(&format!("{} cannot be created: {error}", path.display())))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
