//! An answer to the caller: our headers beside Sezzle's, the body, and the record that ends with the body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CACHE_STATUS, CONNECTION, CONTENT_LENGTH, VIA};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::ext::ReasonPhrase;

use super::cache_status::{CacheStatus, Source};
use super::conditional::is_unchanged;
use super::content::{BrokenOff, Content, DelayedFailure};
use super::headers::X_REQUEST_ID;
use super::record::Record;
use super::request_key::REQUEST_KEY;
use crate::session::entry::HeaderWriter;
use crate::upstream::OWN_VIA;

/// An answer on its way to the caller, whatever its source.
#[derive(Debug)]
pub struct CallerResponse {
    pub status: StatusCode,
    /// The headers that the caller may get.
    pub headers: HeaderMap,
    pub content: Content,
    pub source: Source,
    pub cache: CacheStatus,
}

impl CallerResponse {
    /// Completes the headers and hands the answer to hyper. The record is closed when the body has been sent. The code
    /// that takes an answer from memory has written the sidecar's own headers already.
    pub fn finish(mut self, mut record: Box<Record>, closing: bool) -> Response<Body> {
        if self.source != Source::Cache {
            self.headers.reserve(OWN_HEADERS);
            let mut out = HeaderWriter::Map(&mut self.headers);
            write_own_headers(&mut out, self.source, None, &self.cache, &record);
        }
        if closing {
            self.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(&self.content, Content::Whole(Some(body)) if body.is_empty()) {
            self.content = Content::Whole(None);
        }
        record.answered(self.status, self.source, &self.cache);
        let mut body = Body { content: self.content, record };
        if body.is_end_stream() {
            // hyper does not read this body, so the record ends here.
            body.record.complete();
        }
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        if self.status.canonical_reason().is_none() {
            // Some clients need a reason phrase, and hyper has none for an unregistered status.
            response.extensions_mut().insert(ReasonPhrase::from_static(b"Unknown"));
        }
        *response.headers_mut() = self.headers;
        response
    }

    /// The status and the content for a caller: less than the whole answer if the request is conditional, or a HEAD.
    pub fn status_and_content(
        status: StatusCode,
        headers: &mut HeaderMap,
        body: Bytes,
        (method, conditions): (&Method, Option<&HeaderMap>),
    ) -> (StatusCode, Content) {
        if status == StatusCode::OK && conditions.is_some_and(|conditions| is_unchanged(conditions, headers)) {
            return (StatusCode::NOT_MODIFIED, Content::Whole(None));
        }
        if *method == Method::HEAD {
            headers.insert(CONTENT_LENGTH, body.len().into());
            return (status, Content::Whole(None));
        }
        (status, Content::Whole(Some(body)))
    }
}

/// Writes the headers of our own that every answer of the proxy gets, whatever its source. `age` is the age of an
/// answer from memory.
#[inline]
pub fn write_own_headers(
    out: &mut HeaderWriter<'_>,
    source: Source,
    age: Option<Duration>,
    cache: &CacheStatus,
    record: &Record,
) {
    if let Some(age) = age {
        out.append(AGE, age.as_secs().into());
    }
    out.append(VIA, OWN_VIA);
    out.set(X_REQUEST_ID, record.request_id.header());
    if let Some((key, _)) = &record.request_key {
        out.set(REQUEST_KEY, key.clone());
    }
    if source != Source::Sidecar {
        out.append(CACHE_STATUS, cache.header());
    }
    out.set_missing(CACHE_CONTROL, UNSTORED);
}

// Room for the headers of [`write_own_headers`] in an answer that is not from memory.
const OWN_HEADERS: usize = 5;
// Added where Sezzle says nothing: the answer is for one merchant, and a cache elsewhere cannot know when it changes.
const UNSTORED: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The body that hyper sends, with the record of the exchange it ends.
#[derive(Debug)]
pub struct Body {
    content: Content,
    record: Box<Record>,
}

impl Body {
    #[cold]
    fn break_off<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, BrokenOff>>> {
        self.record.broken();
        let mut failure = DelayedFailure::begin();
        let polled = failure.poll(context);
        self.content = Content::Broken(failure);
        polled
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Whole(body) => body.take().map(Frame::data),
            Content::Streamed { read, rest } => match read.take() {
                Some(bytes) => Some(Frame::data(bytes)),
                None => match ready!(Pin::new(rest).poll_frame(context)).transpose() {
                    Ok(frame) => frame,
                    Err(_) => return this.break_off(context),
                },
            },
            Content::Broken(failure) => return failure.poll(context),
        };
        if let Some(frame) = &frame {
            this.record.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        if frame.is_none() || this.is_end_stream() {
            this.record.complete();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(body) => body.is_none(),
            Content::Streamed { read, rest } => read.is_none() && rest.is_end_stream(),
            Content::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Content::Streamed { read: None, rest } => rest.size_hint(),
            Content::Streamed { read: Some(_), .. } | Content::Broken(_) => SizeHint::default(),
        }
    }
}
