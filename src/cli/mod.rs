//! The command line: commands and their exit codes.

mod audit;
mod certificate;
mod check;
mod completions;
#[cfg(feature = "simulator")]
mod demo;
mod explain;
mod failure;
mod files;
mod headers;
mod health;
mod help;
mod log_level;
mod process;
mod purge;
mod second_signal;
mod serve;
#[cfg(feature = "simulator")]
mod simulate;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

use self::failure::USAGE;
use self::files::{ConfigFiles, with_configuration, with_operator_listeners, with_ops_listener};
#[cfg(feature = "simulator")]
use self::process::with_threads;
use self::process::{complain, report, say, with_runtime};
use crate::app::BUILD;

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
    Demo(demo::Demo),
    /// Run the simulated gateway alone.
    #[cfg(feature = "simulator")]
    #[command(after_long_help = help::SIMULATE)]
    Simulate(simulate::Simulate),
    /// Explain what the sidecar would do with a request, and why.
    ///
    /// If standard input holds Sezzle's answer, or with --ask, explains the answer
    /// as well.
    #[command(verbatim_doc_comment, after_long_help = help::EXPLAIN)]
    Explain(explain::Explain),
    /// Purge sessions from the cache of a running sidecar.
    ///
    /// Calls the control listener, at control.listen of the configuration.
    #[command(after_long_help = help::PURGE)]
    Purge(purge::Purge),
    /// Print the status of a running sidecar.
    ///
    /// Asks the control listener if control.listen is set, and else the ops
    /// listener, which leaves out identifiers. The command reads only these two
    /// addresses of the configuration.
    #[command(verbatim_doc_comment)]
    Status(status::Status),
    /// Set the log level of a running sidecar.
    ///
    /// Calls the control listener, at control.listen of the configuration.
    LogLevel(log_level::LogLevel),
    /// Check the record of the calls that move money.
    Audit(audit::Audit),
    /// Make a certificate for these names, and an authority to sign it.
    ///
    /// The files are for tests, and for services that trust what their operator
    /// gives them. An authority that is in the folder already is used again.
    #[command(verbatim_doc_comment)]
    Certificate(certificate::MakeCertificate),
    /// Print a script that completes this command line in a shell.
    Completions(completions::Completions),
    /// Print the version.
    Version,
}

/// Runs the command that these arguments name. The first argument is the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let files = cli.files;
    let is_bare = cli.command.is_none() && files.config.is_empty();
    match cli.command.unwrap_or(Command::Run(ConfigFiles::default())) {
        Command::Run(more) => serve::serve([files.config, more.config].concat(), is_bare),
        Command::Check(mut check) => {
            let more = std::mem::take(&mut check.files);
            with_configuration(files, more, |loaded| check.run(loaded))
        }
        Command::Healthcheck(mut healthcheck) => {
            let more = std::mem::take(&mut healthcheck.files);
            with_ops_listener(files, more, |listen| {
                with_runtime(&mut Builder::new_current_thread(), healthcheck.run(listen))
            })
        }
        Command::Wait(mut wait) => {
            let more = std::mem::take(&mut wait.files);
            with_ops_listener(files, more, |listen| with_runtime(&mut Builder::new_current_thread(), wait.run(listen)))
        }
        Command::Explain(mut explain) => {
            let more = std::mem::take(&mut explain.files);
            with_configuration(files, more, |loaded| explain.run(&loaded.settings))
        }
        Command::Purge(mut purge) => {
            let more = std::mem::take(&mut purge.files);
            with_configuration(files, more, |loaded| {
                with_runtime(&mut Builder::new_current_thread(), purge.run(&loaded.settings))
            })
        }
        Command::Status(mut status) => {
            let more = std::mem::take(&mut status.files);
            let run = |listeners| with_runtime(&mut Builder::new_current_thread(), status.run(listeners));
            with_operator_listeners(files, more, run)
        }
        Command::LogLevel(mut level) => {
            let more = std::mem::take(&mut level.files);
            with_operator_listeners(files, more, |listeners| {
                with_runtime(&mut Builder::new_current_thread(), level.run(listeners))
            })
        }
        _ if !files.config.is_empty() => {
            complain("error: this command reads no configuration; leave out --config\n");
            ExitCode::from(USAGE)
        }
        #[cfg(feature = "simulator")]
        Command::Demo(demo) => with_threads(demo.run()),
        #[cfg(feature = "simulator")]
        Command::Simulate(arguments) => with_threads(arguments.run()),
        Command::Audit(audit) => report(audit.run()),
        Command::Certificate(certificate) => report(certificate.run()),
        Command::Completions(completions) => {
            completions.run(&mut Cli::command());
            ExitCode::SUCCESS
        }
        Command::Version => {
            say(&format!("sezzle-sidecar {}\n", BUILD));
            ExitCode::SUCCESS
        }
    }
}
