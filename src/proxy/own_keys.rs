//! The exchange of a caller that has keys of its own, where `[[callers]]` is configured.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::ProxyError;
use crate::callers::named::KnownCaller;
use crate::callers::table::{Issued, Table};
use crate::clock::Now;

/// The token for a caller's own keys, which tell the caller from now on. `None` if the keys are nobody's: then `caller`
/// must be known already, and gets what every caller gets without `[[callers]]`.
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
