//! The binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    sezzle_sidecar::cli::run(std::env::args_os())
}
