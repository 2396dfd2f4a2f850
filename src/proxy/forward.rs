//! Sends calls to Sezzle, and rewrites the links in the answers.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderMap, Method, StatusCode};

use super::content::{Content, Reading};
use super::error::ProxyError;
use super::etag::{self, TagMark};
use super::exchange::{Exchange, GatewayResponse, Sending};
use super::headers::is_readable;
use super::links::{LinkRewriter, Rewritten, Shape};
use super::pressure::Permit;
use crate::clock::Now;
use crate::credentials::TokenManager;
use crate::credentials::shop::Shops;
use crate::method::is_safe;
use crate::session::Fetched;
use crate::session::entry::SessionResponse;
use crate::session::revalidation::{Conditions, validator};
use crate::telemetry::metrics::{Metrics, method_label};
use crate::telemetry::recent_errors::Kind;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::RetrySafety;

/// The way to Sezzle, and the rewriting of links on the way back.
pub struct Forwarder {
    exchange: Exchange,
    links: Option<Links>,
}

/// How links are rewritten, and how the tags of rewritten answers are marked.
struct Links {
    rewriter: LinkRewriter,
    tags: TagMark,
    /// Whether the warning about unreadable links was logged.
    warned: AtomicBool,
}

impl Forwarder {
    /// Without `links`, bodies pass as they are.
    pub fn new(exchange: Exchange, links: Option<LinkRewriter>) -> Self {
        let links = links.map(|rewriter| Links {
            tags: TagMark::new(rewriter.base_url()),
            rewriter,
            warned: AtomicBool::new(false),
        });
        Self { exchange, links }
    }

    /// Whose token it is.
    pub fn tokens(&self) -> &TokenManager {
        self.exchange.tokens()
    }

    /// Sezzle's verdicts on shops.
    pub fn shops(&self) -> &Shops {
        self.exchange.shops()
    }

    /// Whether the sidecar must be able to read the answers.
    pub fn rewrites_links(&self) -> bool {
        self.links.is_some()
    }

    /// Sends a call and passes its answer on. With `links` the answer may carry some.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(
        &self,
        sending: &mut Sending,
        links: bool,
        permit: &Permit,
    ) -> Result<GatewayResponse, ProxyError> {
        let mut answer = self.answer(sending, links, permit).await?;
        self.lead_back(&mut answer.headers);
        Ok(answer)
    }

    /// Leads the headers of an answer that hold URLs back here.
    pub fn lead_back(&self, headers: &mut HeaderMap) {
        if let Some(links) = &self.links {
            links.rewriter.rewrite_headers(headers);
        }
    }

    async fn answer(&self, sending: &mut Sending, links: bool, permit: &Permit) -> Result<GatewayResponse, ProxyError> {
        if sending.call == RetrySafety::Once {
            return self.exchange.run(sending, Reading::Start, permit, permit.since()).await;
        }
        let is_write = !is_safe(&sending.outgoing.method);
        let Some(links) = self.links.as_ref().filter(|_| links) else {
            let reading = match sending.outgoing.method {
                _ if is_write => Reading::Write,
                // With rewriting off, answers are passed on without a look.
                Method::HEAD => Reading::Nothing,
                _ if self.links.is_none() => Reading::Nothing,
                _ => Reading::First,
            };
            return self.exchange.run(sending, reading, permit, permit.since()).await;
        };
        let unmarked = links.tags.unmark(&mut sending.outgoing.headers);
        if sending.outgoing.method == Method::HEAD {
            let mut answer = self.exchange.run(sending, Reading::Nothing, permit, permit.since()).await?;
            if is_readable(&answer.headers) {
                // The tag of a GET depends on its rewritten body, which a HEAD does not have.
                answer.headers.remove(CONTENT_LENGTH);
                answer.content = Content::Whole(None);
            }
            return Ok(answer);
        }
        let reading = if is_write { Reading::Write } else { Reading::Links };
        let mut answer = self.exchange.run(sending, reading, permit, permit.since()).await?;
        if let Content::Whole(Some(body)) = &mut answer.content
            && !body.is_empty()
            && (!is_write || is_readable(&answer.headers))
        {
            *body = self.rewrite(links, sending, answer.status, &mut answer.headers, mem::take(body));
        }
        // Only the tag says whether the caller's copy of the answer was rewritten.
        if unmarked && answer.status == StatusCode::NOT_MODIFIED {
            links.tags.mark(&mut answer.headers, &[]);
        }
        Ok(answer)
    }

    /// Fetches a session for the cache, or asks whether the stored answer is still right.
    ///
    /// After a 304 to a request without conditions, or with another validator, the whole session is fetched.
    pub async fn session(
        &self,
        mut sending: Sending,
        mut conditions: Option<Conditions>,
        permit: &Permit,
    ) -> Fetched<GatewayResponse, ProxyError> {
        let (began, limit) = (permit.since(), sending.outgoing.deadlines.head);
        let mut now = began;
        for _ in 0..2 {
            if sending.outgoing.deadlines.head.is_zero() {
                break;
            }
            let mut asking = sending.clone();
            if let Some(conditions) = &conditions {
                conditions.apply(&mut asking.outgoing.headers);
            }
            match self.fetch(&mut asking, permit, now).await {
                Fetched::Unchanged(headers) => match conditions.take() {
                    Some(conditions) if conditions.are_of(&headers) => return Fetched::Unchanged(headers),
                    Some(_) | None => {
                        now = self.exchange.now();
                        sending.outgoing.deadlines.head = limit.saturating_sub(now.mono.since(began.mono));
                    }
                },
                fetched => return fetched,
            }
        }
        let detail = "Sezzle answered 304 to a request without conditions".to_owned();
        Fetched::Failed(ProxyError::Upstream(UpstreamError::new(ErrorKind::Protocol, Sent::Maybe, detail)))
    }

    async fn fetch(&self, sending: &mut Sending, permit: &Permit, now: Now) -> Fetched<GatewayResponse, ProxyError> {
        let mut answer = match self.exchange.run(sending, Reading::Session, permit, now).await {
            Ok(answer) => answer,
            Err(error) => return Fetched::Failed(error),
        };
        self.lead_back(&mut answer.headers);
        let status = answer.status;
        if status == StatusCode::NOT_MODIFIED {
            return Fetched::Unchanged(answer.headers);
        }
        let Content::Whole(body) = &mut answer.content else { return Fetched::Streaming(answer, status) };
        let (mut body, mut headers) = (body.take().unwrap_or_default(), answer.headers);
        let own = validator(&headers);
        if let Some(links) = self.links.as_ref().filter(|_| is_readable(&headers)) {
            body = self.rewrite(links, sending, status, &mut headers, body);
        }
        if status == StatusCode::OK && !headers.contains_key(ETAG) {
            headers.insert(ETAG, etag::of_body(&body));
        }
        Fetched::Whole(SessionResponse { status, fwd_status: status, headers, etag: own, body })
    }

    /// Leads the links in a body back here.
    fn rewrite(
        &self,
        links: &Links,
        sending: &Sending,
        status: StatusCode,
        headers: &mut HeaderMap,
        body: Bytes,
    ) -> Bytes {
        let Rewritten { body: rewritten, shape } = links.rewriter.rewrite(&body);
        if shape != Shape::Usual && status.is_success() && !body.is_empty() {
            links.unread(sending, self.exchange.metrics());
        }
        let Some(rewritten) = rewritten else { return body };
        let rewritten = Bytes::from(rewritten);
        links.tags.mark(headers, &rewritten);
        rewritten
    }
}

impl Links {
    /// Reports that an answer may have links that were not found. A client that follows such a link leaves the sidecar,
    /// and Sezzle refuses it.
    fn unread(&self, Sending { outgoing, request_id, .. }: &Sending, metrics: &Metrics) {
        let route = outgoing.route.word();
        let kind =
            Kind { method: method_label(&outgoing.method), about: route, what: "links_unread", ..Kind::default() };
        metrics.recent_errors.note(kind, Some(request_id));
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
