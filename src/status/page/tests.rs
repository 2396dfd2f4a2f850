use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::status::content::meaning::meaning;
use crate::status::snapshot::{FleetLink, Snapshot};
use crate::status::tests::{HOSTILE, ill, link, well};
use crate::status::{json, text};
use crate::telemetry::metrics::fleet::FleetState;
use crate::telemetry::metrics::{RETRY_RESULTS, SHED_REASONS};
use crate::upstream::error::ErrorKind;
use crate::webhook::WebhookResult;

fn shown(s: &Snapshot, refresh: bool) -> String {
    super::render(&Content::of(s), refresh, true)
}

fn words_of(page: &str) -> String {
    let body = page.split_once("<body>").expect("a body").1;
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        text.push_str(piece.split_once('>').expect("a whole tag").1);
    }
    text
}

fn says(page: &str, expected: &[&str]) {
    let text = words_of(page);
    for words in expected {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
}

/// Checks the rules of HTML and of accessibility.
fn check(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (mut ids, mut named, mut levels) = (BTreeSet::new(), Vec::new(), vec![0_usize]);
    let markup = page.replacen(STYLE, "", 1);
    for piece in markup.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("no whole tag: {piece}"));
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed in another order");
            continue;
        }
        for attribute in ["id", "aria-labelledby"] {
            let Some(rest) = tag.split(&format!(" {attribute}=\"")).nth(1) else { continue };
            let value = rest.split('"').next().unwrap_or_default();
            match attribute {
                "id" => assert!(ids.insert(value), "{value} stands there twice"),
                _ => named.extend(value.split(' ')),
            }
        }
        assert!(!tag.contains(" style=") && !tag.contains(" on"), "{tag}");
        if let Some(level) = name.strip_prefix('h').and_then(|level| level.parse::<usize>().ok()) {
            assert!(level <= levels.last().copied().unwrap_or_default() + 1, "a heading is missing before {name}");
            levels.push(level);
        }
        if !["!DOCTYPE", "meta", "link"].contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "not closed");
    assert!(named.iter().all(|id| ids.contains(id)), "{named:?} of {ids:?}");
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1, "one heading above all");
    assert!(!page.contains("<script") && !STYLE.contains("url(") && !STYLE.contains("@import"));
    assert!(page.split("<tr>").skip(1).all(|row| row.starts_with("<th scope=")), "a row without a heading");
    assert!(page.len() < 64 * 1024, "{} bytes", page.len());
}

#[test]
fn a_sidecar_that_is_well() {
    let page = shown(&well(), false);
    check(&page);
    says(
        &page,
        &[
            "Ready, all is well",
            "What needs attention\nNothing.",
            "sandbox",
            "https://sandbox.gateway.sezzle.com",
            "5a1cb89e-7b0a-4d12-9c6f-0f9a4e1f2d11",
            "lasts 1 h 23 min, until 13:50:00 UTC",
            "1,234, 3 MiB of 32 MiB",
            "10 min",
            "1.2.3 (abc, rustc 1)",
            "50 % of 150 session lookups",
            "75 not made to Sezzle",
            "Between 50 % and 50 % in two minutes.",
            "At most 25 in two minutes.",
            "75 of which 0 failed",
            "All 70 calls of the last 7 min 50 s were answered.",
            "No call of the last hour failed.",
            "No call of the last hour was shed.",
            "No call of the last hour was sent again.",
            "None since the start.",
            "10 to 0",
            "Hostshop-7f9c",
            "proxy 127.0.0.1:8080; ops 127.0.0.1:8080",
            "Requests0 a second in the last 7 min 50 s",
            "Hit ratio50 %",
            "as Sezzle&#39;s, to the second",
            "session1 of 640 of 128",
            "proxy3 of 10,000",
            "Connections to Sezzle: 3 open, 1 calls on them, 0 calls waiting for one.",
            "the gatewaygateway.example (of Some CA)in 80 d, 2020-12-02 12:26:40 UTC",
            "Last reloadnone since the start",
            "gateway.environment = &quot;sandbox&quot; # sidecar.toml\n# gateway.ca_file is not set",
        ],
    );
    assert!(page.contains("<title>shop-7f9c, sandbox: Ready, all is well – sezzle-sidecar</title>"));
    assert!(!page.contains("http-equiv"), "it stays as it is");
    assert!(shown(&well(), true).contains("<meta http-equiv=\"refresh\" content=\"30\">"));
}

#[test]
fn a_sidecar_with_everything_wrong() {
    let page = shown(&ill(), true);
    check(&page);
    says(
        &page,
        &[
            "Ready, but in trouble",
            "Sezzle fails: the circuit breaker is open for session, read. 55 of 118 calls",
            "The outcome of 1 write of the last hour is not known",
            "2 writes did not succeed after an attempt",
            "No new token: Sezzle rejected the key pair. The token in use lasts another 1 h 23 min.",
            "the sidecar sends none of class read until 12:26:49 UTC",
            "2 calls that move money were turned away in the last hour: callers got 503, and nothing was sent.",
            "3 calls that move no money were not sent in the last hour.",
            "open: holds back every call",
            "half-open: lets one call through as a trial",
            "tls_certificatethe gateway&#39;s certificate was not trusted4",
            "POST /v2/order/{order}/capture: 504 outcome_unknown (timeout)",
            "Once, just now (12:26:40 UTC), request &quot;&gt;&lt;script&gt;",
            "token exchange: rejected\n4,321 times in 58 min, last 1 min 30 s ago (12:25:10 UTC)",
            "The log of the fleet has not been read for 1 min 15 s (down), so changes through other sidecars may show \
             late.",
            "Other sidecars may not know of 1 change here, for 1 min now.",
            "Linkdown: there is no connection",
            "POST /v2/order/{order}/capture outcome unknown\n1 min 1 s ago (12:25:39 UTC), order ",
            "request capture-1, Sezzle-Request-Id none",
            "Last signed webhook5 s ago (12:26:35 UTC)",
            "6 to http://shop/hook-4711; 9 not accepted",
            "Last reload1 min ago (12:25:40 UTC): failed; the log has every mistake",
            "This machine&#39;s clock and Sezzle&#39;s differ by 300 s: Sezzle&#39;s is behind.",
            "SezzleSidecarUnauthorized",
        ],
    );
}

#[test]
fn a_fleet_has_a_section_of_its_own() {
    assert!(!shown(&well(), false).contains("Fleet"));
    let page = shown(
        &Snapshot { fleet: Some(FleetLink { unpublished_for: Duration::ZERO, ..link("synced", 0) }), ..well() },
        false,
    );
    check(&page);
    says(
        &page,
        &[
            "Ready, all is well",
            "Servercache.internal:6379",
            "Linksynced: the log is read in time",
            "Log last read0 s ago",
            "Not published1",
            "Rejoins since the start2",
            "Unconfirmed answers since the start3,456",
        ],
    );
}

#[test]
fn nothing_that_came_from_elsewhere_is_markup() {
    let (plain, hostile) = (shown(&well(), false), shown(&ill(), false));
    assert!(!hostile.contains(HOSTILE) && !hostile.contains('\u{0}') && !hostile.contains("alert('"));
    assert_eq!(hostile.matches("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\u{fffd}").count(), 9);
    assert!(!plain.contains("&lt;"));
}

#[test]
fn every_word_of_the_metrics_has_a_meaning() {
    for word in ErrorKind::WORDS
        .into_iter()
        .chain(SHED_REASONS)
        .chain(RETRY_RESULTS)
        .chain(FleetState::WORDS)
        .chain(WebhookResult::WORDS)
    {
        assert_ne!(meaning(word), "", "{word}");
    }
}

#[test]
fn what_only_operators_may_see_is_taken_out() {
    let whole = shown(&ill(), false);
    let s = ill().without_identifiers();
    let page = shown(&s, false);
    check(&page);
    says(&page, &["left out on this listener", "This listener leaves out identifiers."]);
    assert!(whole.contains("capture-1") && whole.contains("5a1cb89e-7b0a-4d12-9c6f-0f9a4e1f2d11"));
    let json = json::render(&s).to_string();
    assert!(whole.contains("http://shop/hook-4711"));
    for form in [&page, &json] {
        assert!(!form.contains("capture-1") && !form.contains("5a1cb89e-7b0a-4d12-9c6f-0f9a4e1f2d11"), "{form}");
        assert!(form.contains("http://shop") && !form.contains("hook-4711"), "{form}");
    }
    // The gateway and the fleet's server have hostile names still, and a certificate has one in its table and its remark.
    assert_eq!(page.matches("&lt;script&gt;").count(), 4);
    for bounded in [&s.known_callers[0], &s.known_callers[1]] {
        assert!(bounded.told_by == "[left out]" && bounded.max_amount.as_deref() != Some("500.00 USD"));
    }
    assert_eq!(json::render(&s)["unknown_writes"][0]["request_id"], serde_json::Value::Null);
}

#[test]
fn every_form_has_the_same_content() {
    for s in [well(), ill()] {
        let (content, json) = (Content::of(&s), json::render(&s));
        let (page, plain) = (shown(&s, false), text::render(&content));
        assert!(page.contains(content.state) && plain.contains(content.state));
        assert_eq!(
            (json["state"].as_str(), json["level"].as_str()),
            (Some(content.state), Some(content.level.as_str()))
        );
        let conditions: Vec<_> = json["conditions"].as_array().expect("a list").iter().collect();
        assert_eq!(conditions.len(), page.matches("\">More</a>").count());
        for section in content.sections() {
            assert!(plain.contains(&format!("\n{}\n", section.title)), "{}", section.title);
            assert!(page.contains(&format!("<h2 id=\"{}\">{}</h2>", section.id, section.title)), "{}", section.title);
        }
    }
    // A link from each remark leads to a section that is there.
    let page = shown(&ill(), false);
    for link in page.split("<a href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(page.contains(&format!("<h2 id=\"{link}\">")), "{link}");
    }
}

#[test]
fn a_page_with_a_full_history_is_rendered_in_milliseconds() {
    let mut s = ill();
    let part = s.hour.parts.last().cloned().flatten().expect("now");
    s.hour.parts.iter_mut().for_each(|each| *each = Some(part.clone()));
    s.recent_errors = s.recent_errors.iter().cycle().take(24).cloned().collect();
    s.unknown_writes = s.unknown_writes.iter().cycle().take(20).cloned().collect();
    s.configuration.keys = s.configuration.keys.iter().cycle().take(70).cloned().collect();
    let took = |form: &dyn Fn() -> usize| {
        let times = (0..20).map(|_| {
            let began = tokio::time::Instant::now();
            assert!(form() > 10_000);
            began.elapsed()
        });
        times.min().expect("a time")
    };
    let (html, plain, json) = (
        took(&|| shown(&s, false).len()),
        took(&|| text::render(&Content::of(&s)).len()),
        took(&|| json::render(&s).to_string().len()),
    );
    // Ten times what an optimised build takes on a busy machine.
    assert!(
        [html, plain, json].into_iter().all(|time| time < Duration::from_millis(50)),
        "{html:?} {plain:?} {json:?}"
    );
    assert!(shown(&s, false).len() < 64 * 1024);
}
