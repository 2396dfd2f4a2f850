//! The exchange of a caller that has keys of its own, where `[[callers]]` is configured.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::ProxyError;
use crate::callers::named::KnownCaller;
use crate::callers::table::{Issued, Table};
use crate::clock::Now;

/// Issues the token for a caller's own keys, and sets `caller` to the owner of the keys. `None` if the keys are of no
/// caller: then `caller` must be known by another mark, and gets the answer that every caller gets without
/// `[[callers]]`.
pub fn exchange(
    table: &Table,
    body: &[u8],
    now: Now,
    caller: &mut Option<KnownCaller>,
) -> Result<Option<Issued>, ProxyError> {
    // A body that is malformed, or names a key twice, has no keys.
    let keys: Option<OwnKeys<'_>> = serde_json::from_slice(body).ok();
    match keys.and_then(|keys| table.issue(&keys.public_key, &keys.private_key, now)) {
        Some(issued) => {
            *caller = Some(issued.known.clone());
            Ok(Some(issued))
        }
        None if caller.is_some() => Ok(None),
        None => Err(ProxyError::UnknownCaller),
    }
}

#[derive(Deserialize)]
struct OwnKeys<'b> {
    #[serde(borrow)]
    public_key: Cow<'b, str>,
    #[serde(borrow)]
    private_key: Cow<'b, str>,
}
