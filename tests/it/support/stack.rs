//! Public HTTP clients, run as processes of their own. Each makes the calls of a plan; `tests/clients` has the programs,
//! and `tests/run` installs the clients.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{BINARY, Process};

/// Long enough for a Java program that is compiled first, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Debian's folder of Java libraries, and the libraries that Apache's two clients and OkHttp need.
const JARS: [&str; 10] = [
    "okhttp",
    "okio",
    "httpclient",
    "httpcore",
    "commons-logging",
    "commons-codec",
    "httpclient5",
    "httpcore5",
    "httpcore5-h2",
    "slf4j-api",
];

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length,
    Chunked,
    /// With a length, after `100 Continue`.
    Expect,
}

/// A client and the command that starts its program.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// Program, script, and for a script with several clients the client's name.
    pub command: &'static [&'static str],
    pub framings: &'static [Framing],
}

#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub target: String,
    pub framing: Framing,
    pub key: Option<String>,
    pub body: String,
}

impl Call {
    pub fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), framing: Framing::None, key: None, body: String::new() }
    }

    pub fn body(self, framing: Framing, body: impl ToString) -> Self {
        Self { framing, body: body.to_string(), ..self }
    }

    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The exchange of the simulator's keys. Every plan begins with it.
    pub fn exchange() -> Self {
        let keys = r#"{"public_key":"sz_pub_simulated","private_key":"sz_pr_simulated"}"#;
        Self::new("POST", "/v2/authentication").body(Framing::Length, keys)
    }

    fn line(&self) -> String {
        let framing = match self.framing {
            Framing::None => "none",
            Framing::Length => "length",
            Framing::Chunked => "chunked",
            Framing::Expect => "expect",
        };
        assert!(!self.body.contains(['\t', '\n']), "{self:?}");
        let key = self.key.as_deref().unwrap_or("-");
        format!("{}\t{}\t{framing}\t{key}\t{}\n", self.method, self.target, self.body)
    }
}

/// The client's result of a call.
#[derive(Clone)]
pub struct ClientResult {
    /// The status, or the client's name for the failure.
    pub status: String,
    pub cache: String,
    pub body: Vec<u8>,
}

impl fmt::Debug for ClientResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = String::from_utf8_lossy(&self.body).chars().take(200).collect();
        write!(formatter, "{} {:?} {start:?}", self.status, self.cache)
    }
}

/// A client at work.
pub struct Running {
    process: Process,
    folder: TempDir,
    calls: usize,
}

impl Stack {
    /// Starts the client with these calls to `base`.
    pub fn start(&self, base: &str, calls: &[Call]) -> Running {
        self.start_by(&[], base, calls, &[])
    }

    /// As [`Self::start`], by a program that gets the client's command as its last arguments, and with further variables.
    pub fn start_by(&self, starter: &[&str], base: &str, calls: &[Call], variables: &[(&str, String)]) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = folder.path().join("plan");
        fs::write(&plan, calls.iter().map(Call::line).collect::<String>()).expect("written");
        let [program, rest @ ..] = self.command else { panic!("no program") };
        let program = if *program == "deno" { deno() } else { PathBuf::from(program) };
        let mut words = starter.iter().map(PathBuf::from).chain([program]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        for word in rest {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(word);
            command.arg(if word.starts_with(char::is_alphabetic) && script.is_file() { script } else { word.into() });
        }
        command.arg(base).arg(&plan).arg(folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder.path());
        command.env("CLIENTS", installed("node")).env("PYTHONPATH", installed("python"));
        command.env("CLASSPATH", JARS.map(|name| format!("/usr/share/java/{name}.jar")).join(":"));
        command.env("DENO_DIR", folder.path()).env("DENO_NO_UPDATE_CHECK", "1");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Running { process: Process::spawn(command), folder, calls: calls.len() }
    }
}

impl Running {
    /// Waits for the client's end, and returns one outcome for each of its calls.
    pub async fn outcomes(self) -> Vec<ClientResult> {
        let ended = self.process.end_within(LIMIT).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(lines.len(), self.calls, "{ended:?}");
        let outcome = |(number, line): (usize, &&str)| {
            let (status, cache) = line.split_once('\t').expect("a status and a cache status");
            let body = fs::read(self.folder.path().join(number.to_string())).unwrap_or_default();
            ClientResult { status: status.to_owned(), cache: cache.to_owned(), body }
        };
        lines.iter().enumerate().map(outcome).collect()
    }
}

/// The folder in which `tests/run` installs clients of this kind: beside the profile's folder.
pub fn installed(kind: &str) -> PathBuf {
    Path::new(BINARY).ancestors().nth(2).expect("the target folder").join("clients").join(kind)
}

/// The executable from the client's package for this platform.
fn deno() -> PathBuf {
    let packages = installed("node").join("node_modules/@deno");
    let mut found = fs::read_dir(&packages).expect("the packages that tests/run installs");
    found.find_map(|entry| Some(entry.ok()?.path().join("deno")).filter(|file| file.is_file())).expect("deno")
}
