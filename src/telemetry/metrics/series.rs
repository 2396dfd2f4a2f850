//! Handles to the series that every request counts in. Each is found by its labels once and by number from then on: a
//! lookup by labels takes as long as the rest of a cache hit.

use std::sync::{Arc, OnceLock};

use http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Metrics, code_label, method_label};

/// A closed set of label values.
pub trait Label: Copy {
    const COUNT: usize;

    /// The position of the value, from 0.
    fn index(self) -> usize;

    fn word(self) -> &'static str;
}

/// A label's value, with its number if it belongs to a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelValue {
    word: &'static str,
    number: usize,
}

impl LabelValue {
    /// A value of a closed set.
    pub fn of(label: impl Label) -> Self {
        Self { word: label.word(), number: label.index() }
    }

    pub fn word(self) -> &'static str {
        self.word
    }

    /// A value outside any closed set. Its series is found by labels each time.
    pub const fn unnumbered(word: &'static str) -> Self {
        Self { word, number: usize::MAX }
    }
}

/// Implements [`Label`] for an enum without fields: takes the number of variants and the method for the text.
macro_rules! label {
    ($name:ty, $count:expr, $word:ident) => {
        impl $crate::telemetry::metrics::Label for $name {
            const COUNT: usize = $count;

            fn index(self) -> usize {
                self as usize
            }

            fn word(self) -> &'static str {
                self.$word()
            }
        }
    };
}

/// Declares a closed set of words: an enum without fields, each variant with its word. The words are label values of
/// metrics. The log, the status page and headers that show the same words take them from the enum, too.
macro_rules! words {
    (
        $(#[$of_all:meta])*
        pub enum $name:ident {
            $($(#[$of_one:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of_one])* $variant,)+
        }

        impl $name {
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            pub const WORDS: [&str; Self::ALL.len()] = [$($word),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        $crate::telemetry::metrics::label!($name, $name::WORDS.len(), as_str);
    };
}

pub(crate) use {label, words};

/// Counts requests of callers.
#[derive(Debug)]
pub struct RequestSeries {
    metrics: Arc<Metrics>,
    in_flight: SeriesByNumber<IntGauge>,
    lookups: SeriesByNumber<IntCounter>,
    durations: SeriesByNumber<Histogram>,
    /// Responses 200 to a [`usual`] method. Most requests that have to be fast get one.
    usual: SeriesByNumber<IntCounter>,
    keys: SeriesByNumber<IntCounter>,
}

impl RequestSeries {
    /// Finds each series at its first use.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            in_flight: SeriesByNumber::default(),
            lookups: SeriesByNumber::default(),
            durations: SeriesByNumber::default(),
            usual: SeriesByNumber::default(),
            keys: SeriesByNumber::default(),
        }
    }

    /// Counts a request as in flight.
    pub fn begun(&self, class: impl Label) {
        self.in_flight(class, IntGauge::inc);
    }

    /// Counts a request as no longer in flight.
    pub fn ended(&self, class: impl Label) {
        self.in_flight(class, IntGauge::dec);
    }

    fn in_flight(&self, class: impl Label, change: impl FnOnce(&IntGauge)) {
        let find = || self.metrics.in_flight.with_label_values(&[class.word()]);
        self.in_flight.update(class.index(), find, change);
    }

    /// Counts a session lookup.
    pub fn looked_up(&self, result: impl Label) {
        let find = || self.metrics.cache_requests.with_label_values(&[result.word()]);
        self.lookups.update(result.index(), find, IntCounter::inc);
    }

    /// Counts a write that carries an idempotency key.
    pub fn keyed(&self, source: impl Label) {
        let find = || self.metrics.idempotency_keys.with_label_values(&[source.word()]);
        self.keys.update(source.index(), find, IntCounter::inc);
    }

    /// Counts the response to a request. `None` in place of a status says that the caller left before the response.
    pub fn answered<S: Label>(&self, route: impl Label, method: &Method, status: Option<StatusCode>, source: S) {
        let method = method_label(method);
        let find = || {
            let labels = [route.word(), method, status.map_or("499", code_label), source.word()];
            self.metrics.requests.with_label_values(&labels)
        };
        match usual(method, status) {
            Some(first) => self.usual.update(first + route.index() * S::COUNT + source.index(), find, IntCounter::inc),
            None => find().inc(),
        }
    }

    /// Records the time from a request's head to the end of its response.
    pub fn took<R: Label>(&self, class: impl Label, cache: R, seconds: f64) {
        let find = || self.metrics.request_duration.with_label_values(&[class.word(), cache.word()]);
        self.durations.update(class.index() * R::COUNT + cache.index(), find, |duration| duration.observe(seconds));
    }
}

/// Counts requests to Sezzle.
#[derive(Debug)]
pub struct UpstreamSeries {
    metrics: Arc<Metrics>,
    durations: SeriesByNumber<Histogram>,
    /// Responses 200 to a [`usual`] method.
    usual: SeriesByNumber<IntCounter>,
}

impl UpstreamSeries {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, durations: SeriesByNumber::default(), usual: SeriesByNumber::default() }
    }

    /// Counts a response of Sezzle's.
    pub fn answered(&self, route: LabelValue, method: &'static str, status: StatusCode) {
        let find = || self.metrics.upstream_requests.with_label_values(&[route.word, method, code_label(status)]);
        match usual(method, Some(status)) {
            Some(first) => self.usual.update(first.saturating_add(route.number), find, IntCounter::inc),
            None => find().inc(),
        }
    }

    /// Records the time until the head of a response, or until the request failed.
    pub fn took(&self, class: LabelValue, seconds: f64) {
        let find = || self.metrics.upstream_duration.with_label_values(&[class.word]);
        self.durations.update(class.number, find, |duration| duration.observe(seconds));
    }
}

/// The first number of the series for responses 200 to a method. `None` if these series are found by labels each time.
fn usual(method: &str, status: Option<StatusCode>) -> Option<usize> {
    match (method, status) {
        ("GET", Some(StatusCode::OK)) => Some(0),
        ("POST", Some(StatusCode::OK)) => Some(NUMBERS / 2),
        _ => None,
    }
}

/// Series by number, each of which is looked up once by its labels.
#[derive(Debug)]
struct SeriesByNumber<M>(Box<[OnceLock<M>]>);

// At least twice the number of combinations of two labels, such as route and source.
const NUMBERS: usize = 192;

impl<M> Default for SeriesByNumber<M> {
    fn default() -> Self {
        Self((0..NUMBERS).map(|_| OnceLock::new()).collect())
    }
}

impl<M> SeriesByNumber<M> {
    fn update(&self, number: usize, find: impl FnOnce() -> M, change: impl FnOnce(&M)) {
        match self.0.get(number) {
            Some(series) => change(series.get_or_init(find)),
            None => change(&find()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    words! {
        /// Two words.
        pub enum Word {
            /// The first.
            A = "a",
            /// The second.
            B = "b",
        }
    }

    #[test]
    fn what_is_counted_by_number_is_found_by_words() {
        let metrics = Arc::new(Metrics::new().expect("valid metrics"));
        let series = RequestSeries::new(Arc::clone(&metrics));
        for (route, source, times) in [(Word::A, Word::A, 1), (Word::A, Word::B, 2), (Word::B, Word::A, 3)] {
            for _ in 0..times {
                series.answered(route, &Method::GET, Some(StatusCode::OK), source);
                series.answered(route, &Method::GET, None, source);
                series.took(route, source, 0.5);
            }
            let (route, source) = (route.word(), source.word());
            assert_eq!(metrics.requests.with_label_values(&[route, "GET", "200", source]).get(), times);
            assert_eq!(metrics.requests.with_label_values(&[route, "GET", "499", source]).get(), times);
            assert_eq!(metrics.request_duration.with_label_values(&[route, source]).get_sample_count(), times);
        }
        series.looked_up(Word::B);
        assert_eq!(metrics.cache_requests.with_label_values(&["b"]).get(), 1);
        series.begun(Word::A);
        series.begun(Word::A);
        series.ended(Word::A);
        assert_eq!(metrics.in_flight.with_label_values(&["a"]).get(), 1);
    }

    #[test]
    fn requests_to_sezzle_are_counted_by_number_or_by_word() {
        let metrics = Arc::new(Metrics::new().expect("valid metrics"));
        let series = UpstreamSeries::new(Arc::clone(&metrics));
        for label in [LabelValue::of(Word::B), LabelValue::unnumbered("b")] {
            series.answered(label, "GET", StatusCode::OK);
            series.answered(label, "POST", StatusCode::OK);
            series.took(label, 0.5);
        }
        for method in ["GET", "POST"] {
            assert_eq!(metrics.upstream_requests.with_label_values(&["b", method, "200"]).get(), 2);
        }
        assert_eq!(metrics.upstream_duration.with_label_values(&["b"]).get_sample_count(), 2);
    }

    #[test]
    fn beyond_the_numbers_series_are_found_by_words() {
        let series = SeriesByNumber::default();
        for number in [NUMBERS - 1, NUMBERS, NUMBERS + 1] {
            series.update(number, || number, |seen| assert_eq!(*seen, number));
        }
    }
}
