//! Sezzle's statements about the freshness of its answer (RFC 9111, 4.2 and 5.2.2), as a private cache reads them:
//! `private`, `public`, `s-maxage`, `must-understand` and `immutable` do not change how long an answer is fresh.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, PRAGMA};

use super::directives::{dates, delta_seconds, for_each};
use super::not_stored::NotStored;
use crate::clock::{Now, Wall};

#[derive(Default)]
pub(super) struct OriginFreshness {
    no_store: bool,
    no_cache: bool,
    /// Whether serving the answer stale is forbidden in all cases.
    never_stale: bool,
    stale_if_error: Option<Duration>,
    /// `max-age`, or else `Expires` less `Date`.
    lifetime: Option<Duration>,
    /// How old the answer is (RFC 9111, 4.2.3).
    pub(super) age: Duration,
    /// The gateway's time when it answered.
    pub(super) date: Option<Wall>,
}

impl OriginFreshness {
    /// Reads the headers. If a value is given twice, the stricter one counts.
    pub(super) fn read(headers: &HeaderMap, elapsed: Duration, now: Now) -> Self {
        let mut read = Self { date: dates(headers, &DATE).flatten().max(), ..Self::default() };
        let least = |known: Option<Duration>, argument: Option<&str>| {
            // An invalid value means stale (RFC 9111, 4.2.1).
            let seconds = argument.and_then(delta_seconds).unwrap_or(Duration::ZERO);
            Some(known.map_or(seconds, |known| known.min(seconds)))
        };
        for_each(headers, &CACHE_CONTROL, |name, argument| match name.to_ascii_lowercase().as_str() {
            "no-store" => read.no_store = true,
            // With field names the directive forbids only those fields. Treating it as without is always allowed.
            "no-cache" => read.no_cache = true,
            "max-age" => read.lifetime = least(read.lifetime, argument),
            "stale-if-error" => read.stale_if_error = least(read.stale_if_error, argument),
            // The last two address shared caches, but Sezzle hardly means to exempt this one.
            "must-revalidate" | "proxy-revalidate" | "s-maxage" => read.never_stale = true,
            _ => {}
        });
        if !headers.contains_key(CACHE_CONTROL) {
            // `Pragma` is not defined for responses, but a gateway that sends `no-cache` means it.
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

    pub(super) fn allows(&self) -> Result<(), NotStored> {
        if self.no_store {
            return Err(NotStored::NoStore);
        }
        if self.no_cache {
            return Err(NotStored::NoCache);
        }
        match self.remaining() {
            Some(Duration::ZERO) => Err(NotStored::Expired),
            Some(_) | None => Ok(()),
        }
    }

    /// The rest of the lifetime that Sezzle gave the answer, if it gave one.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.saturating_sub(self.age))
    }

    /// How long the answer may be served stale when Sezzle fails (RFC 5861, 4). If Sezzle states nothing, the operator
    /// alone decides (RFC 9111, 4.2.4).
    pub(super) fn stale_if_error(&self) -> Duration {
        if self.never_stale { Duration::ZERO } else { self.stale_if_error.unwrap_or(Duration::MAX) }
    }
}

/// The stated `Age`: the first member, ignored if it is not a number (RFC 9111, 5.1), or an older member beside it.
fn stated_age(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(AGE).into_iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| line.split(',')).map(str::trim_ascii);
    members.filter_map(delta_seconds).max().unwrap_or(Duration::ZERO)
}
