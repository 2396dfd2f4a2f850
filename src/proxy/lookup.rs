//! A lookup of a session: from the cache, or from Sezzle and into the cache.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use uuid::Uuid;

use super::Proxy;
use super::cache_status::{CacheStatus, Source};
use super::call::passed_on;
use super::content::{Content, GatewayResponse};
use super::decision::{Call, Missed};
use super::error::ProxyError;
use super::headers::remove_conditions;
use super::presence::HeaderPresence;
use super::record::Record;
use super::response::CallerResponse;
use super::route::Class;
use super::stored::{from_fleet, from_hit, from_stale, seconds};
use crate::session::freshness::RequestDirectives;
use crate::session::revalidation::Conditions;
use crate::session::{CacheResult, Fetched, Found, FromFleet, LookupResult};
use crate::sezzle::error::is_error;
use crate::upstream::error::UpstreamError;

impl Proxy {
    /// Answers a lookup that the cache could not answer by itself.
    pub(super) async fn lookup(
        &self,
        head: &Parts,
        call: &Call,
        missed: Missed,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let Missed { session, directives, result, by_request } = missed;
        if directives.only_if_cached {
            self.count(CacheResult::Error);
            return Err(ProxyError::NotStored);
        }
        let cache = CacheStatus { result, by_request, ..CacheStatus::BYPASS };
        let answered = if head.method == Method::HEAD {
            Box::pin(self.head(head, call, session, cache, record)).await
        } else {
            self.fetch_shared(head, call, session, &directives, cache, record).await
        };
        let failed = match &answered {
            Ok(response) => is_failure(response.status) || is_foreign(response),
            Err(error) => error.is_of_sezzle(),
        };
        if failed && let Found::Fresh(hit) = self.sessions.find(session, &directives, self.clock.now()) {
            // Another caller's fetch was stored in the meantime.
            self.count(CacheResult::Hit);
            return Ok(from_hit(head, HeaderPresence::scan(&head.headers), &hit, record));
        }
        if failed && let Some(stale) = self.sessions.find_stale(session, &directives) {
            if let Err(error) = &answered {
                record.note_error(error);
            }
            self.count(CacheResult::Stale);
            return Ok(from_stale(head, &stale, record));
        }
        self.count(answered.as_ref().map_or(CacheResult::Error, |response| response.cache.result));
        answered
    }

    /// A GET that the cache cannot answer by itself: fetches the session, or waits for another caller's fetch.
    async fn fetch_shared(
        &self,
        head: &Parts,
        call: &Call,
        session: Uuid,
        directives: &RequestDirectives,
        cache: CacheStatus,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let mut sending = self.prepare_request(head, head.headers.clone(), call, Bytes::new(), record);
        remove_conditions(&mut sending.outgoing.headers);
        let ask_sezzle = |conditions: Option<Conditions>| {
            let (exchange, sending) = (Arc::clone(&self.exchange), sending.clone());
            let (pressure, clock) = (Arc::clone(&self.pressure), self.clock.clone());
            async move {
                // The fetch takes one permit, however many callers wait for it.
                match pressure.enter(Class::Session, &Method::GET, clock.now()).await {
                    Ok(permit) => exchange.session(sending, conditions, &permit).await,
                    Err(error) => Fetched::Failed(error),
                }
            }
        };
        let (result, collapsed) = self.sessions.fetch(session, directives, ask_sezzle).await;
        let cache = if collapsed { CacheStatus { result: CacheResult::Collapsed, ..cache } } else { cache };
        from_result(head, result, cache, record)
    }

    /// A HEAD that the cache cannot answer. Sezzle gets a HEAD too, since nobody asked for the body.
    async fn head(
        &self,
        head: &Parts,
        call: &Call,
        session: Uuid,
        cache: CacheStatus,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let exchange = self.sessions.number_exchange(session);
        let response = self.read(head, head.headers.clone(), call, record).await?;
        self.sessions.head_seen(exchange, response.status, &response.headers);
        Ok(CallerResponse { cache: CacheStatus { fwd_status: response.cache.fwd_status, ..cache }, ..response })
    }
}

/// The caller's answer for each way in which a fetch can end.
fn from_result(
    head: &Parts,
    result: LookupResult<GatewayResponse, ProxyError>,
    cache: CacheStatus,
    record: &Record,
) -> Result<CallerResponse, ProxyError> {
    match result {
        LookupResult::Stored(hit) => Ok(from_hit(head, HeaderPresence::scan(&head.headers), &hit, record)),
        LookupResult::Answer(answer, Ok(freshness), FromFleet::Hit) => {
            Ok(from_fleet(head, &answer, freshness, cache, record))
        }
        LookupResult::Answer(answer, stored, fleet) => {
            let is_own = cache.result != CacheResult::Collapsed;
            let is_revalidated = is_own && answer.fwd_status == StatusCode::NOT_MODIFIED;
            let cache = CacheStatus {
                result: if is_revalidated { CacheResult::Revalidated } else { cache.result },
                fwd_status: Some(answer.fwd_status),
                ttl: stored.ok().map(|freshness| seconds(freshness.ttl)),
                stored: Some(stored.map(|_| ())),
                fleet,
                ..cache
            };
            let (mut headers, body) = (answer.headers.clone(), answer.body.clone());
            let request = (&head.method, Some(&head.headers));
            let (status, content) = CallerResponse::status_and_content(answer.status, &mut headers, body, request);
            Ok(CallerResponse { status, headers, content, source: Source::Upstream, cache })
        }
        LookupResult::Streaming(forwarded, reason) => {
            Ok(passed_on(forwarded, CacheStatus { stored: Some(Err(reason)), ..cache }))
        }
        LookupResult::Failed(error) => Err(error),
        LookupResult::Lost => {
            let detail = "the fetch of the session did not end in time".to_owned();
            Err(ProxyError::Upstream(UpstreamError::timeout(detail)))
        }
    }
}

/// Whether RFC 5861, 4 calls the status an error.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether a server before Sezzle, such as a firewall, refused the call. Such a refusal says nothing about the session,
/// as an error does.
fn is_foreign(response: &CallerResponse) -> bool {
    let is_refusal = matches!(response.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE);
    is_refusal && matches!(&response.content, Content::Whole(Some(body)) if !is_error(body))
}
