//! Whatever Sezzle answers: what is stored is a session, the one asked for, and never past its expiration.
//!
//! Input: lines of headers, an empty line, the body. A line `status` sets the status, `elapsed` the seconds it took.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use sezzle_sidecar::clock::{Mono, Now, Wall};
use sezzle_sidecar::session::freshness::{MAX_IDENTIFIER, Policy, RequestDirectives, decide, is_json};
use sezzle_sidecar::sezzle::session::{Expiration, SessionFacts};
use uuid::Uuid;

/// 2026-01-01T00:00:00Z
const NOW: Wall = Wall(1_767_225_600_000);
const MARGIN: Duration = Duration::from_secs(5);

pub fn holds(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (&b"content-type: application/json"[..], data),
    };
    let (headers, status, elapsed) = read(head);
    let facts = SessionFacts::read(body);
    if let Some(facts) = &facts {
        same_as_plain_json(facts, body);
    }
    directives(&headers);

    let asked = facts.as_ref().and_then(|facts| facts.uuid).unwrap_or(Uuid::from_u128(1));
    let now = Now { mono: Mono(Duration::from_secs(1000)), wall: NOW };
    for honor_origin in [true, false] {
        let policy = Policy {
            max_ttl: Duration::from_secs(3600),
            untokenized_ttl: Duration::from_secs(30),
            expiration_margin: MARGIN,
            honor_origin,
            stale_if_error: Duration::from_secs(600),
        };
        let decided = |asked| decide(&policy, asked, status, &headers, facts.as_ref(), elapsed, now);
        let other = Uuid::from_u128(asked.as_u128() ^ 1);
        assert!(decided(other).is_err(), "a session that nobody asked for");
        let Ok(freshness) = decided(asked) else { continue };

        assert!(!freshness.ttl.is_zero() && freshness.ttl <= policy.max_ttl);
        assert_eq!(status, StatusCode::OK);
        assert!(is_json(&headers) && !headers.contains_key(CONTENT_ENCODING));
        let facts = facts.as_ref().expect("a body that is no session is not stored");
        assert!(facts.order.iter().chain(&facts.tokens).all(|identifier| identifier.len() <= MAX_IDENTIFIER));
        match facts.expiration {
            Expiration::At(at) => {
                assert!(NOW.plus(freshness.ttl).plus(freshness.stale).plus(MARGIN) <= at, "served past its expiration")
            }
            Expiration::Unreadable => panic!("stored without knowing for how long"),
            Expiration::NotTokenized => {}
        }
        if honor_origin {
            let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
            // In quotes they are not directives.
            let mut words = lines.filter(|line| !line.contains('"')).flat_map(|line| line.split(','));
            let forbidden = |word: &str| ["no-store", "no-cache", "max-age=0"].contains(&word.trim());
            assert!(!words.any(forbidden), "stored though Sezzle forbids it");
        }
    }
}

/// Another reader of JSON finds the same facts.
fn same_as_plain_json(facts: &SessionFacts, body: &[u8]) {
    // Skipped values may be deeper, and hold larger numbers, than a tree of values can.
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
    assert!(json.is_object(), "{json}");
    assert_eq!(facts.uuid, json["uuid"].as_str().and_then(|text| Uuid::try_parse(text).ok()));
    assert_eq!(facts.order.as_deref(), json["order"]["uuid"].as_str());
    let places = [&json["tokenize"], &json["order"]["tokenize"]];
    let tokens: Vec<&str> = places.iter().filter_map(|place| place["token"].as_str()).collect();
    assert_eq!(facts.tokens, tokens);
    assert_eq!(facts.expiration == Expiration::NotTokenized, places.iter().all(|place| place.is_null()));
}

fn directives(headers: &HeaderMap) {
    let directives = RequestDirectives::read(headers);
    let zero = Duration::ZERO;
    if directives.no_cache || directives.no_store {
        assert!(!directives.accept(zero, Duration::MAX));
    } else if directives.accept(zero, Duration::from_secs(1)) {
        assert!(directives.accept(zero, Duration::MAX), "fresher is never worse");
    }
}

fn read(head: &[u8]) -> (HeaderMap, StatusCode, Duration) {
    let (mut headers, mut status, mut elapsed) = (HeaderMap::new(), StatusCode::OK, Duration::ZERO);
    for line in head.split(|byte| *byte == b'\n').take(20) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
        match name {
            b"status" => status = StatusCode::from_u16(number()).unwrap_or(StatusCode::OK),
            b"elapsed" => elapsed = Duration::from_secs(number().into()),
            name => {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                    headers.append(name, value);
                }
            }
        }
    }
    (headers, status, elapsed)
}
