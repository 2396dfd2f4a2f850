//! One exchange with Sezzle: token, request, 401, and what is done with the answer before a caller sees it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::error::{ProxyError, REQUEST_KEY};
use super::links::LinkRewriter;
use super::response::{Content, clean};
use crate::credentials::TokenManager;
use crate::session::Fetched;
use crate::session::entry::Answer;
use crate::session::freshness::{MAX_BODY, is_json};
use crate::session::revalidation::{Conditions, validator};
use crate::upstream::body::GatewayBody;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::{Outgoing, Upstream};

/// The way to Sezzle with the merchant's token.
pub struct Forwarder {
    upstream: Upstream,
    tokens: Arc<TokenManager>,
    links: Option<LinkRewriter>,
}

/// An answer for one caller: cleaned, links rewritten where it was small enough to be read.
#[derive(Debug)]
pub struct Forwarded {
    /// Sezzle's status.
    pub status: StatusCode,
    /// Cleaned headers.
    pub headers: HeaderMap,
    /// The content.
    pub content: Content,
}

impl Forwarder {
    /// Without `links`, bodies pass as they are.
    pub fn new(upstream: Upstream, tokens: Arc<TokenManager>, links: Option<LinkRewriter>) -> Self {
        Self { upstream, tokens, links }
    }

    /// Whose token it is.
    pub fn tokens(&self) -> &TokenManager {
        &self.tokens
    }

    /// Whether answers have to be readable for us.
    pub fn rewrites_links(&self) -> bool {
        self.links.is_some()
    }

    /// Sends a call and passes its answer on. With `links` the answer may carry some.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(&self, outgoing: Outgoing, links: bool) -> Result<Forwarded, ProxyError> {
        let (method, key) = (outgoing.method.clone(), outgoing.headers.get(REQUEST_KEY).cloned());
        let response = self.exchange(outgoing).await?;
        let (head, body) = response.into_parts();
        let (status, mut headers) = (head.status, head.headers);
        clean(&mut headers);
        let rewriter = self.links.as_ref().filter(|_| links && is_readable(&headers));
        let Some(rewriter) = rewriter else {
            return Ok(Forwarded { status, headers, content: Content::Streamed { read: None, rest: body } });
        };
        if method == Method::HEAD {
            // What a GET would carry is not known before its body was rewritten.
            headers.remove(CONTENT_LENGTH);
            return Ok(Forwarded { status, headers, content: Content::Whole(None) });
        }
        let content = match read(body, MAX_REWRITTEN).await {
            Err(error) => return Err(failed(error, &method, key)),
            Ok(Read::Whole(bytes)) if bytes.is_empty() => Content::Whole(None),
            Ok(Read::Whole(bytes)) => {
                // Its length is stated anew by whoever sends it.
                headers.remove(CONTENT_LENGTH);
                Content::Whole(Some(rewrite(rewriter, &mut headers, bytes)))
            }
            Ok(Read::TooLarge(read, rest)) => Content::Streamed { read: Some(read), rest },
        };
        Ok(Forwarded { status, headers, content })
    }

    /// Fetches a session for the cache, or asks whether what is stored is still right.
    ///
    /// A 304 that nobody asked for, or that speaks of something else, is no answer: then Sezzle is asked once more,
    /// for all of it.
    pub async fn session(
        &self,
        mut outgoing: Outgoing,
        mut conditions: Option<Conditions>,
    ) -> Fetched<Forwarded, ProxyError> {
        let (began, limit) = (Instant::now(), outgoing.deadlines.head);
        for _ in 0..2 {
            let mut asking = outgoing.clone();
            if let Some(conditions) = &conditions {
                conditions.apply(&mut asking.headers);
            }
            match self.fetch(asking).await {
                Fetched::Unchanged(headers) => match conditions.take() {
                    Some(conditions) if conditions.are_of(&headers) => return Fetched::Unchanged(headers),
                    Some(_) | None => outgoing.deadlines.head = limit.saturating_sub(began.elapsed()),
                },
                fetched => return fetched,
            }
        }
        let detail = "304 to a request without conditions".to_owned();
        Fetched::Failed(ProxyError::Upstream(UpstreamError { kind: ErrorKind::Protocol, sent: Sent::Maybe, detail }))
    }

    async fn fetch(&self, outgoing: Outgoing) -> Fetched<Forwarded, ProxyError> {
        let response = match self.exchange(outgoing).await {
            Ok(response) => response,
            Err(error) => return Fetched::Failed(error),
        };
        let (head, body) = response.into_parts();
        let (status, mut headers) = (head.status, head.headers);
        clean(&mut headers);
        if status == StatusCode::NOT_MODIFIED {
            return Fetched::Unchanged(headers);
        }
        match read(body, MAX_BODY).await {
            Err(error) => Fetched::Failed(ProxyError::Upstream(error)),
            Ok(Read::TooLarge(read, rest)) => {
                let content = Content::Streamed { read: Some(read), rest };
                Fetched::Streaming(Forwarded { status, headers, content }, status)
            }
            Ok(Read::Whole(mut body)) => {
                headers.remove(CONTENT_LENGTH);
                let own = validator(&headers);
                if let Some(rewriter) = self.links.as_ref().filter(|_| is_readable(&headers)) {
                    body = rewrite(rewriter, &mut headers, body);
                }
                if status == StatusCode::OK && !headers.contains_key(ETAG) {
                    headers.insert(ETAG, etag(&body));
                }
                Fetched::Whole(Answer { status, fwd_status: status, headers, etag: own, body })
            }
        }
    }

    /// Sends a request with the live token; once more with a new one when Sezzle answers 401, which it does before
    /// it processes anything. The deadline covers it all.
    async fn exchange(&self, mut outgoing: Outgoing) -> Result<Response<GatewayBody>, ProxyError> {
        let (began, limit) = (Instant::now(), outgoing.deadlines.head);
        let left = || limit.saturating_sub(began.elapsed());
        let token = self.tokens.acquire(left()).await.map_err(ProxyError::NoToken)?;
        let answer = self.send(&mut outgoing, &token.authorization, left()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.tokens.after_unauthorized(token.generation, left()).await {
            Some(token) if !left().is_zero() => {
                drop(answer);
                self.send(&mut outgoing, &token.authorization, left()).await
            }
            Some(_) | None => Ok(answer),
        }
    }

    async fn send(
        &self,
        outgoing: &mut Outgoing,
        authorization: &HeaderValue,
        left: Duration,
    ) -> Result<Response<GatewayBody>, ProxyError> {
        if left.is_zero() {
            let detail = "the deadline passed before the request was sent".to_owned();
            return Err(ProxyError::Upstream(UpstreamError { kind: ErrorKind::Timeout, sent: Sent::No, detail }));
        }
        outgoing.headers.insert(http::header::AUTHORIZATION, authorization.clone());
        outgoing.deadlines.head = left;
        let answer = self.upstream.send(outgoing.clone()).await;
        answer.map_err(|error| failed(error, &outgoing.method, outgoing.headers.get(REQUEST_KEY).cloned()))
    }
}

// Answers that carry links are small; a larger one is passed on as it is.
const MAX_REWRITTEN: usize = 1024 * 1024;

/// What a failed exchange means for the caller. A write that may have been done must not look as if it had not.
fn failed(cause: UpstreamError, method: &Method, key: Option<HeaderValue>) -> ProxyError {
    if cause.sent == Sent::Maybe && !method.is_safe() {
        ProxyError::OutcomeUnknown { key, cause }
    } else {
        ProxyError::Upstream(cause)
    }
}

/// Whether a body may be read and changed.
fn is_readable(headers: &HeaderMap) -> bool {
    let transform = headers.get_all(CACHE_CONTROL).iter().all(|value| {
        value.to_str().is_ok_and(|list| !list.split(',').any(|word| word.trim().eq_ignore_ascii_case("no-transform")))
    });
    transform && is_json(headers) && !headers.contains_key(CONTENT_ENCODING)
}

fn rewrite(rewriter: &LinkRewriter, headers: &mut HeaderMap, body: Bytes) -> Bytes {
    let Some(rewritten) = rewriter.rewrite(&body) else { return body };
    let rewritten = Bytes::from(rewritten);
    // Sezzle's validator is of other bytes.
    if headers.contains_key(ETAG) {
        headers.insert(ETAG, etag(&rewritten));
    }
    rewritten
}

/// A strong validator of our own.
fn etag(body: &[u8]) -> HeaderValue {
    let digest = digest::digest(&digest::SHA256, body);
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

enum Read {
    Whole(Bytes),
    /// More than the limit: what was read, and the rest.
    TooLarge(Bytes, GatewayBody),
}

async fn read(mut body: GatewayBody, limit: usize) -> Result<Read, UpstreamError> {
    if body.size_hint().lower() > limit as u64 {
        return Ok(Read::TooLarge(Bytes::new(), body));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| UpstreamError {
            kind: ErrorKind::Body,
            sent: Sent::Maybe,
            detail: error.to_string(),
        })?;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > limit {
            return Ok(Read::TooLarge(read.freeze(), body));
        }
    }
    Ok(Read::Whole(read.freeze()))
}
