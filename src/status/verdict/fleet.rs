//! Remarks on the link to the fleet.

use std::time::Duration;

use super::condition::Condition;
use super::remark::Remark;
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, counted, duration};

pub(super) fn unsynced(s: &Snapshot) -> Option<Remark> {
    let link = s.fleet.as_ref().filter(|link| link.age >= OVERDUE)?;
    let text = format!(
        "The log of the fleet has not been read for {} ({}), so changes through other sidecars may show late.",
        duration(link.age),
        link.state
    );
    Some(Remark::notice(Condition::FleetUnsynced, text))
}

// A failover takes up to five seconds and ends by itself.
const OVERDUE: Duration = Duration::from_secs(10);

pub(super) fn unpublished(s: &Snapshot) -> Option<Remark> {
    let link = s.fleet.as_ref().filter(|link| link.unpublished > 0 && link.unpublished_for >= UNPUBLISHED)?;
    let changes = u32::try_from(link.unpublished).unwrap_or(u32::MAX);
    let text = format!(
        "Other sidecars may not know of {} here, for {} now.",
        counted(changes, "change", "changes"),
        duration(link.unpublished_for)
    );
    Some(Remark::notice(Condition::FleetUnpublished, text))
}

// Observations are half a minute apart, and the alert fires after a minute.
const UNPUBLISHED: Duration = Duration::from_secs(30);

pub(super) fn unconfirmed(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(5);
    let text = format!(
        "{} of the last {} got an answer from memory that the fleet had not confirmed.",
        counted(lately.unconfirmed, "lookup", "lookups"),
        duration(length)
    );
    (lately.unconfirmed > 0).then(|| Remark::notice(Condition::FleetUnconfirmed, text))
}

pub(super) fn rejoining(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(15);
    let text = format!(
        "The sidecar lost its place in the log of the fleet {} times in the last {}, and fetched anew what it had \
         stored.",
        count(lately.rejoins.into()),
        duration(length)
    );
    // One rejoin is a start, and two more are a failover and back: as for the alert.
    (lately.rejoins > 3).then(|| Remark::notice(Condition::FleetRejoining, text))
}
