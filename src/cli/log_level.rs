//! `log-level`: changes the log level of a running sidecar.

use clap::Args;
use clap::builder::PossibleValuesParser;
use http::Method;
use serde_json::{Value, json};

use super::failure::Failure;
use super::files::ConfigFiles;
use super::help;
use super::process::say;
use crate::config::OperatorListeners;
use crate::control::client;
use crate::telemetry::log::LEVELS;

#[derive(Args, Debug)]
#[command(after_long_help = help::LOG_LEVEL)]
pub(super) struct LogLevel {
    /// The new level, until the process ends or a reload changes it.
    #[arg(value_name = "LEVEL", value_parser = PossibleValuesParser::new(LEVELS.map(|(word, _)| word)))]
    level: String,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl LogLevel {
    /// Asks the sidecar through its control listener.
    pub(super) async fn run(self, listeners: OperatorListeners) -> Result<(), Failure> {
        let address = listeners.control.ok_or(Failure::NoControl)?;
        let answer = client::call(&address, Method::PUT, "/log/level", &json!({ "level": self.level })).await?;
        say(&format!("level {}\n", answer.get("level").and_then(Value::as_str).unwrap_or_default()));
        Ok(())
    }
}
