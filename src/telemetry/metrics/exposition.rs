//! The text of all metrics, as `/metrics` shows them.

use prometheus::TextEncoder;

use super::Metrics;
use super::build::Family;
use super::labels::LOG_WRITER;
use crate::telemetry::log;

impl Metrics {
    /// All metrics in the text exposition format. Fails if a metric cannot be encoded, which is a defect in its
    /// declaration.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let writer = self.task_restarts.with_label_values(&[LOG_WRITER]);
        writer.inc_by(log::writer_restarts().saturating_sub(writer.get()));
        let mut families = self.registry.gather();
        for family in &mut families {
            for bounded in &self.bounded {
                bounded.apply(family);
            }
        }
        TextEncoder::new().encode_to_string(&families)
    }

    /// Every metric, with or without a series yet.
    pub fn families(&self) -> &[Family] {
        &self.families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_renders() {
        let text = Metrics::new().and_then(|metrics| metrics.render()).expect("valid metrics");
        for name in ["sezzle_sidecar_build_info{", "sezzle_sidecar_draining 0", "process_resident_memory_bytes"] {
            assert!(text.contains(name), "{name} in\n{text}");
        }
    }
}
