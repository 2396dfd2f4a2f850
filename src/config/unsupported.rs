//! Keys that are part of the contract but do nothing yet. Setting one is an error, because a setting that is accepted
//! and ignored misleads whoever relies on it. A key leaves this file when its feature arrives.

use super::reader::Reader;

const KEYS: [&str; 1] = [STALE_IF_ERROR];

const STALE_IF_ERROR: &str = "cache.stale_if_error";

/// Reports every key of [`KEYS`] that is set.
pub(super) fn refuse(reader: &mut Reader<'_>) {
    for key in KEYS {
        let set = reader.recognise(key);
        // Switched off is what this version does.
        let off = key == STALE_IF_ERROR && set.as_deref().is_some_and(is_zero);
        if set.is_some() && !off {
            reader.refuse(key, "not supported by this version");
        }
    }
}

fn is_zero(text: &str) -> bool {
    humantime::parse_duration(text).is_ok_and(|duration| duration.is_zero())
}
