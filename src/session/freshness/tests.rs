use proptest::prelude::*;

use super::*;
use crate::clock::Mono;
use crate::sezzle::time::{format_http_date, format_rfc3339};

const ASKED: Uuid = Uuid::from_u128(0xfad);
const WALL: Wall = Wall(1_800_000_000_000);
const NOW: Now = Now { mono: Mono(Duration::from_secs(100)), wall: WALL };

fn policy() -> Policy {
    Policy {
        max_ttl: Duration::from_secs(60),
        untokenized_ttl: Duration::from_secs(30),
        expiration_margin: Duration::from_secs(5),
        honor_origin: true,
    }
}

fn facts(expiration: Expiration) -> SessionFacts {
    SessionFacts { uuid: Some(ASKED), order: Some("o".to_owned()), tokens: vec!["t".to_owned()], expiration }
}

fn in_seconds(seconds: i64) -> Expiration {
    Expiration::At(Wall(WALL.0 + seconds * 1000))
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().expect("valid"));
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("valid"));
    }
    headers
}

fn ttl(lines: &[(&'static str, &str)], expiration: Expiration) -> Result<u64, Skip> {
    let facts = facts(expiration);
    life(&policy(), ASKED, StatusCode::OK, &headers(lines), Some(&facts), Duration::ZERO, NOW)
        .map(|life| life.ttl.as_secs())
}

/// A name, header lines, an expiration, and the seconds of life they give.
type Row<'r> = (&'r str, &'r [(&'static str, &'r str)], Expiration, Result<u64, Skip>);

#[test]
fn the_least_bound_wins() {
    let date = |seconds: i64| format_http_date(Wall(WALL.0 + seconds * 1000));
    let rows: [Row<'_>; 17] = [
        ("max_ttl", &[], in_seconds(1800), Ok(60)),
        ("tokenize less the margin", &[], in_seconds(25), Ok(20)),
        ("tokenize within the margin", &[], in_seconds(5), Err(Skip::Tokenize)),
        ("tokenize in the past", &[], in_seconds(-1), Err(Skip::Tokenize)),
        ("no tokenize, no lifetime", &[], Expiration::NotTokenized, Ok(30)),
        ("no tokenize, long lifetime", &[("cache-control", "max-age=3600")], Expiration::NotTokenized, Ok(60)),
        ("origin's lifetime", &[("cache-control", "private, max-age=10")], in_seconds(1800), Ok(10)),
        ("less its age", &[("cache-control", "max-age=10"), ("age", "4")], in_seconds(1800), Ok(6)),
        (
            "older than it lives",
            &[("cache-control", "max-age=10"), ("age", "10")],
            in_seconds(1800),
            Err(Skip::Expired),
        ),
        ("the least max-age", &[("cache-control", "max-age=50, max-age=7")], in_seconds(1800), Ok(7)),
        ("expires", &[("date", &date(0)), ("expires", &date(12))], in_seconds(1800), Ok(12)),
        ("max-age before expires", &[("cache-control", "max-age=9"), ("expires", &date(-5))], in_seconds(1800), Ok(9)),
        ("expires is no date", &[("expires", "0")], in_seconds(1800), Err(Skip::Expired)),
        ("max-age is no number", &[("cache-control", "max-age=soon")], in_seconds(1800), Err(Skip::Expired)),
        ("s-maxage is for shared caches", &[("cache-control", "s-maxage=1")], in_seconds(1800), Ok(60)),
        ("gateway's clock is ahead", &[("date", &date(600))], in_seconds(630), Ok(25)),
        ("gateway's clock is behind", &[("date", &date(-600))], in_seconds(25), Ok(20)),
    ];
    for (name, lines, expiration, expected) in rows {
        assert_eq!(ttl(lines, expiration), expected, "{name}");
    }
}

#[test]
fn what_the_origin_forbids_is_not_stored_unless_it_is_ignored() {
    for (line, skip) in [
        ("no-store", Skip::NoStore),
        ("No-Store, max-age=60", Skip::NoStore),
        ("private=\"a, no-store\", no-cache", Skip::NoCache),
        ("no-cache=\"set-cookie\"", Skip::NoCache),
        ("max-age=0", Skip::Expired),
    ] {
        assert_eq!(ttl(&[("cache-control", line)], in_seconds(1800)), Err(skip), "{line}");
        let ignoring = Policy { honor_origin: false, ..policy() };
        let facts = facts(in_seconds(1800));
        let headers = headers(&[("cache-control", line)]);
        let life = life(&ignoring, ASKED, StatusCode::OK, &headers, Some(&facts), Duration::ZERO, NOW);
        assert_eq!(life.map(|life| life.ttl.as_secs()), Ok(60), "{line}, ignored");
    }
    assert_eq!(ttl(&[("cache-control", "private=\"no-store\"")], in_seconds(1800)), Ok(60), "quoted is not said");
}

#[test]
fn every_other_reason_has_its_name() {
    let good = facts(in_seconds(1800));
    let ask = |status: StatusCode, headers: &HeaderMap, facts: Option<&SessionFacts>| {
        life(&policy(), ASKED, status, headers, facts, Duration::ZERO, NOW).map(|life| life.ttl.as_secs())
    };
    let json = headers(&[]);
    let ok = StatusCode::OK;
    assert_eq!(ask(ok, &json, Some(&good)), Ok(60));
    assert_eq!(ask(StatusCode::NOT_FOUND, &json, Some(&good)), Err(Skip::Status));
    assert_eq!(ask(ok, &HeaderMap::new(), Some(&good)), Err(Skip::NotJson));
    assert_eq!(ask(ok, &headers(&[("content-encoding", "gzip")]), Some(&good)), Err(Skip::Encoded));
    assert_eq!(ask(ok, &json, None), Err(Skip::Unreadable));
    assert_eq!(ask(ok, &headers(&[("vary", "accept-encoding")]), Some(&good)), Ok(60));
    for vary in ["*", "Accept", "Accept-Encoding, Accept-Language"] {
        assert_eq!(ask(ok, &headers(&[("vary", vary)]), Some(&good)), Err(Skip::Vary), "{vary}");
    }
    let other = SessionFacts { uuid: Some(Uuid::from_u128(1)), ..good.clone() };
    assert_eq!(ask(ok, &json, Some(&other)), Err(Skip::OtherSession));
    let nobody = SessionFacts { uuid: None, ..good.clone() };
    assert_eq!(ask(ok, &json, Some(&nobody)), Err(Skip::OtherSession));
    let long = SessionFacts { order: Some("o".repeat(MAX_IDENTIFIER + 1)), ..good };
    assert_eq!(ask(ok, &json, Some(&long)), Err(Skip::Unreadable));
}

#[test]
fn dates_that_cannot_be_meant_are_not_believed() {
    let zero_date = crate::sezzle::time::parse_rfc3339("0001-01-01T00:00:00Z").map(Expiration::At);
    for expiration in [Expiration::Unreadable, in_seconds(86_401), zero_date.expect("parses")] {
        assert_eq!(ttl(&[], expiration), Err(Skip::Expiration), "{expiration:?}");
    }
    assert_eq!(ttl(&[], in_seconds(86_400)), Ok(60));
}

#[test]
fn sessions_without_tokenize_can_be_given_no_life() {
    let strict = Policy { untokenized_ttl: Duration::ZERO, ..policy() };
    let facts = facts(Expiration::NotTokenized);
    let life = life(&strict, ASKED, StatusCode::OK, &headers(&[]), Some(&facts), Duration::ZERO, NOW);
    assert_eq!(life, Err(Skip::Untokenized));
}

#[test]
fn age_is_the_greatest_reading() {
    let facts = facts(in_seconds(1800));
    let date = format_http_date(Wall(WALL.0 - 7_000));
    let age = |lines: &[(&'static str, &str)], elapsed: u64| {
        let elapsed = Duration::from_secs(elapsed);
        life(&policy(), ASKED, StatusCode::OK, &headers(lines), Some(&facts), elapsed, NOW)
            .map(|life| life.age.as_secs())
    };
    assert_eq!(age(&[], 0), Ok(0));
    assert_eq!(age(&[("date", &date)], 1), Ok(7));
    assert_eq!(age(&[("date", &date), ("age", "9")], 2), Ok(11));
}

#[test]
fn callers_wishes() {
    let wishes = |lines: &[(&'static str, &str)]| Wishes::read(&headers(lines));
    assert_eq!(wishes(&[]), Wishes::default());
    assert!(wishes(&[("pragma", "no-cache")]).no_cache);
    assert!(!wishes(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache, "Cache-Control rules");
    let strict = wishes(&[("cache-control", "max-age=9, min-fresh=3"), ("cache-control", "max-age=4,only-if-cached")]);
    assert_eq!(strict.max_age, Some(Duration::from_secs(4)));
    assert_eq!(strict.min_fresh, Some(Duration::from_secs(3)));
    assert!(strict.only_if_cached);

    let second = Duration::from_secs;
    assert!(strict.accept(second(4), second(3)));
    assert!(!strict.accept(second(5), second(3)));
    assert!(!strict.accept(second(4), second(2)));
    let nonsense = wishes(&[("cache-control", "max-age=x, min-fresh=")]);
    assert!(!nonsense.accept(Duration::from_millis(1), second(60)));
}

proptest! {
    /// Whatever the origin says, nothing outlives `tokenize.expiration` less the margin, or `max_ttl`.
    #[test]
    fn nothing_outlives_its_tokenize(
        seconds in -100_000i64..100_000,
        max_age in proptest::option::of(0u64..1_000_000),
        age in proptest::option::of(0u64..1_000),
        date in proptest::option::of(-100_000i64..100_000),
        honor_origin: bool,
    ) {
        let mut lines = headers(&[]);
        if let Some(max_age) = max_age {
            lines.insert(CACHE_CONTROL, format!("max-age={max_age}").parse().expect("valid"));
        }
        if let Some(age) = age {
            lines.insert(AGE, age.into());
        }
        if let Some(date) = date {
            lines.insert(DATE, format_http_date(Wall(WALL.0 + date * 1000)).parse().expect("valid"));
        }
        let policy = Policy { honor_origin, ..policy() };
        let facts = facts(in_seconds(seconds));
        if let Ok(life) = life(&policy, ASKED, StatusCode::OK, &lines, Some(&facts), Duration::ZERO, NOW) {
            prop_assert!(!life.ttl.is_zero());
            prop_assert!(life.ttl <= policy.max_ttl);
            prop_assert!(i64::try_from(life.ttl.as_secs()).is_ok_and(|ttl| ttl + 5 <= seconds));
            if let (true, Some(max_age)) = (honor_origin, max_age) {
                prop_assert!(life.ttl <= Duration::from_secs(max_age));
            }
        }
    }

    #[test]
    fn arbitrary_header_lines_never_panic(value in "[ -~]{0,60}", name in "cache-control|age|expires|date|vary|pragma") {
        let mut lines = headers(&[]);
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            lines.append(name, value);
        }
        let facts = facts(in_seconds(60));
        let _ = life(&policy(), ASKED, StatusCode::OK, &lines, Some(&facts), Duration::ZERO, NOW);
        let _ = Wishes::read(&lines);
        let _ = format_rfc3339(WALL);
    }
}
