//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// An answer from memory takes about twenty allocations. These are a few instructions each, and need no lock.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sezzle_sidecar::cli::run(std::env::args_os())
}
