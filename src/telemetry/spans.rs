//! Spans: what requests look like in a trace. Each request that is traced gives one, and whoever exports them takes them
//! from a queue of a bounded length.
//!
//! A span names neither a session nor an order, nor anything else of the merchant's or a customer's.

#[cfg(feature = "otlp")]
pub mod export;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::mpsc;

use super::trace::TraceParent;

/// Where spans go, if anywhere.
#[derive(Debug)]
pub struct Spans {
    counted: IntCounterVec,
    queue: OnceLock<Queue>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<Span>,
    dropped: IntCounter,
    sample: u64,
    roots: AtomicU64,
}

/// Where in which trace a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTrace {
    /// The trace.
    pub trace_id: u128,
    /// The request's own span.
    pub span_id: u64,
    /// The caller's span.
    pub parent: Option<u64>,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Where it stands.
    pub place: InTrace,
    /// When it ended, in microseconds since the Unix epoch.
    pub ended: i64,
    /// How long it took.
    pub length: Duration,
    /// What it is called.
    pub request_id: String,
    /// One of a closed set.
    pub method: &'static str,
    /// The template of its route, if it is a known one.
    pub route: Option<&'static str>,
    /// The status that its caller was answered with, unless it left before.
    pub code: Option<u16>,
    /// Who answered.
    pub source: &'static str,
    /// What the cache had to do with it.
    pub cache: &'static str,
    /// Why.
    pub cache_detail: Option<&'static str>,
    /// How it failed, in a word of the log.
    pub error: Option<&'static str>,
    /// Who broke off before the end.
    pub aborted: Option<&'static str>,
    /// Bytes of its body that were sent to Sezzle.
    pub bytes_in: Option<u64>,
    /// Bytes of its answer's body, where that may be told.
    pub bytes_out: Option<u64>,
    /// How often Sezzle was called for it.
    pub attempts: Option<u64>,
    /// How long all attempts took.
    pub upstream_ms: Option<f64>,
}

/// `result` of `spans_total`.
pub const RESULTS: [&str; 3] = ["exported", "queue_full", "export_failed"];

// Of about 300 bytes each: a second of many requests.
const ROOM: usize = 4096;

impl Spans {
    /// They go nowhere yet. What becomes of them is counted.
    pub fn new(counted: IntCounterVec) -> Self {
        for result in RESULTS {
            counted.with_label_values(&[result]).inc_by(0);
        }
        Self { counted, queue: OnceLock::new() }
    }

    /// Takes spans from now on, and gives them out here. Of so many requests whose callers name no trace one begins one.
    /// To be called once: later receivers get nothing.
    pub fn open(&self, sample: u64) -> mpsc::Receiver<Span> {
        let (sender, spans) = mpsc::channel(ROOM);
        let dropped = self.counted.with_label_values(&["queue_full"]);
        let _ = self.queue.set(Queue { sender, dropped, sample: sample.max(1), roots: AtomicU64::new(0) });
        spans
    }

    /// Where a request stands, if it is to have a span: its caller's word counts, where there is one.
    pub fn in_trace(&self, parent: Option<TraceParent>) -> Option<InTrace> {
        let queue = self.queue.get()?;
        let span_id = fastrand::u64(1..);
        match parent {
            Some(TraceParent { trace_id, span_id: parent, sampled }) => {
                sampled.then_some(InTrace { trace_id, span_id, parent: Some(parent) })
            }
            None => {
                let begins = queue.roots.fetch_add(1, Ordering::Relaxed).is_multiple_of(queue.sample);
                begins.then(|| InTrace { trace_id: fastrand::u128(1..), span_id, parent: None })
            }
        }
    }

    /// Gives a span to whoever exports it.
    pub fn send(&self, span: Span) {
        if let Some(queue) = self.queue.get()
            && queue.sender.try_send(span).is_err()
        {
            queue.dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    fn counters() -> IntCounterVec {
        IntCounterVec::new(Opts::new("spans_total", "help"), &["result"]).expect("valid")
    }

    fn parent(sampled: bool) -> Option<TraceParent> {
        Some(TraceParent { trace_id: 7, span_id: 8, sampled })
    }

    fn span(place: InTrace) -> Span {
        Span {
            place,
            ended: 0,
            length: Duration::ZERO,
            request_id: String::new(),
            method: "GET",
            route: None,
            code: None,
            source: "cache",
            cache: "hit",
            cache_detail: None,
            error: None,
            aborted: None,
            bytes_in: None,
            bytes_out: Some(0),
            attempts: None,
            upstream_ms: None,
        }
    }

    #[test]
    fn nothing_is_traced_unless_somebody_takes_it() {
        let spans = Spans::new(counters());
        assert_eq!((spans.in_trace(None), spans.in_trace(parent(true))), (None, None));
        spans.send(span(InTrace { trace_id: 1, span_id: 1, parent: None }));
    }

    #[test]
    fn a_callers_word_counts_and_else_one_in_so_many_begins_a_trace() {
        let spans = Spans::new(counters());
        let _taken = spans.open(3);
        let place = spans.in_trace(parent(true)).expect("traced");
        assert_eq!((place.trace_id, place.parent), (7, Some(8)));
        assert_eq!(spans.in_trace(parent(false)), None);
        let places: Vec<_> = (0..7).map(|_| spans.in_trace(None)).collect();
        assert_eq!(
            places.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, false, true, false, false, true]
        );
        assert!(
            places.iter().flatten().all(|place| place.trace_id != 0 && place.span_id != 0 && place.parent.is_none())
        );
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let counted = counters();
        let spans = Spans::new(counted.clone());
        let mut taken = spans.open(1);
        let place = spans.in_trace(None).expect("traced");
        for _ in 0..ROOM + 3 {
            spans.send(span(place));
        }
        assert_eq!(counted.with_label_values(&["queue_full"]).get(), 3);
        assert_eq!(taken.try_recv(), Ok(span(place)));
        spans.send(span(place));
        drop(taken);
        spans.send(span(place));
        assert_eq!(counted.with_label_values(&["queue_full"]).get(), 4, "nobody takes it any more");
    }
}
