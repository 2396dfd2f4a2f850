//! The sections of the page about the last hour.

use std::time::Duration;

use crate::clock::Wall;
use crate::status::chart::{Chart, Column};
use crate::status::counts::{Counts, Timed};
use crate::status::history::PART;
use crate::status::html::Html;
use crate::status::quantile::quantile;
use crate::status::snapshot::{Breaker, Snapshot};
use crate::status::verdict::calls;
use crate::status::words::{ago, count, counted, duration, share, time};
use crate::telemetry::metrics::{RETRY_RESULTS, SHED_REASONS};
use crate::telemetry::recent_errors::RecentError;
use crate::upstream::error::ErrorKind;

/// The savings by the cache, in figures and charts.
pub(super) fn saved(html: &mut Html, s: &Snapshot) {
    let total = &s.hour.total;
    let (lookups, saved, calls, failed) = (total.lookups(), total.saved(), total.calls(), total.failed());
    html.raw("<section aria-labelledby=\"saved\">\n<h2 id=\"saved\">The last hour</h2>\n<div class=\"charts\">\n");

    let ratio = share(saved, lookups).unwrap_or_else(|| "–".to_owned());
    let looked = counted(lookups, "session lookup", "session lookups");
    let columns = columns(s, |part| {
        let percent = u64::from(part.saved()).saturating_mul(100).checked_div(part.lookups().into())?;
        Some(Column { lower: u32::try_from(percent).ok()?, upper: 0 })
    });
    let ratios = || columns.iter().flatten().map(|column| column.lower);
    let description = match (ratios().min(), ratios().max()) {
        (Some(least), Some(most)) => format!("Between {least} % and {most} % in two minutes."),
        (_, _) => NOTHING.to_owned(),
    };
    let chart = Chart { title: "Hit ratio of the last hour", description, columns, full: 100 };
    figure(html, "Hit ratio", &ratio, &format!("of {looked}"), &chart);

    let columns = self::columns(s, |part| Some(Column { lower: part.saved(), upper: 0 }));
    let chart = counting("Saved calls of the last hour", columns);
    figure(html, "Saved calls", &count(saved.into()), "not made to Sezzle", &chart);

    let columns = self::columns(s, |part| {
        let failed = part.failed();
        Some(Column { lower: part.calls().saturating_sub(failed), upper: failed })
    });
    let chart = counting("Calls to Sezzle in the last hour", columns);
    let words = format!("of which {} failed", count(failed.into()));
    figure(html, "Calls to Sezzle", &count(calls.into()), &words, &chart);

    html.raw("</div>\n");
    numbers(html, s);
    html.raw("</section>\n");
}

fn columns(s: &Snapshot, column: impl Fn(&Counts) -> Option<Column>) -> Vec<Option<Column>> {
    s.hour.parts.iter().map(|part| part.as_ref().and_then(&column)).collect()
}

/// A chart scaled to its highest column.
fn counting(title: &'static str, columns: Vec<Option<Column>>) -> Chart {
    let heights = columns.iter().flatten().map(|column| column.lower.saturating_add(column.upper));
    let full = heights.max().unwrap_or_default();
    let description = match full {
        0 => NOTHING.to_owned(),
        most => format!("At most {} in two minutes.", count(most.into())),
    };
    Chart { title, description, columns, full }
}

const NOTHING: &str = "Nothing yet.";

fn figure(html: &mut Html, name: &'static str, value: &str, words: &str, chart: &Chart) {
    html.raw("<figure>\n<figcaption>").element("h3", name);
    html.raw("<p><strong>").text(value).raw("</strong> ").text(words).raw("</p></figcaption>\n");
    chart.write(html);
    html.raw("<p class=\"axis\"><span>1 h ago</span> <span>now</span></p>\n</figure>\n");
}

/// The figures of the charts as a table.
fn numbers(html: &mut Html, s: &Snapshot) {
    html.raw("<details>\n<summary>In numbers</summary>\n<table>\n<caption>By ten minutes</caption>\n<thead><tr>");
    heads(html, &["Minutes ago"], &["Lookups", "Saved", "Hit ratio", "Calls", "Failed"]);
    html.raw("</tr></thead>\n<tbody>\n");
    let minutes = PART.as_secs() / 60;
    let mut ago = u64::try_from(s.hour.parts.len()).unwrap_or_default().saturating_mul(minutes);
    for parts in s.hour.parts.chunks(ROW) {
        let until = ago.saturating_sub(u64::try_from(parts.len()).unwrap_or_default().saturating_mul(minutes));
        let sum = parts.iter().flatten().fold(Counts::default(), |sum, counts| sum.plus(counts));
        let ratio = share(sum.saved(), sum.lookups()).unwrap_or_else(|| "–".to_owned());
        html.raw("<tr><th scope=\"row\">").text(ago).raw(" to ").text(until).raw("</th>");
        let counts = [sum.lookups(), sum.saved()].map(|number| count(number.into()));
        cells(html, counts.iter().chain([&ratio, &count(sum.calls().into()), &count(sum.failed().into())]));
        html.raw("</tr>\n");
        ago = until;
    }
    html.raw("</tbody>\n</table>\n</details>\n");
}

// Five parts of two minutes.
const ROW: usize = 5;

pub(super) fn latency(html: &mut Html, s: &Snapshot) {
    html.raw("<section aria-labelledby=\"latency\">\n<h2 id=\"latency\">How long it took</h2>\n<table>\n");
    html.raw("<caption>The last hour: 50, 95 and 99 % of the answers took at most</caption>\n<thead><tr>");
    heads(html, &["Answers"], &["All", "50 %", "95 %", "99 %"]);
    html.raw("</tr></thead>\n<tbody>\n");
    for timed in Timed::ALL {
        let durations = s.hour.total.durations(timed);
        let all: u64 = durations.iter().copied().map(u64::from).sum();
        let within = [0.5, 0.95, 0.99].map(|share| quantile(&durations, share));
        html.raw("<tr><th scope=\"row\">").raw(timed.as_str()).raw("</th>");
        let within = within.map(|found| found.map_or_else(|| "–".to_owned(), |quantile| quantile.to_string()));
        cells(html, [&count(all)].into_iter().chain(&within));
        html.raw("</tr>\n");
    }
    html.raw("</tbody>\n</table>\n</section>\n");
}

/// Sezzle's state: verdict, circuit breakers and failed calls.
pub(super) fn sezzle(html: &mut Html, s: &Snapshot) {
    html.raw("<section aria-labelledby=\"sezzle\">\n<h2 id=\"sezzle\">Sezzle</h2>\n");
    html.element("p", calls::gateway(s).text);
    html.raw("<table>\n<caption>Calls by class</caption>\n<thead><tr>");
    heads(html, &["Class", "Circuit breaker", "Held back after 429"], &[]);
    html.raw("</tr></thead>\n<tbody>\n");
    for state in &s.classes {
        html.raw("<tr><th scope=\"row\">").text(state.class).raw("</th><td>").raw(match state.breaker {
            None => "none: calls are always sent",
            Some(Breaker::Closed) => "closed: calls are sent",
            Some(Breaker::Open) => "open: calls are not sent",
            Some(Breaker::HalfOpen) => "half-open: one call is a trial",
        });
        let held = state.held_until.map_or_else(|| "no".to_owned(), |until| format!("until {}", time(until, s.now)));
        html.raw("</td><td>").text(held).raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
    let total = &s.hour.total;
    let answers = [("5xx", total.failures), ("429", total.throttled)];
    let failures = answers.into_iter().chain(ErrorKind::WORDS.into_iter().zip(total.errors));
    rows(html, "Failed calls of the last hour", "No call failed in the last hour.", failures);
    html.raw("</section>\n");
}

/// Calls that were not sent, and calls that were sent again.
pub(super) fn shed(html: &mut Html, s: &Snapshot) {
    html.raw("<section aria-labelledby=\"shed\">\n<h2 id=\"shed\">Shed and retried</h2>\n");
    let total = &s.hour.total;
    let shed = SHED_REASONS.into_iter().zip(total.shed);
    rows(html, "Not sent in the last hour", "Every call of the last hour was sent.", shed);
    let retries = RETRY_RESULTS.into_iter().zip(total.retries);
    rows(html, "Retried in the last hour", "No call of the last hour was sent again.", retries);
    html.raw("</section>\n");
}

/// A table of the non-zero counts, or a sentence if all are zero.
fn rows(
    html: &mut Html,
    caption: &'static str,
    nothing: &'static str,
    rows: impl Iterator<Item = (&'static str, u32)>,
) {
    let rows: Vec<_> = rows.filter(|(_, count)| *count > 0).collect();
    if rows.is_empty() {
        html.element("p", nothing);
        return;
    }
    html.raw("<table>\n<caption>").raw(caption).raw("</caption>\n<thead><tr>");
    heads(html, &["Word", "Meaning"], &["Calls"]);
    html.raw("</tr></thead>\n<tbody>\n");
    for (word, number) in rows {
        html.raw("<tr><th scope=\"row\"><code>").raw(word).raw("</code></th><td>").raw(meaning(word)).raw("</td>");
        cells(html, [&count(number.into())]);
        html.raw("</tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

/// Explains a word of the metrics.
pub(super) fn meaning(word: &str) -> &'static str {
    MEANINGS.iter().find(|(known, _)| *known == word).map_or("", |(_, meaning)| meaning)
}

const MEANINGS: [(&str, &str); 27] = [
    ("5xx", "Sezzle answered that it failed"),
    ("429", "Sezzle asked for fewer calls"),
    ("dns", "the gateway's name was not resolved"),
    ("connection_refused", "the gateway's port is closed"),
    ("connection_failed", "no connection could be made"),
    ("connect_timeout", "no connection was made in time"),
    ("egress_proxy", "the proxy on the way out made no tunnel"),
    ("tls_certificate", "the gateway's certificate was not trusted"),
    ("tls", "TLS failed"),
    ("stream_limit", "every HTTP/2 stream that Sezzle allows was taken"),
    ("timeout", "no answer came in time"),
    ("reset", "the connection ended before the answer"),
    ("head_too_large", "the head of the answer was too large"),
    ("protocol", "the answer was not HTTP"),
    ("body", "the answer broke off"),
    ("queue_full", "the queue of the class was full"),
    ("queue_timeout", "no permit became free in time"),
    ("receiving", "too many bodies were being received"),
    ("rate_limited", "Sezzle asked for fewer calls"),
    ("circuit_open", "the circuit breaker was open"),
    ("success", "sent again, and answered"),
    ("failure", "sent again, and failed again"),
    ("no_budget", "not sent again: the budget was used up"),
    ("down", "there is no connection"),
    ("joining", "connected, and the log is not read yet"),
    ("synced", "the log is read in time"),
    ("late", "a reply is overdue, or the server refused something"),
];

/// Recent errors, one line for each kind.
pub(super) fn errors(html: &mut Html, s: &Snapshot) {
    html.raw("<section aria-labelledby=\"errors\">\n<h2 id=\"errors\">Recent errors</h2>\n");
    if s.recent_errors.is_empty() {
        html.element("p", "None since the start.");
    } else {
        html.raw("<ol class=\"errors\">\n");
        for recent in &s.recent_errors {
            recent_error(html, recent, s.now);
        }
        html.raw("</ol>\n<p>One line for each kind, the latest first. The log has every request by its id.</p>\n");
    }
    html.raw("</section>\n");
}

fn recent_error(html: &mut Html, recent: &RecentError, now: Wall) {
    let kind = &recent.kind;
    html.raw("<li><p>");
    if !kind.method.is_empty() {
        html.text(kind.method).raw(" ");
    }
    html.text(kind.about).raw(": ");
    if let Some(code) = kind.code {
        html.text(code).raw(" ");
    }
    html.raw("<strong>").text(kind.what).raw("</strong>");
    if let Some(cause) = kind.cause {
        html.raw(" (").text(cause).raw(")");
    }
    html.raw("</p>\n<p class=\"when\">");
    if recent.times == 1 {
        html.raw("Once, ");
    } else {
        let length = duration(recent.last.since(recent.first).max(Duration::from_secs(1)));
        html.text(count(recent.times)).raw(" times in ").text(length).raw(", last ");
    }
    html.text(ago(recent.last, now)).raw(" (").text(time(recent.last, now)).raw(")");
    if let Some(id) = &recent.request_id {
        html.raw(", request <code>").text(id).raw("</code>");
    }
    html.raw("</p></li>\n");
}

/// Column headings, with those of number columns last.
fn heads(html: &mut Html, texts: &[&'static str], numbers: &[&'static str]) {
    for name in texts {
        html.raw("<th scope=\"col\">").raw(name).raw("</th>");
    }
    for name in numbers {
        html.raw("<th scope=\"col\" class=\"number\">").raw(name).raw("</th>");
    }
}

/// Cells of number columns.
fn cells<'t>(html: &mut Html, texts: impl IntoIterator<Item = &'t String>) {
    for text in texts {
        html.raw("<td class=\"number\">").text(text).raw("</td>");
    }
}
