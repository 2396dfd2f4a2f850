//! What Sezzle says about the freshness of its answer (RFC 9111, 4.2 and 5.2.2), read as a private cache: `private`,
//! `public`, `s-maxage` and `must-understand` change nothing for one, and neither does `immutable`.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, PRAGMA};

use super::Skip;
use super::directives::{dates, delta_seconds, for_each};
use crate::clock::{Now, Wall};

pub(super) struct OriginFreshness {
    no_store: bool,
    no_cache: bool,
    /// Whether it may not be served stale, whatever else is agreed.
    never_stale: bool,
    stale_if_error: Option<Duration>,
    /// `max-age`, else `Expires` less `Date`.
    lifetime: Option<Duration>,
    /// How old the answer is (RFC 9111, 4.2.3).
    pub(super) age: Duration,
    /// The gateway's time when it answered.
    pub(super) date: Option<Wall>,
}

impl OriginFreshness {
    /// Where something is said twice, the stricter of the two counts.
    pub(super) fn read(headers: &HeaderMap, elapsed: Duration, now: Now) -> Self {
        let mut read = Self {
            no_store: false,
            no_cache: false,
            never_stale: false,
            stale_if_error: None,
            lifetime: None,
            age: Duration::ZERO,
            date: dates(headers, &DATE).flatten().max(),
        };
        let least = |known: Option<Duration>, argument: Option<&str>| {
            // Nonsense means stale (RFC 9111, 4.2.1).
            let seconds = argument.and_then(delta_seconds).unwrap_or(Duration::ZERO);
            Some(known.map_or(seconds, |known| known.min(seconds)))
        };
        for_each(headers, &CACHE_CONTROL, |name, argument| match name.to_ascii_lowercase().as_str() {
            "no-store" => read.no_store = true,
            // With field names it forbids only those fields; read as without, which is always allowed.
            "no-cache" => read.no_cache = true,
            "max-age" => read.lifetime = least(read.lifetime, argument),
            "stale-if-error" => read.stale_if_error = least(read.stale_if_error, argument),
            // The last two are for shared caches; Sezzle hardly means another merchant's sidecar.
            "must-revalidate" | "proxy-revalidate" | "s-maxage" => read.never_stale = true,
            _ => {}
        });
        if !headers.contains_key(CACHE_CONTROL) {
            // Not defined for answers, and what a gateway that sends it means is plain.
            for_each(headers, &PRAGMA, |name, _| read.no_cache |= name.eq_ignore_ascii_case("no-cache"));
        }
        if read.lifetime.is_none() {
            let written = read.date.unwrap_or(now.wall);
            let lifetimes = dates(headers, &EXPIRES)
                .map(|expires| expires.map_or(Duration::ZERO, |expires| expires.since(written)));
            read.lifetime = lifetimes.min();
        }
        let apparent = dates(headers, &DATE).flatten().min().map_or(Duration::ZERO, |date| now.wall.since(date));
        read.age = apparent.max(stated_age(headers).saturating_add(elapsed));
        read
    }

    /// # Errors
    /// Why it may not be stored.
    pub(super) fn allows(&self) -> Result<(), Skip> {
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

    /// What is left of the lifetime that Sezzle gave it, if it gave one.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.saturating_sub(self.age))
    }

    /// For how long it may be served stale when Sezzle fails (RFC 5861, 4); without a word of Sezzle's, the operator
    /// decides alone (RFC 9111, 4.2.4).
    pub(super) fn stale_if_error(&self) -> Duration {
        if self.never_stale { Duration::ZERO } else { self.stale_if_error.unwrap_or(Duration::MAX) }
    }
}

/// `Age`: the first member counts, and is ignored if it is no number (RFC 9111, 5.1). An older one beside it makes the
/// answer as old as that.
fn stated_age(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(AGE).into_iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| line.split(',')).map(str::trim_ascii);
    members.filter_map(delta_seconds).max().unwrap_or(Duration::ZERO)
}
