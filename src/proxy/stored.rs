//! Answers that Sezzle was not asked for: from memory, from memory although stale where Sezzle fails, and from another
//! sidecar.

use std::time::Duration;

use http::StatusCode;
use http::request::Parts;

use super::cache_status::{CacheStatus, Source};
use super::presence::HeaderPresence;
use super::record::Record;
use super::response::{CallerResponse, write_own_headers};
use crate::session::entry::{Entry, HeaderWriter};
use crate::session::freshness::Freshness;
use crate::session::response::SessionResponse;
use crate::session::{CacheResult, FromFleet, Hit, StaleHit};

pub(super) fn from_hit(head: &Parts, present: HeaderPresence, hit: &Hit, record: &Record) -> CallerResponse {
    let cache = CacheStatus { result: CacheResult::Hit, ttl: Some(seconds(hit.ttl)), ..CacheStatus::BYPASS };
    from_entry(head, present, &hit.entry, hit.age, cache, record)
}

pub(super) fn from_stale(head: &Parts, stale: &StaleHit, record: &Record) -> CallerResponse {
    let ttl = seconds(stale.overdue).saturating_neg();
    let cache = CacheStatus { result: CacheResult::Stale, ttl: Some(ttl), ..CacheStatus::BYPASS };
    from_entry(head, HeaderPresence::scan(&head.headers), &stale.entry, stale.age, cache, record)
}

fn from_entry(
    head: &Parts,
    present: HeaderPresence,
    entry: &Entry,
    age: Duration,
    cache: CacheStatus,
    record: &Record,
) -> CallerResponse {
    let mut headers = entry.headers(|out| write_own_headers(out, Source::Cache, Some(age), &cache, record));
    let conditions = if present.conditions { Some(&head.headers) } else { None };
    let (status, content) =
        CallerResponse::status_and_content(StatusCode::OK, &mut headers, entry.body(), (&head.method, conditions));
    CallerResponse { status, headers, content, source: Source::Cache, cache }
}

/// An answer that another sidecar had fetched, and that is stored here now.
pub(super) fn from_fleet(
    head: &Parts,
    answer: &SessionResponse,
    freshness: Freshness,
    cache: CacheStatus,
    record: &Record,
) -> CallerResponse {
    let (ttl, fleet) = (Some(seconds(freshness.ttl)), FromFleet::Hit);
    let cache = CacheStatus { ttl, stored: Some(Ok(())), fleet, ..cache };
    let mut headers = answer.headers.clone();
    write_own_headers(&mut HeaderWriter::Map(&mut headers), Source::Cache, Some(freshness.age), &cache, record);
    let request = (&head.method, Some(&head.headers));
    let (status, content) =
        CallerResponse::status_and_content(answer.status, &mut headers, answer.body.clone(), request);
    CallerResponse { status, headers, content, source: Source::Cache, cache }
}

/// Whole seconds, as `Cache-Status` has them.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
