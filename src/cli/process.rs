//! Steps that commands share: run on a runtime, wait for signals, print, and end with an exit code.

#[cfg(feature = "simulator")]
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
#[cfg(feature = "simulator")]
use std::thread;
#[cfg(feature = "simulator")]
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{BAD_CONFIGURATION, Failure};
#[cfg(feature = "simulator")]
use crate::app::StartError;
use crate::config::Problems;

/// Runs a command on this kind of runtime, prints its error, and returns the exit code.
pub(super) fn with_runtime(builder: &mut Builder, command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    report(on_runtime(builder, command))
}

/// As [`with_runtime`], on one thread per core. The threads are tried first, because the runtime panics if the system
/// cannot start one.
#[cfg(feature = "simulator")]
pub(super) fn with_threads(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let one = |_| thread::Builder::new().spawn(|| thread::sleep(Duration::from_millis(10)));
    let all = (0..thread::available_parallelism().map_or(1, usize::from)).map(one).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) => all.into_iter().for_each(|one| drop(one.join())),
        Err(error) => return report(Err(StartError::Thread(error).into())),
    }
    with_runtime(&mut Builder::new_multi_thread(), command)
}

/// Runs a command on this kind of runtime.
pub(super) fn on_runtime(
    builder: &mut Builder,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(command);
    // Tasks that are still running have had their time.
    runtime.shutdown_background();
    result
}

/// Prints the error, if any, and returns the exit code.
pub(super) fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => misconfigured(&problems),
        Err(failure) => {
            complain(&format!("sezzle-sidecar: {failure}\n"));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Whether an environment variable is set and not empty.
pub(super) fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Prints the mistakes in the configuration, and returns the exit code.
pub(super) fn misconfigured(problems: &Problems) -> ExitCode {
    complain(&format!("{problems}\n"));
    ExitCode::from(BAD_CONFIGURATION)
}

/// SIGTERM and SIGINT, either of which ends the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both signals from now on.
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

/// The name by which this program was started, for a shell: a printed command then also works where the program is not
/// in `PATH`.
#[cfg(feature = "simulator")]
pub(super) fn program() -> String {
    let named = env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    quoted(named.as_deref().unwrap_or("sezzle-sidecar"))
}

/// A word for a shell, in quotes if the shell would change the bare word.
#[cfg(feature = "simulator")]
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes to standard output. A closed pipe is no error.
pub(super) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error. A closed pipe is no error.
pub(super) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
