//! The summary of a request that has ended: its span, and the trouble that an operator should look at.

use std::time::Duration;

use http::StatusCode;

use super::super::cache_status::Source;
use super::super::error::ProxyError;
use super::super::route::Route;
use super::super::upstream_stats::StatsSnapshot;
use super::{End, Record};
use crate::clock::wall_micros;
use crate::session::CacheResult;
use crate::telemetry::metrics::{code_label, method_label};
use crate::telemetry::recent_errors::Kind;
use crate::telemetry::spans::{InTrace, Span};

impl Record {
    /// The trouble that an operator should look at, if there was any.
    pub(super) fn trouble(&self) -> Option<Kind> {
        let what = match (self.error, self.status, self.end) {
            (Some(_), _, _) if self.error_detail.is_expected => return None,
            (Some(error), _, _) => error,
            (None, _, End::Broken) => "broke off",
            (None, None, _) => "its caller hung up",
            // An answer of the sidecar's own with such a status has an error, and is found above.
            (None, Some(status), _)
                if status.is_server_error()
                    || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) =>
            {
                "from Sezzle"
            }
            (None, Some(_), _) => return None,
        };
        let about = match &self.matched {
            Some(matched) => matched.route.template(),
            None if what == ProxyError::NotFound("").code() => "of a path outside /v2/",
            // A request that is refused before it is matched has no route.
            None => "request",
        };
        let code = Some(self.status.map_or("499", code_label));
        Some(Kind { method: method_label(&self.method), about, what, cause: self.error_detail.cause, code })
    }

    /// Whether memory answered the request and nothing else happened. Only the lines of such requests are sampled.
    pub(super) fn is_plain_hit(&self) -> bool {
        self.source == Source::Cache
            && self.cache == CacheResult::Hit
            && self.end == End::Complete
            && self.error.is_none()
            // Sezzle was not asked first.
            && self.stats.is_none()
    }

    /// The span of the request at `place` in its trace. Beside the request's id, a span holds only facts that the
    /// metrics hold, too.
    pub(super) fn span(&self, place: InTrace, length: Duration) -> Span {
        let upstream = self.upstream();
        Span {
            place,
            ended: wall_micros(),
            length,
            request_id: self.request_id.to_string(),
            caller: self.caller.as_ref().map(|known| known.caller.name.clone()),
            scheme: if self.tls { "https" } else { "http" },
            method: method_label(&self.method),
            route: Some(self.route()).filter(|route| route.is_known()).map(Route::template),
            code: self.status.map(|status| status.as_u16()),
            source: self.source.as_str(),
            cache: self.cache.as_str(),
            cache_detail: self.cache_detail,
            error: self.error,
            aborted: self.aborted(),
            bytes_in: upstream.bytes_in,
            bytes_out: self.bytes_out(),
            attempts: upstream.attempts,
            upstream_ms: upstream.upstream_ms,
        }
    }

    /// The size of the answer's body. The size of card data is kept secret.
    pub(super) fn bytes_out(&self) -> Option<u64> {
        (!self.route().is_card_data() || self.source == Source::Sidecar).then_some(self.bytes_out)
    }

    pub(super) fn upstream(&self) -> StatsSnapshot {
        self.stats.as_ref().map_or(StatsSnapshot::default(), |stats| stats.snapshot())
    }

    /// The side that broke off before the end of the answer.
    pub(super) fn aborted(&self) -> Option<&'static str> {
        match self.end {
            End::Complete => None,
            End::CallerGone | End::BodyGivenUp => Some("caller"),
            End::Broken => Some("upstream"),
        }
    }
}
