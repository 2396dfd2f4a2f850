//! Decides whether an answer may be stored, for how long, and whether a stored one may be served. Pure. The rules are
//! those of RFC 9111 for a private cache, and Sezzle's `tokenize.expiration`.

mod directives;
mod not_stored;
mod origin;
mod request_directives;

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use uuid::Uuid;

pub use self::not_stored::NotStored;
use self::origin::OriginFreshness;
pub use self::request_directives::RequestDirectives;
use crate::clock::{Now, Wall};
use crate::sezzle::session::{Expiration, SessionFacts};
use crate::sezzle::time::DATE_RESOLUTION;

/// The configured part of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Longest lifetime of any entry.
    pub max_ttl: Duration,
    /// Lifetime of a session that has no `tokenize` and for which the origin states no lifetime.
    pub untokenized_ttl: Duration,
    /// How long before `tokenize.expiration` an entry becomes stale.
    pub expiration_margin: Duration,
    /// Whether the origin's `Cache-Control` and `Expires` are obeyed.
    pub honor_origin: bool,
    /// How long a stale entry may be served when Sezzle fails.
    pub stale_if_error: Duration,
}

/// Largest session body that is stored, in bytes. Real bodies take a few kilobytes.
pub const MAX_BODY: usize = 256 * 1024;

// A token lives about 30 minutes. A date further ahead than this is a mistake, not a long-lived token.
const MAX_EXPIRATION_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest order or token identifier that is indexed, in bytes. Real identifiers have 36.
pub const MAX_IDENTIFIER: usize = 128;

/// How long an entry may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How long from now the entry may be served.
    pub ttl: Duration,
    /// The age of the answer when it arrived (RFC 9111, 4.2.3).
    pub age: Duration,
    /// How long after `ttl` the entry may still be served when Sezzle fails.
    pub stale: Duration,
    /// How long from now until the session itself is over. After that no revalidation can renew the entry.
    pub session_left: Duration,
}

impl Freshness {
    /// This freshness, ended after `most` in every respect: for an answer that may be out of date already.
    pub fn at_most(self, most: Duration) -> Self {
        let ttl = self.ttl.min(most);
        // Neither a failure of Sezzle nor a 304 from a lagging server may extend this time.
        Self { ttl, stale: self.stale.min(most.saturating_sub(ttl)), session_left: self.session_left.min(most), ..self }
    }
}

/// Decides whether an answer to a lookup of `asked` may be stored, and for how long.
///
/// `elapsed` is the duration of the exchange: the answer may be older than it states by that much.
pub fn decide(
    policy: &Policy,
    asked: Uuid,
    status: StatusCode,
    headers: &HeaderMap,
    facts: Option<&SessionFacts>,
    elapsed: Duration,
    now: Now,
) -> Result<Freshness, NotStored> {
    let origin = OriginFreshness::read(headers, elapsed, now);
    // The origin's prohibitions come first, because they also decide about sharing, whatever the answer is.
    if policy.honor_origin {
        origin.allows()?;
    }
    let facts = storable(asked, status, headers, facts)?;
    let stated = if policy.honor_origin { origin.remaining() } else { None };
    let session_left = match facts.expiration {
        Expiration::At(at) => time_left(at, policy, origin.date, elapsed, now)?,
        Expiration::Unreadable => return Err(NotStored::Expiration),
        Expiration::NotTokenized => Duration::MAX,
    };
    let ttl = match (stated, &facts.expiration) {
        (Some(stated), _) => stated,
        (None, Expiration::NotTokenized) if policy.untokenized_ttl.is_zero() => return Err(NotStored::Untokenized),
        (None, Expiration::NotTokenized) => policy.untokenized_ttl,
        (None, Expiration::At(_) | Expiration::Unreadable) => Duration::MAX,
    };
    let ttl = ttl.min(policy.max_ttl).min(session_left);
    let allowed = if policy.honor_origin { origin.stale_if_error() } else { Duration::MAX };
    let stale = policy.stale_if_error.min(allowed).min(session_left.saturating_sub(ttl));
    Ok(Freshness { ttl, age: origin.age, stale, session_left })
}

/// The facts about a session, if its answer may be stored at all.
fn storable<'f>(
    asked: Uuid,
    status: StatusCode,
    headers: &HeaderMap,
    facts: Option<&'f SessionFacts>,
) -> Result<&'f SessionFacts, NotStored> {
    if varies(headers) {
        return Err(NotStored::Vary);
    }
    if status != StatusCode::OK {
        return Err(NotStored::Status);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(NotStored::Encoded);
    }
    if !is_json(headers) {
        return Err(NotStored::NotJson);
    }
    let facts = facts.ok_or(NotStored::Unreadable)?;
    if facts.uuid != Some(asked) {
        return Err(NotStored::OtherSession);
    }
    if facts.order.iter().chain(&facts.tokens).any(|identifier| identifier.len() > MAX_IDENTIFIER) {
        return Err(NotStored::Unreadable);
    }
    Ok(facts)
}

/// The time left until `tokenize.expiration`, less the margin, by the gateway's or the local clock, whichever is ahead.
fn time_left(
    at: Wall,
    policy: &Policy,
    date: Option<Wall>,
    elapsed: Duration,
    now: Now,
) -> Result<Duration, NotStored> {
    // A date before the epoch is Go's zero date or nonsense.
    if at.0 <= 0 {
        return Err(NotStored::Expiration);
    }
    // The gateway wrote its `Date` before the exchange ended and truncated it to whole seconds, so its clock may be
    // almost a second further.
    let reference = date.map_or(now.wall, |date| date.plus(elapsed.saturating_add(DATE_RESOLUTION)).max(now.wall));
    let left = at.since(reference);
    if left > MAX_EXPIRATION_AHEAD {
        return Err(NotStored::Expiration);
    }
    match left.saturating_sub(policy.expiration_margin) {
        Duration::ZERO => Err(NotStored::Tokenize),
        left => Ok(left),
    }
}

fn varies(headers: &HeaderMap) -> bool {
    headers.get_all(VARY).iter().any(|value| match value.to_str() {
        Ok(list) => {
            list.split(',').map(str::trim).any(|name| !name.is_empty() && !name.eq_ignore_ascii_case("accept-encoding"))
        }
        Err(_) => true,
    })
}

/// Whether the media type is JSON: `application/json` or any `application/…+json`.
pub fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (lines.next().and_then(|line| line.to_str().ok()), lines.next()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests;
