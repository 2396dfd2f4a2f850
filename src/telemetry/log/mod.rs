//! Logs: one line per event on one stream, as JSON or as text, at a level that can change while the process runs.
//! A thread that logs never waits for the stream: see `lines`.

pub mod excerpt;
mod json;
mod level;
mod lines;
mod panics;
pub mod throttle;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

use self::json::JsonLines;
pub use self::level::LEVELS;
use self::level::{Level, LevelLayer};
pub use self::lines::Guard;
use self::lines::Lines;
pub use self::panics::log_panics;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("this process has a log already")]
    Installed,
    /// The system refused to duplicate the stream or to start the writer thread.
    #[error("the log cannot be written: {0}")]
    System(#[from] io::Error),
}

/// The name of the installed log's level; `None` without a log.
pub fn level() -> Option<&'static str> {
    let level = INSTALLED.get()?.level.get();
    LEVELS.into_iter().find(|(_, known)| *known == level).map(|(word, _)| word)
}

/// Changes the level of the installed log. Returns whether there is one.
pub fn set_level(level: LevelFilter) -> bool {
    INSTALLED.get().inspect(|log| log.level.set(level)).is_some()
}

/// The number of lines lost because the stream was too slow or failed.
pub fn dropped() -> u64 {
    INSTALLED.get().map_or(0, |log| log.lines.dropped())
}

/// The number of times the writer thread panicked and went on.
pub fn writer_restarts() -> u64 {
    INSTALLED.get().map_or(0, |log| log.lines.restarts())
}

/// A new id for a request. The id is for finding lines and is no secret, so a fast generator will do.
pub fn new_request_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

/// A duration in whole milliseconds, as log lines have it; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The process has one log.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

struct Installed {
    level: Level,
    lines: Lines,
}

/// Installs the log on a stream. Call it once, before anything is logged. Dropping the guard ends the log.
pub fn install(stream: impl AsFd, format: Format, level: LevelFilter) -> Result<Guard, InstallError> {
    // The log has a file of its own, because the standard library's stream has a buffer and a lock that other code
    // uses, too.
    let stream = File::from(stream.as_fd().try_clone_to_owned()?);
    let (lines, guard) = Lines::start(stream)?;
    let level = Level::new(level);
    let log = tracing_subscriber::registry().with(LevelLayer(level.clone()));
    let installed = match format {
        Format::Json => log.with(JsonLines(lines.clone())).try_init(),
        Format::Text => {
            let writer = lines.clone();
            log.with(fmt::layer().with_ansi(false).with_writer(move || writer.clone())).try_init()
        }
    };
    installed.map_err(|_| InstallError::Installed)?;
    INSTALLED.set(Installed { level, lines }).map_err(|_| InstallError::Installed)?;
    Ok(guard)
}
