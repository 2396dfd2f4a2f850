//! What a caller says about the answer it will take (RFC 9111, 5.2.1).

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use super::directives::{delta_seconds, for_each};

/// The request directives that are obeyed. `max-stale` is not: what has died is served to nobody who was not promised
/// so by the operator.
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
            for_each(headers, &PRAGMA, |name, _| wishes.no_cache |= name.eq_ignore_ascii_case("no-cache"));
            return wishes;
        }
        for_each(headers, &CACHE_CONTROL, |name, argument| {
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
        });
        wishes
    }

    /// Whether something with this age and this life left is what the caller will take.
    pub fn accept(&self, age: Duration, ttl: Duration) -> bool {
        !self.no_cache
            && !self.no_store
            && self.max_age.is_none_or(|max_age| age <= max_age)
            && self.min_fresh.is_none_or(|min_fresh| ttl >= min_fresh)
    }

    /// Whether the caller will take what has died, when Sezzle fails. Who asks for an age or for life left does not
    /// (RFC 9111, 5.2.1.1).
    pub fn accept_stale(&self) -> bool {
        !self.no_cache && !self.no_store && self.max_age.is_none() && self.min_fresh.is_none()
    }
}
