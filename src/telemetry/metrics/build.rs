//! Creates and registers metrics, and lists them.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// The upper bounds of the histograms of durations, in seconds: OpenTelemetry's buckets for HTTP, with further buckets
/// for cache hits below and for reports and slow writes above.
pub const DURATION_BUCKETS: [f64; 18] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

/// A registered metric, with or without a series yet.
#[derive(Clone, Debug)]
pub struct Family {
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: Vec<String>,
}

impl Family {
    fn of(collector: &dyn Collector) -> Vec<Self> {
        let descriptions = collector.desc();
        let family = |name: &str, kind| {
            let description = descriptions.iter().find(|description| description.fq_name == name);
            let labels = description.map_or_else(Vec::new, |description| {
                let fixed = description.const_label_pairs.iter().map(|label| label.name().to_owned());
                description.variable_labels.iter().cloned().chain(fixed).collect()
            });
            Self { name: name.to_owned(), kind, labels }
        };
        collector.collect().iter().map(|seen| family(seen.name(), word(seen.get_field_type()))).collect()
    }
}

fn word(kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

#[derive(Default)]
pub(super) struct Build {
    pub(super) registry: Registry,
    pub(super) families: RefCell<Vec<Family>>,
}

impl Build {
    pub(super) fn register(&self, metric: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        self.families.borrow_mut().extend(Family::of(&*metric));
        self.registry.register(metric)
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(options(name, help))?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(options(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(options(name, help))?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(options(name, help), labels)?)
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::with_opts(options(name, help))?)
    }

    /// A gauge without labels, whose one series exists from its first use on.
    pub(super) fn float_gauges(&self, name: &str, help: &str) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(options(name, help), &[])?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(HistogramOpts::from(options(name, help)).buckets(buckets.to_vec()))?)
    }

    pub(super) fn durations(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::from(options(name, help)).buckets(DURATION_BUCKETS.to_vec());
        self.add(HistogramVec::new(options, labels)?)
    }
}

pub(super) fn options(name: &str, help: &str) -> Opts {
    // A prefix of the registry would rename the standard `process_*` metrics too.
    Opts::new(name, help).namespace("sezzle_sidecar")
}
