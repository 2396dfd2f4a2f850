//! A write: done once, and seen by every lookup after its answer.

use std::mem;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::request::Parts;

use super::audited::ToAudit;
use super::cache_status::CacheStatus;
use super::call::passed_on;
use super::decision::Call;
use super::error::ProxyError;
use super::headers::remove_conditions;
use super::prepared_write::{EndedWrite, PreparedWrite};
use super::pressure::Permit;
use super::record::Record;
use super::response::CallerResponse;
use super::sending::Sending;
use super::write_report::{STOPPED, WriteReport};
use super::{Proxy, card_data, request_key};
use crate::caller::Caller;
use crate::callers::amount::Amount;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::RetrySafety;

impl Proxy {
    /// Serves a write whose body was received, or a read that cannot be repeated, which has none. The sessions that a
    /// write changes are purged before it is sent, and again when it has ended, before the first byte of its answer: a
    /// caller with the answer finds nothing older than the write.
    pub(super) async fn write(
        self: &Arc<Self>,
        head: &mut Parts,
        call: &Call,
        caller: &Caller,
        body: Bytes,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let (mut sending, amount) = self.prepare_write(head, call, body, record)?;
        let remedy = sending.remedy.clone();
        let now = self.clock.now();
        let entered = self.pressure.enter(call.class, &head.method, now);
        let permit = self.writes.unless_cut(pin!(entered)).await.ok_or(ProxyError::Stopping)??;
        // The wait counts toward the time of a write, because a drain must outlast the write.
        sending.shorten(permit.since.mono.since(now.mono));
        let write = self.prepared(&head.method, call, caller, (sending, amount), permit, record);
        let ended = self.writes.begin(|| write.run(), EndedWrite::log_unclaimed).await.flatten();
        let Some(ended) = ended else {
            let cause = UpstreamError::new(ErrorKind::Reset, Sent::Maybe, STOPPED);
            return Err(ProxyError::OutcomeUnknown { remedy, cause });
        };
        let EndedWrite { result, permit, .. } = *ended;
        record.permit = Some(permit);
        let mut response = passed_on(result?, CacheStatus::BYPASS);
        if call.matched.route.is_card_data() {
            card_data::forbid_storing(&mut response.headers);
        }
        Ok(response)
    }

    /// The request of a write to Sezzle, with its key and its remedy, and the amount that it moves for the audit. Takes the
    /// headers. Fails if the caller may not move the amount, or if its keys differ.
    fn prepare_write(
        &self,
        head: &mut Parts,
        call: &Call,
        body: Bytes,
        record: &mut Record,
    ) -> Result<(Sending, Option<Amount>), ProxyError> {
        let route = call.matched.route;
        if let Some(bounds) = record.caller.as_ref().and_then(|known| known.caller.bounds.as_ref()) {
            route.check_amount(head, &body, bounds).map_err(ProxyError::AmountOverLimit)?;
        }
        let keyed = call.matched.retry_safety(&head.method) == RetrySafety::Keyed;
        if keyed {
            request_key::check_connection(&head.headers)?;
        }
        // Read before the headers are taken, because they say how the body is to be read.
        let amount = self.audit.as_ref().and_then(|_| route.amount(head, &body));
        let headers = mem::take(&mut head.headers);
        let mut sending = self.prepare_request(head, headers, call, body, record);
        if route.is_card_data() {
            // If a card were cut off, the rest of it would be lost for ever.
            remove_conditions(&mut sending.outgoing.headers);
        }
        if keyed {
            let normalise = self.options.normalise_request_id;
            let (key, source) = request_key::ensure(&mut sending.outgoing.headers, normalise)?;
            record.sink.series.keyed(source);
            record.request_key = Some((key, source));
        }
        sending.remedy = record.remedy();
        Ok((sending, amount))
    }

    fn prepared(
        self: &Arc<Self>,
        method: &Method,
        Call { matched, .. }: &Call,
        caller: &Caller,
        (sending, amount): (Sending, Option<Amount>),
        permit: Permit,
        record: &Record,
    ) -> PreparedWrite {
        let audit = self.audit.as_ref().map(|audit| (audit, &self.clock));
        PreparedWrite {
            tag: matched.purges(),
            carries_links: matched.route.carries_links(),
            to_audit: audit.map(|audit| ToAudit::new(audit, (method, amount), matched, caller, record)),
            report: WriteReport::new(method, matched, record, &self.metrics),
            sending,
            permit,
            proxy: Arc::clone(self),
        }
    }
}
