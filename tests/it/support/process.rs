//! The binary as a process of its own, without this process's environment. A test watches it; dropping the handle kills
//! it.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Simulator};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::client::{Answer, Client};
use super::eventually;

pub const BINARY: &str = env!("CARGO_BIN_EXE_sezzle-sidecar");

const LIMIT: Duration = Duration::from_secs(30);

/// A running process. Dropping the handle kills it.
pub struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// The exit status and output of an ended process.
#[derive(Debug)]
pub struct Ended {
    /// `None` when a signal ended the process.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// Starts the binary. Variables are named without their prefix.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_to(Stdio::piped(), arguments, variables)
    }

    /// Starts the binary with another standard output, which the test cannot read here.
    pub fn start_to(stdout: Stdio, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear();
        for (name, value) in variables {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        Self::spawn_to(stdout, command)
    }

    /// Starts a line of shell. Its environment holds only these variables and a PATH that begins with the binary's
    /// folder.
    pub fn shell(line: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).current_dir(folder).env_clear();
        let own = Path::new(BINARY).parent().expect("a folder").display();
        let rest = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        command.env("PATH", format!("{own}:{rest}"));
        for (name, value) in variables {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        Self::spawn(command)
    }

    /// Starts any program with an empty standard input.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_to(Stdio::piped(), command)
    }

    fn spawn_to(stdout: Stdio, mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::of_to(stdout, command)
    }

    /// Starts any command with the standard input that the command names.
    pub fn of(command: Command) -> Self {
        Self::of_to(Stdio::piped(), command)
    }

    fn of_to(stdout: Stdio, mut command: Command) -> Self {
        let command = command.stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map_or_else(|| Output::collect(std::io::empty()), Output::collect);
        let stderr = Output::collect(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Starts the binary as systemd does, with a socket as its descriptors 3 and 4, and with `own` for systemd's
    /// variables. The shell becomes the binary, and keeps its process id.
    pub fn passed(socket: impl Into<OwnedFd>, own: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let line = format!("export {own}; exec \"$0\" \"$@\" 3<&0 4<&0 </dev/null");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &line, BINARY]).args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        shell.envs(variables.iter().map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}"), value)));
        shell.stdin(Stdio::from(socket.into()));
        Self::of(shell)
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output contains `what`. Fails when the process ends first.
    pub async fn says(&mut self, what: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.stdout().contains(what) {
            let ended = self.child.try_wait().expect("a child");
            // The end of a process may show before its last output has been read.
            if ended.is_some() {
                self.stdout.join();
                if self.stdout().contains(what) {
                    return;
                }
            }
            let state = format!("\nstdout: {}\nstderr: {}", self.stdout(), self.stderr());
            assert!(ended.is_none(), "ended without saying {what:?}{state}");
            assert!(Instant::now() < deadline, "did not say {what:?}{state}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &line]).status().expect("a shell").success(), "{line}");
    }

    /// Sends a signal, and the same one again after so many seconds.
    pub fn signal_twice(&self, name: &str, seconds: f64) {
        let id = self.child.id();
        let line = format!("kill -{name} {id}; sleep {seconds}; kill -{name} {id}");
        assert!(Command::new("/bin/sh").args(["-c", &line]).status().expect("a shell").success(), "{line}");
    }

    /// Sends a second signal, a second after the process has said that it drains. Sooner, the process would take the
    /// two for one.
    pub async fn signal_again(&mut self, name: &str) {
        self.says("draining").await;
        sleep(Duration::from_millis(1_100)).await;
        self.signal(name);
    }

    /// Waits for the process's end.
    pub async fn end(self) -> Ended {
        self.end_within(LIMIT).await
    }

    /// Waits so long for the process's end.
    pub async fn end_within(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            let state = format!("\nstdout: {}\nstderr: {}", self.stdout(), self.stderr());
            assert!(Instant::now() < deadline, "did not end{state}");
            sleep(Duration::from_millis(5)).await;
        };
        self.stdout.join();
        self.stderr.join();
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both calls fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard output or standard error, read by a thread so that the writer is never blocked.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(read @ 1..) = stream.read(&mut chunk) {
                sink.lock().expect("not poisoned").extend_from_slice(&chunk[..read]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("not poisoned")).into_owned()
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reads");
        }
    }
}

/// Every line of a log, parsed.
pub fn lines(log: &str) -> Vec<Value> {
    assert!(log.ends_with('\n'), "the last line is whole: {log}");
    let parsed = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    parsed.inspect(|line: &Value| assert!(line.is_object(), "{line}")).collect()
}

/// The settings without defaults, with a key pair that no gateway knows.
pub const CONFIGURED: [(&str, &str); 3] = [
    ("GATEWAY__ENVIRONMENT", "sandbox"),
    ("CREDENTIALS__PUBLIC_KEY", "sz_pub_1"),
    ("CREDENTIALS__PRIVATE_KEY", "sz_pr_1"),
];

/// Runs `check` with [`CONFIGURED`] and these variables, which win.
pub async fn check(variables: &[(&str, &str)]) -> Ended {
    run(&["check"], &[&CONFIGURED[..], variables].concat()).await
}

/// Runs the binary to its end.
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    Process::start(arguments, variables).end().await
}

/// The binary as a sidecar in front of a simulated gateway in this process.
pub struct Sidecar {
    pub process: Process,
    pub gateway: Simulator,
    pub proxy: SocketAddr,
    pub ops: SocketAddr,
    pub client: Client,
}

impl Sidecar {
    /// Starts both and waits until the sidecar is ready.
    pub async fn start(options: Options, variables: &[(&str, &str)]) -> Self {
        let sidecar = Self::start_unready(options, variables).await;
        sidecar.ready().await;
        sidecar
    }

    /// Starts both with another standard output, and waits until the sidecar is ready.
    pub async fn start_to(stdout: impl Into<Stdio>, variables: &[(&str, &str)]) -> Self {
        let options = Options::default();
        let keys = (options.public_key.clone(), options.private_key.clone());
        let gateway = Simulator::start(options).await.expect("gateway starts");
        let start = |variables: &[(&str, &str)]| Process::start_to(stdout.into(), &["run"], variables);
        let sidecar = Self::by(gateway, &keys.0, &keys.1, variables, start).await;
        sidecar.ready().await;
        sidecar
    }

    /// Starts both, and waits only for the listeners.
    pub async fn start_unready(options: Options, variables: &[(&str, &str)]) -> Self {
        let keys = (options.public_key.clone(), options.private_key.clone());
        let gateway = Simulator::start(options).await.expect("gateway starts");
        Self::before(gateway, &keys.0, &keys.1, variables).await
    }

    /// Starts the sidecar in front of a running gateway.
    pub async fn before(gateway: Simulator, public: &str, private: &str, variables: &[(&str, &str)]) -> Self {
        Self::by(gateway, public, private, variables, |variables| Process::start(&["run"], variables)).await
    }

    /// Starts the sidecar in front of a running gateway by `start`, which gets all variables. An empty value unsets
    /// one.
    pub async fn by(
        gateway: Simulator,
        public: &str,
        private: &str,
        variables: &[(&str, &str)],
        start: impl FnOnce(&[(&str, &str)]) -> Process,
    ) -> Self {
        // Not port 0: at `warn` no line of the log tells the chosen ports.
        let (proxy, ops) = (free_address(), free_address());
        let (url, listen, ops_listen) = (gateway.url(), proxy.to_string(), ops.to_string());
        let mut all = vec![
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            ("GATEWAY__URL", &url),
            ("CREDENTIALS__PUBLIC_KEY", public),
            ("CREDENTIALS__PRIVATE_KEY", private),
            ("PROXY__LISTEN", &listen),
            ("OPS__LISTEN", &ops_listen),
            ("DRAIN__GRACE", "0s"),
        ];
        // Unsets a key for which there is a file, too.
        all.retain(|(name, _)| variables.iter().all(|(other, _)| other.trim_end_matches("_FILE") != *name));
        all.extend(variables);
        all.retain(|(_, value)| !value.is_empty());
        let process = start(&all);
        let sidecar = Self { process, gateway, proxy, ops, client: Client::new() };
        eventually("listening", async || tokio::net::TcpStream::connect(ops).await.is_ok()).await;
        sidecar
    }

    /// Waits until the sidecar is ready.
    pub async fn ready(&self) {
        self.client.until_ready(self.ops).await;
    }

    /// GET through the sidecar.
    pub async fn get(&self, path: &str) -> Answer {
        self.client.get(self.proxy, path).await
    }

    /// Any request through the sidecar.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.client.send(self.proxy, method, path, headers, body).await
    }

    /// The value of a series on /metrics, named as in [`super::Harness::metric`].
    pub async fn metric(&self, series: &str) -> f64 {
        self.client.metric(self.ops, series).await
    }

    /// The bytes of memory that the sidecar's process holds.
    pub async fn resident(&self) -> f64 {
        let text = self.client.get(self.ops, "/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        line.expect("the metric").parse().expect("a number")
    }

    /// Ends the sidecar with SIGTERM, and the gateway after it.
    pub async fn stop(self) -> Ended {
        self.process.signal("TERM");
        let ended = self.process.end().await;
        self.gateway.stop().await;
        ended
    }
}

/// A free address that no other test of this process gets. The system picks ports above this range by itself, so that no
/// connection takes the port before it is used.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Two processes that run tests at the same time begin at different places.
        let turn = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(701));
        let port = u16::try_from(FIRST + turn % PORTS).expect("a port");
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("an address");
        }
    }
}

/// A folder whose files are deleted after the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that only its owner may read or write, and returns its path.
    pub fn write(&self, name: &str, content: &str) -> String {
        self.write_with(name, content, 0o600)
    }

    /// Writes a file with these permissions, and returns its path.
    pub fn write_with(&self, name: &str, content: &str, mode: u32) -> String {
        let path: PathBuf = self.path().join(name);
        fs::write(&path, content).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("settable");
        path.display().to_string()
    }
}
