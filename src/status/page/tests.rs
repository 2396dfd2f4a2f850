use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::status::snapshot::FleetLink;
use crate::status::tests::{HOSTILE, ill, link, well};
use crate::telemetry::metrics::fleet::FleetState;
use crate::telemetry::metrics::{RETRY_RESULTS, SHED_REASONS};
use crate::upstream::error::ErrorKind;

fn text(page: &str) -> String {
    let body = page.split_once("<body>").expect("a body").1;
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        text.push_str(piece.split_once('>').expect("a whole tag").1);
    }
    text
}

fn says(page: &str, expected: &[&str]) {
    let text = text(page);
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
    let page = render(&well(), false);
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
            "No call failed in the last hour.",
            "Every call of the last hour was sent.",
            "No call of the last hour was sent again.",
            "None since the start.",
            "10 to 0",
        ],
    );
    assert!(page.contains("<title>sezzle-sidecar, sandbox: Ready, all is well</title>"));
    assert!(!page.contains("http-equiv"), "it stays as it is");
    assert!(render(&well(), true).contains("<meta http-equiv=\"refresh\" content=\"30\">"));
}

#[test]
fn a_sidecar_with_everything_wrong() {
    let page = render(&ill(), true);
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
            "open: calls are not sent",
            "half-open: one call is a trial",
            "tls_certificatethe gateway's certificate was not trusted4",
            "POST /v2/order/{order}/capture: 504 outcome_unknown (timeout)",
            "Once, just now (12:26:40 UTC), request &quot;&gt;&lt;script&gt;",
            "token exchange: rejected\n4,321 times in 58 min, last 1 min 30 s ago (12:25:10 UTC)",
            "The log of the fleet has not been read for 1 min 15 s (down), so changes through other sidecars may show \
             late.",
            "Other sidecars may not know of 1 change here, for 1 min now.",
            "Linkdown: there is no connection",
        ],
    );
}

#[test]
fn a_fleet_has_a_section_of_its_own() {
    assert!(!render(&well(), false).contains("Fleet"));
    let page = render(
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
    let (plain, hostile) = (render(&well(), false), render(&ill(), false));
    assert!(!hostile.contains(HOSTILE) && !hostile.contains('\u{0}') && !hostile.contains("alert('"));
    assert_eq!(hostile.matches("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\u{fffd}").count(), 4);
    assert!(!plain.contains("&lt;"));
}

#[test]
fn every_word_of_the_metrics_has_a_meaning() {
    for word in ErrorKind::WORDS.into_iter().chain(SHED_REASONS).chain(RETRY_RESULTS).chain(FleetState::WORDS) {
        assert_ne!(sections::meaning(word), "", "{word}");
    }
}
