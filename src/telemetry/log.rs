//! Logs: one line per event on one stream, as JSON or as text, at a level that can be changed while the process runs.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};
use uuid::Uuid;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// The levels by name, the fewest lines first.
pub const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

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

/// No log was installed.
#[derive(Debug, thiserror::Error)]
#[error("no log is installed")]
pub struct NotInstalled;

/// The level of the installed log, by name.
pub fn level() -> Option<&'static str> {
    let level = INSTALLED.get()?.with_current(own_level).ok()?;
    LEVELS.into_iter().find(|(_, known)| *known == level).map(|(word, _)| word)
}

/// Changes the level of the installed log.
///
/// # Errors
/// When there is none.
pub fn set_level(level: LevelFilter) -> Result<(), NotInstalled> {
    let log = INSTALLED.get().ok_or(NotInstalled)?;
    log.reload(targets(level)).map_err(|_| NotInstalled)
}

/// A new id for a request: to find a line by, not a secret, so that it need not be hard to guess.
pub fn new_request_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

/// A duration as lines have it: in whole milliseconds; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The log of the process, which has one.
static INSTALLED: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

const OWN: &str = env!("CARGO_CRATE_NAME");

/// Libraries log whole header blocks at their finer levels, and those hold the bearer token: they never get past
/// warnings, whatever level is asked for.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OWN, level)
}

fn own_level(targets: &Targets) -> LevelFilter {
    targets.iter().find(|(target, _)| *target == OWN).map_or(LevelFilter::OFF, |(_, level)| level)
}

fn install_to<W>(format: Format, level: LevelFilter, writer: W) -> Result<(), InstallError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(level));
    let registry = tracing_subscriber::registry();
    let installed = match format {
        Format::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(writer).with_filter(filter)).try_init()
        }
        Format::Text => {
            let layer = fmt::layer().with_ansi(false).with_writer(writer);
            registry.with(layer.with_filter(filter)).try_init()
        }
    };
    installed.map_err(|_| InstallError)?;
    INSTALLED.set(handle).map_err(|_| InstallError)
}
