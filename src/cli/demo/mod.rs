//! `demo`: shows the sidecar in front of a simulated gateway, without an account at Sezzle.

mod alone;
mod caller;
mod fleet;
mod server;
mod sidecar;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::failure::Failure;
use super::process::Signals;
use crate::simulator::{Options, Simulator};
use crate::telemetry::log;

#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Exit after the tour instead of waiting for a signal.
    #[arg(long)]
    once: bool,
    /// Show three sidecars as a fleet. Needs redis-server or valkey-server in
    /// PATH, and starts it for as long as the demo runs.
    #[arg(long, verbatim_doc_comment)]
    fleet: bool,
}

impl Demo {
    /// Runs a simulated gateway behind a sidecar or a fleet, and shows their work. Then waits for a signal, unless
    /// `--once` is given.
    pub(super) async fn run(self) -> Result<(), Failure> {
        // Warnings go to standard error; the tour goes to standard output.
        let _log = log::install(std::io::stderr(), log::Format::Text, LevelFilter::WARN);
        let mut signals = Signals::new()?;
        let gateway = Simulator::start(Options::default()).await?;
        if self.fleet {
            fleet::run(self.once, gateway, &mut signals).await
        } else {
            alone::run(self.once, gateway, &mut signals).await
        }
    }
}
