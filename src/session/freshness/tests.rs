use proptest::prelude::*;

use http::header::{AGE, CACHE_CONTROL, DATE};
use http::{HeaderName, HeaderValue};

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
        stale_if_error: Duration::ZERO,
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

fn ttl(lines: &[(&'static str, &str)], expiration: Expiration) -> Result<u64, NotStored> {
    let facts = facts(expiration);
    decide(&policy(), ASKED, StatusCode::OK, &headers(lines), Some(&facts), Duration::ZERO, NOW)
        .map(|freshness| freshness.ttl.as_secs())
}

/// A name, header lines, an expiration, and the expected lifetime in seconds.
type Row<'r> = (&'r str, &'r [(&'static str, &'r str)], Expiration, Result<u64, NotStored>);

#[test]
fn the_least_bound_wins() {
    let date = |seconds: i64| format_http_date(Wall(WALL.0 + seconds * 1000));
    let rows: [Row<'_>; 19] = [
        ("max_ttl", &[], in_seconds(1800), Ok(60)),
        ("tokenize less the margin", &[], in_seconds(25), Ok(20)),
        ("tokenize within the margin", &[], in_seconds(5), Err(NotStored::Tokenize)),
        ("tokenize in the past", &[], in_seconds(-1), Err(NotStored::Tokenize)),
        ("no tokenize, no lifetime", &[], Expiration::NotTokenized, Ok(30)),
        ("no tokenize, long lifetime", &[("cache-control", "max-age=3600")], Expiration::NotTokenized, Ok(60)),
        ("origin's lifetime", &[("cache-control", "private, max-age=10")], in_seconds(1800), Ok(10)),
        ("less its age", &[("cache-control", "max-age=10"), ("age", "4")], in_seconds(1800), Ok(6)),
        (
            "older than it lives",
            &[("cache-control", "max-age=10"), ("age", "10")],
            in_seconds(1800),
            Err(NotStored::Expired),
        ),
        ("the least max-age", &[("cache-control", "max-age=50, max-age=7")], in_seconds(1800), Ok(7)),
        ("expires", &[("date", &date(0)), ("expires", &date(12))], in_seconds(1800), Ok(12)),
        ("max-age before expires", &[("cache-control", "max-age=9"), ("expires", &date(-5))], in_seconds(1800), Ok(9)),
        ("expires is no date", &[("expires", "0")], in_seconds(1800), Err(NotStored::Expired)),
        ("max-age is no number", &[("cache-control", "max-age=soon")], in_seconds(1800), Err(NotStored::Expired)),
        ("s-maxage is for shared caches", &[("cache-control", "s-maxage=1")], in_seconds(1800), Ok(60)),
        ("gateway's clock is ahead", &[("date", &date(600))], in_seconds(630), Ok(24)),
        ("gateway's clock is right", &[("date", &date(0))], in_seconds(30), Ok(24)),
        ("gateway's clock is a second behind", &[("date", &date(-1))], in_seconds(30), Ok(25)),
        ("gateway's clock is behind", &[("date", &date(-600))], in_seconds(25), Ok(20)),
    ];
    for (name, lines, expiration, expected) in rows {
        assert_eq!(ttl(lines, expiration), expected, "{name}");
    }
}

#[test]
fn what_the_origin_forbids_is_not_stored_unless_it_is_ignored() {
    for (line, reason) in [
        ("no-store", NotStored::NoStore),
        ("No-Store, max-age=60", NotStored::NoStore),
        ("must-understand, no-store", NotStored::NoStore),
        ("no-store=\"x\"", NotStored::NoStore),
        ("no-store=0", NotStored::NoStore),
        ("no-cache, no-store", NotStored::NoStore),
        ("public, immutable, max-age=60, no-cache", NotStored::NoCache),
        ("private=\"never closed, no-store", NotStored::NoStore),
        ("private=\"a, no-store\", no-cache", NotStored::NoCache),
        ("no-cache=\"set-cookie\"", NotStored::NoCache),
        ("max-age=0", NotStored::Expired),
    ] {
        assert_eq!(ttl(&[("cache-control", line)], in_seconds(1800)), Err(reason), "{line}");
        let ignoring = Policy { honor_origin: false, ..policy() };
        let facts = facts(in_seconds(1800));
        let headers = headers(&[("cache-control", line)]);
        let freshness = decide(&ignoring, ASKED, StatusCode::OK, &headers, Some(&facts), Duration::ZERO, NOW);
        assert_eq!(freshness.map(|freshness| freshness.ttl.as_secs()), Ok(60), "{line}, ignored");
    }
    assert_eq!(ttl(&[("cache-control", "private=\"no-store\"")], in_seconds(1800)), Ok(60), "quoted is not said");
}

/// A name, header lines, and the expected lifetime in seconds.
type NamedRow<'r> = (&'r str, &'r [(&'static str, &'r str)], Result<u64, NotStored>);

#[test]
fn every_line_counts_and_the_stricter_word_wins() {
    let date = |seconds: i64| format_http_date(Wall(WALL.0 + seconds * 1000));
    let (soon, late) = (date(12), date(3600));
    let cache_control = "cache-control";
    let rows: [NamedRow<'_>; 32] = [
        ("two lines", &[(cache_control, "max-age=50"), (cache_control, "no-store")], Err(NotStored::NoStore)),
        ("two lifetimes", &[(cache_control, "max-age=50"), (cache_control, "max-age=7")], Ok(7)),
        ("one of them nonsense", &[(cache_control, "max-age=50, max-age=x")], Err(NotStored::Expired)),
        ("any case", &[(cache_control, "MaX-aGe=7")], Ok(7)),
        ("in quotes", &[(cache_control, "max-age=\"7\"")], Ok(7)),
        ("in other quotes", &[(cache_control, "max-age='7'")], Err(NotStored::Expired)),
        ("in quotes of something else", &[(cache_control, "x=\"max-age=3\", max-age=7")], Ok(7)),
        ("space before", &[(cache_control, "max-age =7")], Err(NotStored::Expired)),
        ("space after", &[(cache_control, "max-age= 7")], Err(NotStored::Expired)),
        ("leading zeros", &[(cache_control, "max-age=007")], Ok(7)),
        ("a fraction", &[(cache_control, "max-age=7.5")], Err(NotStored::Expired)),
        ("negative", &[(cache_control, "max-age=-7")], Err(NotStored::Expired)),
        ("letters", &[(cache_control, "max-age=7a")], Err(NotStored::Expired)),
        ("nothing", &[(cache_control, "max-age")], Err(NotStored::Expired)),
        ("more than fits", &[(cache_control, "max-age=99999999999999999999999")], Ok(60)),
        ("shared caches' words", &[(cache_control, "s-maxage=1, proxy-revalidate, public, max-age=7")], Ok(7)),
        ("private's fields", &[(cache_control, "private=\"x\", max-age=7")], Ok(7)),
        ("pragma", &[("pragma", "no-cache")], Err(NotStored::NoCache)),
        ("pragma beside", &[("pragma", "no-cache"), (cache_control, "max-age=7")], Ok(7)),
        ("two expires", &[("date", &date(0)), ("expires", &late), ("expires", &soon)], Ok(12)),
        ("one of them nonsense", &[("date", &date(0)), ("expires", &late), ("expires", "0")], Err(NotStored::Expired)),
        ("expires in a list", &[("expires", "Thu, 01 Jan 2099 00:00:00 GMT, 0")], Err(NotStored::Expired)),
        ("expires without date", &[("expires", &soon)], Ok(12)),
        ("expires with no date at all", &[("date", "today"), ("expires", &soon)], Ok(12)),
        ("expires now", &[("date", &date(0)), ("expires", &date(0))], Err(NotStored::Expired)),
        ("expires before date, both ahead", &[("date", &date(400)), ("expires", &date(300))], Err(NotStored::Expired)),
        ("two dates", &[("date", &date(0)), ("date", &date(5)), ("expires", &soon)], Ok(7)),
        ("age in a list", &[(cache_control, "max-age=10"), ("age", "4, 0")], Ok(6)),
        ("the older of two", &[(cache_control, "max-age=10"), ("age", "0"), ("age", "4")], Ok(6)),
        ("age is no number", &[(cache_control, "max-age=10"), ("age", "-4")], Ok(10)),
        (
            "age is too large",
            &[(cache_control, "max-age=10"), ("age", "99999999999999999999999")],
            Err(NotStored::Expired),
        ),
        ("age with a slow date", &[("date", &date(-3)), (cache_control, "max-age=10"), ("age", "2")], Ok(7)),
    ];
    for (name, lines, expected) in rows {
        assert_eq!(ttl(lines, in_seconds(1800)), expected, "{name}: {lines:?}");
    }
    let mut spoiled = headers(&[]);
    spoiled.append(CACHE_CONTROL, HeaderValue::from_bytes(b"x=\xff, no-store").expect("valid"));
    let freshness =
        decide(&policy(), ASKED, StatusCode::OK, &spoiled, Some(&facts(in_seconds(1800))), Duration::ZERO, NOW);
    assert_eq!(freshness, Err(NotStored::NoStore), "what is not ASCII hides nothing");
}

#[test]
fn only_dates_as_the_rfc_writes_them_are_dates() {
    for (expires, is_date) in [
        ("Thu, 18 Aug 2050 02:01:18 GMT", true),
        ("Thursday, 18-Aug-50 02:01:18 GMT", true),
        ("Thu Aug 18 02:01:18 2050", true),
        ("Thu, 18 AUG 2050 02:01:18 GMT", false),
        ("Thu, 18 Aug 2050 02:01:18 UTC", false),
        ("Thu, 18 Aug 2050 02:01:18 gMT", false),
        ("Thu, 18 Aug 50 02:01:18 GMT", false),
        ("Thu 18 Aug 2050 02:01:18 GMT", false),
        ("Thu, 18  Aug  2050 02:01:18 GMT", false),
        ("Thu, 18-Aug-2050 02:01:18 GMT", false),
        ("Thu, 18 Aug 2050 02.01.18 GMT", false),
        ("Thu, 18 Aug 2050 2:01:18 GMT", false),
        ("Thu, 18 Aug 2050 02:01:18 +0000", false),
        ("2050-08-18T02:01:18Z", false),
        ("2545012878", false),
        ("-1", false),
        ("", false),
    ] {
        let expected = if is_date { Ok(60) } else { Err(NotStored::Expired) };
        assert_eq!(ttl(&[("expires", expires)], in_seconds(1800)), expected, "{expires}");
    }
}

#[test]
fn what_may_be_served_stale_is_bounded_by_everybody() {
    let stale = |lines: &[(&'static str, &str)], expiration: Expiration, honor_origin: bool| {
        let policy = Policy { stale_if_error: Duration::from_secs(600), honor_origin, ..policy() };
        let freshness =
            decide(&policy, ASKED, StatusCode::OK, &headers(lines), Some(&facts(expiration)), Duration::ZERO, NOW);
        freshness.map(|freshness| freshness.stale.as_secs())
    };
    let long = in_seconds(1800);
    for (line, expected) in [
        ("max-age=10", 600),
        ("max-age=10, must-revalidate", 0),
        ("max-age=10, Must-Revalidate=1", 0),
        ("max-age=10, proxy-revalidate", 0),
        ("max-age=10, s-maxage=10", 0),
        ("max-age=10, stale-if-error=20", 20),
        ("max-age=10, stale-if-error=20, stale-if-error=5", 5),
        ("max-age=10, stale-if-error=x", 0),
        ("max-age=10, stale-if-error=86400", 600),
        ("max-age=10, stale-if-error=20, must-revalidate", 0),
        ("max-age=10, stale-while-revalidate=5", 600),
    ] {
        assert_eq!(stale(&[("cache-control", line)], long, true), Ok(expected), "{line}");
        assert_eq!(stale(&[("cache-control", line)], long, false), Ok(600), "{line}, ignored");
    }
    assert_eq!(stale(&[], in_seconds(100), true), Ok(100 - 5 - 60), "no longer than the session lives");
    assert_eq!(stale(&[], in_seconds(20), true), Ok(0));
    assert_eq!(stale(&[], Expiration::NotTokenized, true), Ok(600));
}

#[test]
fn what_may_be_out_of_date_ends_for_every_use() {
    let seconds = Duration::from_secs;
    let freshness = Freshness { ttl: seconds(60), age: seconds(1), stale: seconds(600), session_left: seconds(1700) };
    let short = Freshness { ttl: seconds(2), age: seconds(1), stale: Duration::ZERO, session_left: seconds(2) };
    assert_eq!(freshness.at_most(seconds(2)), short);
    assert_eq!(freshness.at_most(Duration::MAX), freshness);
}

#[test]
fn every_other_reason_has_its_name() {
    let good = facts(in_seconds(1800));
    let ask = |status: StatusCode, headers: &HeaderMap, facts: Option<&SessionFacts>| {
        decide(&policy(), ASKED, status, headers, facts, Duration::ZERO, NOW).map(|freshness| freshness.ttl.as_secs())
    };
    let json = headers(&[]);
    let ok = StatusCode::OK;
    assert_eq!(ask(ok, &json, Some(&good)), Ok(60));
    assert_eq!(ask(StatusCode::NOT_FOUND, &json, Some(&good)), Err(NotStored::Status));
    assert_eq!(ask(ok, &HeaderMap::new(), Some(&good)), Err(NotStored::NotJson));
    assert_eq!(
        ask(ok, &headers(&[("content-type", "application/json")]), Some(&good)),
        Err(NotStored::NotJson),
        "twice"
    );
    assert_eq!(ask(ok, &headers(&[("content-encoding", "gzip")]), Some(&good)), Err(NotStored::Encoded));
    assert_eq!(ask(ok, &json, None), Err(NotStored::Unreadable));
    assert_eq!(ask(ok, &headers(&[("vary", "accept-encoding")]), Some(&good)), Ok(60));
    for vary in ["*", "Accept", "Accept-Encoding, Accept-Language"] {
        assert_eq!(ask(ok, &headers(&[("vary", vary)]), Some(&good)), Err(NotStored::Vary), "{vary}");
    }
    let other = SessionFacts { uuid: Some(Uuid::from_u128(1)), ..good.clone() };
    assert_eq!(ask(ok, &json, Some(&other)), Err(NotStored::OtherSession));
    let nobody = SessionFacts { uuid: None, ..good.clone() };
    assert_eq!(ask(ok, &json, Some(&nobody)), Err(NotStored::OtherSession));
    let long = SessionFacts { order: Some("o".repeat(MAX_IDENTIFIER + 1)), ..good };
    assert_eq!(ask(ok, &json, Some(&long)), Err(NotStored::Unreadable));
}

#[test]
fn dates_that_cannot_be_meant_are_not_believed() {
    let zero_date = crate::sezzle::time::parse_rfc3339("0001-01-01T00:00:00Z").map(Expiration::At);
    for expiration in [Expiration::Unreadable, in_seconds(86_401), zero_date.expect("parses")] {
        assert_eq!(ttl(&[], expiration), Err(NotStored::Expiration), "{expiration:?}");
    }
    assert_eq!(ttl(&[], in_seconds(86_400)), Ok(60));
}

#[test]
fn sessions_without_tokenize_can_be_given_no_life() {
    let strict = Policy { untokenized_ttl: Duration::ZERO, ..policy() };
    let facts = facts(Expiration::NotTokenized);
    let freshness = decide(&strict, ASKED, StatusCode::OK, &headers(&[]), Some(&facts), Duration::ZERO, NOW);
    assert_eq!(freshness, Err(NotStored::Untokenized));
}

#[test]
fn age_is_the_greatest_reading() {
    let facts = facts(in_seconds(1800));
    let date = format_http_date(Wall(WALL.0 - 7_000));
    let age = |lines: &[(&'static str, &str)], elapsed: u64| {
        let elapsed = Duration::from_secs(elapsed);
        decide(&policy(), ASKED, StatusCode::OK, &headers(lines), Some(&facts), elapsed, NOW)
            .map(|freshness| freshness.age.as_secs())
    };
    assert_eq!(age(&[], 0), Ok(0));
    assert_eq!(age(&[("date", &date)], 1), Ok(7));
    assert_eq!(age(&[("date", &date), ("age", "9")], 2), Ok(11));
}

#[test]
fn request_directives_are_read_strictly() {
    let read = |lines: &[(&'static str, &str)]| RequestDirectives::read(&headers(lines));
    assert_eq!(read(&[]), RequestDirectives::default());
    assert!(read(&[("pragma", "no-cache")]).no_cache);
    assert!(!read(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache, "Cache-Control rules");
    let strict = read(&[("cache-control", "max-age=9, min-fresh=3"), ("cache-control", "max-age=4,only-if-cached")]);
    assert_eq!(strict.max_age, Some(Duration::from_secs(4)));
    assert_eq!(strict.min_fresh, Some(Duration::from_secs(3)));
    assert!(strict.only_if_cached);

    let second = Duration::from_secs;
    assert!(strict.accept(second(4), second(3)));
    assert!(!strict.accept(second(5), second(3)));
    assert!(!strict.accept(second(4), second(2)));
    for (line, hit, stale) in [
        ("max-stale", true, true),
        ("max-stale=3600", true, true),
        ("max-age=0", false, false),
        ("max-age=9", true, false),
        ("max-age=\"9\"", true, false),
        ("max-age=9, max-stale", true, false),
        ("min-fresh=1", true, false),
        ("No-Cache", false, false),
        ("no-cache=\"x\"", false, false),
        ("no-store=1", false, false),
        ("x=\"no-cache\"", true, true),
        ("only-if-cached, no-transform, immutable", true, true),
    ] {
        let directives = read(&[("cache-control", line)]);
        assert_eq!((directives.accept(second(4), second(3)), directives.accept_stale()), (hit, stale), "{line}");
    }
    let nonsense = read(&[("cache-control", "max-age=x, min-fresh=")]);
    assert!(!nonsense.accept(Duration::from_millis(1), second(60)));
}

proptest! {
    /// Whatever the origin states, no entry outlives `tokenize.expiration` less the margin, or `max_ttl`.
    #[test]
    fn nothing_outlives_its_tokenize(
        seconds in -100_000i64..100_000,
        max_age in proptest::option::of(0u64..1_000_000),
        age in proptest::option::of(0u64..1_000),
        date in proptest::option::of(-100_000i64..100_000),
        stale in 0u64..100_000,
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
        let policy = Policy { honor_origin, stale_if_error: Duration::from_secs(stale), ..policy() };
        let facts = facts(in_seconds(seconds));
        if let Ok(freshness) = decide(&policy, ASKED, StatusCode::OK, &lines, Some(&facts), Duration::ZERO, NOW) {
            prop_assert!(!freshness.ttl.is_zero());
            prop_assert!(freshness.ttl <= policy.max_ttl);
            prop_assert!(i64::try_from(freshness.ttl.as_secs()).is_ok_and(|ttl| ttl + 5 <= seconds));
            let servable = freshness.ttl + freshness.stale;
            prop_assert!(i64::try_from(servable.as_secs()).is_ok_and(|servable| servable + 5 <= seconds));
            prop_assert!(servable <= freshness.session_left);
            if let (true, Some(max_age)) = (honor_origin, max_age) {
                prop_assert!(freshness.ttl <= Duration::from_secs(max_age));
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
        let _ = decide(&policy(), ASKED, StatusCode::OK, &lines, Some(&facts), Duration::ZERO, NOW);
        let _ = RequestDirectives::read(&lines);
        let _ = format_rfc3339(WALL);
    }
}
