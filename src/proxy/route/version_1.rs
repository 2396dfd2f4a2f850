//! Which call below `/v1/` a request is. Sezzle's plugins still make some calls of this older API. Pure.

use super::{Matched, Route, Subject, disguised, sensitive};

impl Matched {
    /// Matches the path of a request. `None` when the path does not lie under `/v1/`. Exchanges of keys and reads of
    /// card data are recognised here as well; every other call is [`Route::Version1`].
    ///
    /// Expects a path that [`crate::proxy::inbound`] has accepted.
    pub fn version_1(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        let (rest, slash) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        let segments: Vec<&str> = rest.split('/').collect();
        if let Some(route) = sensitive(&segments).or_else(|| disguised(rest)) {
            return Some(Self { route, slash, subject: Subject::Other });
        }
        let subject = match *segments {
            [collection, identifier, ..] => Subject::of(collection, identifier),
            _ => Subject::Other,
        };
        Some(Self { route: Route::Version1, slash, subject })
    }
}
