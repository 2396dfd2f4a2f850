//! Bounds that several sections share.

use std::time::Duration;

pub(super) const MILLION: usize = 1_000_000;
pub(super) const HOUR: Duration = seconds(3600);
/// The shortest timeout above zero.
pub(super) const INSTANT: Duration = Duration::from_millis(1);

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
