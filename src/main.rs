//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// An answer from memory takes about twenty allocations. mimalloc makes each in a few instructions, without a lock.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sezzle_sidecar::cli::run(std::env::args_os())
}
