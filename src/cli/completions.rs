//! `completions`: prints a shell's completion script for this command line.

use clap::{Args, Command};
use clap_complete::Shell;

use super::help;
use super::process::say;

#[derive(Args, Debug)]
#[command(after_long_help = help::COMPLETIONS)]
pub(super) struct Completions {
    /// Print the script for this shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, command: &mut Command) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "sezzle-sidecar", &mut script);
        // For bash, clap_complete up to 4.6.11 spells a name with a hyphen in two ways, which breaks completion after a
        // command: https://github.com/clap-rs/clap/issues/6421.
        say(&String::from_utf8_lossy(&script).replace("sezzle__subcmd__sidecar", "sezzle__sidecar"));
    }
}
