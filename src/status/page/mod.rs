//! Renders a snapshot as HTML. Pure.
//!
//! People read this page at three in the morning, on a phone or in a terminal. Problems come first and in words;
//! colours only repeat them. The page needs no script and loads nothing.

mod fleet;
mod sections;

use super::html::Html;
use super::snapshot::Snapshot;
use super::verdict::remark::{Level, Remark};
use super::verdict::remarks;
use super::words::{bytes, count, duration, moment, time};

/// The page's style sheet. The security policy names it by its hash.
pub const STYLE: &str = include_str!("page.css");

/// The query that makes the page reload itself.
pub const REFRESH: &str = "?refresh";

/// Renders the page. With `refresh` a browser reloads it every 30 s.
pub fn render(s: &Snapshot, refresh: bool) -> String {
    let remarks = remarks(s);
    let worst = remarks.first().map_or(Level::Well, |remark| remark.level);
    let mut html = Html::default();
    head(&mut html, s, worst, refresh);
    html.raw("<body>\n<header>\n<h1>sezzle-sidecar <small>").text(s.about.environment).raw("</small></h1>\n");
    html.raw("<p class=\"state ").raw(class(worst)).raw("\">").text(state(s, worst)).raw("</p>\n</header>\n<main>\n");
    html.raw("<div class=\"pair\">\n");
    attention(&mut html, &remarks);
    overview(&mut html, s);
    html.raw("</div>\n");
    sections::saved(&mut html, s);
    sections::latency(&mut html, s);
    html.raw("<div class=\"pair\">\n");
    sections::sezzle(&mut html, s);
    sections::shed(&mut html, s);
    html.raw("</div>\n");
    fleet::fleet(&mut html, s);
    sections::errors(&mut html, s);
    html.raw("</main>\n");
    footer(&mut html, s, refresh);
    html.raw("</body>\n</html>\n");
    html.finish()
}

fn head(html: &mut Html, s: &Snapshot, worst: Level, refresh: bool) {
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n");
    if refresh {
        html.raw("<meta http-equiv=\"refresh\" content=\"30\">\n");
    }
    html.raw("<title>sezzle-sidecar, ").text(s.about.environment).raw(": ").text(state(s, worst)).raw("</title>\n");
    html.raw("<link rel=\"icon\" href=\"").raw(icon(worst)).raw("\">\n");
    html.raw("<style>").raw(STYLE).raw("</style>\n</head>\n");
}

/// The state in a few words.
fn state(s: &Snapshot, worst: Level) -> &'static str {
    match (s.unready, worst) {
        (Some(_), _) if s.draining => "Stopping",
        (Some(_), _) => "Not ready",
        (None, Level::Trouble) => "Ready, but in trouble",
        (None, Level::Notice) => "Ready, worth a look",
        (None, Level::Well) => "Ready, all is well",
    }
}

fn class(level: Level) -> &'static str {
    match level {
        Level::Well => "well",
        Level::Notice => "notice",
        Level::Trouble => "trouble",
    }
}

/// A coloured dot, so that the browser tab shows the state.
fn icon(level: Level) -> &'static str {
    macro_rules! dot {
        ($colour:literal) => {
            concat!(
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E",
                "%3Ccircle cx='4' cy='4' r='4' fill='%23",
                $colour,
                "'/%3E%3C/svg%3E"
            )
        };
    }
    match level {
        Level::Well => dot!("1a7f4b"),
        Level::Notice => dot!("b26a00"),
        Level::Trouble => dot!("c62828"),
    }
}

fn attention(html: &mut Html, remarks: &[Remark]) {
    html.raw("<section aria-labelledby=\"attention\">\n<h2 id=\"attention\">What needs attention</h2>\n");
    if remarks.is_empty() {
        html.element("p", "Nothing.");
    } else {
        html.raw("<ul class=\"remarks\">\n");
        for remark in remarks {
            html.raw("<li class=\"").raw(class(remark.level)).raw("\">").text(&remark.text).raw("</li>\n");
        }
        html.raw("</ul>\n");
    }
    html.raw("</section>\n");
}

fn overview(html: &mut Html, s: &Snapshot) {
    html.raw("<section aria-labelledby=\"overview\">\n<h2 id=\"overview\">Overview</h2>\n");
    let token = match s.token.left {
        Some((left, ends)) => format!("lasts {}, until {}", duration(left), time(ends, s.now)),
        None => "there is none".to_owned(),
    };
    let held = format!("{}, {} of {}", count(s.sessions), bytes(s.session_bytes), bytes(s.about.cache_bytes));
    let facts = [
        ("Environment", s.about.environment),
        ("Gateway", &s.about.gateway),
        ("Merchant", s.merchant.as_deref().unwrap_or("not known yet")),
        ("Token", &token),
        ("Sessions in memory", &held),
        ("Requests under way", &count(s.in_flight)),
        ("Running for", &duration(s.uptime)),
        ("Version", s.about.build),
    ];
    html.facts(&facts).raw("</section>\n");
}

fn footer(html: &mut Html, s: &Snapshot, refresh: bool) {
    html.raw("<footer>\n<p>As of ").text(moment(s.now)).raw(". ");
    match refresh {
        true => html.raw("This page reloads every 30 s: <a href=\"/\">stop that</a>."),
        false => html.raw("<a href=\"").raw(REFRESH).raw("\">Reload this page every 30 s</a>."),
    };
    html.raw("</p>\n<p>Counts and times of the last hour cover the last ").text(duration(s.hour.length));
    html.raw(". They belong to this process alone, and agree with <code>/metrics</code>.</p>\n</footer>\n");
}

#[cfg(test)]
mod tests;
