//! The section `log`.

use tracing::level_filters::LevelFilter;

use super::bounds::MILLION;
use crate::config::parse;
use crate::config::reader::Reader;
use crate::telemetry::log::{Format, LEVELS};

#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    pub format: Format,
    pub level: LevelFilter,
    /// One of this many hits is logged; at least 1.
    pub sample_hits: u64,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<LogSettings> {
    let format = r.value("log.format", "json", parse::choice([("json", Format::Json), ("text", Format::Text)]));
    let level = r.on_reload().value("log.level", "info", parse::choice(LEVELS));
    // By default every hit is logged.
    let sample_hits = r.on_reload().value("log.sample_hits", "1", parse::count(1..=MILLION));

    Some(LogSettings { format: format?, level: level?, sample_hits: sample_hits? as u64 })
}
