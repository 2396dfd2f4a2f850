//! Records what was built, for `version` and the `build_info` metric.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = first_line(Command::new(rustc).arg("--version"));
    // Builds from an archive have no history; a packager names the commit in the variable.
    let commit = env::var("SEZZLE_SIDECAR_COMMIT")
        .ok()
        .or_else(|| first_line(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])));
    println!("cargo::rustc-env=SEZZLE_SIDECAR_RUSTC={}", version.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rustc-env=SEZZLE_SIDECAR_COMMIT={}", commit.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rerun-if-env-changed=SEZZLE_SIDECAR_COMMIT");
    // HEAD changes with the branch, its log with every commit. Naming a file that is not there would build anew each time.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}
