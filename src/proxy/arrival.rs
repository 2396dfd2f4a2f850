//! The decisions when a request arrives: whether it is admitted, with whose rights it is sent, and whether memory
//! answers it.

use std::pin::pin;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::error::ProxyError;
use super::exchange::Rights;
use super::guard::{Panicked, caught};
use super::inbound::{HeaderPresence, admit};
use super::lookup::Missed;
use super::public_key::callers_public_key;
use super::record::Record;
use super::response::{Body, CallerResponse};
use super::route::{Class, Matched};
use super::stored::from_hit;
use super::write::BODY_TIMEOUT;
use super::{Proxy, card_data, is_cacheable};
use crate::caller::Caller;
use crate::clock::Now;
use crate::peer_body::PeerBody;
use crate::session::freshness::RequestDirectives;
use crate::session::{CacheResult, Found};

/// The next step for an admitted request.
pub(super) enum Arrived {
    /// Memory has answered it.
    Answered(CallerResponse),
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

impl Proxy {
    /// Serves a GET, HEAD or OPTIONS that comes with a body, as if it had none. A body there means nothing (RFC 9110, 9.3.1),
    /// so it is read within the limits and dropped.
    pub(super) async fn serve_without_body(
        self: Arc<Self>,
        mut head: Parts,
        mut body: PeerBody,
        present: HeaderPresence,
        caller: Caller,
        mut record: Box<Record>,
    ) -> Response<Body> {
        let response = async {
            let (matched, class) = self.admitted(&head, present, &caller, &mut record)?;
            self.drop_body(&mut body, &head.method, class, &mut record).await?;
            match self.decided(&head, present, matched, class, self.clock.now(), &record)? {
                Arrived::Answered(response) => Ok(response),
                Arrived::Call(call) => self.serve(&mut head, body, call, &mut record).await,
            }
        };
        let response = caught(pin!(response)).await;
        self.finish(response.unwrap_or_else(|Panicked| Err(record.error_of_panic())), record)
    }

    /// Makes all decisions that need no wait.
    pub(super) fn arrived(
        &self,
        head: &Parts,
        present: HeaderPresence,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<Arrived, ProxyError> {
        let (matched, class) = self.admitted(head, present, caller, record)?;
        self.decided(head, present, matched, class, record.began(), record)
    }

    /// Admits the request, and finds its call.
    fn admitted(
        &self,
        head: &Parts,
        present: HeaderPresence,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<(Matched, Class), ProxyError> {
        let matched = admit(&self.options.hosts, head, present, caller)?;
        let class = matched.route.class(&head.method);
        record.admitted(matched.clone(), class);
        Ok((matched, class))
    }

    /// Decides whether memory answers a call that had arrived whole at `at`.
    fn decided(
        &self,
        head: &Parts,
        present: HeaderPresence,
        matched: Matched,
        class: Class,
        at: Now,
        record: &Record,
    ) -> Result<Arrived, ProxyError> {
        let rights = if present.authorization { self.rights(head)? } else { Rights::Merchant };
        // A caller with fewer rights than the merchant may not see what is in memory.
        let may_see = class == Class::Session && matches!(rights, Rights::Merchant);
        let session = matched.session().filter(|_| may_see && is_cacheable(head));
        let Some(session) = session else {
            if matched.route.is_card_data() {
                card_data::check(self.options.forward_card_data, &head.method)?;
            }
            return Ok(Arrived::Call(Call { matched, class, rights, at, missed: None }));
        };
        let directives = if present.cache_directives {
            RequestDirectives::read(&head.headers)
        } else {
            RequestDirectives::default()
        };
        let (result, by_request) = match self.sessions.find(session, &directives, at) {
            Found::Fresh(hit) => {
                record.sink().series.looked_up(CacheResult::Hit);
                return Ok(Arrived::Answered(from_hit(head, present, &hit, record)));
            }
            Found::Unwanted => (CacheResult::Miss, true),
            Found::Stale => (CacheResult::Expired, false),
            Found::Absent => (CacheResult::Miss, directives.no_cache || directives.no_store),
        };
        let missed = Some(Missed { session, directives, result, by_request });
        Ok(Arrived::Call(Call { matched, class, rights, at, missed }))
    }

    /// With whose rights a call is sent if its `Authorization` may name a public key.
    fn rights(&self, head: &Parts) -> Result<Rights, ProxyError> {
        let own = callers_public_key(&head.headers, |key| self.forwarder.tokens().is_our_public_key(key))?;
        Ok(own.map_or(Rights::Merchant, |own| Rights::PublicKey(Arc::new(own))))
    }

    /// Reads the body of a request that should have none, and drops it. An empty body counts as none. The connection then
    /// continues with the next request, and Sezzle gets this one without any framing of the caller's.
    async fn drop_body(
        &self,
        body: &mut PeerBody,
        method: &Method,
        class: Class,
        record: &mut Record,
    ) -> Result<(), ProxyError> {
        let limit = self.options.limits.body as u64;
        if body.size_hint().lower() > limit {
            return Err(ProxyError::BodyTooLarge);
        }
        let _place = self.pressure.receive(class)?;
        let read = async {
            let mut length = 0_u64;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| ProxyError::BodyBroken)?;
                length = length.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                if length > limit {
                    return Err(ProxyError::BodyTooLarge);
                }
            }
            Ok(length)
        };
        let read = self.writes.unless_cut(timeout(BODY_TIMEOUT, read)).await.ok_or(ProxyError::Stopping)?;
        let length = read.map_err(|_| ProxyError::BodyTimeout)??;
        record.set_has_read_body(true);
        if length > 0 && *method == Method::OPTIONS {
            return Err(ProxyError::Malformed("the sidecar accepts no body with OPTIONS"));
        }
        self.metrics.request_bodies_dropped.inc_by(u64::from(length > 0));
        Ok(())
    }
}
