//! The section `cache`: the session cache.

use std::time::Duration;

use super::bounds::{HOUR, INSTANT, seconds};
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Bytes that stored sessions may take: bodies, keys and bookkeeping together.
    pub max_bytes: u64,
    /// Longest lifetime of any entry.
    pub max_ttl: Duration,
    /// Lifetime of a session without `tokenize` for which Sezzle names no lifetime either.
    pub untokenized_ttl: Duration,
    /// How long before `tokenize.expiration` an entry becomes stale.
    pub expiration_margin: Duration,
    /// Whether the cache obeys `no-store`, `no-cache` and `max-age=0` of Sezzle.
    pub origin_cache_control: OriginCacheControl,
    /// How long a stale entry may be served when Sezzle fails.
    pub stale_if_error: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginCacheControl {
    Honor,
    /// Store even answers that Sezzle marks `no-store`, `no-cache` or `max-age=0`.
    Ignore,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<CacheSettings> {
    let max_bytes = r.value("cache.max_bytes", "32MiB", parse::size(1 << 20..=1 << 40));
    // The bound on how long a write through another sidecar can stay unnoticed here.
    let max_ttl = r.on_reload().value("cache.max_ttl", "60s", parse::duration(INSTANT..=24 * HOUR));
    let untokenized_ttl =
        r.on_reload().value("cache.untokenized_ttl", "30s", parse::duration(Duration::ZERO..=24 * HOUR));
    // Room for the way to the caller, and for a clock that is a little off.
    let expiration_margin =
        r.on_reload().value("cache.expiration_margin", "5s", parse::duration(Duration::ZERO..=seconds(600)));
    let origin_cache_control = r.on_reload().value(
        "cache.origin_cache_control",
        "honor",
        parse::choice([("honor", OriginCacheControl::Honor), ("ignore", OriginCacheControl::Ignore)]),
    );
    let stale_if_error = r.on_reload().value("cache.stale_if_error", "0s", parse::duration(Duration::ZERO..=24 * HOUR));

    Some(CacheSettings {
        max_bytes: max_bytes?,
        max_ttl: max_ttl?,
        untokenized_ttl: untokenized_ttl?,
        expiration_margin: expiration_margin?,
        origin_cache_control: origin_cache_control?,
        stale_if_error: stale_if_error?,
    })
}
