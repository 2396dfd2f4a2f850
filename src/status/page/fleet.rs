//! The section of the page about the fleet.

use super::sections::meaning;
use crate::status::html::Html;
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, duration};

/// The link to the fleet's server. Nothing for a sidecar that is in no fleet.
pub(super) fn fleet(html: &mut Html, s: &Snapshot) {
    let Some(fleet) = &s.fleet else { return };
    html.raw("<section aria-labelledby=\"fleet\">\n<h2 id=\"fleet\">Fleet</h2>\n");
    let facts = [
        ("Server", fleet.server.as_str()),
        ("Link", &format!("{}: {}", fleet.state, meaning(fleet.state))),
        ("Log last read", &format!("{} ago", duration(fleet.age))),
        ("Not published", &count(fleet.unpublished)),
        ("Rejoins since the start", &count(fleet.rejoins)),
        ("Unconfirmed answers since the start", &count(fleet.unconfirmed)),
    ];
    html.facts(&facts).raw("</section>\n");
}
