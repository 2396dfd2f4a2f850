//! Sezzle's answer to a call, and how much of its content is read before it is passed on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::headers::is_readable;
use crate::clock::Mono;
use crate::method::is_safe;
use crate::session::freshness::MAX_BODY;
use crate::upstream::body::GatewayBody;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::RetrySafety;

#[derive(Debug)]
pub struct GatewayResponse {
    pub status: StatusCode,
    /// The headers that the caller may get.
    pub headers: HeaderMap,
    /// The content, read as far as was asked for.
    pub content: Content,
    /// When the head had come, or all that was read.
    pub at: Mono,
    /// Whether the answer refuses a write of which an earlier attempt may have had its effect.
    pub in_doubt: bool,
}

#[derive(Debug)]
pub enum Content {
    /// Held whole; `None` for no content, and after the content was handed over.
    Whole(Option<Bytes>),
    /// Streamed from the gateway, as fast as the caller reads.
    Streamed {
        /// The bytes that were read ahead.
        read: Option<Bytes>,
        rest: GatewayBody,
    },
    /// Broken off: the part that came is on its way to the caller.
    Broken(Box<DelayedFailure>),
}

/// A short wait before the body of an answer that broke off fails. When a body fails, hyper discards its unwritten
/// bytes, the status line included. While a body makes hyper wait, hyper writes.
#[derive(Debug)]
pub struct DelayedFailure(Pin<Box<Sleep>>);

impl DelayedFailure {
    pub fn begin() -> Box<Self> {
        Box::new(Self(Box::pin(sleep(FAILURE_DELAY))))
    }

    /// Ends in [`BrokenOff`].
    pub fn poll<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, BrokenOff>>> {
        self.0.as_mut().poll(context).map(|()| Some(Err(BrokenOff)))
    }
}

const FAILURE_DELAY: Duration = Duration::from_millis(50);

/// The answer broke off. Only the record has the reason: hyper would look for the gateway's HTTP/2 error code among the
/// causes, and end the caller's stream with the same code, which may be NO_ERROR.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// How much of an answer is read before it is passed on. If the answer breaks off in that part, the call can be sent
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Nothing,
    /// The first piece, if it comes within a moment.
    First,
    /// The whole answer if it may carry links, else only the first piece.
    Links,
    /// The whole answer to a write: a write that may have been done must not end without a status line.
    Write,
    /// The whole answer, for the cache.
    Session,
    /// The first piece, and the pieces that follow within a moment.
    Start,
}

impl Reading {
    /// How much of the answer to a call is read. `rewrites` says whether links are led back here at all, and
    /// `carries_links` whether this answer may have some.
    pub fn of_call(retry_safety: RetrySafety, method: &Method, rewrites: bool, carries_links: bool) -> Self {
        match *method {
            _ if retry_safety == RetrySafety::DestructiveRead => Self::Start,
            _ if !is_safe(method) => Self::Write,
            Method::HEAD => Self::Nothing,
            // Without the rewriting of links, answers are passed on unread.
            _ if !rewrites => Self::Nothing,
            _ if carries_links => Self::Links,
            _ => Self::First,
        }
    }

    /// The part of this body that is read ahead. `None` if the body is passed on unread.
    pub fn ahead(self, headers: &HeaderMap, body: &GatewayBody) -> Option<ReadAhead> {
        match self {
            Self::Links if is_readable(headers) => Some(ReadAhead::whole(MAX_LINKED, body)),
            Self::Write => Some(ReadAhead::whole(MAX_LINKED, body)),
            Self::Session => Some(ReadAhead::whole(MAX_BODY, body)),
            Self::Start => Some(ReadAhead::START),
            Self::First | Self::Links if !body.is_end_stream() => Some(ReadAhead::FIRST),
            Self::Nothing | Self::First | Self::Links => None,
        }
    }
}

/// Answers that carry links are small; a larger one is passed on as it is.
pub const MAX_LINKED: usize = 1024 * 1024;

/// How much of a body is read before it is passed on: until that part is longer than `bytes`, or `AT_ONCE` has passed.
#[derive(Clone, Copy, Debug)]
pub struct ReadAhead {
    bytes: usize,
    /// The moment from which `AT_ONCE` counts.
    since: Since,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Head,
    FirstPiece,
    Never,
}

impl ReadAhead {
    /// Nearly every answer is whole within `AT_ONCE` of its first piece. Whether an answer has broken off shows in that
    /// time, too.
    pub const START: Self = Self { bytes: AT_ONCE_BYTES, since: Since::FirstPiece };
    /// An answer that breaks off before its first piece counts as no answer. A slow answer is passed on unread.
    pub const FIRST: Self = Self { bytes: 0, since: Since::Head };

    /// The whole body. Of a body that states a larger size than this, only [`Self::START`].
    pub fn whole(most: usize, body: &GatewayBody) -> Self {
        if body.size_hint().lower() > most as u64 { Self::START } else { Self { bytes: most, since: Since::Never } }
    }
}

/// Reads the part of a body that is read ahead. The rest is streamed.
pub async fn read(mut body: GatewayBody, ahead: ReadAhead) -> Result<Content, UpstreamError> {
    let mut read = BytesMut::new();
    let mut ends = (ahead.since == Since::Head).then(|| Instant::now() + AT_ONCE);
    while read.len() <= ahead.bytes {
        let frame = match ends {
            None => body.frame().await,
            Some(ends) => match timeout_at(ends, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => break,
            },
        };
        let Some(frame) = frame else { return Ok(Content::Whole(Some(read.freeze()))) };
        if let Ok(data) = frame.map_err(|error| UpstreamError::from_body(&error))?.into_data() {
            if read.is_empty() && data.len() <= ahead.bytes && body.is_end_stream() {
                // Nearly every answer comes in one piece, which needs no copy.
                return Ok(Content::Whole(Some(data)));
            }
            read.extend_from_slice(&data);
        }
        if ahead.since == Since::FirstPiece {
            ends.get_or_insert_with(|| Instant::now() + AT_ONCE);
        }
    }
    Ok(Content::Streamed { read: Some(read.freeze()).filter(|read| !read.is_empty()), rest: body })
}

/// Refuses a 200 without content, which is no answer to a read.
pub fn require_content(status: StatusCode, content: Content) -> Result<Content, UpstreamError> {
    match content {
        Content::Whole(Some(body)) if body.is_empty() && status == StatusCode::OK => {
            Err(UpstreamError::new(ErrorKind::Body, Sent::Maybe, "200 without content"))
        }
        content => Ok(content),
    }
}

const AT_ONCE: Duration = Duration::from_millis(200);
const AT_ONCE_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_its_call_needs() {
        let (get, head, options, post) = (Method::GET, Method::HEAD, Method::OPTIONS, Method::POST);
        // With the rewriting off; on, and no links in the answer; on, and links.
        for (call, method, off, none, links) in [
            (RetrySafety::Safe, &get, Reading::Nothing, Reading::First, Reading::Links),
            (RetrySafety::Safe, &options, Reading::Nothing, Reading::First, Reading::Links),
            (RetrySafety::Safe, &head, Reading::Nothing, Reading::Nothing, Reading::Nothing),
            (RetrySafety::Keyed, &post, Reading::Write, Reading::Write, Reading::Write),
            (RetrySafety::Unkeyed, &post, Reading::Write, Reading::Write, Reading::Write),
            (RetrySafety::DestructiveRead, &get, Reading::Start, Reading::Start, Reading::Start),
        ] {
            let reading = |rewrites, carries_links| Reading::of_call(call, method, rewrites, carries_links);
            let readings = [reading(false, false), reading(false, true), reading(true, false), reading(true, true)];
            assert_eq!(readings, [off, off, none, links], "{call:?} {method}");
        }
    }
}
