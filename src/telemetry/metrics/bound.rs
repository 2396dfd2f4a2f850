//! Keeps `/metrics` small, whatever callers and Sezzle do.
//!
//! All combinations of route, method and status would be too many series. Normal use makes few of them; a hostile
//! caller and a failing gateway together could make thousands.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::proto::{Counter, Metric, MetricFamily};

use super::labels::{OTHER_METHOD, OTHER_ROUTE};

/// A family of counters that shows only `most` series one by one.
///
/// Later series are merged into an unknown route and method. They keep their other labels, so that status and source,
/// which alerts use, stay true. A series that was shown alone once is shown alone for ever, so that no counter goes
/// back.
#[derive(Debug)]
pub(super) struct Bounded {
    name: &'static str,
    most: usize,
    shown: Mutex<HashSet<Vec<String>>>,
}

impl Bounded {
    /// A bound for the family `name`, which shows `most` series.
    pub(super) fn new(name: &'static str, most: usize) -> Self {
        Self { name, most, shown: Mutex::default() }
    }

    /// Merges the surplus series of `family`, if it has this name.
    pub(super) fn apply(&self, family: &mut MetricFamily) {
        if family.name() != self.name {
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series: BTreeMap<Vec<String>, Metric> = BTreeMap::new();
        for mut metric in family.take_metric() {
            let own = values(&metric);
            if !shown.contains(&own) {
                if shown.len() < self.most {
                    shown.insert(own);
                } else {
                    merge_labels(&mut metric);
                }
            }
            let value = metric.get_counter().get_value();
            let same = series.entry(values(&metric)).or_insert_with(|| {
                metric.set_counter(Counter::default());
                metric
            });
            let mut sum = Counter::default();
            sum.set_value(same.get_counter().get_value() + value);
            same.set_counter(sum);
        }
        family.set_metric(series.into_values().collect());
    }
}

fn values(metric: &Metric) -> Vec<String> {
    metric.get_label().iter().map(|label| label.value().to_owned()).collect()
}

/// Replaces the route and the method of a series by the words for unknown ones.
fn merge_labels(metric: &mut Metric) {
    for label in metric.mut_label() {
        match label.name() {
            "route" => label.set_value(OTHER_ROUTE.to_owned()),
            "method" => label.set_value(OTHER_METHOD.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;
    use prometheus::{IntCounterVec, Opts};

    use super::*;

    fn calls() -> IntCounterVec {
        IntCounterVec::new(Opts::new("calls", "Calls."), &["code", "method", "route"]).expect("valid")
    }

    /// The shown series and their values, by code, method and route.
    fn shown(bounded: &Bounded, calls: &IntCounterVec) -> BTreeMap<String, f64> {
        let mut family = calls.collect().pop().expect("one family");
        bounded.apply(&mut family);
        let series = family.get_metric();
        let shown: BTreeMap<_, _> =
            series.iter().map(|metric| (values(metric).join(" "), metric.get_counter().get_value())).collect();
        assert_eq!(shown.len(), series.len(), "a series stands there twice");
        shown
    }

    #[test]
    fn what_is_too_much_is_shown_together_and_nothing_goes_back() {
        let (bounded, calls) = (Bounded::new("calls", 3), calls());
        let count = |code, method, route| calls.with_label_values(&[code, method, route]).inc();
        count("200", "GET", "/a");
        count("200", "GET", "/b");
        assert_eq!(shown(&bounded, &calls), [("200 GET /a", 1.0), ("200 GET /b", 1.0)].map(named).into());
        // The next scrape meets more new series than may be shown. One of them sorts before the known ones.
        for route in ["/0", "/c", "/d"] {
            count("200", "GET", route);
        }
        count("500", "GET", "/a");
        let now = shown(&bounded, &calls);
        assert_eq!(now.values().sum::<f64>(), 6.0, "{now:?}");
        assert_eq!((now["200 GET /a"], now["200 GET /b"], now.len()), (1.0, 1.0, 5), "{now:?}");
        assert_eq!(now["200 _OTHER other"] + now.get("500 _OTHER other").unwrap_or(&0.0), 3.0, "{now:?}");
        // Later scrapes show the same series, whatever is counted.
        for _ in 0..10 {
            for (code, route) in [("200", "/0"), ("200", "/c"), ("200", "other"), ("500", "/b"), ("500", "/a")] {
                count(code, "GET", route);
            }
        }
        let then = shown(&bounded, &calls);
        assert_eq!(then.values().sum::<f64>(), 56.0);
        for (series, before) in now {
            assert!(then[&series] >= before, "{series} went back");
        }
        let errors: f64 = then.iter().filter(|(series, _)| series.starts_with("500")).map(|(_, value)| value).sum();
        assert_eq!(errors, 21.0, "the code stays true");
    }

    #[test]
    fn other_families_are_left_alone() {
        let (bounded, calls) = (Bounded::new("others", 0), calls());
        calls.with_label_values(&["200", "GET", "/a"]).inc();
        assert_eq!(shown(&bounded, &calls), [("200 GET /a", 1.0)].map(named).into());
    }

    fn named((series, value): (&str, f64)) -> (String, f64) {
        (series.to_owned(), value)
    }
}
