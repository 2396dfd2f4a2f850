//! Exchanges about a session: their order, and the effect of a HEAD on the stored answer.

use http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::SessionCache;
use super::entry::Entry;
use super::freshness::is_json;
use super::invalidation::FetchId;
use super::revalidation::Conditions;

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Numbers an exchange about a session that begins now, in the order of all exchanges.
    pub fn number_exchange(&self, key: Uuid) -> FetchId {
        self.store.begin_fetch(key)
    }

    /// The number of exchanges about sessions so far.
    pub fn fetches(&self) -> u64 {
        self.store.fetches()
    }

    /// Compares Sezzle's answer to a HEAD with the stored one (RFC 9111, 4.3.5), which is outdated if they differ.
    pub fn head_seen(&self, exchange: FetchId, status: StatusCode, headers: &HeaderMap) {
        let differs =
            |entry: &Entry| status != StatusCode::OK || !Conditions::is_same_representation(&entry.answer(), headers);
        // Without a body, the media type tells whether a 404 or 410 is Sezzle's own.
        if is_verdict(status, || is_json(headers)) && self.store.get(exchange.key).is_some_and(|entry| differs(&entry))
        {
            self.outdate(exchange);
        }
    }
}

/// Whether an answer states the session's fate, not only that this request failed: it then outdates the stored one.
pub(super) fn is_verdict(status: StatusCode, is_of_sezzle: impl FnOnce() -> bool) -> bool {
    let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    status == StatusCode::OK || is_gone && is_of_sezzle()
}
