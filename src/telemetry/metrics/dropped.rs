//! The count of lost log lines. The log counts them, and belongs to the process rather than to one sidecar.

use prometheus::IntCounter;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::build::options;
use crate::telemetry::log;

pub(super) struct LogLinesDropped(IntCounter);

impl LogLinesDropped {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let help = "Log lines that were not written, because the log's reader was too slow or failed.";
        IntCounter::with_opts(options("log_lines_dropped_total", help)).map(Self)
    }
}

impl Collector for LogLinesDropped {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A counter of its own for each scrape: two scrapes at once must not add up.
        let Ok(Self(counter)) = Self::new() else { return Vec::new() };
        counter.inc_by(log::dropped());
        counter.collect()
    }
}
