//! Leads the links of one answer back here, and marks the entity tag if that changes the answer.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};

use super::super::content::{Content, GatewayResponse};
use super::super::etag::TagMark;
use super::super::headers::is_readable;
use super::super::record::RequestId;
use super::{LinkRewriter, Rewritten, Shape};
use crate::method::is_safe;
use crate::telemetry::metrics::{Metrics, method_label};
use crate::telemetry::recent_errors::Kind;
use crate::upstream::Outgoing;

/// How the links of answers are led back.
pub struct AnswerLinks {
    rewriter: LinkRewriter,
    tags: TagMark,
    metrics: Arc<Metrics>,
    /// Whether the warning about links that could not be read was logged.
    warned: AtomicBool,
}

impl AnswerLinks {
    /// Answers with links that cannot be read are counted in the metrics.
    pub fn new(rewriter: LinkRewriter, metrics: Arc<Metrics>) -> Self {
        let tags = TagMark::new(&rewriter.base_url);
        Self { rewriter, tags, metrics, warned: AtomicBool::new(false) }
    }

    /// Leads the headers that hold URLs back here.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap) {
        self.rewriter.rewrite_headers(headers);
    }

    /// Leads the links in the content of an answer back here, if it was read whole.
    pub fn rewrite(&self, outgoing: &Outgoing, request_id: &RequestId, answer: &mut GatewayResponse) {
        let GatewayResponse { status, headers, content, .. } = answer;
        if outgoing.method == Method::HEAD {
            if is_readable(headers) {
                // The length for a GET is not known before the body is rewritten.
                headers.remove(CONTENT_LENGTH);
                *content = Content::Whole(None);
            }
            return;
        }
        if let Content::Whole(Some(body)) = content
            && !body.is_empty()
            && (is_safe(&outgoing.method) || is_readable(headers))
        {
            *body = self.rewrite_body(outgoing, request_id, *status, headers, mem::take(body));
        }
    }

    /// Leads the links in a body back here, and marks the tag if the body changes.
    pub fn rewrite_body(
        &self,
        outgoing: &Outgoing,
        request_id: &RequestId,
        status: StatusCode,
        headers: &mut HeaderMap,
        body: Bytes,
    ) -> Bytes {
        let Rewritten { body: rewritten, shape } = self.rewriter.rewrite(&body);
        if shape != Shape::Usual && status.is_success() && !body.is_empty() {
            self.report_unread(outgoing, request_id);
        }
        let Some(rewritten) = rewritten else { return body };
        let rewritten = Bytes::from(rewritten);
        self.tags.mark(headers, &rewritten);
        rewritten
    }

    /// Takes the marks off the conditions of a request. Returns whether a condition had a mark.
    pub fn unmark_conditions(&self, headers: &mut HeaderMap) -> bool {
        self.tags.unmark(headers)
    }

    /// Marks the tag of a 304 to a request whose conditions were marked.
    pub fn mark_unchanged(&self, headers: &mut HeaderMap) {
        self.tags.mark(headers, &[]);
    }

    /// Reports that an answer may have unread links. A client that follows one leaves the sidecar and is refused.
    fn report_unread(&self, outgoing: &Outgoing, request_id: &RequestId) {
        let route = outgoing.route.word();
        let kind =
            Kind { method: method_label(&outgoing.method), about: route, what: "links_unread", ..Kind::default() };
        self.metrics.recent_errors.note(kind, Some(request_id));
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %request_id,
                route,
                "an answer has links in a form that Sezzle does not document; the sidecar passes such links on \
                 unchanged (logged once)"
            );
        }
    }
}
