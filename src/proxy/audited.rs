//! The lines that the audit gets of a write: which caller makes which call, and how the call ended. Of the bodies these
//! lines hold amounts and identifiers only.

use std::sync::Arc;

use http::Method;

use super::content::{Content, GatewayResponse};
use super::error::ProxyError;
use super::pressure::Permit;
use super::record::Record;
use super::route::{Matched, Route};
use super::sending::Sending;
use crate::audit::{Audit, AuditedCall, Fields, Outcome};
use crate::caller::Caller;
use crate::callers::amount::Amount;
use crate::clock::Clock;
use crate::sezzle::write_answer::WriteAnswer;
use crate::telemetry::metrics::method_label;

/// A call that is to be audited, with its first line.
pub(super) struct ToAudit {
    audit: Arc<Audit>,
    clock: Clock,
    route: Route,
    line: Fields,
}

impl ToAudit {
    pub fn new(
        (audit, clock): (&Arc<Audit>, &Clock),
        (method, amount): (&Method, Option<Amount>),
        matched: &Matched,
        caller: &Caller,
        record: &Record,
    ) -> Self {
        let key = record.request_key.as_ref().and_then(|(key, source)| Some((key.to_str().ok()?, source.as_str())));
        let line = Fields::default()
            .maybe_text("caller", record.caller.as_ref().map(|known| known.caller.name.as_str()))
            .text("method", method_label(method))
            .text("request", &record.request_id.to_string())
            .text("route", matched.route.template())
            .maybe_text("session", matched.session().map(|session| session.to_string()).as_deref())
            .maybe_text("order", matched.order())
            .maybe_text("key", key.map(|(key, _)| key))
            .maybe_text("key_origin", key.map(|(_, origin)| origin))
            .maybe_number("amount", amount.as_ref().map(|amount| amount.cents))
            .maybe_text("currency", amount.as_ref().map(|amount| amount.currency.as_str()));
        Self { audit: Arc::clone(audit), clock: clock.clone(), route: matched.route, line: with_peer(line, caller) }
    }

    /// Writes the first line. Fails if the call must not be sent. The wait counts toward the time of the call.
    pub async fn begin(self, sending: &mut Sending, permit: &mut Permit) -> Result<InAudit, ProxyError> {
        let Self { audit, clock, route, line } = self;
        let began = permit.since;
        let call = audit.begin(line).await.map_err(|_| ProxyError::AuditUnavailable)?;
        permit.since = clock.now();
        sending.shorten(permit.since.mono.since(began.mono));
        Ok(InAudit { call, route })
    }
}

/// A call whose first line is written. If a call is dropped before [`Self::end`], its last line says that the outcome
/// is unknown.
pub(super) struct InAudit {
    call: AuditedCall,
    route: Route,
}

impl InAudit {
    /// Queues the last line at once. The returned future waits a limited time until the disk has the line.
    pub fn end(
        self,
        result: &Result<GatewayResponse, ProxyError>,
        sending: &Sending,
    ) -> impl Future<Output = ()> + Send + use<> {
        let answer = read_answer(result, self.route);
        let (status, error) = match result {
            Ok(answer) => (answer.status, None),
            Err(error) => (error.status(), Some(error.code())),
        };
        let line = Fields::default()
            .text("route", self.route.template())
            .number("status", status.as_u16().into())
            .maybe_text("error", error)
            .maybe_number("attempts", sending.stats.snapshot().attempts)
            .maybe_text("sezzle_uuid", answer.uuid.as_deref())
            .maybe_text("sezzle_order", answer.order.as_deref())
            .maybe_text("sezzle_debug", answer.debug.as_deref());
        self.call.end(outcome(result, answer.approved), line)
    }
}

/// Adds the program that called: a process of this machine by its user, any other program by its address.
fn with_peer(line: Fields, Caller { remote, peer, .. }: &Caller) -> Fields {
    line.maybe_number("uid", peer.map(|peer| peer.uid.into()))
        .maybe_number("pid", peer.and_then(|peer| u64::try_from(peer.pid?).ok()))
        .maybe_text("address", remote.map(|remote| remote.to_string()).as_deref())
}

/// The facts in Sezzle's answer. Empty for a call that returns card data and for an unknown call, whose answers are not
/// read.
fn read_answer(result: &Result<GatewayResponse, ProxyError>, route: Route) -> WriteAnswer {
    match result {
        Ok(GatewayResponse { content: Content::Whole(Some(body)), .. })
            if !route.is_card_data() && route.is_known() =>
        {
            WriteAnswer::read(body)
        }
        Ok(_) | Err(_) => WriteAnswer::default(),
    }
}

fn outcome(result: &Result<GatewayResponse, ProxyError>, approved: Option<bool>) -> Outcome {
    match result {
        Ok(answer) if answer.in_doubt => Outcome::InDoubt,
        Ok(answer) if answer.status.is_server_error() => Outcome::Unknown,
        Ok(answer) if answer.status.is_success() && approved == Some(false) => Outcome::Declined,
        Ok(answer) if answer.status.is_success() => Outcome::Done,
        Ok(_) => Outcome::Refused,
        Err(error) if error.was_not_done() => Outcome::NotSent,
        Err(_) => Outcome::Unknown,
    }
}
