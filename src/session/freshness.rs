//! Whether an answer may be stored, for how long, and whether what is stored may be served: pure functions of their
//! arguments. The rules are RFC 9111 read as a private cache, and Sezzle's `tokenize.expiration`.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, EXPIRES, PRAGMA, VARY};
use http::{HeaderMap, HeaderName, StatusCode};
use uuid::Uuid;

use crate::clock::{Now, Wall};
use crate::sezzle::session::{Expiration, SessionFacts};
use crate::sezzle::time::parse_http_date;

/// The operator's part of the decision.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Upper bound of any entry's life.
    pub max_ttl: Duration,
    /// Life of a session without `tokenize` for which the origin names no lifetime.
    pub untokenized_ttl: Duration,
    /// How long before `tokenize.expiration` an entry is already dead.
    pub expiration_margin: Duration,
    /// Whether the origin's `Cache-Control` and `Expires` are obeyed.
    pub honor_origin: bool,
}

/// Largest session body that is stored, in bytes. Real ones take a few kilobytes.
pub const MAX_BODY: usize = 256 * 1024;

// A token lives about 30 minutes. A date further ahead than this is a mistake, not a long-lived token.
const MAX_EXPIRATION_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest identifier of an order or token that is indexed, in bytes; real ones have 36.
pub const MAX_IDENTIFIER: usize = 128;

/// The life an answer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// For how long from now it may be served.
    pub ttl: Duration,
    /// How old it was when it arrived (RFC 9111, 4.2.3).
    pub age: Duration,
}

impl Life {
    /// A life that ends after `most`, for what may be out of date already: nothing of it may outlast that.
    pub fn at_most(self, most: Duration) -> Self {
        Self { ttl: self.ttl.min(most), ..self }
    }
}

/// Why an answer was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The status is not 200.
    Status,
    /// The content is not JSON.
    NotJson,
    /// The content is encoded, and so cannot be read.
    Encoded,
    /// The body is larger than [`MAX_BODY`].
    TooLarge,
    /// The body is not a session as documented.
    Unreadable,
    /// The body speaks of another session.
    OtherSession,
    /// The answer depends on request headers.
    Vary,
    /// The origin said `no-store`.
    NoStore,
    /// The origin said `no-cache`.
    NoCache,
    /// The origin's own freshness lifetime is over.
    Expired,
    /// `tokenize.expiration` is missing, unreadable, a zero date or absurdly far ahead.
    Expiration,
    /// `tokenize.expiration`, less the margin, has passed.
    Tokenize,
    /// The session has no `tokenize`, and the settings give such sessions no life.
    Untokenized,
    /// Something the body relates to was changed after the fetch began.
    Purged,
    /// A write that may yet take effect concerns something the body relates to.
    Unsettled,
    /// A fetch that began later was stored before.
    Superseded,
    /// The caller asked that it not be stored.
    Request,
}

impl Skip {
    /// Every reason, for metrics that start at 0.
    pub const ALL: [Self; 17] = [
        Self::Status,
        Self::NotJson,
        Self::Encoded,
        Self::TooLarge,
        Self::Unreadable,
        Self::OtherSession,
        Self::Vary,
        Self::NoStore,
        Self::NoCache,
        Self::Expired,
        Self::Expiration,
        Self::Tokenize,
        Self::Untokenized,
        Self::Purged,
        Self::Unsettled,
        Self::Superseded,
        Self::Request,
    ];

    /// The word for it in metrics, logs and `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NotJson => "not-json",
            Self::Encoded => "encoded",
            Self::TooLarge => "too-large",
            Self::Unreadable => "unreadable",
            Self::OtherSession => "other-session",
            Self::Vary => "vary",
            Self::NoStore => "no-store",
            Self::NoCache => "no-cache",
            Self::Expired => "expired",
            Self::Expiration => "expiration",
            Self::Tokenize => "tokenize",
            Self::Untokenized => "untokenized",
            Self::Purged => "purged",
            Self::Unsettled => "unsettled",
            Self::Superseded => "superseded",
            Self::Request => "request",
        }
    }

    /// Whether the answer must not be given to callers who only waited for it (RFC 9111, 5.2.2): they have to ask
    /// for themselves.
    pub fn forbids_sharing(self) -> bool {
        match self {
            Self::NoStore | Self::NoCache | Self::Expired | Self::Vary => true,
            Self::Status
            | Self::NotJson
            | Self::Encoded
            | Self::TooLarge
            | Self::Unreadable
            | Self::OtherSession
            | Self::Expiration
            | Self::Tokenize
            | Self::Untokenized
            | Self::Purged
            | Self::Unsettled
            | Self::Superseded
            | Self::Request => false,
        }
    }
}

/// Decides whether an answer to a lookup of `asked` may be stored, and for how long.
///
/// `elapsed` is the time the exchange took: the answer may be that much older than it says.
///
/// # Errors
/// The reason not to store it.
pub fn life(
    policy: &Policy,
    asked: Uuid,
    status: StatusCode,
    headers: &HeaderMap,
    facts: Option<&SessionFacts>,
    elapsed: Duration,
    now: Now,
) -> Result<Life, Skip> {
    // What the origin forbids comes first: it also governs what may be shared, whatever the answer is.
    let origin = OriginFreshness::read(headers, elapsed, now);
    if policy.honor_origin {
        origin.allows()?;
    }
    if varies(headers) {
        return Err(Skip::Vary);
    }
    if status != StatusCode::OK {
        return Err(Skip::Status);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Skip::Encoded);
    }
    if !is_json(headers) {
        return Err(Skip::NotJson);
    }
    let facts = facts.ok_or(Skip::Unreadable)?;
    if facts.uuid != Some(asked) {
        return Err(Skip::OtherSession);
    }
    if facts.order.iter().chain(&facts.tokens).any(|identifier| identifier.len() > MAX_IDENTIFIER) {
        return Err(Skip::Unreadable);
    }

    let mut ttl = policy.max_ttl;
    let lifetime = if policy.honor_origin { origin.remaining() } else { None };
    if let Some(lifetime) = lifetime {
        ttl = ttl.min(lifetime);
    }
    match facts.expiration {
        Expiration::At(at) => ttl = ttl.min(until(at, policy, origin.date, elapsed, now)?),
        Expiration::Unreadable => return Err(Skip::Expiration),
        Expiration::NotTokenized if lifetime.is_none() => ttl = ttl.min(policy.untokenized_ttl),
        Expiration::NotTokenized => {}
    }
    if ttl.is_zero() {
        return Err(Skip::Untokenized);
    }
    Ok(Life { ttl, age: origin.age })
}

/// How long until `tokenize.expiration`, by whichever of the two clocks is further on.
fn until(at: Wall, policy: &Policy, date: Option<Wall>, elapsed: Duration, now: Now) -> Result<Duration, Skip> {
    // Dates before the epoch are Go's zero date or nonsense.
    if at.0 <= 0 {
        return Err(Skip::Expiration);
    }
    // The gateway wrote its `Date` before the exchange was over.
    let reference = date.map_or(now.wall, |date| date.plus(elapsed).max(now.wall));
    let left = at.since(reference);
    if left > MAX_EXPIRATION_AHEAD {
        return Err(Skip::Expiration);
    }
    match left.saturating_sub(policy.expiration_margin) {
        Duration::ZERO => Err(Skip::Tokenize),
        left => Ok(left),
    }
}

/// What the origin says about the freshness of its answer (RFC 9111, 4.2 and 5.2.2).
struct OriginFreshness {
    no_store: bool,
    no_cache: bool,
    /// `max-age`, else `Expires` less `Date`.
    lifetime: Option<Duration>,
    age: Duration,
    date: Option<Wall>,
}

impl OriginFreshness {
    fn read(headers: &HeaderMap, elapsed: Duration, now: Now) -> Self {
        let mut read = Self { no_store: false, no_cache: false, lifetime: None, age: Duration::ZERO, date: None };
        read.date = text(headers, &DATE).and_then(parse_http_date);
        let mut max_age: Option<Duration> = None;
        for (name, argument) in directives(headers, &CACHE_CONTROL) {
            if name.eq_ignore_ascii_case("no-store") {
                read.no_store = true;
            } else if name.eq_ignore_ascii_case("no-cache") {
                // With field names it forbids only those fields; read as without, which is always allowed.
                read.no_cache = true;
            } else if name.eq_ignore_ascii_case("max-age") {
                // Of several the least, and nonsense means stale (RFC 9111, 4.2.1).
                let seconds = argument.and_then(delta_seconds).unwrap_or(Duration::ZERO);
                max_age = Some(max_age.map_or(seconds, |known| known.min(seconds)));
            }
        }
        read.lifetime = max_age.or_else(|| {
            headers.contains_key(EXPIRES).then(|| {
                let expires = text(headers, &EXPIRES).and_then(parse_http_date);
                expires.map_or(Duration::ZERO, |expires| expires.since(read.date.unwrap_or(now.wall)))
            })
        });
        let stated = text(headers, &AGE).and_then(delta_seconds).unwrap_or(Duration::ZERO);
        let apparent = read.date.map_or(Duration::ZERO, |date| now.wall.since(date));
        read.age = apparent.max(stated.saturating_add(elapsed));
        read
    }

    fn allows(&self) -> Result<(), Skip> {
        if self.no_store {
            return Err(Skip::NoStore);
        }
        if self.no_cache {
            return Err(Skip::NoCache);
        }
        match self.remaining() {
            Some(Duration::ZERO) => Err(Skip::Expired),
            Some(_) | None => Ok(()),
        }
    }

    fn remaining(&self) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.saturating_sub(self.age))
    }
}

/// What a caller says about the answer it will take (RFC 9111, 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Nothing stored without asking Sezzle.
    pub no_cache: bool,
    /// Nothing stored, neither now nor for others.
    pub no_store: bool,
    /// Nothing older than this.
    pub max_age: Option<Duration>,
    /// Nothing that will not stay fresh for this long.
    pub min_fresh: Option<Duration>,
    /// Nothing that is not stored.
    pub only_if_cached: bool,
}

impl Wishes {
    /// Reads the request directives. `Pragma: no-cache` counts where there is no `Cache-Control`.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut wishes = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            wishes.no_cache = directives(headers, &PRAGMA).any(|(name, _)| name.eq_ignore_ascii_case("no-cache"));
            return wishes;
        }
        for (name, argument) in directives(headers, &CACHE_CONTROL) {
            let seconds = argument.and_then(delta_seconds);
            match name.to_ascii_lowercase().as_str() {
                "no-cache" => wishes.no_cache = true,
                "no-store" => wishes.no_store = true,
                "only-if-cached" => wishes.only_if_cached = true,
                // Nonsense is read as the strictest wish.
                "max-age" => {
                    let seconds = seconds.unwrap_or(Duration::ZERO);
                    wishes.max_age = Some(wishes.max_age.map_or(seconds, |known| known.min(seconds)));
                }
                "min-fresh" => {
                    let seconds = seconds.unwrap_or(Duration::MAX);
                    wishes.min_fresh = Some(wishes.min_fresh.map_or(seconds, |known| known.max(seconds)));
                }
                _ => {}
            }
        }
        wishes
    }

    /// Whether something with this age and this life left is what the caller will take.
    pub fn accept(&self, age: Duration, ttl: Duration) -> bool {
        !self.no_cache
            && !self.no_store
            && self.max_age.is_none_or(|max_age| age <= max_age)
            && self.min_fresh.is_none_or(|min_fresh| ttl >= min_fresh)
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

/// Whether the content is JSON by its media type, `application/json` or any `+json`.
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = text(headers, &CONTENT_TYPE) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The directives of a list header with their arguments, unquoted. Commas inside quotes do not separate.
fn directives<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = (&'h str, Option<&'h str>)> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| {
        let mut quoted = false;
        line.split(move |c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .map(|directive| match directive.split_once('=') {
            Some((name, argument)) => (name.trim(), Some(argument.trim().trim_matches('"'))),
            None => (directive.trim(), None),
        })
    })
}

/// Seconds as RFC 9111, 1.2.2 writes them; too large a number is the largest there is.
fn delta_seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests;
