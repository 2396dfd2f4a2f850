//! The decision about a request that has arrived.

use std::sync::Arc;

use http::{HeaderValue, Method};
use uuid::Uuid;

use super::response::CallerResponse;
use super::route::{Class, Matched};
use crate::clock::Now;
use crate::session::CacheResult;
use crate::session::freshness::RequestDirectives;
use crate::upstream::retry::RetrySafety;

/// The next step for an admitted request.
pub(super) enum Decision {
    /// Memory has answered the request.
    Answer(CallerResponse),
    /// The request needs a future.
    Call(Call),
}

/// An admitted request.
pub(super) struct Call {
    pub matched: Matched,
    pub class: Class,
    pub rights: Rights,
    /// The time of the admission.
    pub at: Now,
    /// For a lookup that can be cached: why the cache did not answer it.
    pub missed: Option<Missed>,
}

impl Call {
    /// Whether the call has no effect, however often it is sent.
    pub fn is_safe(&self, method: &Method) -> bool {
        self.matched.retry_safety(method) == RetrySafety::Safe
    }
}

/// The rights under which a request is sent.
#[derive(Clone, Debug)]
pub enum Rights {
    /// The merchant's rights, by the token.
    Merchant,
    /// The rights of a public key, which are fewer, by this `Authorization`.
    PublicKey(Arc<HeaderValue>),
}

/// A lookup that was not answered from the cache.
pub(super) struct Missed {
    pub session: Uuid,
    pub directives: RequestDirectives,
    pub result: CacheResult,
    /// Whether the caller's own directives caused that.
    pub by_request: bool,
}
