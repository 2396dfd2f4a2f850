//! The attempts, time and bytes that one request took at Sezzle, for the log line and the span.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The cost of one call with all its attempts, written by the call, read by the record at the end.
#[derive(Debug)]
pub struct UpstreamStats {
    bytes_in: u64,
    attempts: AtomicU64,
    micros: AtomicU64,
    token: AtomicU64,
    reused: AtomicU64,
}

/// The values that are known at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StatsSnapshot {
    /// Bytes of the request's body.
    pub bytes_in: Option<u64>,
    /// How often the call was sent.
    pub attempts: Option<u64>,
    /// The time from the first attempt to the head of the last answer, or to the end of a body that is read whole.
    pub upstream_ms: Option<f64>,
    /// Whether the last attempt found a connection that was open.
    pub conn_reused: Option<bool>,
    /// Which token the last attempt was sent with, counted from 1.
    pub token_gen: Option<u64>,
}

// Stands for a value that is not known.
const NONE: u64 = u64::MAX;

impl UpstreamStats {
    /// The cost of a call with a body of this many bytes, before its first attempt.
    pub fn new(body: usize) -> Self {
        let none = || AtomicU64::new(NONE);
        let bytes_in = if body == 0 { NONE } else { u64::try_from(body).unwrap_or(NONE) };
        Self { bytes_in, attempts: AtomicU64::new(0), micros: none(), token: none(), reused: none() }
    }

    /// Records that the call is sent, with the token of this generation; `None` if it is sent without one.
    pub fn attempted(&self, generation: Option<u64>) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.token.store(generation.unwrap_or(NONE), Ordering::Relaxed);
        self.reused.store(NONE, Ordering::Relaxed);
    }

    /// Records that the head of an answer came. `reused` says whether its connection was open before the call.
    pub fn answered(&self, reused: bool) {
        self.reused.store(u64::from(reused), Ordering::Relaxed);
    }

    /// Records the time of all attempts together.
    pub fn took(&self, time: Duration) {
        self.micros.store(u64::try_from(time.as_micros()).unwrap_or(NONE), Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> StatsSnapshot {
        let known = |value: u64| Some(value).filter(|value| *value != NONE);
        let read = |value: &AtomicU64| known(value.load(Ordering::Relaxed));
        StatsSnapshot {
            bytes_in: known(self.bytes_in),
            attempts: read(&self.attempts).filter(|attempts| *attempts > 0),
            upstream_ms: read(&self.micros).map(|micros| micros as f64 / 1e3),
            conn_reused: read(&self.reused).map(|reused| reused == 1),
            token_gen: read(&self.token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_grows() {
        let stats = UpstreamStats::new(0);
        assert_eq!(stats.snapshot(), StatsSnapshot::default(), "nothing was sent");
        stats.attempted(Some(7));
        let sent = StatsSnapshot { attempts: Some(1), token_gen: Some(7), ..StatsSnapshot::default() };
        assert_eq!(stats.snapshot(), sent);
        stats.answered(true);
        assert_eq!(stats.snapshot(), StatsSnapshot { conn_reused: Some(true), ..sent });
        stats.attempted(Some(8));
        stats.answered(false);
        stats.took(Duration::from_micros(1234));
        let known = stats.snapshot();
        assert_eq!((known.attempts, known.token_gen, known.conn_reused), (Some(2), Some(8), Some(false)));
        assert_eq!((known.upstream_ms, known.bytes_in), (Some(1.234), None));
        assert_eq!(UpstreamStats::new(12).snapshot(), StatsSnapshot { bytes_in: Some(12), ..StatsSnapshot::default() });
    }
}
