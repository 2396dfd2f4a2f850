use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::clock::{Mono, Wall};
use crate::status::counts::Counts;
use crate::status::history::History;
use crate::status::snapshot::{About, Breaker, ClassState, FleetLink, TokenState};
use crate::telemetry::metrics::fleet::FleetState;
use crate::telemetry::metrics::{RETRY_RESULTS, SHED_REASONS};
use crate::telemetry::recent_errors::{Kind, RecentError};
use crate::upstream::error::ErrorKind;

const NOW: Wall = Wall(1_600_000_000_000);
/// Text that a peer or a file could bring in.
const HOSTILE: &str = "\"><script>alert('&')</script>\u{0}";

/// Ten minutes of a healthy sidecar: each part has ten lookups more than the one before, half of them saved.
fn well() -> Snapshot {
    let mut history = History::new(Counts::default(), Mono::default());
    let mut so_far = Counts::default();
    for part in 1..=5_u32 {
        so_far.cache[0] += 5 * part;
        so_far.cache[1] += 5 * part;
        so_far.answers += 5 * part;
        so_far.durations[0][1] += 5 * part;
        so_far.durations[1][8] += 5 * part;
        history.observe(so_far.clone(), Mono(Duration::from_secs(u64::from(part) * 120 - 60)));
    }
    let closed = |class| ClassState { class, breaker: Breaker::Closed, held_until: None };
    Snapshot {
        now: NOW,
        uptime: Duration::from_secs(600),
        about: About {
            build: "1.2.3 (abc, rustc 1)",
            environment: "sandbox",
            gateway: "https://sandbox.gateway.sezzle.com".to_owned(),
            cache_bytes: 32 << 20,
            fleet: None,
        },
        merchant: Some("5a1cb89e-7b0a-4d12-9c6f-0f9a4e1f2d11".to_owned()),
        unready: None,
        draining: false,
        token: TokenState {
            left: Some((Duration::from_secs(5000), NOW.plus(Duration::from_secs(5000)))),
            failure: None,
        },
        classes: ["session", "read"].map(closed).to_vec(),
        sessions: 1234,
        session_bytes: 3 << 20,
        in_flight: 7,
        hour: history.hour(Mono(Duration::from_secs(590))),
        fleet: None,
        recent_errors: Vec::new(),
    }
}

/// That sidecar with everything wrong at once.
fn ill() -> Snapshot {
    let mut s = well();
    let part = s.hour.parts.last_mut().and_then(Option::as_mut).expect("the part that is now");
    (part.failures, part.throttled, part.unknown, part.in_doubt) = (3, 2, 1, 2);
    part.errors = [4; ErrorKind::ALL.len()];
    part.shed = [1; 5];
    part.retries = [6; 3];
    s.hour.total = s.hour.parts.iter().flatten().fold(Counts::default(), |sum, part| sum.plus(part));
    s.token.failure = Some("Sezzle rejected the key pair");
    s.merchant = Some(HOSTILE.to_owned());
    s.about.gateway = format!("https://{HOSTILE}");
    s.classes[0].breaker = Breaker::Open;
    s.classes[1] =
        ClassState { class: "read", breaker: Breaker::HalfOpen, held_until: Some(NOW.plus(Duration::from_secs(9))) };
    let kind = Kind {
        method: "POST",
        about: "/v2/order/{order}/capture",
        what: "outcome_unknown",
        cause: Some("timeout"),
        code: Some("504"),
    };
    let once = RecentError { kind, times: 1, first: NOW, last: NOW, request_id: Some(HOSTILE.to_owned()) };
    let kind = Kind { about: "token exchange", what: "rejected", ..Kind::default() };
    let often =
        RecentError { kind, times: 4321, first: Wall(NOW.0 - 3_600_000), last: Wall(NOW.0 - 90_000), request_id: None };
    s.recent_errors = vec![once, often];
    s.fleet = Some(FleetLink { server: HOSTILE.to_owned(), ..link("down", 75) });
    s
}

/// A link to a server, `age` seconds after the last poll.
fn link(state: &'static str, age: u64) -> FleetLink {
    let server = "cache.internal:6379".to_owned();
    FleetLink { server, state, age: Duration::from_secs(age), unpublished: 1, rejoins: 2, unconfirmed: 3456 }
}

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
            "All 60 calls of the last 6 minutes were answered.",
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
            "Sezzle fails: the circuit breaker is open for session, read. 55 of 108 calls",
            "The outcome of 1 write of the last hour is not known",
            "2 writes did not succeed after an attempt",
            "No new token: Sezzle rejected the key pair. The token in use lasts another 1 h 23 min.",
            "the sidecar sends none of class read until 12:26:49 UTC",
            "5 calls were not sent in the last hour",
            "open: calls are not sent",
            "half-open: one call is a trial",
            "tls_certificatethe gateway's certificate was not trusted4",
            "POST /v2/order/{order}/capture: 504 outcome_unknown (timeout)",
            "Once, just now (12:26:40 UTC), request &quot;&gt;&lt;script&gt;",
            "token exchange: rejected\n4,321 times in 58 min, last 1 min 30 s ago (12:25:10 UTC)",
            "The log of the fleet has not been read for 1 min 15 s (down), so changes through other sidecars may show \
             late. Other sidecars may not know of 1 change here.",
            "Linkdown: there is no connection",
        ],
    );
}

#[test]
fn a_fleet_has_a_section_of_its_own() {
    assert!(!render(&well(), false).contains("Fleet"));
    let page = render(&Snapshot { fleet: Some(link("synced", 0)), ..well() }, false);
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

#[test]
fn what_is_said_first_is_what_matters_most() {
    let remarks_of = |change: &dyn Fn(&mut Snapshot)| {
        let mut s = well();
        change(&mut s);
        let page = render(&s, false);
        check(&page);
        let remarks: Vec<String> = remarks(&s).into_iter().map(|remark| remark.text).collect();
        (state(&s, super::remarks(&s).first().map_or(Level::Well, |remark| remark.level)), remarks.join(" / "))
    };
    let first = "the first token is being obtained";
    for (what, change, expected) in [
        ("well", &|_: &mut Snapshot| () as _, ("Ready, all is well", "")),
        (
            "starting",
            &|s: &mut Snapshot| (s.unready, s.token.left, s.merchant) = (Some(first), None, None),
            ("Not ready", "Not ready: the first token is being obtained."),
        ),
        (
            "stopping",
            &|s: &mut Snapshot| (s.unready, s.draining) = (Some("draining"), true),
            ("Stopping", "Not ready: draining."),
        ),
        (
            "token gone",
            &|s: &mut Snapshot| s.token = TokenState { left: None, failure: Some("it failed") },
            ("Ready, but in trouble", "There is no live token, so the sidecar sends no call: it failed."),
        ),
        (
            "young",
            &|s: &mut Snapshot| s.hour = History::new(Counts::default(), Mono::default()).hour(Mono::default()),
            ("Ready, all is well", ""),
        ),
        (
            "one failure",
            &|s: &mut Snapshot| s.hour.parts[29].as_mut().expect("now").failures = 1,
            ("Ready, worth a look", "Calls to Sezzle fail: 1 of 60 calls of the last 6 minutes failed."),
        ),
        (
            "outage",
            &|s: &mut Snapshot| s.hour.parts[29].as_mut().expect("now").errors[0] = 100,
            (
                "Ready, but in trouble",
                "Calls to Sezzle fail: 100 of 160 calls of the last 6 minutes failed, most often: dns.",
            ),
        ),
        (
            "an outage long over",
            &|s: &mut Snapshot| s.hour.parts[26].as_mut().expect("then").errors[0] = 100,
            ("Ready, all is well", ""),
        ),
        (
            "a breaker that nobody tried since",
            &|s: &mut Snapshot| s.classes[1].breaker = Breaker::Open,
            (
                "Ready, worth a look",
                "Calls failed earlier, and the next call of read is a trial. All 60 calls of the last 6 minutes were \
                 answered.",
            ),
        ),
        ("a failover in the fleet", &|s: &mut Snapshot| s.fleet = Some(link("down", 9)), ("Ready, all is well", "")),
        (
            "alone in a fleet",
            &|s: &mut Snapshot| s.fleet = Some(FleetLink { unpublished: 0, ..link("late", 10) }),
            (
                "Ready, worth a look",
                "The log of the fleet has not been read for 10 s (late), so changes through other sidecars may show \
                 late.",
            ),
        ),
        (
            "money before all",
            &|s: &mut Snapshot| (s.hour.total.shed[0], s.hour.total.unknown) = (1, 2),
            (
                "Ready, but in trouble",
                "The outcome of 2 writes of the last hour is not known (outcome_unknown). Find out what became of \
                 each before anybody repeats it under another key. / 1 call was not sent in the last hour, see below.",
            ),
        ),
    ] as [(&str, &dyn Fn(&mut Snapshot), (&str, &str)); 12]
    {
        let (state, said) = remarks_of(change);
        assert_eq!((state, said.as_str()), expected, "{what}");
    }
}
