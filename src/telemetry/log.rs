//! Logs: one line per event on one stream, as JSON or as text.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Installs the program's log on standard output. To be called once, before anything is logged.
///
/// # Errors
/// When a log was installed before.
pub fn install(format: Format, level: LevelFilter) -> Result<(), InstallError> {
    install_to(format, level, io::stdout)
}

/// Installs the program's log on standard error, for commands whose standard output is for a reader.
///
/// # Errors
/// When a log was installed before.
pub fn install_on_stderr(format: Format, level: LevelFilter) -> Result<(), InstallError> {
    install_to(format, level, io::stderr)
}

/// The log was installed before.
#[derive(Debug, thiserror::Error)]
#[error("the log is installed already")]
pub struct InstallError;

/// A new id for a request: to find a line by, not a secret, so that it need not be hard to guess.
pub fn new_request_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

fn install_to<W>(format: Format, level: LevelFilter, writer: W) -> Result<(), InstallError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Libraries log whole header blocks at their finer levels, and those hold the bearer token: they never get
    // past warnings, whatever level is asked for.
    let targets =
        Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(env!("CARGO_CRATE_NAME"), level);
    let registry = tracing_subscriber::registry();
    let installed = match format {
        Format::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(writer).with_filter(targets)).try_init()
        }
        Format::Text => {
            let layer = fmt::layer().with_ansi(false).with_writer(writer);
            registry.with(layer.with_filter(targets)).try_init()
        }
    };
    installed.map_err(|_| InstallError)
}
