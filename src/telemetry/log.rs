//! Logs: one line per event on one stream, as JSON or as text, at a level that can be changed while the process runs.
//! Nobody who logs waits for the stream: see `lines`.

mod json;
mod level;
mod lines;
mod panics;

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
use self::level::{Level, LevelLayer};
pub use self::lines::Guard;
use self::lines::Lines;
pub use self::panics::log_panics;

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

/// Installs the program's log on standard output. To be called once, before anything is logged. What is logged is
/// written until the guard is dropped.
///
/// # Errors
/// When a log was installed before, or the system refuses.
pub fn install(format: Format, level: LevelFilter) -> Result<Guard, InstallError> {
    install_on(io::stdout(), format, level)
}

/// Installs the program's log on standard error, for commands whose standard output is for a reader.
///
/// # Errors
/// When a log was installed before, or the system refuses.
pub fn install_on_stderr(format: Format, level: LevelFilter) -> Result<Guard, InstallError> {
    install_on(io::stderr(), format, level)
}

/// There is no log.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There was one already.
    #[error("the log is installed already")]
    Installed,
    /// The machine refused something.
    #[error("the log cannot be written: {0}")]
    System(#[from] io::Error),
}

/// No log was installed.
#[derive(Debug, thiserror::Error)]
#[error("no log is installed")]
pub struct NotInstalled;

/// The level of the installed log, by name.
pub fn level() -> Option<&'static str> {
    let level = INSTALLED.get()?.level.get();
    LEVELS.into_iter().find(|(_, known)| *known == level).map(|(word, _)| word)
}

/// Changes the level of the installed log.
///
/// # Errors
/// When there is none.
pub fn set_level(level: LevelFilter) -> Result<(), NotInstalled> {
    INSTALLED.get().ok_or(NotInstalled)?.level.set(level);
    Ok(())
}

/// How many lines of the installed log were not written, because the stream was too slow or failed.
pub fn dropped() -> u64 {
    INSTALLED.get().map_or(0, |log| log.lines.dropped())
}

/// How often the thread that writes the installed log panicked and went on.
pub fn writer_restarts() -> u64 {
    INSTALLED.get().map_or(0, |log| log.lines.restarts())
}

/// A new id for a request: to find a line by, not a secret, so that it need not be hard to guess.
pub fn new_request_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

/// A duration as lines have it: in whole milliseconds; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the targets of this crate's own events begin with.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// The log of the process, which has one.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

struct Installed {
    level: Level,
    lines: Lines,
}

fn install_on(stream: impl AsFd, format: Format, level: LevelFilter) -> Result<Guard, InstallError> {
    // Past the standard library's own buffer and lock, which others use, too.
    let stream = File::from(stream.as_fd().try_clone_to_owned()?);
    let (lines, guard) = Lines::to(stream)?;
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
