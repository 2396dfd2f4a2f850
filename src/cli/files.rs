//! The option `--config`, and the parts of the configuration that commands read from its files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::process::{misconfigured, report};
use crate::config::{self, Loaded, OperatorListeners};

#[derive(Args, Debug, Default)]
pub(super) struct ConfigFiles {
    /// Read the configuration from this TOML file; may repeat.
    // Not global: clap would drop the files before the command when there are others after it.
    #[arg(long = "config", value_name = "FILE")]
    pub(super) config: Vec<PathBuf>,
}

/// Runs a command with the configuration, or reports every mistake in it. `files` stand before the name of the command,
/// and `more` behind it.
pub(super) fn with_configuration(
    files: ConfigFiles,
    more: ConfigFiles,
    command: impl FnOnce(&Loaded) -> ExitCode,
) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::load(&files, std::env::vars_os()) {
        Ok(loaded) => command(&loaded),
        Err(problems) => misconfigured(&problems),
    }
}

/// As [`with_configuration`], with the address of the ops listener alone.
pub(super) fn with_ops_listener(
    files: ConfigFiles,
    more: ConfigFiles,
    command: impl FnOnce(SocketAddr) -> ExitCode,
) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::ops_listen(&files, std::env::vars_os()) {
        Ok(listen) if listen.port() == 0 => report(Err(Failure::NoPort)),
        Ok(listen) => command(listen),
        Err(problems) => misconfigured(&problems),
    }
}

/// As [`with_configuration`], with the addresses of the control and ops listeners alone.
pub(super) fn with_operator_listeners(
    files: ConfigFiles,
    more: ConfigFiles,
    command: impl FnOnce(OperatorListeners) -> ExitCode,
) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::operator_listeners(&files, std::env::vars_os()) {
        Ok(listeners) => command(listeners),
        Err(problems) => misconfigured(&problems),
    }
}
