//! The section about the fleet.

use super::block::{Block, Section};
use super::meaning::meaning;
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, duration};

/// The section; `None` for a sidecar that is in no fleet.
pub(super) fn fleet(s: &Snapshot) -> Option<Section> {
    let fleet = s.fleet.as_ref()?;
    let facts = vec![
        ("Server", fleet.server.clone()),
        ("Link", format!("{}: {}", fleet.state, meaning(fleet.state))),
        ("Log last read", format!("{} ago", duration(fleet.age))),
        ("Not published", count(fleet.unpublished)),
        ("Rejoins since the start", count(fleet.rejoins)),
        ("Unconfirmed answers since the start", count(fleet.unconfirmed)),
    ];
    Some(Section { id: "fleet", title: "Fleet", blocks: vec![Block::Facts(facts)] })
}
