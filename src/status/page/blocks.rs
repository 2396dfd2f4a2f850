//! The pieces of a section as HTML.

use crate::status::content::block::{Block, Event, Figure, Table};
use crate::status::content::section_of;
use crate::status::html::Html;
use crate::status::verdict::remark::Remark;

pub(super) fn write(html: &mut Html, block: &Block) {
    match block {
        Block::Text(text) => {
            html.element("p", text);
        }
        Block::Remarks(remarks) => {
            html.raw("<ul class=\"remarks\">\n");
            remarks.iter().for_each(|one| remark(html, one));
            html.raw("</ul>\n");
        }
        Block::Facts(facts) => {
            html.facts(facts);
        }
        Block::Table(rows) => table(html, rows),
        Block::Figures(figures) => {
            html.raw("<div class=\"charts\">\n");
            figures.iter().for_each(|one| figure(html, one));
            html.raw("</div>\n");
        }
        Block::Events(events) => {
            html.raw("<ol class=\"errors\">\n");
            events.iter().for_each(|one| event(html, one));
            html.raw("</ol>\n");
        }
        Block::Lines(lines) => {
            html.raw("<ul class=\"lines\">\n");
            lines.iter().for_each(|line| {
                html.raw("<li><code>").text(line).raw("</code></li>\n");
            });
            html.raw("</ul>\n");
        }
        Block::Folded(summary, folded) => {
            html.raw("<details>\n").element("summary", summary);
            write(html, folded);
            html.raw("</details>\n");
        }
    }
}

fn remark(html: &mut Html, remark: &Remark) {
    html.raw("<li class=\"").raw(remark.level.as_str()).raw("\">").text(&remark.text);
    html.raw(" <a href=\"#").raw(section_of(remark)).raw("\">More</a>");
    for alert in remark.condition.alerts() {
        html.raw(" <small>").text(alert).raw("</small>");
    }
    html.raw("</li>\n");
}

fn figure(html: &mut Html, Figure { name, value, words, chart }: &Figure) {
    html.raw("<figure>\n<figcaption>").element("h3", name);
    html.raw("<p><strong>").text(value).raw("</strong> ").text(words).raw("</p></figcaption>\n");
    html.raw("<p class=\"axis\"><span>").text(&chart.scale).raw("</span></p>\n");
    chart.write(html);
    html.raw("<p class=\"axis\"><span>1 h ago</span> <span>now</span></p>\n</figure>\n");
}

fn table(html: &mut Html, table: &Table) {
    html.raw("<table>\n<caption>").text(&table.caption).raw("</caption>\n<thead><tr>");
    for name in table.texts {
        html.raw("<th scope=\"col\">").raw(name).raw("</th>");
    }
    for name in table.numbers {
        html.raw("<th scope=\"col\" class=\"number\">").raw(name).raw("</th>");
    }
    html.raw("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.raw("<tr>");
        for (index, cell) in row.iter().enumerate() {
            match (index, table.is_of_words) {
                (0, true) => html.raw("<th scope=\"row\"><code>").text(cell).raw("</code></th>"),
                (0, false) => html.raw("<th scope=\"row\">").text(cell).raw("</th>"),
                (_, _) if index < table.texts.len() => html.raw("<td>").text(cell).raw("</td>"),
                (_, _) => html.raw("<td class=\"number\">").text(cell).raw("</td>"),
            };
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

fn event(html: &mut Html, Event { subject, what, cause, when, identifiers }: &Event) {
    html.raw("<li><p>").text(subject).raw(" <strong>").text(what).raw("</strong>");
    if let Some(cause) = cause {
        html.raw(" (").text(cause).raw(")");
    }
    html.raw("</p>\n<p class=\"when\">").text(when);
    for (name, identifier) in identifiers {
        html.raw(", ").raw(name).raw(" <code>").text(identifier).raw("</code>");
    }
    html.raw("</p></li>\n");
}
