//! `audit verify`: checks audit files.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::help;
use super::process::say;
use crate::audit::{Finding, Verifier};

#[derive(Args, Debug)]
#[command(after_long_help = help::AUDIT)]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that the lines of audit files form one chain.
    ///
    /// Give rotated files from the oldest to the newest. The command says where
    /// the chain breaks, and ends with 0 if it does not.
    #[command(verbatim_doc_comment, after_long_help = help::AUDIT)]
    Verify(Verify),
}

#[derive(Args, Debug)]
struct Verify {
    /// The files, the oldest first.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Audit {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Action::Verify(Verify { files }) = self.action;
        let mut verifier = Verifier::default();
        let mut found: u64 = 0;
        let mut report = |finding: Finding| {
            found = found.saturating_add(1);
            if found <= MOST_PRINTED {
                say(&format!("{finding}\n"));
            }
        };
        for file in &files {
            let name = file.display().to_string();
            let unread = |error| Failure::Unaudited(format!("{name} cannot be read: {error}"));
            let input = BufReader::new(File::open(file).map_err(unread)?);
            verifier.read(&name, input, &mut report).map_err(unread)?;
        }
        if found > MOST_PRINTED {
            say(&format!("and {} more\n", found.saturating_sub(MOST_PRINTED)));
        }
        if verifier.breaks > 0 {
            let places = if verifier.breaks == 1 { "place" } else { "places" };
            return Err(Failure::Unaudited(format!("the chain breaks at {} {places}", verifier.breaks)));
        }
        match verifier.range() {
            Some((first, last, hash)) => {
                say(&format!("the chain is whole: lines {first} to {last}, the last with the hash {hash}\n"));
                Ok(())
            }
            None => Err(Failure::Unaudited("there is no audit line".to_owned())),
        }
    }
}

// The most findings that are printed, because a file of another kind brings a finding for each line.
const MOST_PRINTED: u64 = 100;
