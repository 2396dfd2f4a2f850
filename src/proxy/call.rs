//! A call to Sezzle: the request that is sent, with its deadlines, and the way of a safe call that is not cached.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};

use super::Proxy;
use super::cache_status::{CacheStatus, Source};
use super::content::{Content, GatewayResponse};
use super::decision::Call;
use super::error::ProxyError;
use super::headers::outgoing_headers;
use super::record::Record;
use super::response::CallerResponse;
use super::route::remedy::Remedy;
use super::route::{Class, Route};
use super::sending::Sending;
use crate::drift::shape::Subject;
use crate::method::is_safe;
use crate::telemetry::metrics::LabelValue;
use crate::upstream::retry::RetrySafety;
use crate::upstream::{Deadlines, Outgoing};

impl Proxy {
    /// A safe call that is not cached: Sezzle's answer is streamed as fast as the caller reads it.
    pub(super) async fn read(
        &self,
        head: &Parts,
        headers: HeaderMap,
        call: &Call,
        record: &mut Record,
    ) -> Result<CallerResponse, ProxyError> {
        let permit = self.pressure.enter(call.class, &head.method, call.at).await?;
        let mut sending = self.prepare_request(head, headers, call, Bytes::new(), record);
        let answer = self.exchange.call(&mut sending, call.matched.route.carries_links(), &permit).await?;
        record.permit = Some(permit);
        if let (Route::Order, StatusCode::OK, Content::Whole(Some(body))) =
            (call.matched.route, answer.status, &answer.content)
        {
            self.exchange.drift.offer(Subject::Order, body);
        }
        Ok(passed_on(answer, CacheStatus::BYPASS))
    }

    /// The request to Sezzle. `headers` are the caller's.
    pub(super) fn prepare_request(
        &self,
        head: &Parts,
        headers: HeaderMap,
        Call { matched, class, rights, .. }: &Call,
        body: Bytes,
        record: &mut Record,
    ) -> Sending {
        let class = *class;
        let limits = &self.options.limits;
        let retry_safety = matched.retry_safety(&head.method);
        let (head_limit, body_limit) = match class {
            Class::Report => (limits.report, REPORT_BODY),
            _ if retry_safety == RetrySafety::Safe => (limits.read, READ_BODY),
            _ => (limits.write, WRITE_BODY),
        };
        let is_audited = self.audit.is_some() && !is_safe(&head.method);
        let readable = is_audited || (self.exchange.rewrites_links() && matched.route.carries_links());
        let target = head.uri.path_and_query().cloned();
        let outgoing = Outgoing {
            method: head.method.clone(),
            target: target.unwrap_or(PathAndQuery::from_static("/")),
            headers: outgoing_headers(headers, readable || class == Class::Session),
            body,
            deadlines: Deadlines::new(head_limit, body_limit),
            route: LabelValue::of(matched.route),
            class: LabelValue::of(class),
        };
        let stats = record.begin_call(outgoing.body.len());
        // A write replaces this remedy once its key is known.
        let (remedy, request_id) = (Remedy::Repeat, record.request_id.clone());
        let (rights, judges_token) = (rights.clone(), matched.route.judges_token());
        Sending { outgoing, retry_safety, remedy, rights, judges_token, request_id, stats }
    }
}

pub(super) fn passed_on(answer: GatewayResponse, cache: CacheStatus) -> CallerResponse {
    let GatewayResponse { status, headers, content, .. } = answer;
    let cache = CacheStatus { fwd_status: Some(status), ..cache };
    CallerResponse { status, headers, content, source: Source::Upstream, cache }
}

/// From the head of the answer to a safe call to its end.
pub const READ_BODY: Duration = Duration::from_secs(30);
// Short, so that a drain outlasts a write; the body of a write's answer is small.
const WRITE_BODY: Duration = Duration::from_secs(5);
const REPORT_BODY: Duration = Duration::from_secs(300);
