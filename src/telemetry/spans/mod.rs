//! Spans: the requests as a trace shows them. Each traced request makes one span, which waits for the exporter in a
//! bounded queue.
//!
//! A span names no session, no order and nothing else that belongs to the merchant or a customer.

#[cfg(feature = "otlp")]
pub mod export;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::mpsc;

use super::trace::TraceParent;

/// The queue of spans, if there is an exporter.
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

/// A request's position in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTrace {
    pub trace_id: u128,
    /// The request's own span.
    pub span_id: u64,
    /// The caller's span.
    pub parent: Option<u64>,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub place: InTrace,
    /// When the request ended, in microseconds since the Unix epoch.
    pub ended: i64,
    pub length: Duration,
    pub request_id: String,
    /// The name of the caller in the configuration; `None` for an unknown caller, and without `[[callers]]`. The
    /// configuration bounds the length of a name and the number of callers.
    pub caller: Option<String>,
    /// The scheme by which the caller reached the sidecar.
    pub scheme: &'static str,
    /// The method, from a closed set.
    pub method: &'static str,
    /// The template of the route, if known.
    pub route: Option<&'static str>,
    /// The status of the response; `None` if the caller left before it.
    pub code: Option<u16>,
    /// Who made the response.
    pub source: &'static str,
    pub cache: &'static str,
    /// The reason for the cache result.
    pub cache_detail: Option<&'static str>,
    /// The error, as the log names it.
    pub error: Option<&'static str>,
    /// The side that broke off before the end.
    pub aborted: Option<&'static str>,
    /// Bytes of the request's body that were sent to Sezzle.
    pub bytes_in: Option<u64>,
    /// Bytes of the response's body; `None` if the span must not tell them.
    pub bytes_out: Option<u64>,
    /// How often Sezzle was called for the request.
    pub attempts: Option<u64>,
    /// Milliseconds of all attempts together.
    pub upstream_ms: Option<f64>,
}

/// `result` of `spans_total`.
pub const RESULTS: [&str; 3] = ["exported", "queue_full", "export_failed"];

// Room for a second of heavy traffic. A span takes about 300 bytes.
const ROOM: usize = 4096;

impl Spans {
    /// Starts without an exporter: drops spans until [`Self::open`]. `counted` counts the fate of each later span.
    pub fn new(counted: IntCounterVec) -> Self {
        for result in RESULTS {
            counted.with_label_values(&[result]).inc_by(0);
        }
        Self { counted, queue: OnceLock::new() }
    }

    /// Opens the queue and returns its receiver. Of the requests whose callers name no trace, one in `sample` begins a
    /// trace. Call this once, because later receivers get nothing.
    pub fn open(&self, sample: u64) -> mpsc::Receiver<Span> {
        let (sender, spans) = mpsc::channel(ROOM);
        let dropped = self.counted.with_label_values(&["queue_full"]);
        let _ = self.queue.set(Queue { sender, dropped, sample: sample.max(1), roots: AtomicU64::new(0) });
        spans
    }

    /// The position of a request in its trace; `None` for a request without a span. The `traceparent` of the caller
    /// decides, if the caller sent one.
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

    /// Queues a span for the exporter. A span that finds the queue full is dropped and counted.
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
            caller: None,
            scheme: "http",
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
