//! The report on a write to operators: metrics, log lines, and the mark of an answer that is in doubt.

use std::sync::Arc;

use http::{HeaderValue, Method};

use super::content::GatewayResponse;
use super::error::{PROXY_STATUS, ProxyError};
use super::record::{Record, RequestId};
use super::route::Matched;
use crate::telemetry::metrics::{Metrics, method_label};
use crate::telemetry::recent_errors::Kind;

/// Why the outcome is unknown of a write that was stopped half-way.
pub(super) const STOPPED: &str = "the sidecar stopped before the answer came";

/// Tells operators how a write ended. Dropping the report reports a write that was stopped half-way.
pub(super) struct WriteReport {
    metrics: Arc<Metrics>,
    request_id: RequestId,
    method: &'static str,
    matched: Matched,
    key: Option<HeaderValue>,
    concluded: bool,
}

impl WriteReport {
    pub fn new(method: &Method, matched: &Matched, record: &Record, metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            request_id: record.request_id.clone(),
            method: method_label(method),
            matched: matched.clone(),
            key: record.request_key.as_ref().map(|(key, _)| key.clone()),
            concluded: false,
        }
    }

    /// The write was not sent, so nothing is left to report.
    pub fn conclude_unsent(&mut self) {
        self.concluded = true;
    }

    /// Reports everything in the write's result that an operator has to know, and marks an answer that is in doubt.
    pub fn conclude(&mut self, result: &mut Result<GatewayResponse, ProxyError>) {
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

    pub fn log_unclaimed(&self, result: &Result<GatewayResponse, ProxyError>) {
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

impl Drop for WriteReport {
    fn drop(&mut self) {
        if !self.concluded {
            self.report_unknown(STOPPED);
        }
    }
}

struct LogFields<'o> {
    request_id: &'o RequestId,
    route: &'static str,
    order: Option<&'o str>,
    sezzle_request_id: Option<&'o str>,
}
