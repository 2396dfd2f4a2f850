//! A write: received whole, done once, and seen by every lookup after its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::audited::ToAudit;
use super::cache_status::CacheStatus;
use super::call::passed_on;
use super::content::GatewayResponse;
use super::decision::Call;
use super::error::{PROXY_STATUS, ProxyError};
use super::exchange::{Exchange, Sending};
use super::headers::remove_conditions;
use super::pressure::Permit;
use super::record::{Record, RequestId};
use super::response::CallerResponse;
use super::route::Matched;
use super::{Proxy, Sessions, card_data, request_key};
use crate::caller::Caller;
use crate::method::is_safe;
use crate::peer_body::PeerBody;
use crate::session::ending::Ending;
use crate::session::invalidation::Tag;
use crate::telemetry::metrics::{Metrics, method_label};
use crate::telemetry::recent_errors::Kind;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::RetrySafety;

impl Proxy {
    /// Serves a write, or a read that cannot be repeated. The sessions that a write changes are purged before it is
    /// sent, and again when it has ended, before the first byte of its answer: a caller with the answer finds nothing
    /// older than the write.
    pub(super) async fn write(
        &self,
        head: &Parts,
        call: &Call,
        caller: &Caller,
        body: PeerBody,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let body = if is_safe(&head.method) { Bytes::new() } else { self.receive(body, call.class, record).await? };
        let matched = &call.matched;
        let mut sending = self.sending_write(head, call, body, record)?;
        let remedy = sending.remedy.clone();
        let now = self.clock.now();
        let entered = self.pressure.enter(call.class, &head.method, now);
        let permit = self.writes.unless_cut(entered).await.ok_or(ProxyError::Stopping)??;
        // The wait counts toward the time of a write, because a drain must outlast the write.
        let limit = &mut sending.outgoing.deadlines.head;
        *limit = limit.saturating_sub(permit.since.mono.since(now.mono));
        let audit = self.audit.as_ref().map(|audit| (audit, &self.clock));
        let write = RunningWrite {
            to_audit: audit.map(|audit| ToAudit::new(audit, head, matched, caller, &sending, record)),
            sending,
            permit,
            report: self.write_report(head, matched, record),
            tag: matched.purges(),
            carries_links: matched.route.carries_links(),
            sessions: Arc::clone(&self.sessions),
            exchange: Arc::clone(&self.exchange),
            cut: self.writes.cut.clone(),
        };
        let (give, answer) = oneshot::channel();
        // Not stopped when the caller hangs up: a write runs to its end and its outcome is logged.
        self.writes.tasks.spawn(write.run(give));
        let Ok((result, permit)) = answer.await else {
            let cause = UpstreamError::new(ErrorKind::Reset, Sent::Maybe, STOPPED);
            return Err(ProxyError::OutcomeUnknown { remedy, cause });
        };
        record.permit = Some(permit);
        let mut response = passed_on(result?, CacheStatus::BYPASS);
        if matched.route.is_card_data() {
            card_data::forbid_storing(&mut response.headers);
        }
        Ok(response)
    }

    /// The request of a write to Sezzle, with its key. Fails if the caller may not move the amount, or if its keys
    /// differ.
    fn sending_write(
        &self,
        head: &Parts,
        call: &Call,
        body: Bytes,
        record: &mut Record,
    ) -> Result<Sending, ProxyError> {
        let matched = &call.matched;
        if let Some(bounds) = record.caller.as_ref().and_then(|known| known.caller.bounds.as_ref()) {
            let checked = matched.route.check_amount(head, &body, bounds);
            checked.map_err(ProxyError::AmountOverLimit)?;
        }
        let mut sending = self.sending(head, head.headers.clone(), call, body, record);
        if matched.route.is_card_data() {
            // If a card were cut off, the rest of it would be lost for ever.
            remove_conditions(&mut sending.outgoing.headers);
        }
        if sending.retry_safety == RetrySafety::Keyed {
            request_key::check_connection(&head.headers)?;
            let normalise = self.options.normalise_request_id;
            let (key, source) = request_key::ensure(&mut sending.outgoing.headers, normalise)?;
            self.metrics.idempotency_keys.with_label_values(&[source.as_str()]).inc();
            record.request_key = Some((key, source));
        }
        sending.remedy = record.remedy();
        Ok(sending)
    }

    fn write_report(&self, head: &Parts, matched: &Matched, record: &Record) -> WriteReport {
        WriteReport {
            metrics: Arc::clone(&self.metrics),
            request_id: record.request_id.clone(),
            method: method_label(&head.method),
            matched: matched.clone(),
            key: record.request_key.as_ref().map(|(key, _)| key.clone()),
            concluded: false,
        }
    }
}

/// A write with its permit, and all that its task needs.
struct RunningWrite {
    sending: Sending,
    permit: Permit,
    to_audit: Option<ToAudit>,
    report: WriteReport,
    tag: Option<Tag>,
    carries_links: bool,
    sessions: Arc<Sessions>,
    exchange: Arc<Exchange>,
    cut: CancellationToken,
}

impl RunningWrite {
    /// Runs the write to its end, or until writes are cut, and gives its result and its permit to the caller.
    fn run(
        self,
        give: oneshot::Sender<(Result<GatewayResponse, ProxyError>, Permit)>,
    ) -> impl Future<Output = ()> + Send {
        let Self { mut sending, mut permit, to_audit, mut report, tag, carries_links, sessions, exchange, cut } = self;
        // Not an `async fn`: its future would keep room for `self` beside the parts.
        async move {
            let begun = match to_audit {
                Some(to_audit) => {
                    let begin = cut.run_until_cancelled(Box::pin(to_audit.begin(&mut sending, &mut permit)));
                    begin.await.unwrap_or(Err(ProxyError::Stopping)).map(Some)
                }
                None => Ok(None),
            };
            let audited = match begun {
                Ok(audited) => audited,
                Err(error) => {
                    report.dismiss();
                    let _ = give.send((Err(error), permit));
                    return;
                }
            };
            let writing = sessions.begin_write(tag);
            let called = cut.run_until_cancelled(exchange.call(&mut sending, carries_links, &permit));
            let Some(mut result) = called.await else { return };
            report.conclude(&mut result);
            let in_audit = audited.map(|audited| Box::pin(audited.end(&result, &sending)));
            // The end of a drain ends the waits for other sidecars and for the audit, but no answer that has come gets
            // lost.
            cut.run_until_cancelled(writing.end(ending(&result))).await;
            if let Some(in_audit) = in_audit {
                cut.run_until_cancelled(in_audit).await;
            }
            if let Err((unclaimed, _)) = give.send((result, permit)) {
                report.log_unclaimed(&unclaimed);
            }
        }
    }
}

const STOPPED: &str = "the sidecar stopped before the answer came";

/// Tells operators how a write ended. Dropping the report reports a write that was stopped half-way.
struct WriteReport {
    metrics: Arc<Metrics>,
    request_id: RequestId,
    method: &'static str,
    matched: Matched,
    key: Option<HeaderValue>,
    concluded: bool,
}

impl WriteReport {
    /// Takes note that nothing was sent, so that there is nothing to report.
    fn dismiss(&mut self) {
        self.concluded = true;
    }

    /// Reports everything in the write's result that an operator has to know, and marks an answer that is in doubt.
    fn conclude(&mut self, result: &mut Result<GatewayResponse, ProxyError>) {
        self.concluded = true;
        match result {
            Ok(answer) if answer.in_doubt => self.mark_in_doubt(answer),
            Err(ProxyError::OutcomeUnknown { cause, .. }) => self.report_unknown(&cause.to_string()),
            Ok(_) | Err(_) => {}
        }
    }

    fn report_unknown(&self, cause: &str) {
        let LogFields { request_id, route, order, sezzle_request_id } = self.log_fields();
        self.metrics.outcome_unknown.with_label_values(&[route]).inc();
        self.note_trouble("outcome_unknown");
        self.metrics.unknown_writes.note(self.method, route, order, &request_id.to_string(), sezzle_request_id);
        if self.matched.route.is_card_data() {
            tracing::error!(%request_id, route, cause, "a card may have been read, and its data was lost");
        } else {
            tracing::error!(%request_id, route, order, sezzle_request_id, cause, "the outcome of a write is unknown");
        }
    }

    /// Tells the caller that an earlier attempt may have had its effect, although this one was refused.
    fn mark_in_doubt(&self, answer: &mut GatewayResponse) {
        let LogFields { request_id, route, order, sezzle_request_id } = self.log_fields();
        let code = answer.status.as_u16();
        self.metrics.refused_in_doubt.with_label_values(&[route]).inc();
        self.note_trouble("refused_in_doubt");
        tracing::warn!(
            %request_id,
            route,
            order,
            sezzle_request_id,
            code,
            "a write did not succeed after an attempt that may have had its effect"
        );
        let text = format!(
            "sezzle-sidecar; received-status={code}; details=\"an earlier attempt with the same key may have had its \
             effect\""
        );
        if let Ok(text) = HeaderValue::try_from(text) {
            answer.headers.append(PROXY_STATUS, text);
        }
    }

    fn log_unclaimed(&self, result: &Result<GatewayResponse, ProxyError>) {
        let LogFields { request_id, route, order, sezzle_request_id } = self.log_fields();
        let (code, error) = match result {
            Ok(answer) => (answer.status, None),
            Err(error) => (error.status(), Some(error.code())),
        };
        let code = code.as_u16();
        if self.matched.route.is_card_data() && (200..300).contains(&code) {
            tracing::warn!(%request_id, route, code, "a card was read after its caller had gone");
            return;
        }
        tracing::info!(
            %request_id,
            route,
            order,
            sezzle_request_id,
            code,
            error,
            "write ended after its caller had gone"
        );
    }

    fn note_trouble(&self, what: &'static str) {
        let kind = Kind { method: self.method, about: self.matched.route.template(), what, ..Kind::default() };
        self.metrics.recent_errors.note(kind, Some(&self.request_id));
    }

    /// The fields that identify the write in the log.
    fn log_fields(&self) -> LogFields<'_> {
        LogFields {
            request_id: &self.request_id,
            route: self.matched.route.template(),
            order: self.matched.order(),
            sezzle_request_id: self.key.as_ref().and_then(|key| key.to_str().ok()),
        }
    }
}

/// How a write ended for the sessions that it may have changed.
fn ending(result: &Result<GatewayResponse, ProxyError>) -> Ending {
    match result {
        // A gateway that gave up on a server behind it cannot know what that server will still do.
        Ok(answer) if answer.in_doubt || answer.status.is_server_error() => Ending::Unknown,
        Ok(_) => Ending::Answered,
        Err(error) if error.was_not_done() => Ending::NotSent,
        Err(_) => Ending::Unknown,
    }
}

struct LogFields<'o> {
    request_id: &'o RequestId,
    route: &'static str,
    order: Option<&'o str>,
    sezzle_request_id: Option<&'o str>,
}

impl Drop for WriteReport {
    fn drop(&mut self) {
        if !self.concluded {
            self.report_unknown(STOPPED);
        }
    }
}
