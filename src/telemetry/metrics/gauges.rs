//! Helpers that set gauges.

use prometheus::IntGauge;

/// A size as the value of a gauge; saturates.
pub fn gauge(size: impl TryInto<i64>) -> i64 {
    size.try_into().unwrap_or(i64::MAX)
}

/// Counts one in a gauge until dropped.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Counted {
    pub fn begin(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
