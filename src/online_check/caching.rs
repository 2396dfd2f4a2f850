//! Reports how the cache would store a session with the headers of a response.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::clock::Now;
use crate::session::freshness::{self, NotStored, Policy};
use crate::sezzle::session::SessionFacts;

/// Reports the caching headers, and how the cache would store a session with them. `elapsed` is the time that the
/// lookup of the session `asked` took.
pub(super) fn report(
    policy: &Policy,
    asked: Uuid,
    headers: &HeaderMap,
    elapsed: Duration,
    now: Now,
    say: &mut impl FnMut(&str, &str),
) {
    let shown = caching_headers(headers);
    say("headers", if shown.is_empty() { "no caching headers" } else { &shown });
    // The facts of a session without a token, because a session with a token expires with the token.
    let facts = SessionFacts::read(format!("{{\"uuid\":\"{asked}\"}}").as_bytes());
    let mut headers = headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let freshness = freshness::decide(policy, asked, StatusCode::OK, &headers, facts.as_ref(), elapsed, now);
    let means = match freshness {
        Ok(freshness) => format!(
            "a session with these headers is stored for {} s; with a token, for {} s at most and not past the \
             token's end",
            freshness.ttl.as_secs(),
            policy.max_ttl.as_secs()
        ),
        Err(reason @ (NotStored::NoStore | NotStored::NoCache | NotStored::Expired)) => format!(
            "a session with these headers is not stored ({}), so every lookup goes to Sezzle; to store it all the \
             same, set cache.origin_cache_control = \"ignore\"",
            reason.as_str()
        ),
        Err(reason) => format!("a session with these headers is not stored ({})", reason.as_str()),
    };
    say("caching", &means);
    say("", "these are the headers of a 404; use explain for the answer to a real session");
}

/// The caching headers as received, in one line; empty if there are none.
pub fn caching_headers(headers: &HeaderMap) -> String {
    let line = |name: &HeaderName| {
        let values = headers.get_all(name).iter();
        values.map(|value| format!("{name}: {}", value.to_str().unwrap_or("unreadable"))).collect::<Vec<_>>()
    };
    let lines: Vec<String> = ABOUT_CACHING.iter().flat_map(line).collect();
    lines.join("; ").chars().take(LONGEST).collect()
}

const ABOUT_CACHING: [HeaderName; 7] = [CACHE_CONTROL, PRAGMA, EXPIRES, AGE, VARY, ETAG, LAST_MODIFIED];
const LONGEST: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn said(honor_origin: bool, lines: &[(HeaderName, &str)]) -> String {
        let policy = Policy {
            max_ttl: Duration::from_secs(60),
            untokenized_ttl: Duration::from_secs(30),
            expiration_margin: Duration::from_secs(5),
            honor_origin,
            stale_if_error: Duration::ZERO,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let (mut text, now) = (String::new(), Clock::system().now());
        report(&policy, Uuid::nil(), &headers, Duration::ZERO, now, &mut |what, is| text += &format!("{what} {is}\n"));
        text
    }

    #[test]
    fn what_headers_mean() {
        for (honor, lines, headers, means) in [
            (true, &[][..], "headers no caching headers", "is stored for 30 s; with a token, for 60 s"),
            (true, &[(CACHE_CONTROL, "max-age=10")], "headers cache-control: max-age=10", "is stored for 10 s"),
            (true, &[(CACHE_CONTROL, "no-store")], "headers cache-control: no-store", "not stored (no-store)"),
            (true, &[(CACHE_CONTROL, "no-cache")], "no-cache", "to store it all the same"),
            (true, &[(CACHE_CONTROL, "max-age=0")], "max-age=0", "not stored (expired)"),
            (false, &[(CACHE_CONTROL, "no-store"), (AGE, "3")], "no-store; age: 3", "is stored for 30 s"),
            (true, &[(VARY, "Origin")], "vary: Origin", "not stored (vary)\n"),
        ] {
            let said = said(honor, lines);
            assert!(said.contains(headers) && said.contains(means), "{lines:?}: {said}");
        }
        assert!(!said(true, &[(http::header::SET_COOKIE, "secret")]).contains("secret"));
    }
}
