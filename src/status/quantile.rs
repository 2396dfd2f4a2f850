//! Quantiles of durations, from a histogram: pure.

use std::fmt;

use super::counts::Durations;
use crate::telemetry::metrics::DURATION_BUCKETS;

/// The time within which a share of the events ended, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// An estimate within a bucket.
    About(f64),
    /// Longer than the upper bound of the largest bucket.
    Above(f64),
}

/// The time within which the `share` of events, between 0 and 1, ended; `None` without events. Events count as evenly
/// spread over their bucket, as in Prometheus.
pub fn quantile(durations: &Durations, share: f64) -> Option<Quantile> {
    let all: u64 = durations.iter().copied().map(u64::from).sum();
    if all == 0 {
        return None;
    }
    let rank = share * as_float(all);
    let (mut below, mut lower) = (0_u64, 0.0);
    for (count, upper) in durations.iter().copied().map(u64::from).zip(DURATION_BUCKETS) {
        let up_to = below.saturating_add(count);
        if count > 0 && as_float(up_to) >= rank {
            let part = (rank - as_float(below)) / as_float(count);
            return Some(Quantile::About(lower + (upper - lower) * part.clamp(0.0, 1.0)));
        }
        (below, lower) = (up_to, upper);
    }
    Some(Quantile::Above(lower))
}

#[expect(clippy::cast_precision_loss, reason = "counts of an hour fit a float's 53 bits")]
fn as_float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::About(seconds) if *seconds < 0.009_5 => write!(f, "{:.1} ms", (seconds * 1000.0).max(0.1)),
            Self::About(seconds) if *seconds < 0.995 => write!(f, "{:.0} ms", seconds * 1000.0),
            Self::About(seconds) if *seconds < 9.95 => write!(f, "{seconds:.1} s"),
            Self::About(seconds) => write!(f, "{seconds:.0} s"),
            Self::Above(seconds) => write!(f, "> {seconds:.0} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes pairs of a bucket's upper bound in seconds and its count; the last bucket has no bound.
    fn durations(filled: &[(f64, u32)]) -> Durations {
        let mut durations = Durations::default();
        for (upper, count) in filled {
            let bucket = DURATION_BUCKETS.iter().position(|bound| bound == upper).unwrap_or(DURATION_BUCKETS.len());
            durations[bucket] = *count;
        }
        durations
    }

    #[test]
    fn a_share_lies_within_its_bucket() {
        assert_eq!(quantile(&Durations::default(), 0.5), None);
        for (filled, share, expected) in [
            (&[(0.5, 10)][..], 0.5, Quantile::About(0.375)),
            (&[(0.5, 10)], 1.0, Quantile::About(0.5)),
            (&[(0.5, 10)], 0.0, Quantile::About(0.25)),
            (&[(0.1, 95), (60.0, 5)], 0.95, Quantile::About(0.1)),
            (&[(0.1, 95), (60.0, 5)], 0.99, Quantile::About(54.0)),
            (&[(0.1, 1), (f64::INFINITY, 1)], 0.99, Quantile::Above(60.0)),
            (&[(0.0001, u32::MAX), (f64::INFINITY, u32::MAX)], 0.5, Quantile::About(0.0001)),
        ] {
            let found = quantile(&durations(filled), share);
            let close = match (found, expected) {
                (Some(Quantile::About(one)), Quantile::About(other)) => (one - other).abs() < 1e-9,
                (found, expected) => found == Some(expected),
            };
            assert!(close, "{filled:?} {share}: {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn it_is_written_with_two_digits_or_so() {
        for (seconds, text) in [
            (0.0, "0.1 ms"),
            (0.000_05, "0.1 ms"),
            (0.000_4, "0.4 ms"),
            (0.001, "1.0 ms"),
            (0.012_4, "12 ms"),
            (0.994, "994 ms"),
            (0.999, "1.0 s"),
            (2.5, "2.5 s"),
            (9.96, "10 s"),
            (54.0, "54 s"),
        ] {
            assert_eq!(Quantile::About(seconds).to_string(), text);
        }
        assert_eq!(Quantile::Above(60.0).to_string(), "> 60 s");
    }
}
