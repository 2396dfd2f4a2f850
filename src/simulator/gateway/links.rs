//! The `links` of bodies, in the form that the settings choose.

use serde_json::{Value, json};

use crate::simulator::{Links, Options};

/// A link: its path after `/v2/`, its method, and its relation to the body.
pub(super) type Link<'a> = (&'a str, &'static str, &'static str);

/// The value of a member `links`.
pub(super) fn list(options: &Options, links: &[Link<'_>]) -> Value {
    match options.links {
        Links::EmptyList => json!([]),
        Links::EmptyObject => json!([{}]),
        style => links.iter().enumerate().map(|(place, link)| one(&options.link_base, style, place, link)).collect(),
    }
}

fn one(base: &str, style: Links, place: usize, (path, method, rel): &Link<'_>) -> Value {
    let end = if style == Links::TrailingSpace && place == 0 { " " } else { "" };
    let href = format!("{base}/v2/{path}{end}");
    match style {
        Links::WithoutMethod => json!({"href": href, "rel": rel}),
        _ => json!({"href": href, "method": method, "rel": rel}),
    }
}
