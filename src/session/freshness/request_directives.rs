//! The request directives with which a caller limits the answers it accepts (RFC 9111, 5.2.1).

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use super::directives::{delta_seconds, for_each};

/// The obeyed request directives. `max-stale` is not one: only the operator decides whether stale sessions are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Accept nothing from the cache without asking Sezzle.
    pub no_cache: bool,
    /// Accept nothing from the cache, and do not store the answer.
    pub no_store: bool,
    /// Accept nothing older than this.
    pub max_age: Option<Duration>,
    /// Accept only answers that stay fresh for this long.
    pub min_fresh: Option<Duration>,
    /// Accept only a stored answer.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads the request directives. `Pragma: no-cache` counts if there is no `Cache-Control`.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            for_each(headers, &PRAGMA, |name, _| directives.no_cache |= name.eq_ignore_ascii_case("no-cache"));
            return directives;
        }
        for_each(headers, &CACHE_CONTROL, |name, argument| {
            let seconds = argument.and_then(delta_seconds);
            match name.to_ascii_lowercase().as_str() {
                "no-cache" => directives.no_cache = true,
                "no-store" => directives.no_store = true,
                "only-if-cached" => directives.only_if_cached = true,
                // An invalid value counts as the strictest one.
                "max-age" => {
                    let seconds = seconds.unwrap_or(Duration::ZERO);
                    directives.max_age = Some(directives.max_age.map_or(seconds, |known| known.min(seconds)));
                }
                "min-fresh" => {
                    let seconds = seconds.unwrap_or(Duration::MAX);
                    directives.min_fresh = Some(directives.min_fresh.map_or(seconds, |known| known.max(seconds)));
                }
                _ => {}
            }
        });
        directives
    }

    /// Whether the caller accepts a stored answer with this age and this rest of its lifetime.
    pub fn accept(&self, age: Duration, ttl: Duration) -> bool {
        !self.no_cache
            && !self.no_store
            && self.max_age.is_none_or(|max_age| age <= max_age)
            && self.min_fresh.is_none_or(|min_fresh| ttl >= min_fresh)
    }

    /// Whether the caller accepts a stale answer when Sezzle fails. A caller that limits the age or the remaining
    /// lifetime does not (RFC 9111, 5.2.1.1).
    pub fn accept_stale(&self) -> bool {
        !self.no_cache && !self.no_store && self.max_age.is_none() && self.min_fresh.is_none()
    }
}
