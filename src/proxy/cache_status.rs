//! The source of an answer, and the part of the cache in it.

use http::{HeaderValue, StatusCode};

use crate::session::freshness::NotStored;
use crate::session::{CacheResult, FromFleet};
use crate::telemetry::metrics::words;
use crate::upstream::PSEUDONYM;

words! {
    /// The source of an answer: a metric label.
    pub enum Source {
        Cache = "cache",
        /// Sezzle, just now.
        Upstream = "upstream",
        Sidecar = "sidecar",
    }
}

/// The part of the cache in an answer, as `Cache-Status` (RFC 9211) says it.
#[derive(Clone, Copy, Debug)]
pub struct CacheStatus {
    pub result: CacheResult,
    /// Sezzle's own status, if Sezzle was asked.
    pub fwd_status: Option<StatusCode>,
    /// Seconds of lifetime left of the stored or served session; negative if the session is stale.
    pub ttl: Option<i64>,
    /// Whether the caller's own directives made the sidecar ask Sezzle.
    pub by_request: bool,
    /// Whether the answer was stored, and if not, why.
    pub stored: Option<Result<(), NotStored>>,
    pub fleet: FromFleet,
}

impl CacheStatus {
    /// The cache was not asked.
    pub const BYPASS: Self = Self {
        result: CacheResult::Bypass,
        fwd_status: None,
        ttl: None,
        by_request: false,
        stored: None,
        fleet: FromFleet::NotAsked,
    };

    /// Why the answer was not stored, or was served although it is stale.
    pub fn detail(&self) -> Option<&'static str> {
        match self.stored {
            _ if self.result == CacheResult::Stale => Some("stale-if-error"),
            Some(Err(reason)) => Some(reason.as_str()),
            Some(Ok(())) | None => None,
        }
    }

    pub fn header(&self) -> HeaderValue {
        // Formatting this value, the most frequent one, would cost as much as all our other headers together.
        if self.result == CacheResult::Bypass && self.fwd_status == Some(StatusCode::OK) {
            return HeaderValue::from_static("sezzle-sidecar; fwd=bypass; fwd-status=200");
        }
        self.format()
    }

    fn format(&self) -> HeaderValue {
        let mut text = String::with_capacity(128);
        // The cache that is nearest to Sezzle stands first (RFC 9211, 2).
        match self.fleet {
            FromFleet::NotAsked => {}
            FromFleet::Hit => {
                text.push_str("sezzle-fleet; hit; ttl=");
                text.push_str(itoa::Buffer::new().format(self.ttl.unwrap_or_default()));
                text.push_str(", ");
            }
            FromFleet::Miss { stored: true } => text.push_str("sezzle-fleet; fwd=uri-miss; stored, "),
            FromFleet::Miss { stored: false } => text.push_str("sezzle-fleet; fwd=uri-miss, "),
        }
        text.push_str(PSEUDONYM);
        match self.result {
            CacheResult::Hit | CacheResult::Stale => text.push_str("; hit"),
            CacheResult::Bypass => text.push_str("; fwd=bypass"),
            _ if self.by_request => text.push_str("; fwd=request"),
            CacheResult::Expired | CacheResult::Revalidated => text.push_str("; fwd=stale"),
            CacheResult::Miss | CacheResult::Collapsed | CacheResult::Error => text.push_str("; fwd=uri-miss"),
        }
        if let Some(status) = self.fwd_status {
            text.push_str("; fwd-status=");
            text.push_str(status.as_str());
        }
        if let Some(ttl) = self.ttl {
            text.push_str("; ttl=");
            text.push_str(itoa::Buffer::new().format(ttl));
        }
        if self.stored == Some(Ok(())) {
            text.push_str("; stored");
        }
        if self.result == CacheResult::Collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail() {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        // A header may hold all of these words and numbers.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(PSEUDONYM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_value_is_the_one_that_would_be_formatted() {
        for status in [StatusCode::OK, StatusCode::CREATED] {
            let cache = CacheStatus { fwd_status: Some(status), ..CacheStatus::BYPASS };
            assert_eq!(cache.header(), cache.format());
        }
    }

    #[test]
    fn the_fleet_stands_before_the_sidecar() {
        let miss =
            CacheStatus { result: CacheResult::Miss, ttl: Some(30), stored: Some(Ok(())), ..CacheStatus::BYPASS };
        let fetched = CacheStatus { fwd_status: Some(StatusCode::OK), ..miss };
        for (cache, expected) in [
            (
                CacheStatus { fleet: FromFleet::Hit, ..miss },
                "sezzle-fleet; hit; ttl=30, sezzle-sidecar; fwd=uri-miss; ttl=30; stored",
            ),
            (
                CacheStatus { fleet: FromFleet::Miss { stored: true }, ..fetched },
                "sezzle-fleet; fwd=uri-miss; stored, sezzle-sidecar; fwd=uri-miss; fwd-status=200; ttl=30; stored",
            ),
            (
                CacheStatus { fleet: FromFleet::Miss { stored: false }, ..fetched },
                "sezzle-fleet; fwd=uri-miss, sezzle-sidecar; fwd=uri-miss; fwd-status=200; ttl=30; stored",
            ),
        ] {
            assert_eq!(cache.header(), expected);
        }
    }
}
