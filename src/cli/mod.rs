//! The command line: commands and their exit codes.

mod check;
mod completions;
#[cfg(feature = "simulator")]
mod demo;
mod explain;
mod health;
mod help;
mod purge;
mod serve;
#[cfg(feature = "simulator")]
mod simulate;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
#[cfg(feature = "simulator")]
use std::thread;
#[cfg(feature = "simulator")]
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{BUILD, StartError};
use crate::config::{self, Loaded, Problems};
use crate::control::client::CallError;
use crate::online_check::failure::CheckFailure;
use crate::telemetry::log::InstallError;

/// A caching reverse proxy for the Sezzle payment gateway. The sidecar runs beside
/// a service, and the service calls it instead of Sezzle.
///
/// The sidecar holds the merchant's keys, so services need none. It answers
/// repeated session lookups from memory and passes every other call through.
#[derive(Debug, Parser)]
#[command(name = "sezzle-sidecar", version = BUILD, verbatim_doc_comment, after_long_help = help::SIDECAR)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    files: ConfigFiles,
}

#[derive(Args, Debug, Default)]
struct ConfigFiles {
    /// Read the configuration from this TOML file; may repeat.
    // Not global: clap would drop the files before the command when there are others after it.
    #[arg(long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
}

// `--help` shows these lines as they are, so they have at most 80 columns.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar (the default).
    #[command(after_long_help = help::RUN)]
    Run(ConfigFiles),
    /// Check the configuration.
    ///
    /// Prints the configuration with secrets redacted, or lists every mistake in it.
    #[command(after_long_help = help::CHECK)]
    Check(check::Check),
    /// Report whether the sidecar on this machine is alive.
    ///
    /// Requests /livez from the ops listener. The command reads only ops.listen of
    /// the configuration. If that is a wildcard address such as 0.0.0.0:9464, the
    /// command uses loopback. The result does not depend on Sezzle.
    #[command(verbatim_doc_comment)]
    Healthcheck(health::Healthcheck),
    /// Wait until the sidecar on this machine is ready.
    ///
    /// Requests /readyz from the ops listener. The command reads only ops.listen of
    /// the configuration. If that is a wildcard address such as 0.0.0.0:9464, the
    /// command uses loopback. A sidecar is ready when it listens and has had a token.
    #[command(verbatim_doc_comment)]
    Wait(health::Wait),
    /// Show what the sidecar does, with a simulated gateway.
    #[cfg(feature = "simulator")]
    #[command(after_long_help = help::DEMO)]
    Demo {
        /// Exit after the tour instead of waiting for a signal.
        #[arg(long)]
        once: bool,
    },
    /// Run the simulated gateway alone.
    #[cfg(feature = "simulator")]
    #[command(after_long_help = help::SIMULATE)]
    Simulate(Simulate),
    /// Explain what the sidecar would do with a request, and why.
    ///
    /// If standard input holds Sezzle's answer, explains the answer as well.
    #[command(after_long_help = help::EXPLAIN)]
    Explain(explain::Explain),
    /// Purge sessions from the cache of a running sidecar.
    ///
    /// Calls the control listener, at control.listen of the configuration.
    #[command(after_long_help = help::PURGE)]
    Purge(purge::Purge),
    /// Print a script that completes this command line in a shell.
    Completions(completions::Completions),
    /// Print the version.
    Version,
}

#[cfg(feature = "simulator")]
#[derive(Args, Debug)]
pub(crate) struct Simulate {
    /// Listen on this address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) listen: std::net::SocketAddr,
    /// Allow other addresses than loopback. Everybody who can reach the
    /// address controls the simulated gateway.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) allow_remote: bool,
    /// Serve HTTP/2 as well: by ALPN with HTTPS, by prior knowledge without.
    #[arg(long)]
    pub(crate) http2: bool,
    /// Serve HTTPS with this PEM chain, the simulator's own certificate first.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Read the private key of that certificate from this PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
}

const USAGE: u8 = 64;
const NO_PERMISSION: u8 = 77;
const BAD_CONFIGURATION: u8 = 78;

/// Runs the command of these arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let files = cli.files;
    match cli.command.unwrap_or(Command::Run(ConfigFiles::default())) {
        Command::Run(more) => serve::serve([files.config, more.config].concat()),
        Command::Check(mut check) => {
            let more = std::mem::take(&mut check.files);
            configured(files, more, |loaded| check.run(loaded))
        }
        Command::Healthcheck(mut healthcheck) => {
            let more = std::mem::take(&mut healthcheck.files);
            at_ops(files, more, |listen| with_runtime(&mut Builder::new_current_thread(), healthcheck.run(listen)))
        }
        Command::Wait(mut wait) => {
            let more = std::mem::take(&mut wait.files);
            at_ops(files, more, |listen| with_runtime(&mut Builder::new_current_thread(), wait.run(listen)))
        }
        Command::Explain(mut explain) => {
            let more = std::mem::take(&mut explain.files);
            configured(files, more, |loaded| ended(explain.run(&loaded.settings)))
        }
        Command::Purge(mut purge) => {
            let more = std::mem::take(&mut purge.files);
            configured(files, more, |loaded| {
                with_runtime(&mut Builder::new_current_thread(), purge.run(&loaded.settings))
            })
        }
        _ if !files.config.is_empty() => {
            complain("error: this command reads no configuration; leave out --config\n");
            ExitCode::from(USAGE)
        }
        #[cfg(feature = "simulator")]
        Command::Demo { once } => with_threads(demo::demo(once)),
        #[cfg(feature = "simulator")]
        Command::Simulate(arguments) => with_threads(simulate::simulate(arguments)),
        Command::Completions(completions) => {
            completions.run();
            ExitCode::SUCCESS
        }
        Command::Version => {
            say(&format!("sezzle-sidecar {}\n", BUILD));
            ExitCode::SUCCESS
        }
    }
}

/// Runs a command with the configuration, or reports every mistake in it.
fn configured(files: ConfigFiles, more: ConfigFiles, command: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::load(&files, std::env::vars_os()) {
        Ok(loaded) => command(&loaded),
        Err(problems) => misconfigured(&problems),
    }
}

/// Runs a command with the address of the ops listener, or reports its mistakes.
fn at_ops(files: ConfigFiles, more: ConfigFiles, command: impl FnOnce(SocketAddr) -> ExitCode) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::ops_listen(&files, std::env::vars_os()) {
        Ok(listen) if listen.port() == 0 => ended(Err(Failure::NoPort)),
        Ok(listen) => command(listen),
        Err(problems) => misconfigured(&problems),
    }
}

fn misconfigured(problems: &Problems) -> ExitCode {
    complain(&format!("{problems}\n"));
    ExitCode::from(BAD_CONFIGURATION)
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration has mistakes.
    #[error("{0}")]
    Configuration(#[from] Problems),
    /// The log cannot be installed.
    #[error("{0}")]
    Log(#[from] InstallError),
    /// The files could not be read in time.
    #[error("the sidecar could not read the files of the {0} within {1} s")]
    Unread(&'static str, u64),
    /// A signal arrived while the sidecar was reading its files.
    #[error("a signal stopped the sidecar before it had started")]
    NotStarted,
    /// The sidecar could not be started.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The system refused an operation.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A second signal arrived before the drain was over.
    #[error("the sidecar stopped before its connections and writes had ended")]
    Interrupted,
    /// A step of the tour failed.
    #[error("{0}")]
    Tour(String),
    /// The configuration has no control listener.
    #[error("control.listen is not set, so this command cannot reach the sidecar")]
    NoControl,
    /// A running sidecar did not obey.
    #[error("{0}")]
    Control(#[from] CallError),
    /// The ops listener has a random port.
    #[error("ops.listen has port 0, so this command cannot know the port: set a fixed one")]
    NoPort,
    /// A sidecar is not alive, or not ready in time.
    #[error("{0}")]
    Unwell(String),
    /// Sezzle is unreachable, or rejects the keys.
    #[error("{0}")]
    OnlineCheck(#[from] CheckFailure),
    /// An argument or the input is invalid or unreadable.
    #[error("{0}")]
    Usage(&'static str),
    /// The certificate for the simulated gateway is unusable.
    #[cfg(feature = "simulator")]
    #[error("{0}")]
    Certificate(String),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NotStarted => 0,
            Self::Start(error) => start_code(error),
            Self::OnlineCheck(failure) if failure.is_of_keys => NO_PERMISSION,
            Self::Usage(_) => USAGE,
            Self::Configuration(_) | Self::Unread(..) | Self::NoControl | Self::NoPort => BAD_CONFIGURATION,
            #[cfg(feature = "simulator")]
            Self::Certificate(_) => BAD_CONFIGURATION,
            Self::Log(_)
            | Self::System(_)
            | Self::Interrupted
            | Self::OnlineCheck(_)
            | Self::Control(_)
            | Self::Unwell(_)
            | Self::Tour(_) => 1,
        }
    }
}

fn start_code(error: &StartError) -> u8 {
    match error {
        StartError::Key(_) | StartError::EgressKey(_) | StartError::EgressProxy(_) | StartError::WebhookKey(_) => {
            NO_PERMISSION
        }
        StartError::Tls(_) | StartError::Address(_) | StartError::ForwardTo(_) | StartError::Passed(_) => {
            BAD_CONFIGURATION
        }
        #[cfg(feature = "otlp")]
        StartError::Otlp(_) => BAD_CONFIGURATION,
        StartError::Bind(_) | StartError::Metrics(_) | StartError::Socket(_) | StartError::Thread(_) => 1,
        // The code for a secret wins, if one of them has it.
        StartError::Several(all) => all.iter().map(start_code).min().unwrap_or(1),
    }
}

fn with_runtime(builder: &mut Builder, command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    ended(on_runtime(builder, command))
}

/// Runs on one thread per core. The threads are tried first, because the runtime panics if the system cannot start one.
#[cfg(feature = "simulator")]
fn with_threads(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let one = |_| thread::Builder::new().spawn(|| thread::sleep(Duration::from_millis(10)));
    let all = (0..thread::available_parallelism().map_or(1, usize::from)).map(one).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) => all.into_iter().for_each(|one| drop(one.join())),
        Err(error) => return ended(Err(StartError::Thread(error).into())),
    }
    with_runtime(&mut Builder::new_multi_thread(), command)
}

fn on_runtime(builder: &mut Builder, command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(command);
    // Tasks that are still running have had their time.
    runtime.shutdown_background();
    result
}

/// Prints the error, if any, and returns the exit code.
fn ended(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => misconfigured(&problems),
        Err(failure) => {
            complain(&format!("sezzle-sidecar: {failure}\n"));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The signals SIGTERM and SIGINT.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Catches both signals from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of the two signals.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Writes to standard output. A closed pipe is no error.
pub(crate) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
