//! Renders the content as HTML. Pure.
//!
//! People read this page at three in the morning, on a phone or in a terminal. Problems come first and in words;
//! colours only repeat them. The page needs no script and loads nothing.

mod blocks;

use super::content::Content;
use super::content::block::Section;
use super::html::Html;
use super::verdict::remark::Level;

/// The page's style sheet. The security policy names it by its hash.
pub const STYLE: &str = include_str!("page.css");

/// The query that makes the page reload itself.
pub const REFRESH: &str = "?refresh";

/// Renders the page. With `refresh`, browsers reload the page every 30 s. `has_metrics` says that the same listener
/// serves `/metrics`.
pub fn render(content: &Content, refresh: bool, has_metrics: bool) -> String {
    let mut html = Html::default();
    head(&mut html, content, refresh);
    html.raw("<body>\n<header>\n<h1>sezzle-sidecar <small>").text(content.environment).raw(" on ");
    html.text(&content.host).raw("</small></h1>\n<p class=\"state ").raw(content.level.as_str()).raw("\">");
    html.text(content.state).raw("</p>\n</header>\n<main>\n");
    for group in &content.groups {
        match group.as_slice() {
            [alone] => section(&mut html, alone),
            several => {
                html.raw("<div class=\"pair\">\n");
                several.iter().for_each(|one| section(&mut html, one));
                html.raw("</div>\n");
            }
        }
    }
    html.raw("</main>\n");
    footer(&mut html, content, refresh, has_metrics);
    html.raw("</body>\n</html>\n");
    html.finish()
}

fn head(html: &mut Html, content: &Content, refresh: bool) {
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n");
    if refresh {
        html.raw("<meta http-equiv=\"refresh\" content=\"30\">\n");
    }
    // The host comes first: in a row of tabs only the beginning is seen.
    html.raw("<title>").text(&content.host).raw(", ").text(content.environment).raw(": ").text(content.state);
    html.raw(" – sezzle-sidecar</title>\n");
    html.raw("<link rel=\"icon\" href=\"").raw(icon(content.level)).raw("\">\n");
    html.raw("<style>").raw(STYLE).raw("</style>\n</head>\n");
}

fn section(html: &mut Html, section: &Section) {
    html.raw("<section aria-labelledby=\"").raw(section.id).raw("\">\n<h2 id=\"").raw(section.id).raw("\">");
    html.raw(section.title).raw("</h2>\n");
    section.blocks.iter().for_each(|block| blocks::write(html, block));
    html.raw("</section>\n");
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

fn footer(html: &mut Html, content: &Content, refresh: bool, has_metrics: bool) {
    html.raw("<footer>\n<p>As of ").text(&content.as_of).raw(". ");
    match refresh {
        true => html.raw("Refreshed every 30 s: <a href=\"/\">stop that</a>."),
        false => html.raw("<a href=\"").raw(REFRESH).raw("\">Refresh every 30 s</a>."),
    };
    html.raw(" The same as <a href=\"/status.json\">JSON</a>.</p>\n<p>").text(&content.covers);
    html.raw(" They belong to this process alone, and agree with ").raw(match has_metrics {
        true => "<a href=\"/metrics\"><code>/metrics</code></a>",
        false => "<code>/metrics</code> of the ops listener",
    });
    html.raw(".</p>\n</footer>\n");
}

#[cfg(test)]
mod tests;
