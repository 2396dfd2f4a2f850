//! The lines of the log for the attempts of a call.

use std::time::Duration;

use super::attempts::Retry;
use super::content::GatewayResponse;
use super::record::RequestId;
use super::upstream_stats::{StatsSnapshot, UpstreamStats};
use crate::clock::Mono;
use crate::telemetry::log::millis;
use crate::telemetry::log::throttle::Throttle;
use crate::telemetry::metrics::method_label;
use crate::upstream::Outgoing;
use crate::upstream::error::UpstreamError;

/// Warns, once a minute at most, of 401 answers that callers got.
#[derive(Debug, Default)]
pub(super) struct UnauthorizedAnswers(Throttle);

impl UnauthorizedAnswers {
    pub(super) fn warn(&self, outgoing: &Outgoing, request_id: &RequestId, now: Mono) {
        if let Some(answers) = self.0.count(now) {
            tracing::warn!(%request_id, route = outgoing.route.word(), answers, "{UNAUTHORIZED}");
        }
    }
}

const UNAUTHORIZED: &str = "Sezzle answered 401, and the callers got that answer: Sezzle refuses a token that it \
                            granted, or the merchant may not make this call";

/// Logs how one attempt ended.
#[cold]
pub(super) fn log_attempt(
    result: &Result<GatewayResponse, UpstreamError>,
    outgoing: &Outgoing,
    request_id: &RequestId,
    stats: &UpstreamStats,
    took: Duration,
) {
    let StatsSnapshot { attempts, conn_reused, token_gen, .. } = stats.snapshot();
    let code = result.as_ref().ok().map(|answer| answer.status.as_u16());
    let error = result.as_ref().err().map(tracing::field::display);
    let (method, route, took_ms) = (method_label(&outgoing.method), outgoing.route.word(), millis(took));
    tracing::debug!(
        %request_id, method, route, attempt = attempts, code, error, took_ms, conn_reused, token_gen, "an attempt ended"
    );
}

/// Logs that a call is sent again.
pub(super) fn log_retry(retry: Retry, cause: Option<&UpstreamError>, outgoing: &Outgoing, request_id: &RequestId) {
    let (attempt, reason) = (retry.number, retry.failure.as_str());
    let (route, cause) = (outgoing.route.word(), cause.map(tracing::field::display));
    tracing::info!(%request_id, route, attempt, reason, cause, "an attempt failed; the sidecar sends the call again");
}
