//! The metric of lost log lines. The log itself counts them, because it belongs to the process and not to one sidecar.

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
        // Each scrape has a counter of its own, because two scrapes at once must not add up.
        let Ok(Self(counter)) = Self::new() else { return Vec::new() };
        counter.inc_by(log::dropped());
        counter.collect()
    }
}
