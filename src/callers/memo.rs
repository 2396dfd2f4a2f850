//! The issued tokens that were verified lately, because verifying a token takes half as long as a hit.

use std::sync::{Arc, Mutex, PoisonError};

use super::named::NamedCaller;
use crate::clock::{Deadline, Now};
use crate::secret::is_same;
use crate::worker::PerWorker;

/// For each worker, at most [`PLACES`] tokens that it has verified. A new token may take the place of another.
#[derive(Debug)]
pub struct Memo(PerWorker<Mutex<Vec<Option<Verified>>>>);

#[derive(Debug)]
struct Verified {
    /// The keyed digest of the token.
    digest: u64,
    token: Box<[u8]>,
    caller: Arc<NamedCaller>,
    until: Deadline,
}

// A caller usually has one token at a time, and there are fewer callers than this in most configurations.
const PLACES: usize = 64;

impl Memo {
    pub fn new(workers: usize) -> Self {
        Self(PerWorker::new(workers, Mutex::default))
    }

    /// The caller of a token that is remembered and has not ended.
    pub fn find(&self, digest: u64, token: &[u8], now: Now) -> Option<Arc<NamedCaller>> {
        let places = self.0.own().lock().unwrap_or_else(PoisonError::into_inner);
        let found = places.get(place(digest))?.as_ref()?;
        let matches = found.digest == digest && is_same(&found.token, token);
        (matches && !found.until.passed(now)).then(|| Arc::clone(&found.caller))
    }

    pub fn keep(&self, digest: u64, token: &[u8], caller: &Arc<NamedCaller>, until: Deadline) {
        let mut places = self.0.own().lock().unwrap_or_else(PoisonError::into_inner);
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        if let Some(kept) = places.get_mut(place(digest)) {
            *kept = Some(Verified { digest, token: token.into(), caller: Arc::clone(caller), until });
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "any bits of a digest are as good as others")]
fn place(digest: u64) -> usize {
    digest as usize % PLACES
}
