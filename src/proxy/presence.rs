//! Which headers a request has.

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, IF_MODIFIED_SINCE, IF_NONE_MATCH, PRAGMA, TRANSFER_ENCODING, USER_AGENT, VIA,
};

use super::headers::{TRACEPARENT, X_REQUEST_ID};
use crate::caller::is_browser_header;

/// Which of the headers that change a decision or stand in the log a request has, found in one pass. Most requests have
/// none of these, and one look-up by name takes as long as the whole pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderPresence {
    pub(super) via: bool,
    pub(super) transfer_encoding: bool,
    pub(super) browser: bool,
    pub authorization: bool,
    /// `X-Request-Id`.
    pub request_id: bool,
    pub traceparent: bool,
    /// `Cache-Control` or `Pragma`.
    pub cache_directives: bool,
    /// `If-None-Match` or `If-Modified-Since`.
    pub conditions: bool,
    pub(super) user_agent: bool,
}

impl HeaderPresence {
    pub fn scan(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match *name {
                AUTHORIZATION => present.authorization = true,
                USER_AGENT => present.user_agent = true,
                VIA => present.via = true,
                TRANSFER_ENCODING => present.transfer_encoding = true,
                CACHE_CONTROL | PRAGMA => present.cache_directives = true,
                IF_NONE_MATCH | IF_MODIFIED_SINCE => present.conditions = true,
                _ if *name == X_REQUEST_ID => present.request_id = true,
                _ if *name == TRACEPARENT => present.traceparent = true,
                _ => present.browser |= is_browser_header(name),
            }
        }
        present
    }
}
