//! The section `drain`: what happens on SIGTERM.

use std::time::Duration;

use super::bounds::{HOUR, INSTANT};
use crate::config::parse;
use crate::config::reader::Reader;
use crate::units::shown;

#[derive(Clone, Debug)]
pub struct DrainSettings {
    /// How long connections are still accepted after SIGTERM.
    pub grace: Duration,
    /// Time from SIGTERM to the hard end.
    pub timeout: Duration,
}

pub(super) fn read(r: &mut Reader<'_>, write_timeout: Option<Duration>) -> Option<DrainSettings> {
    // Load balancers and endpoints usually notice within this time.
    let grace = r.on_reload().value("drain.grace", "5s", parse::duration(Duration::ZERO..=HOUR));
    let timeout = r.on_reload().value("drain.timeout", "40s", parse::duration(INSTANT..=HOUR));

    if let (Some(grace), Some(timeout)) = (grace, timeout)
        && timeout < grace
    {
        r.conflict("drain.timeout", &format!("{} is shorter than drain.grace ({})", shown(timeout), shown(grace)));
    }
    // The last write may arrive at the end of the grace period.
    if let (Some(write_timeout), Some(grace), Some(timeout)) = (write_timeout, grace, timeout)
        && timeout >= grace
        && timeout <= grace.saturating_add(write_timeout)
    {
        r.conflict(
            "drain.timeout",
            &format!(
                "{} would cut off writes; expected more than drain.grace ({}) and gateway.write_timeout ({}) together",
                shown(timeout),
                shown(grace),
                shown(write_timeout)
            ),
        );
    }
    Some(DrainSettings { grace: grace?, timeout: timeout? })
}
