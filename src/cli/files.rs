//! The option `--config`, and what a command reads from those files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::process::{ended, misconfigured};
use crate::config::{self, Loaded, OperatorListeners};

#[derive(Args, Debug, Default)]
pub(super) struct ConfigFiles {
    /// Read the configuration from this TOML file; may repeat.
    // Not global: clap would drop the files before the command when there are others after it.
    #[arg(long = "config", value_name = "FILE")]
    pub(super) config: Vec<PathBuf>,
}

/// Runs a command with the configuration, or reports every mistake in it.
pub(super) fn configured(files: ConfigFiles, more: ConfigFiles, command: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::load(&files, std::env::vars_os()) {
        Ok(loaded) => command(&loaded),
        Err(problems) => misconfigured(&problems),
    }
}

/// Runs a command with the address of the ops listener, or reports its mistakes.
pub(super) fn at_ops(files: ConfigFiles, more: ConfigFiles, command: impl FnOnce(SocketAddr) -> ExitCode) -> ExitCode {
    let files = [files.config, more.config].concat();
    match config::ops_listen(&files, std::env::vars_os()) {
        Ok(listen) if listen.port() == 0 => ended(Err(Failure::NoPort)),
        Ok(listen) => command(listen),
        Err(problems) => misconfigured(&problems),
    }
}

/// Runs a command with the addresses of the control and ops listeners, or reports their mistakes.
pub(super) fn at_operators(
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
