//! Reads metrics back for the status page. Nothing here creates a series.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{LabelPair, Metric};

/// One series of a metric, with its current value.
pub struct Series(Metric);

/// Every series of a metric.
pub fn series(metric: &impl Collector) -> impl Iterator<Item = Series> {
    metric.collect().into_iter().flat_map(|mut family| family.take_metric()).map(Series)
}

/// The sum of the counters for each word of a label.
pub fn by_word<const N: usize>(metric: &impl Collector, label: &str, words: &[&str; N]) -> [u64; N] {
    let mut counts = [0_u64; N];
    for series in series(metric) {
        let known = words.iter().zip(&mut counts).find(|(word, _)| series.label(label) == **word);
        known.into_iter().for_each(|(_, count)| *count = count.saturating_add(series.count()));
    }
    counts
}

/// The sum of the wanted series of a counter.
pub fn sum(metric: &impl Collector, wanted: impl Fn(&Series) -> bool) -> u64 {
    series(metric).filter(wanted).map(|series| series.count()).fold(0, u64::saturating_add)
}

/// The values of these standard gauges about the process, such as `process_open_fds`; 0 if the system does not tell
/// one.
pub fn of_process<const N: usize>(names: [&str; N]) -> [u64; N] {
    let families = ProcessCollector::for_self().collect();
    let gauge = |name| {
        let family = families.iter().find(|family| family.name() == name)?;
        family.get_metric().first().map(|metric| Series(metric.clone()).gauge())
    };
    names.map(|name| gauge(name).unwrap_or_default())
}

impl Series {
    /// A label's value; empty without such a label.
    pub fn label(&self, name: &str) -> &str {
        let pair = self.0.get_label().iter().find(|pair| pair.name() == name);
        pair.map_or("", LabelPair::value)
    }

    /// The value of a counter.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
    pub fn count(&self) -> u64 {
        self.0.get_counter().get_value() as u64
    }

    /// The value of a gauge of a count; a negative value is 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "negative counts as nothing")]
    pub fn gauge(&self) -> u64 {
        self.0.get_gauge().get_value() as u64
    }

    /// The count of each bucket of a histogram, without the buckets below. The last bucket has no upper bound.
    pub fn buckets(&self) -> impl Iterator<Item = u64> {
        let histogram = self.0.get_histogram();
        let bounded = histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count());
        bounded.chain([histogram.get_sample_count()]).scan(0, |below, up_to| {
            let alone = up_to.saturating_sub(*below);
            *below = up_to;
            Some(alone)
        })
    }
}
