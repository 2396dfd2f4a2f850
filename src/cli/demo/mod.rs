//! `demo`: the sidecar at work before a simulated gateway, without an account.

mod alone;
mod caller;
mod sidecar;

use tracing::level_filters::LevelFilter;

use super::failure::Failure;
use super::process::Signals;
use crate::simulator::{Options, Simulator};
use crate::telemetry::log;

/// Runs a simulated gateway and a sidecar before it, and shows its work. Then waits for a signal, unless `once`.
pub async fn demo(once: bool) -> Result<(), Failure> {
    // Warnings go to standard error; the tour goes to standard output.
    let _log = log::install(std::io::stderr(), log::Format::Text, LevelFilter::WARN);
    let mut signals = Signals::new()?;
    let gateway = Simulator::start(Options::default()).await?;
    alone::run(once, gateway, &mut signals).await
}
